"""Threads that carry out API requests, in the order of a FairQueue."""

import asyncio
import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

from taskrouter_exporter.api.errors import ApiError, Reason
from taskrouter_exporter.api.fair_queue import FairQueue, Job


class FairExecutor:
    """Threads that carry out blocking requests for event loops, in the order of a FairQueue.

    A request whose result is no longer needed keeps its thread until it ends, so that `concurrency` is
    never exceeded; the request's own timeout frees it. The threads are daemons: a hanging request does not
    delay the end of the process.
    """

    def __init__(self, concurrency: int, accounts: int) -> None:
        self._queue = FairQueue(concurrency, accounts)
        self._changed = threading.Condition()
        self._threads: set[threading.Thread] = set()
        self._names = count()
        self._idle = 0
        self._alarm: float | None = None
        self._closed = False
        self._settlements = _Settlements()

    async def run(self, job: Job) -> Any:  # noqa: ANN401 -- what the job's function returns
        """Wait for a thread, carry the job out in it, and return its result.

        Raises:
            ApiError: connection, retryable, where there is no thread and none can be started.
        """
        future = job.future = asyncio.get_running_loop().create_future()
        with self._changed:
            self._queue.put(job)
            self._wake_one()
            if not self._threads:
                self._queue.give_up(job)
                raise ApiError(Reason.CONNECTION, "no thread could be started for the request")
        try:
            return await future
        finally:
            if job.begun is None:
                with self._changed:
                    self._queue.give_up(job)

    def resize(self, concurrency: int, accounts: int) -> None:
        """Change how many requests may be in flight, those of now included; surplus threads end when idle."""
        with self._changed:
            self._queue.resize(concurrency, accounts)
            self._changed.notify_all()
            self._wake_one()

    def until(self, job: Job, end: float) -> float:
        """See FairQueue.until."""
        with self._changed:
            return self._queue.until(job, end)

    def announce(self, job: Job, remaining: float | None, wait: float = 0.0) -> None:
        """See FairQueue.announce."""
        with self._changed:
            self._queue.announce(job, remaining, wait)
            if self._idle and self._queue.waiting:
                self._changed.notify()

    def close(self) -> None:
        """Let the threads end once nothing waits any more, each after the request it is carrying out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _wake_one(self) -> None:
        """Make a thread look for a job, and start one where jobs wait and none is idle."""
        self._changed.notify()
        if self._idle < self._queue.waiting and len(self._threads) < self._queue.concurrency:
            thread = threading.Thread(target=self._work, name=f"request-{next(self._names)}", daemon=True)
            self._threads.add(thread)
            try:
                thread.start()
            except RuntimeError:  # no more threads for this process: the existing ones continue
                self._threads.discard(thread)

    def _work(self) -> None:
        while (job := self._next_job()) is not None:
            answered = _carry_out(job, self._settlements)
            with self._changed:
                self._queue.finish(job, answered=answered)
            del job  # an idle thread keeps no answer alive

    def _next_job(self) -> Job | None:
        """Wait for a job and return it, or None where the thread is to end."""
        with self._changed:
            while True:
                surplus = len(self._threads) > self._queue.concurrency
                job = None if surplus else self._queue.take()
                if job is not None:
                    if self._queue.waiting:
                        self._wake_one()
                    return job
                if surplus or self._closed:
                    self._threads.discard(threading.current_thread())
                    self._changed.notify()  # it may have been woken for a job that another one can take
                    return None
                self._wait()

    def _wait(self) -> None:
        """Wait for a change; one thread at a time waits no longer than until the next paced job's turn."""
        turn = self._queue.next_turn
        keeps_time = turn is not None and (self._alarm is None or turn < self._alarm)
        if keeps_time:
            self._alarm = turn
        self._idle += 1
        self._changed.wait(max(turn - time.monotonic(), 0) if keeps_time and turn is not None else None)
        self._idle -= 1
        if keeps_time and self._alarm == turn:
            self._alarm = None


class _Settlements:
    """Results on their way from the threads to the futures of the event loops.

    A loop is woken for the first of those that wait, not for each: that takes several system calls, and
    answers come in bursts.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[asyncio.AbstractEventLoop, list[Callable[[], None]]] = {}

    def add(self, loop: asyncio.AbstractEventLoop, settle: Callable[[], None]) -> None:
        """Let a loop settle a future soon."""
        with self._lock:
            waiting = self._waiting.setdefault(loop, [])
            waiting.append(settle)
            if len(waiting) > 1:
                return
        try:
            loop.call_soon_threadsafe(self._settle, loop)
        except RuntimeError:  # the loop is closed, and with it every poll
            self._settle(loop, closed=True)

    def _settle(self, loop: asyncio.AbstractEventLoop, *, closed: bool = False) -> None:
        with self._lock:
            waiting = self._waiting.pop(loop)
        for settle in () if closed else waiting:
            settle()


def _carry_out(job: Job, settlements: _Settlements) -> bool:
    """Carry a request out, hand its result over, and return whether the API answered."""
    future = job.future
    if future is None:
        raise ValueError("the job has no future")
    if future.done():  # given up since it was taken
        return False
    try:
        settle = partial(future.set_result, job.function(job))
        answered = True
    except Exception as error:  # noqa: BLE001 -- handed over to whoever awaits the request
        settle = partial(future.set_exception, error)
        answered = isinstance(error, ApiError) and error.status is not None
    except BaseException as error:  # noqa: BLE001 -- a panic in a library's Rust code must not end the thread
        settle = partial(future.set_exception, RuntimeError(type(error).__name__))
        answered = False
    settlements.add(future.get_loop(), partial(_unless_given_up, future, settle))
    return answered


def _unless_given_up(future: asyncio.Future[Any], settle: Callable[[], None]) -> None:
    if not future.done():
        settle()
