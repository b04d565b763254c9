"""Requests of a backfill: paced, patient, and each answered point recorded at once."""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import count
from typing import Any, Final, Protocol, TypeVar

from taskrouter_exporter.api.call import Call, HttpAnswer
from taskrouter_exporter.api.client import Client, build_clients
from taskrouter_exporter.api.errors import ApiError, Reason
from taskrouter_exporter.api.executor import FairExecutor
from taskrouter_exporter.api.fair_queue import Claim
from taskrouter_exporter.config.model import Config
from taskrouter_exporter.discovered import Discovered
from taskrouter_exporter.discovery import Discovery
from taskrouter_exporter.history.errors import BackfillError
from taskrouter_exporter.history.plan import KEPT, Point, interval
from taskrouter_exporter.queries import Query
from taskrouter_exporter.statistics.answer import BadStatisticsError
from taskrouter_exporter.statistics.kind import Statistics
from taskrouter_exporter.statistics.parsing import parse

MOST_IN_FLIGHT: Final = 8
_FIRST_BACKOFF_SECONDS: Final = 1.0
_LONGEST_BACKOFF_SECONDS: Final = 60.0
_QUEUED_SECONDS: Final = 60.0
_BAD_ANSWERS: Final = 10
"""So many unusable answers to the same request in a row are no outage."""

_REFUSALS: Final = frozenset({Reason.AUTH, Reason.FORBIDDEN, Reason.NOT_FOUND})

_Result = TypeVar("_Result")


class PointClient(Protocol):
    """The part of api.client.Client that a backfill needs."""

    async def get(self, call: Call, read: Callable[[HttpAnswer], _Result]) -> _Result:
        """See api.client.Client.get."""


class Observer(Protocol):
    """Receives what happens to the points."""

    def answered(self) -> None:
        """Take note that a point has its answer."""

    def expired(self, point: Point) -> None:
        """Take note that TaskRouter does not keep a point any more."""

    def waiting(self, error: ApiError, seconds: float) -> None:
        """Take note that a request failed, and that it is repeated after some seconds."""


@dataclass
class RequestCount:
    """Counts the API requests. See api.client.RequestObserver."""

    requests: int = 0

    def requested(self, _account: str, _status: int | None, _duration: float) -> None:
        """Count a request that ended."""
        self.requests += 1

    def retried(self, account: str) -> None:
        """Take no note of retries: the client makes none."""


class Pacer:
    """Spaces requests: one every `1 / rate` seconds, and none while the API asks for a pause."""

    def __init__(self, rate: float) -> None:
        self._interval = 1 / rate
        self._next = 0.0

    async def turn(self) -> None:
        """Wait until the next request may start."""
        now = asyncio.get_running_loop().time()
        slot = max(now, self._next)
        self._next = slot + self._interval
        await asyncio.sleep(slot - now)

    def pause(self, seconds: float) -> None:
        """Let no request start for some seconds."""
        self._next = max(self._next, asyncio.get_running_loop().time() + seconds)


def connect(config: Config, environ: Mapping[str, str], observer: RequestCount) -> dict[str, Client]:
    """Return a client for each account, which carries out single attempts.

    Raises:
        ConfigError: the environment's network settings, or a password file, cannot be used.
    """
    polling = replace(config.polling, attempts=1, concurrency=min(config.polling.concurrency, MOST_IN_FLIGHT))
    executor = FairExecutor(polling.concurrency, len(config.accounts))
    # Each request is sent once: none is worth keeping.
    return build_clients(replace(config, polling=polling), environ, executor, observer, repeated=0)


