"""Request slots: at most so many API requests in flight, shared fairly between accounts."""

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class _Job:
    """A blocking request, and the future of whoever awaits it."""

    account: str
    request: Callable[[], object]
    future: asyncio.Future[Any]


class Slots:
    """So many threads that carry out blocking requests for one event loop.

    A free slot goes to the account with the fewest requests in flight, and within an account first come,
    first served. Accounts whose requests all hang cannot take every slot: some stay reserved for each of
    the others. A request that nobody awaits any more keeps its slot until it really ends, so that
    `concurrency` is never exceeded; the request's own time-out frees it.

    The threads are daemons: a hanging request does not delay the end of the process.
    """

    def __init__(self, concurrency: int, accounts: int) -> None:
        self._concurrency = concurrency
        self._accounts = accounts
        self._reserve = reserve_of_each_account(concurrency, accounts)
        self._changed = threading.Condition()
        self._waiting: dict[str, deque[_Job]] = {}
        self._in_flight: Counter[str] = Counter()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._closed = False

    async def run(self, account: str, request: Callable[[], _Result]) -> _Result:
        """Wait for a slot, and carry the blocking request out in its thread."""
        future: asyncio.Future[_Result] = asyncio.get_running_loop().create_future()
        with self._changed:
            self._waiting.setdefault(account, deque()).append(_Job(account, request, future))
            if self._idle:
                self._idle -= 1
                self._changed.notify()
            elif len(self._threads) < self._concurrency:
                self._start_thread()
        return await future

    def close(self) -> None:
        """Let the threads end, each after the request it is carrying out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _start_thread(self) -> None:
        name = f"slot-{len(self._threads)}"
        self._threads.append(threading.Thread(target=self._work, name=name, daemon=True))
        self._threads[-1].start()

    def _work(self) -> None:
        """Carry out one job after the other; what waits is taken by whoever becomes free."""
        while (job := self._next_job()) is not None:
            try:
                settle = partial(job.future.set_result, job.request())
            except Exception as error:  # noqa: BLE001 -- handed over to whoever awaits the request
                settle = partial(job.future.set_exception, error)
            with self._changed:
                self._in_flight[job.account] -= 1
            with suppress(RuntimeError):  # the loop is closed, and nobody waits any more
                job.future.get_loop().call_soon_threadsafe(_unless_given_up, job.future, settle)

    def _next_job(self) -> _Job | None:
        with self._changed:
            while (job := self._take()) is None and not self._closed:
                self._idle += 1
                self._changed.wait()
            return job

    def _take(self) -> _Job | None:
        """The job whose turn it is, if there is one that may begin."""
        while (account := self._next_account()) is not None:
            jobs = self._waiting[account]
            job = jobs.popleft()
            if not jobs:
                del self._waiting[account]
            if not job.future.done():
                self._in_flight[account] += 1
                return job
        return None

    def _next_account(self) -> str | None:
        account = min(self._waiting, key=self._in_flight.__getitem__, default=None)
        if account is None or self._in_flight[account] < self._reserve:
            return account
        # Whoever waits has its own reserve in use: the slots that are free above the others' are for all.
        used = sum(self._in_flight.values())
        reserves_used = sum(min(count, self._reserve) for count in self._in_flight.values())
        reserved = self._reserve * self._accounts - reserves_used
        return account if self._concurrency - used > reserved else None


def _unless_given_up(future: asyncio.Future[Any], settle: Callable[[], None]) -> None:
    if not future.done():
        settle()


def reserve_of_each_account(concurrency: int, accounts: int) -> int:
    """How many slots are kept for each account, whatever the others do.

    Half of an equal share and at least one, as long as there are enough. It is a compromise: without a
    reserve hanging accounts starve the others, with an equal share a large account never uses what others
    leave.
    """
    return max(1, concurrency // (2 * accounts)) if accounts <= concurrency else 0
