"""Queries to poll results: concurrently, by a deadline, sharing the polls that are in flight."""

import asyncio
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Protocol

import structlog

from taskrouter_exporter.api.call import Call, HttpAnswer
from taskrouter_exporter.api.errors import ApiError, Reason
from taskrouter_exporter.api.fair_queue import Standing
from taskrouter_exporter.politeness import Pauses
from taskrouter_exporter.poll_history import PollHistory, PollResult
from taskrouter_exporter.queries import Query
from taskrouter_exporter.standings import Standings
from taskrouter_exporter.statistics.workers import (
    BadStatisticsError,
    WorkersStatistics,
    parse_statistics,
    statistics_path,
)

log = structlog.get_logger()


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

    async def get(self, call: Call, read: Callable[[HttpAnswer], WorkersStatistics]) -> WorkersStatistics:
        """See api.client.Client.get."""


class _Poll:
    """A query being polled, for all scrapes that wait for it."""

    def __init__(self, query: Query, call: Call, anchor: datetime | None, generation: int) -> None:
        self.query = query
        self.generation = generation
        self.call = call
        self.anchor = anchor
        self.deadlines: list[float] = []
        self.result: asyncio.Future[PollResult] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        """Stop carrying the query out; a request in flight ends by its own deadline."""
        if self.task is not None:
            self.task.cancel()


class Poller:
    """Polls queries on behalf of scrapes.

    Args:
        clients: By account.
        history: Receives each result.
        cache: Seconds for which a good answer is used again.
        standings: Says which queries go first; it outlives the poller.
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
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clients = clients
        self._history = history
        self._cache = cache
        self._standings = standings or Standings()
        self._pauses = Pauses()
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

        def begin(some: Iterable[Query]) -> None:
            for query in some:
                result = self._fresh(query) or self._refused(query)
                if result is None:
                    polls.append(self._join(query, deadline))
                else:
                    ready[query] = result

        refused = [query for query in queries if query in self._pauses]
        begin(query for query in queries if query not in self._pauses)
        if refused:
            await self._reread_credentials(refused, deadline)
            begin(refused)
        try:
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

    def _join(self, query: Query, deadline: float) -> _Poll:
        """Return the poll of this query that is in flight, or start one."""
        poll = self._in_flight.get(query)
        if poll is None:
            anchor = self._anchor(query)
            claim = self._standings.claim(query)
            call = Call(
                statistics_path(query.target.workspace_sid),
                query.parameters(anchor),
                deadline,
                claim,
                short_attempts=int(claim.standing is Standing.HUNG),
                begun=self._monotonic(),
            )
            generation = self._clients[query.target.account].generation
            poll = self._in_flight[query] = _Poll(query, call, anchor, generation)
            poll.task = asyncio.create_task(self._carry_out(poll))
        poll.deadlines.append(deadline)
        poll.call.deadline = max(poll.deadlines)
        return poll

    async def _carry_out(self, poll: _Poll) -> None:
        statistics = error = None
        try:
            target = poll.query.target
            read = partial(_read, workspace_sid=target.workspace_sid)
            client = self._clients[target.account]
            statistics = await client.get(poll.call, read)
            statistics = self._history.hold(poll.query, poll.anchor, statistics, client.base_url)
        except ApiError as failure:
            error = failure.without_traceback()
        except Exception as failure:  # noqa: BLE001 -- a fault of ours fails this query at once, and is logged
            # Where it happened, but not its message, which could hold anything.
            place = traceback.extract_tb(failure.__traceback__)[-1]
            where = f"{place.name} in {place.filename}:{place.lineno}"
            log.error("unexpected error in a poll", error=type(failure).__name__, where=where)  # noqa: TRY400 -- see above
            error = ApiError(Reason.BAD_RESPONSE, f"unexpected {type(failure).__name__}, see the log")
        self._end(poll, statistics, error)

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
        poll.cancel()
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
        poll.cancel()

    def _shorten(self, poll: _Poll) -> None:
        """Let a poll go on for the scrapes left, unless its next attempt is too late for them."""
        poll.call.deadline = max(poll.deadlines)
        if poll.call.waits_in_vain:
            self._end(poll, None, poll.call.failure_when_given_up())
            poll.cancel()

    def _end(self, poll: _Poll, statistics: WorkersStatistics | None, error: ApiError | None) -> None:
        result = self._result(poll, statistics, error)
        poll.result.set_result(result)
        if self._in_flight.get(poll.query) is poll:
            del self._in_flight[poll.query]
        if self._kept is None or poll.query in self._kept:
            if result.up and self._cache:
                self._cached[poll.query] = poll.call.begun, result
            self._pauses.record(poll.query, error, self._monotonic(), poll.generation)
            self._standings.record(poll.query, poll.call, error, self._monotonic())
        self._history.record(result)

    def _result(
        self, poll: _Poll, statistics: WorkersStatistics | None, error: ApiError | None
    ) -> PollResult:
        call = poll.call
        return PollResult(
            query=poll.query,
            finished=self._clock(),
            duration=self._monotonic() - call.begun,
            attempts=tuple(call.attempts),
            statistics=statistics,
            error=error,
            rate_limit=call.rate_limit,
            anchor=poll.anchor,
            begun=call.begun,
            asked=statistics is not None or bool(call.attempts) or call.requesting,
        )

    def _anchor(self, query: Query) -> datetime | None:
        """Return the anchor that a query asks from now, None for a sliding window."""
        now = datetime.fromtimestamp(self._clock(), UTC)
        return self._history.anchor(query, now, self._clients[query.target.account].base_url)


def _read(answer: HttpAnswer, workspace_sid: str) -> WorkersStatistics:
    """Parse an answer.

    Raises:
        ApiError: bad_response, the body is not a statistics object.
    """
    try:
        return parse_statistics(answer.body, workspace_sid)
    except BadStatisticsError as error:
        raise ApiError(Reason.BAD_RESPONSE, str(error), status=answer.status) from None
