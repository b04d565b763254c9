"""Queries to poll results: concurrently, by a deadline, sharing the polls that are in flight."""

import asyncio
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, Protocol

import structlog

from taskrouter_exporter.api.call import Call, HttpAnswer
from taskrouter_exporter.api.errors import ApiError, Reason
from taskrouter_exporter.api.fair_queue import Standing
from taskrouter_exporter.batches import Batch, Batching
from taskrouter_exporter.politeness import Pauses
from taskrouter_exporter.poll_history import PollHistory, PollResult
from taskrouter_exporter.queries import Query
from taskrouter_exporter.standings import Standings
from taskrouter_exporter.statistics.kind import Statistics

log = structlog.get_logger()

_BEGUN_AT_ONCE: Final = 16
"""So many requests are prepared before the event loop lets them leave."""


class StatisticsClient(Protocol):
    """The part of api.client.Client that the poller needs."""

    @property
    def base_url(self) -> str:
        """See api.client.Client.base_url."""

    @property
    def generation(self) -> int:
        """See api.client.Client.generation."""

    async def reread_credentials(self) -> None:
        """See api.client.Client.reread_credentials."""

    async def get(
        self, call: Call, read: Callable[[HttpAnswer], list[Statistics | ApiError]]
    ) -> list[Statistics | ApiError]:
        """See api.client.Client.get."""


class _Request:
    """An API call under way, and the polls that it carries out."""

    def __init__(self, batch: Batch, call: Call, generation: int) -> None:
        self.batch = batch
        self.call = call
        self.generation = generation
        self.polls: list[_Poll] = []
        self.task: asyncio.Task[None] | None = None

    def reschedule(self) -> None:
        """Give the call the deadline of the last scrape that waits for it, or end it after the last one."""
        waiting = [poll.deadlines for poll in self.polls if not poll.result.done()]
        if waiting:
            self.call.deadline = max(deadline for deadlines in waiting for deadline in deadlines)
        elif self.task is not None:
            self.task.cancel()  # a request in flight ends by its own deadline


class _Poll:
    """A query being polled, for all scrapes that wait for it."""

    def __init__(self, query: Query, request: _Request, anchor: datetime | None) -> None:
        self.query = query
        self.request = request
        self.anchor = anchor
        self.deadlines: list[float] = []
        self.result: asyncio.Future[PollResult] = asyncio.get_running_loop().create_future()

    @property
    def call(self) -> Call:
        """The API call that carries the poll out."""
        return self.request.call

    def wait_until(self, deadline: float) -> None:
        """Let one more scrape wait for the result."""
        self.deadlines.append(deadline)
        self.request.reschedule()


