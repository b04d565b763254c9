"""Queries → outcomes: concurrently, by a deadline, sharing the polls that are in flight."""

import asyncio
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

import structlog

from taskrouter_exporter.api import Call
from taskrouter_exporter.errors import ApiError, Reason
from taskrouter_exporter.ledger import Ledger, Outcome
from taskrouter_exporter.queries import Query
from taskrouter_exporter.statistics import BadStatisticsError, WorkersStatistics, parse_statistics
from taskrouter_exporter.transport import Answer

log = structlog.get_logger()


class StatisticsClient(Protocol):
    """What the poller needs of api.Client."""

    async def get(self, call: Call) -> Answer:
        """See api.Client.get."""


class _Poll:
    """One query being carried out, for all scrapes that wait for it."""

    def __init__(self, query: Query, call: Call, anchor: datetime | None) -> None:
        self.query = query
        self.call = call
        self.anchor = anchor
        self.outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None] | None = None


class Poller:
    """Polls queries on behalf of scrapes."""

    def __init__(
        self,
        clients: Mapping[str, StatisticsClient],
        ledger: Ledger,
        *,
        cache: float = 0,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clients = clients
        self._ledger = ledger
        self._cache = cache
        self._clock = clock
        self._monotonic = monotonic
        self._in_flight: dict[Query, _Poll] = {}
        self._cached: dict[Query, tuple[float, Outcome]] = {}

    async def poll(self, queries: Sequence[Query], deadline: float) -> list[Outcome]:
        """Poll all the queries and return an outcome for each, in order, at the deadline at the latest.

        Args:
            queries: What to ask; each at most once.
            deadline: Instant on the monotonic clock. What has not ended by then has failed.
        """
        ready = {query: outcome for query in queries if (outcome := self._fresh(query)) is not None}
        polls = [self._join(query, deadline) for query in queries if query not in ready]
        if polls:
            await asyncio.wait([each.outcome for each in polls], timeout=deadline - self._monotonic())
        for each in polls:
            ready[each.query] = (
                each.outcome.result() if each.outcome.done() else self._give_up(each, deadline)
            )
        return [ready[query] for query in queries]

    async def drained(self) -> None:
        """Wait until no poll is in flight."""
        while self._in_flight:
            await asyncio.wait([poll.outcome for poll in self._in_flight.values()])

    def _fresh(self, query: Query) -> Outcome | None:
        """A cached outcome that may still be used."""
        if query not in self._cached:
            return None
        begun, outcome = self._cached[query]
        current = outcome.anchor == self._ledger.anchor(query, self._now())
        if current and self._monotonic() - begun < self._cache:
            return outcome
        del self._cached[query]
        return None

    def _join(self, query: Query, deadline: float) -> _Poll:
        """The poll of this query that is in flight, or a new one."""
        poll = self._in_flight.get(query)
        if poll is None:
            anchor = self._ledger.anchor(query, self._now())
            call = Call(query.path, query.parameters(anchor), deadline, begun=self._monotonic())
            poll = self._in_flight[query] = _Poll(query, call, anchor)
            poll.task = asyncio.create_task(self._carry_out(poll))
        poll.call.deadline = max(poll.call.deadline, deadline)
        return poll

    async def _carry_out(self, poll: _Poll) -> None:
        statistics = error = None
        try:
            answer = await self._clients[poll.query.target.account].get(poll.call)
            statistics = parse_statistics(answer.body, poll.query.target.workspace_sid)
            statistics = self._ledger.hold(poll.query, poll.anchor, statistics)
        except ApiError as failure:
            error = failure.without_traceback()
        except BadStatisticsError as failure:
            error = ApiError(Reason.BAD_RESPONSE, str(failure), status=200)
        except Exception as failure:  # noqa: BLE001 -- a fault of ours fails this query at once, and is told
            # Where it happened, but not its message, which could hold anything.
            place = traceback.extract_tb(failure.__traceback__)[-1]
            where = f"{place.name} in {place.filename}:{place.lineno}"
            log.error("unforeseen error in a poll", error=type(failure).__name__, where=where)  # noqa: TRY400 -- see above
            error = ApiError(Reason.BAD_RESPONSE, f"unforeseen {type(failure).__name__}, see the log")
        self._end(poll, statistics, error)

    def _give_up(self, poll: _Poll, deadline: float) -> Outcome:
        """The outcome for a scrape whose deadline has come; the poll ends unless a later one waits for it."""
        error = poll.call.failure_when_given_up()
        if deadline < poll.call.deadline:
            return self._outcome(poll, None, error)
        self._end(poll, None, error)
        if poll.task is not None:
            poll.task.cancel()
        return poll.outcome.result()

    def _end(self, poll: _Poll, statistics: WorkersStatistics | None, error: ApiError | None) -> None:
        outcome = self._outcome(poll, statistics, error)
        poll.outcome.set_result(outcome)
        if self._in_flight.get(poll.query) is poll:
            del self._in_flight[poll.query]
        if outcome.up and self._cache:
            self._cached[poll.query] = poll.call.begun, outcome
        self._ledger.record(outcome)

    def _outcome(self, poll: _Poll, statistics: WorkersStatistics | None, error: ApiError | None) -> Outcome:
        call = poll.call
        return Outcome(
            query=poll.query,
            finished=self._clock(),
            duration=self._monotonic() - call.begun,
            attempts=tuple(call.attempts),
            statistics=statistics,
            error=error,
            rate_limit=call.rate_limit,
            anchor=poll.anchor,
        )

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)
