"""Poll results, and what is known of each query beyond one scrape: errors, anchors, the newest result."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import structlog

from taskrouter_exporter.api import Attempt, RateLimit
from taskrouter_exporter.errors import ApiError, Reason
from taskrouter_exporter.queries import Anchored, Query
from taskrouter_exporter.statistics import CounterFloor, WorkersStatistics

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
        begun: When the poll began, on the monotonic clock.
    """

    query: Query
    finished: float
    duration: float
    attempts: tuple[Attempt, ...] = ()
    statistics: WorkersStatistics | None = None
    error: ApiError | None = None
    rate_limit: RateLimit | None = None
    anchor: datetime | None = None
    begun: float = 0.0

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
        """Take the outcome of a poll into account, and log where failures begin, change or end.

        One that began before the newest outcome's poll is counted but is no news: it may end long after it,
        with the credentials of before a reload for example.
        """
        if self._kept is not None and outcome.query not in self._kept:
            return
        if outcome.error is not None:
            errors = self._errors.setdefault(outcome.query, dict.fromkeys(Reason, 0))
            errors[outcome.error.reason] += 1
        previous = self._last.get(outcome.query)
        if previous is not None and outcome.begun < previous.begun:
            return
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
