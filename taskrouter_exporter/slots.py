"""Request slots: at most so many API requests in flight, shared fairly between accounts."""

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import TypeVar

_Result = TypeVar("_Result")


class Slots:
    """So many threads that carry out blocking requests, handed out from one event loop.

    A free slot goes to the account with the fewest requests in flight, and within an account first come,
    first served. An account whose requests all hang cannot take every slot: some stay reserved for each of
    the others. A request that nobody waits for any more keeps its slot until it really ends, so that
    `concurrency` is never exceeded; the request's own time-out frees it.

    The threads are daemons: a hanging request does not delay the end of the process.
    """

    def __init__(self, concurrency: int, accounts: int) -> None:
        self._free = concurrency
        self._limit = most_for_one_account(concurrency, accounts)
        self._in_flight: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._idle_threads = 0

    async def run(self, account: str, request: Callable[[], _Result]) -> _Result:
        """Wait for a slot, then carry the blocking request out in a thread."""
        await self._take(account)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_Result] = loop.create_future()

        def job() -> None:
            try:
                settle = partial(future.set_result, request())
            except Exception as error:  # noqa: BLE001 -- handed over to whoever awaits the request
                settle = partial(future.set_exception, error)
            with suppress(RuntimeError):  # the loop is closed, and nobody waits any more
                loop.call_soon_threadsafe(finish, settle)

        def finish(settle: Callable[[], None]) -> None:
            self._idle_threads += 1
            self._give_back(account)
            if not future.done():
                settle()

        self._start(job)
        return await future

    def close(self) -> None:
        """Let the threads end, each after the request it is carrying out."""
        for _ in self._threads:
            self._jobs.put(None)

    async def _take(self, account: str) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(account, deque()).append(turn)
        self._hand_out()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._give_back(account)
            raise

    def _give_back(self, account: str) -> None:
        self._free += 1
        self._in_flight[account] -= 1
        self._hand_out()

    def _hand_out(self) -> None:
        while self._free and (account := self._next_account()) is not None:
            turns = self._waiting[account]
            turn = turns.popleft()
            if not turns:
                del self._waiting[account]
            if not turn.done():
                self._free -= 1
                self._in_flight[account] += 1
                turn.set_result(None)

    def _next_account(self) -> str | None:
        candidates = [account for account in self._waiting if self._in_flight[account] < self._limit]
        return min(candidates, key=self._in_flight.__getitem__, default=None)

    def _start(self, job: Callable[[], None]) -> None:
        if self._idle_threads:
            self._idle_threads -= 1
        else:
            thread = threading.Thread(target=self._work, name=f"slot-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._jobs.put(job)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


def most_for_one_account(concurrency: int, accounts: int) -> int:
    """How many slots one account may hold: all but a reserve for each of the others.

    The reserve is half of an equal share, and at least one slot. It is a compromise: without a reserve a
    hanging account starves the others, with an equal share a large account never uses what others leave.
    """
    others = max(accounts - 1, 0)
    reserve = max(1, concurrency // (2 * max(accounts, 1)))
    return max(1, concurrency - others * reserve)