class Asking:
    """Asks for points until each has an answer.

    Args:
        clients: By account.
        rate: Requests per second.
        observer: Receives what happens.
        concurrency: Most requests in flight.
        clock: Tells the time.
    """

    def __init__(
        self,
        clients: Mapping[str, PointClient],
        rate: float,
        observer: Observer,
        *,
        concurrency: int = MOST_IN_FLIGHT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clients = clients
        self._pacer = Pacer(rate)
        self._observer = observer
        self._concurrency = concurrency
        self._clock = clock
        self._numbers = count()
        self._stopped = asyncio.Event()
        self._failure: BackfillError | None = None

    def stop(self) -> None:
        """Start no more requests, and wait for those in flight only."""
        self._stopped.set()

    @property
    def stopped(self) -> bool:
        """Whether there are to be no more requests."""
        return self._stopped.is_set()

    async def discover(self, config: Config) -> Mapping[str, Discovered]:
        """Return the lists that a configuration asks for, read until none fails.

        Raises:
            BackfillError: a list cannot be read, and repeating does not help.
        """
        discovery = Discovery(config, self._clients, observer=_NoObserver(), changed=_ignore)
        for account in discovery.discovered:
            backoff = _Backoff()
            await discovery.refresh(account)
            while failures := discovery.discovered[account].failures:
                path, error = next(iter(failures.items()))
                seconds = backoff.after(error)
                if seconds is None:
                    raise BackfillError(f"{path}: {_explain(error)}")
                self._observer.waiting(error, seconds)
                await self._unless_stopped(asyncio.sleep(seconds))
                if self.stopped:
                    return {}
                await discovery.refresh(account)
        return discovery.discovered

    async def ask(
        self,
        queries: tuple[Query, ...],
        points: Iterable[Point],
        record: Callable[[Point, Statistics], None],
    ) -> None:
        """Ask for points in their order, several at a time, and record each answer when it arrives.

        Raises:
            BackfillError: a query is refused, or an answer cannot be recorded. No request is in flight then.
        """
        in_flight = asyncio.Semaphore(self._concurrency)
        tasks: set[asyncio.Task[None]] = set()

        async def carry_out(point: Point) -> None:
            try:
                statistics = await self._answer(queries[point.query], point)
                if statistics is not None:
                    record(point, statistics)
                    self._observer.answered()
            except BackfillError as error:
                self._failure = self._failure or error
                self.stop()
            finally:
                in_flight.release()

        for point in points:
            if self._has_expired(interval(queries[point.query], point.step)[0]):
                self._observer.expired(point)
                continue
            await in_flight.acquire()
            if not self.stopped:
                await self._unless_stopped(self._pacer.turn())
            if self.stopped:
                break
            task = asyncio.create_task(carry_out(point))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)
        if self._failure:
            raise self._failure

    async def _answer(self, query: Query, point: Point) -> Statistics | None:
        """Return the answer about a point, None if there is none any more or the backfill is to stop.

        Raises:
            BackfillError: the API refuses the query.
        """
        start, end = interval(query, point.step)
        parameters = query.parameters(start, end)
        client = self._clients[query.target.account]
        backoff = _Backoff()
        while True:
            if self._has_expired(start):
                self._observer.expired(point)
                return None
            try:
                return await client.get(self._call(query, parameters), partial(_read, query))
            except ApiError as error:
                seconds = backoff.after(error)
                if seconds is None:
                    raise BackfillError(f"{_name(query)}: {_explain(error)}") from None
                if error.reason is Reason.RATE_LIMITED:
                    self._pacer.pause(seconds)
                self._observer.waiting(error, seconds)
            await self._unless_stopped(asyncio.sleep(seconds))
            await self._unless_stopped(self._pacer.turn())
            if self.stopped:
                return None

    def _call(self, query: Query, parameters: Mapping[str, str]) -> Call:
        # A resource of its own: the executor would spread the requests of one that has a rate limit over the
        # time until their deadlines, which here is the pacer's task.
        claim = Claim(query.target.workspace_sid, f"request {next(self._numbers)}")
        return Call(query.path, parameters, time.monotonic() + _QUEUED_SECONDS, claim)

    async def _unless_stopped(self, waiting: Coroutine[Any, Any, None]) -> None:
        """Wait, but no longer than until the backfill is to stop."""
        tasks = [asyncio.create_task(waiting), asyncio.create_task(_wait_for(self._stopped))]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()

    def _has_expired(self, start: datetime) -> bool:
        return start < datetime.fromtimestamp(self._clock(), UTC) - KEPT


async def _wait_for(event: asyncio.Event) -> None:
    await event.wait()


class _Backoff:
    """How long to wait before the same request is repeated."""

    def __init__(self) -> None:
        self._failures = 0
        self._bad_answers = 0

    def after(self, error: ApiError) -> float | None:
        """Return the seconds to wait after a failure, None where repeating does not help."""
        bad = error.reason is Reason.BAD_RESPONSE
        self._bad_answers = self._bad_answers + 1 if bad else 0
        if error.reason in _REFUSALS or _is_refusal(error) or self._bad_answers == _BAD_ANSWERS:
            return None
        longest = min(_FIRST_BACKOFF_SECONDS * 2**self._failures, _LONGEST_BACKOFF_SECONDS)
        self._failures += 1
        return max(random.uniform(0, longest), error.retry_after or 0)  # noqa: S311 -- no cryptography


def _is_refusal(error: ApiError) -> bool:
    """Return whether the request itself is what the API does not accept, such as its StartDate."""
    return error.reason is Reason.BAD_RESPONSE and error.status is not None and 400 <= error.status <= 499  # noqa: PLR2004 -- 4xx


def _read(query: Query, answer: HttpAnswer) -> Statistics:
    try:
        return parse(query.kind, answer.body, query.period.role, query.path)
    except BadStatisticsError as error:
        raise ApiError(Reason.BAD_RESPONSE, str(error), status=answer.status) from None


def _name(query: Query) -> str:
    """Return a query's labels, as the landing page and the log name it."""
    return " ".join(f"{name}={value}" for name, value in query.labels.items())


def _explain(error: ApiError) -> str:
    status = "" if error.status is None else f"status {error.status}, "
    return f"{error.reason}: {status}{error.message}"


class _NoObserver:
    def discovered(self, account: str, *, up: bool) -> None:
        """See discovery.DiscoveryObserver."""


async def _ignore() -> None:
    """Take no note of a change of the lists: they are read once."""
