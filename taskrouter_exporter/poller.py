"""Queries → outcomes: concurrently, by a deadline, sharing the polls that are in flight."""

import asyncio
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

import structlog

from taskrouter_exporter.api import Attempt, Call, RateLimit
from taskrouter_exporter.errors import ApiError, Reason
from taskrouter_exporter.queries import Anchored, Query
from taskrouter_exporter.statistics import (
    BadStatisticsError,
    CounterFloor,
    WorkersStatistics,
    parse_statistics,
)
from taskrouter_exporter.transport import Answer

log = structlog.get_logger()

_CLOCK_STEP: Final = timedelta(hours=1)
"""A clock set back by less than this does not bring an earlier anchor back: the counters would jump."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one poll: statistics, or the error.

    Attributes:
        query: What was asked.
        finished: When it was over, in Unix seconds.
        duration: Seconds from the begin of the poll, waiting for a free connection included.
        attempts: Its HTTP requests.
        statistics: None where the poll failed.
        error: None where it did not.
        rate_limit: As the newest answer told.
        anchor: Begin of an anchored query's period.
    """

    query: Query
    finished: float
    duration: float
    attempts: tuple[Attempt, ...] = ()
    statistics: WorkersStatistics | None = None
    error: ApiError | None = None
    rate_limit: RateLimit | None = None
    anchor: datetime | None = None

    @property
    def up(self) -> bool:
        """Whether the query was polled."""
        return self.error is None


def newest_rate_limits(outcomes: Iterable[Outcome]) -> dict[str, RateLimit]:
    """What the API said last of each workspace's rate limit, where it said something."""
    return {
        each.query.target.workspace: each.rate_limit
        for each in sorted(outcomes, key=lambda outcome: outcome.finished)
        if each.rate_limit is not None
    }


@dataclass(slots=True)
class _Anchor:
    """The anchor that is in force for a query, and the highest counter values since."""

    start: datetime
    floor: CounterFloor = field(default_factory=CounterFloor)


class Ledger:
    """What is known of each query beyond one scrape: error counts, anchors, and the last outcome."""

    def __init__(self) -> None:
        self._errors: dict[Query, dict[Reason, int]] = {}
        self._anchors: dict[Query, _Anchor] = {}
        self._last: dict[Query, Outcome] = {}
        self._kept: frozenset[Query] | None = None

    def errors(self, query: Query) -> Mapping[Reason, int]:
        """Failed polls so far, all reasons present."""
        return self._errors.get(query) or dict.fromkeys(Reason, 0)

    def last(self, query: Query) -> Outcome | None:
        """The newest outcome, if there was one."""
        return self._last.get(query)

    def anchor(self, query: Query, now: datetime) -> datetime | None:
        """The begin of the period that an anchored query asks about now; None for a sliding one."""
        if not isinstance(query.period, Anchored):
            return None
        start = query.period.start(now)
        known = self._anchors.get(query)
        if known is None or start > known.start or now < known.start - _CLOCK_STEP:
            known = self._anchors[query] = _Anchor(start)
        return known.start

    def hold(self, query: Query, start: datetime | None, statistics: WorkersStatistics) -> WorkersStatistics:
        """The statistics, with the counters of an anchored query not below what was seen since its anchor."""
        known = self._anchors.get(query)
        if known is None or known.start != start:
            return statistics
        held = known.floor.hold(statistics)
        known.floor = known.floor.raised_by(statistics)
        return held

    def record(self, outcome: Outcome) -> None:
        """Take the outcome of a poll into account, and log where failures begin, change or end."""
        if self._kept is not None and outcome.query not in self._kept:
            return
        previous = self._last.get(outcome.query)
        reason_before = previous.error.reason if previous and previous.error else None
        self._last[outcome.query] = outcome
        target = outcome.query.target
        told = log.bind(
            workspace=target.workspace,
            channel=target.channel,
            window=outcome.query.period.label,
            attempts=len(outcome.attempts),
            duration=round(outcome.duration, 3),
        )
        if outcome.error is None:
            if reason_before is not None:
                told.info("poll works again")
            return
        error = outcome.error
        self._errors.setdefault(outcome.query, dict.fromkeys(Reason, 0))[error.reason] += 1
        if error.reason != reason_before:
            told.warning(
                "poll failed",
                reason=error.reason,
                status=error.status,
                code=error.code,
                message=error.message,
            )

    def forget_all_but(self, queries: Iterable[Query]) -> None:
        """Drop what is known of queries that are no longer configured, and learn nothing more of them."""
        self._kept = kept = frozenset(queries)
        self._errors = {query: known for query, known in self._errors.items() if query in kept}
        self._anchors = {query: known for query, known in self._anchors.items() if query in kept}
        self._last = {query: known for query, known in self._last.items() if query in kept}


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
            statistics = self._ledger.hold(poll.query, poll.anchor, parse_statistics(answer.body))
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