class Poller:
    """Polls queries on behalf of scrapes.

    Args:
        clients: By account.
        history: Receives each result.
        cache: Seconds for which a good answer is used again.
        standings: Says which queries go first; it outlives the poller.
        created: Whether the lines of counters say when these began.
        clock: Tells the time.
        monotonic: The clock of deadlines.
    """

    def __init__(  # noqa: PLR0913 -- two are clocks, for tests
        self,
        clients: Mapping[str, StatisticsClient],
        history: PollHistory,
        *,
        cache: float = 0,
        standings: Standings | None = None,
        created: bool = True,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clients = clients
        self._history = history
        self._cache = cache
        self._standings = standings or Standings()
        self._created = created
        self._pauses = Pauses()
        self._batching = Batching()
        self._kept: frozenset[Query] | None = None
        self._clock = clock
        self._monotonic = monotonic
        self._in_flight: dict[Query, _Poll] = {}
        self._cached: dict[Query, tuple[float, PollResult]] = {}

    async def poll(self, queries: Sequence[Query], deadline: float) -> list[PollResult]:
        """Poll all the queries and return a result for each, in order, at the deadline at the latest.

        Args:
            queries: Each at most once.
            deadline: Instant on the monotonic clock. What has not ended by then has failed.
        """
        ready: dict[Query, PollResult] = {}
        polls: list[_Poll] = []

        refused = [query for query in queries if query in self._pauses]
        asked = [query for query in queries if query not in self._pauses]
        try:
            await self._begin(asked, deadline, ready, polls)
            if refused:
                await self._reread_credentials(refused, deadline)
                await self._begin(refused, deadline, ready, polls)
            if polls:
                await asyncio.wait([poll.result for poll in polls], timeout=deadline - self._monotonic())
        except asyncio.CancelledError:  # the client has gone
            for poll in polls:
                self._leave(poll, deadline)
            raise
        missed = 0
        for poll in polls:
            ready[poll.query] = result = self._result_for(poll, deadline)
            missed += not result.asked
        if missed:
            log.warning("deadline reached before all queries were sent", queries=missed)
        self._history.log_suppressed()
        return [ready[query] for query in queries]

    async def _begin(
        self,
        queries: Iterable[Query],
        deadline: float,
        ready: dict[Query, PollResult],
        polls: list[_Poll],
    ) -> None:
        """Begin to poll queries: the first requests leave while others are prepared.

        Args:
            queries: What is asked; the most promising ones are begun first.
            deadline: See `poll`.
            ready: Receives the results at hand.
            polls: Receives the polls, those in flight and new ones.
        """
        unasked = []
        for query in sorted(queries, key=self._standings.standing):
            if (result := self._fresh(query) or self._refused(query)) is not None:
                ready[query] = result
            elif not self._join(query, deadline, polls):
                unasked.append(query)
        batches = list(self._batching.batches(unasked, self._monotonic()))
        for begin in range(0, len(batches), _BEGUN_AT_ONCE):
            for batch in batches[begin : begin + _BEGUN_AT_ONCE]:
                # Another scrape may have begun some meanwhile.
                others = tuple(query for query in batch.queries if not self._join(query, deadline, polls))
                if others:
                    polls += self._start(batch.only(others), deadline)
            await asyncio.sleep(0)

    def _join(self, query: Query, deadline: float, polls: list[_Poll]) -> bool:
        """Wait for the query's poll that is in flight, and return whether there is one."""
        poll = self._in_flight.get(query)
        if poll is None:
            return False
        poll.wait_until(deadline)
        polls.append(poll)
        return True

    async def drained(self) -> None:
        """Wait until no poll is in flight."""
        while self._in_flight:
            await asyncio.wait([poll.result for poll in self._in_flight.values()])

    def forget_all_but(self, queries: Collection[Query]) -> None:
        """Drop what is known of queries that are no longer configured, and keep nothing more of them."""
        self._kept = kept = frozenset(queries)
        self._cached = {query: cached for query, cached in self._cached.items() if query in kept}
        self._pauses.forget_all_but(kept)

    def resume(self) -> None:
        """Ask queries again that were refused repeatedly."""
        self._pauses.clear()

    async def _reread_credentials(self, queries: Iterable[Query], deadline: float) -> None:
        """Notice new credentials also where every query of their account is paused."""
        clients = [self._clients[account] for account in {query.target.account for query in queries}]
        with suppress(TimeoutError):  # a file system that hangs
            async with asyncio.timeout(deadline - self._monotonic()):
                await asyncio.gather(*(client.reread_credentials() for client in clients))

    def _refused(self, query: Query) -> PollResult | None:
        """Return the result of a query that was refused repeatedly and is not asked now."""
        if query not in self._pauses or query in self._in_flight:
            return None
        now, generation = self._monotonic(), self._clients[query.target.account].generation
        error = self._pauses.error(query, now, generation)
        if error is None:
            return None
        anchor = self._anchor(query)
        result = PollResult(query, self._clock(), duration=0, error=error, anchor=anchor, begun=now)
        self._history.record(result)
        return result

    def _fresh(self, query: Query) -> PollResult | None:
        """Return a cached result that may still be used."""
        if query not in self._cached:
            return None
        begun, result = self._cached[query]
        current = result.anchor == self._anchor(query)
        if current and self._monotonic() - begun < self._cache:
            return result
        del self._cached[query]
        return None

    def _start(self, batch: Batch, deadline: float) -> list[_Poll]:
        """Start the request of a batch, and return the polls that it carries out."""
        first = batch.queries[0]
        anchor = self._anchor(first)
        claim = self._standings.claim(first, batch.rate_limited_as)
        call = Call(
            batch.path,
            batch.parameters(anchor),
            deadline,
            claim,
            short_attempts=int(claim.standing is Standing.HUNG),
            body=batch.body,
            begun=self._monotonic(),
        )
        request = _Request(batch, call, self._clients[first.target.account].generation)
        request.polls = [_Poll(query, request, anchor) for query in batch.queries]
        for poll in request.polls:
            poll.deadlines.append(deadline)
            self._in_flight[poll.query] = poll
        request.task = asyncio.create_task(self._carry_out(request))
        return request.polls

    async def _carry_out(self, request: _Request) -> None:
        error: ApiError | None = None
        answers: Sequence[Statistics | ApiError]
        client = self._clients[request.batch.queries[0].target.account]
        try:
            answers = [
                self._history.hold(poll.query, poll.anchor, answer, client.base_url)
                if isinstance(answer, Statistics)
                else answer
                for poll, answer in zip(
                    request.polls, await client.get(request.call, request.batch.read), strict=True
                )
            ]
        except ApiError as failure:
            error = failure.without_traceback()
            answers = [error] * len(request.polls)
        except Exception as failure:  # noqa: BLE001 -- a fault of ours fails these queries at once, and is logged
            error = _unexpected(failure)
            answers = [error] * len(request.polls)
        self._batching.record(request.batch, error, self._monotonic())
        for poll, answer in zip(request.polls, answers, strict=True):
            if poll.result.done():  # given up
                continue
            if isinstance(answer, Statistics):
                self._end(poll, answer, None)
            else:
                self._end(poll, None, answer)
        # A reference cycle otherwise, which would keep the results until the garbage collector runs.
        request.polls = []

    def _result_for(self, poll: _Poll, deadline: float) -> PollResult:
        """Return the result for a scrape at its deadline; end the poll unless a later scrape waits for it."""
        poll.deadlines.remove(deadline)
        if poll.result.done():
            return poll.result.result()
        error = poll.call.failure_when_given_up()
        if poll.deadlines:
            self._shorten(poll)
            return poll.result.result() if poll.result.done() else self._result(poll, None, error)
        self._end(poll, None, error)
        poll.request.reschedule()
        return poll.result.result()

    def _leave(self, poll: _Poll, deadline: float) -> None:
        """Let a poll go on without one of its scrapes, or end it with the last one: no result counts then."""
        poll.deadlines.remove(deadline)
        if poll.result.done():
            return
        if poll.deadlines:
            self._shorten(poll)
            return
        del self._in_flight[poll.query]
        poll.result.set_result(self._result(poll, None, poll.call.failure_when_given_up()))
        poll.request.reschedule()

    def _shorten(self, poll: _Poll) -> None:
        """Let a poll go on for the scrapes left, unless its next attempt is too late for them."""
        poll.request.reschedule()
        if poll.call.waits_in_vain:
            self._end(poll, None, poll.call.failure_when_given_up())
            poll.request.reschedule()

    def _end(self, poll: _Poll, statistics: Statistics | None, error: ApiError | None) -> None:
        result = self._result(poll, statistics, error)
        poll.result.set_result(result)
        if self._in_flight.get(poll.query) is poll:
            del self._in_flight[poll.query]
        if self._kept is None or poll.query in self._kept:
            if result.up and self._cache:
                self._cached[poll.query] = poll.call.begun, result
            self._pauses.record(poll.query, error, self._monotonic(), poll.request.generation)
            self._standings.record(poll.query, poll.call, error, self._monotonic())
        self._history.record(result)

    def _result(self, poll: _Poll, statistics: Statistics | None, error: ApiError | None) -> PollResult:
        call = poll.call
        return PollResult(
            query=poll.query,
            finished=self._clock(),
            duration=self._monotonic() - call.begun,
            attempts=tuple(call.attempts),
            answer=statistics,
            created=self._created,
            error=error,
            rate_limit=call.rate_limit,
            anchor=poll.anchor,
            begun=call.begun,
            together=len(poll.request.polls),
            resource=poll.request.batch.rate_limited_as,
            asked=statistics is not None or bool(call.attempts) or call.requesting,
        )

    def _anchor(self, query: Query) -> datetime | None:
        """Return the anchor that a query asks from now, None for a sliding window."""
        now = datetime.fromtimestamp(self._clock(), UTC)
        return self._history.anchor(query, now, self._clients[query.target.account].base_url)


def _unexpected(failure: Exception) -> ApiError:
    """Log a fault of ours: where it happened, but not its message, which could hold anything."""
    place = traceback.extract_tb(failure.__traceback__)[-1]
    where = f"{place.name} in {place.filename}:{place.lineno}"
    log.error("unexpected error in a poll", error=type(failure).__name__, where=where)
    return ApiError(Reason.BAD_RESPONSE, f"unexpected {type(failure).__name__}, see the log")
