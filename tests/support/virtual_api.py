"""An API client on a virtual clock, whose requests are ordered by the real FairQueue."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from taskrouter_exporter.api.call import Attempt, Call, HttpAnswer
from taskrouter_exporter.api.errors import ApiError, Reason
from taskrouter_exporter.api.fair_queue import FairQueue, Job

REQUEST_TIMEOUT: Final = 5.0
ATTEMPTS: Final = 4
BACKOFF: Final = 0.25

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Reply:
    """An answer of the API: an HTTP status after this many seconds."""

    seconds: float
    status: int = 200


HANG: Final = Reply(float("inf"))


class VirtualClient:
    """A client like api.Client, with coroutines instead of threads.

    Args:
        concurrency: The maximum number of requests in flight.
        reply: Returns the API's answer to a call.
    """

    generation = 0
    base_url = "https://api.test"

    def __init__(self, concurrency: int, reply: Callable[[Call], Reply]) -> None:
        self._reply = reply
        self._loop = asyncio.get_running_loop()
        self._queue = FairQueue(concurrency, 1, self._loop.time)
        self._turns: dict[Job, asyncio.Future[None]] = {}

    async def reread_credentials(self) -> None:
        """See api.Client.reread_credentials."""

    async def get(self, call: Call, read: Callable[[HttpAnswer], _Result]) -> _Result:
        """See api.Client.get."""
        call.patience = REQUEST_TIMEOUT / 4
        reply = self._reply(call)
        while True:
            try:
                return read(await self._attempt(call, reply))
            except ApiError as error:
                out_of_time = self._loop.time() + BACKOFF >= call.deadline
                if not error.retryable or len(call.attempts) == ATTEMPTS or out_of_time:
                    raise
            await asyncio.sleep(BACKOFF)

    async def _attempt(self, call: Call, reply: Reply) -> HttpAnswer:
        job = Job("main", bool, lambda: call.deadline, call.claim, bool(call.attempts), call.patience)
        turn = self._turns[job] = self._loop.create_future()
        self._queue.put(job)
        self._give_turns()
        try:
            await turn
        except asyncio.CancelledError:
            self._queue.give_up(job)
            if job.begun is not None:
                self._end(job, answered=False)
            raise
        answered = False
        try:
            answer = await self._request(call, reply, job)
        except ApiError as error:
            answered = error.status is not None
            raise
        else:
            answered = True
            return answer
        finally:
            self._end(job, answered=answered)

    async def _request(self, call: Call, reply: Reply, job: Job) -> HttpAnswer:
        begin = self._loop.time()
        call.requesting, call.asked = True, begin
        is_short = len(call.attempts) < min(call.short_attempts, ATTEMPTS - 1)
        timeout = call.patience if is_short else REQUEST_TIMEOUT
        error: ApiError | None = None
        while (now := self._loop.time()) < begin + reply.seconds:
            end = self._queue.until(job, min(begin + timeout, call.deadline))
            if end <= now:
                error = ApiError(Reason.TIMEOUT, "no answer")
                break
            await asyncio.sleep(min(end, begin + reply.seconds) - now)
        if error is None and reply.status != 200:
            error = ApiError(Reason.SERVER_ERROR, "no", reply.status)
        duration = self._loop.time() - begin
        call.attempts.append(Attempt(0, duration, error.status if error else 200, error))
        call.requesting = False
        if error is not None:
            raise error
        return HttpAnswer(200, {}, b'{"reservations_created": 5}')

    def _end(self, job: Job, *, answered: bool) -> None:
        self._queue.finish(job, answered=answered)
        self._give_turns()

    def _give_turns(self) -> None:
        while (job := self._queue.take()) is not None:
            turn = self._turns.pop(job)
            if not turn.done():
                turn.set_result(None)


def cycle(replies: Sequence[Reply]) -> Callable[[], Reply]:
    """Return a function that repeats the replies in order."""
    number = -1

    def reply() -> Reply:
        nonlocal number
        number += 1
        return replies[number % len(replies)]

    return reply
