"""Poll results, and what is known of each query beyond one scrape: errors, anchors, the newest result."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, Protocol

import structlog

from taskrouter_exporter.api.call import Attempt, RateLimit
from taskrouter_exporter.api.errors import ApiError, Reason
from taskrouter_exporter.counters import HeldCounters
from taskrouter_exporter.lines import statistics_lines
from taskrouter_exporter.periods import Anchored
from taskrouter_exporter.queries import Query
from taskrouter_exporter.statistics.kind import Kind, Statistics

log = structlog.get_logger()

_CLOCK_STEP: Final = timedelta(minutes=1)
"""A clock set back by less than this does not bring an earlier anchor back: the counters would jump."""

_DAY: Final = timedelta(days=1)

_MOST_LINES: Final = 20
_LINES_SECONDS: Final = 10.0

_NAMED_COUNTERS: Final = 5
"""So many counters are named in a line of the log."""


@dataclass(frozen=True, slots=True)
class PollResult:
    """The result of one poll: statistics or an error.

    Attributes:
        query: What was asked.
        finished: When the poll ended, in Unix seconds.
        duration: Seconds since the start of the poll, including the wait for a free connection.
        attempts: Its HTTP requests.
        answer: What the API said, None where the poll failed; only given to the constructor.
        error: None where it did not.
        rate_limit: Of the newest answer that has one.
        anchor: Start of an anchored query's period.
        asked: Whether a request was sent. Without one, a failure says nothing about the target.
        begun: When the poll began, on the monotonic clock.
        together: Number of queries that its request was about.
        resource: Name of the API's resource that was asked, to which the rate limit applies.
        created: Whether the lines say when the counters began; only given to the constructor.
        statistics: What the landing page shows of the answer, None where the poll failed.
        lines: The whole answer as it is published, family by family. A result is kept for long, and there may
            be thousands: nothing else has all of its samples.
    """

    query: Query
    finished: float
    duration: float
    attempts: tuple[Attempt, ...] = ()
    answer: InitVar[Statistics | None] = None
    error: ApiError | None = None
    rate_limit: RateLimit | None = None
    anchor: datetime | None = None
    begun: float = 0.0
    asked: bool = True
    together: int = 1
    resource: str = ""
    created: InitVar[bool] = True
    statistics: Statistics | None = field(init=False)
    lines: tuple[bytes, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self, answer: Statistics | None, created: bool) -> None:
        shown: Statistics | None = None
        lines: tuple[bytes, ...] = ()
        if answer is not None:
            kind = self.query.kind
            shown = answer.only(
                {family for column in kind.columns for family in (column.family, column.whole)}
            )
            begun = self.anchor if created else None
            lines = statistics_lines(kind, self.query.statistics_label_text, answer, begun)
        object.__setattr__(self, "statistics", shown)
        object.__setattr__(self, "lines", lines)

    @property
    def up(self) -> bool:
        """Whether the query was polled."""
        return self.error is None

    def without_lines(self) -> "PollResult":
        """Return a copy without the lines, which only a scrape needs."""
        kept = object.__new__(PollResult)
        for name in PollResult.__slots__:  # as copy() does, in a quarter of its time
            object.__setattr__(kept, name, getattr(self, name))
        object.__setattr__(kept, "lines", ())
        return kept


def newest_rate_limits(results: Iterable[PollResult]) -> dict[tuple[str, str], RateLimit]:
    """Return the newest rate limit that was announced, by workspace and resource."""
    return {
        (result.query.target.workspace, result.resource): result.rate_limit
        for result in sorted(results, key=lambda result: result.finished)
        if result.rate_limit is not None
    }


class _Series(NamedTuple):
    """What an anchored query's counters depend on, apart from the anchor.

    Neither the label of the workspace nor the account: another name for the same counters is no reason to
    forget them. An API at another address can have other numbers.
    """

    workspace_sid: str
    channel: str
    kind: Kind
    row_sid: str
    period: Anchored
    base_url: str


@dataclass(slots=True)
class _Ignored:
    """The attributes of one query's answers that could not be read: how many, and which were logged."""

    count: int = 0
    logged: set[str] = field(default_factory=set)


class _LineBudget:
    """Bounds the log lines about single queries: an outage of the API concerns all of them at once."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start = 0.0
        self._taken = 0
        self._suppressed = 0

    def take(self) -> bool:
        """Return whether one more line may be logged now."""
        now = self._clock()
        if now - self._start >= _LINES_SECONDS:
            self._start, self._taken = now, 0
        if self._taken >= _MOST_LINES:
            self._suppressed += 1
            return False
        self._taken += 1
        return True

    def reset_suppressed(self) -> int:
        """Return the number of lines that were not logged since the last call."""
        suppressed, self._suppressed = self._suppressed, 0
        return suppressed


class ResultObserver(Protocol):
    """Takes each result that counts into account."""

    def record(self, result: PollResult) -> None:
        """Take the result of a configured query into account for which a request was sent."""

    def forget_all_but(self, queries: Collection[Query]) -> None:
        """Drop what is known of queries that are no longer configured."""


class PollHistory:
    """What is known of each query beyond one scrape: error counts, counters, and the newest result.

    Args:
        observers: Receive the same results.
    """

    def __init__(self, observers: Iterable[ResultObserver] = ()) -> None:
        self._observers = tuple(observers)
        self._errors: dict[Query, dict[Reason, int]] = {}
        self._ignored: dict[Query, _Ignored] = {}
        self._counters: dict[tuple[_Series, datetime], HeldCounters] = {}
        self._cleaned: datetime | None = None
        self._last: dict[Query, PollResult] = {}
        self._kept: frozenset[Query] | None = None
        self._lines = _LineBudget()

    def errors(self, query: Query) -> Mapping[Reason, int]:
        """Return the number of failed polls so far by reason, all reasons present."""
        return self._errors.get(query) or dict.fromkeys(Reason, 0)

    def last(self, query: Query) -> PollResult | None:
        """Return the newest result, None where there is none."""
        return self._last.get(query)

    def ignored(self, query: Query) -> int:
        """Return the number of attributes so far that could not be read."""
        known = self._ignored.get(query)
        return known.count if known else 0

    def anchor(self, query: Query, now: datetime, base_url: str = "") -> datetime | None:
        """Return the start of the period that an anchored query asks about now, None for a sliding window.

        Args:
            query: What is asked.
            now: The wall clock.
            base_url: Address of the API that is asked.
        """
        if not isinstance(query.period, Anchored):
            return None
        self._drop_ended(now)
        series = _series(query, query.period, base_url)
        start = query.period.start(now + _CLOCK_STEP)
        if (series, start) not in self._counters:
            start = query.period.start(now)
            self._counters.setdefault((series, start), HeldCounters())
        return start

    def hold(
        self, query: Query, start: datetime | None, statistics: Statistics, base_url: str = ""
    ) -> Statistics:
        """Return the statistics with the counters of an anchored query held at what was published before.

        Args:
            query: What was asked.
            start: The anchor that `anchor` returned when it was asked.
            statistics: The answer.
            base_url: Address of the API that answered.
        """
        if start is None or not isinstance(query.period, Anchored):
            return statistics
        counters = self._counters.get((_series(query, query.period, base_url), start))
        if counters is None:
            return statistics
        published = counters.publish(statistics)
        if published.released:
            counters.warned = False
            _logger(query).warning(
                "counters reset after lower answers", **_named(published.released), anchor=start.isoformat()
            )
        if published.held and not counters.warned:
            counters.warned = True
            _logger(query).warning(
                "answer below earlier counters; keeping the earlier values",
                **_named(published.held),
                anchor=start.isoformat(),
            )
        return published.statistics

    def _drop_ended(self, now: datetime) -> None:
        """Once a day, drop the counters of anchors that ended more than a day ago.

        So answers that are still on their way find theirs, and today's survive a clock that is ahead for a
        while, in every time zone.
        """
        today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        if today == self._cleaned:
            return
        self._cleaned = today
        self._counters = {
            (series, start): counters
            for (series, start), counters in self._counters.items()
            if series.period.end(start) >= now - _DAY and start <= now + _DAY
        }

    def record(self, result: PollResult) -> None:
        """Take a poll's result into account, and log where failures begin, change or end.

        One that began before the newest result's poll is counted but is no news: it may end long after it,
        with the credentials of before a reload for example.
        """
        if (self._kept is not None and result.query not in self._kept) or not result.asked:
            return
        for observer in self._observers:
            observer.record(result)
        if result.error is not None:
            errors = self._errors.setdefault(result.query, dict.fromkeys(Reason, 0))
            errors[result.error.reason] += 1
        previous = self._last.get(result.query)
        if previous is not None and result.begun < previous.begun:
            return
        reason_before = previous.error.reason if previous and previous.error else None
        self._last[result.query] = result.without_lines()
        if result.statistics is not None and result.statistics.ignored:
            self._count_ignored(result.query, result.statistics.ignored)
        error = result.error
        if (error.reason if error else None) == reason_before or not self._lines.take():
            return
        logger = _logger(result.query).bind(attempts=len(result.attempts), duration=round(result.duration, 3))
        if error is None:
            logger.info("poll recovered")
        else:
            logger.warning(
                "poll failed",
                reason=error.reason,
                status=error.status,
                code=error.code,
                message=error.message,
                request_id=error.request_id,
            )

    def log_suppressed(self) -> None:
        """Log how many lines about failed and recovered polls were left out, if any."""
        suppressed = self._lines.reset_suppressed()
        if suppressed:
            log.warning("more polls failed or recovered", polls=suppressed)

    def _count_ignored(self, query: Query, attributes: Sequence[str]) -> None:
        """Count attributes that could not be read, and log each the first time."""
        known = self._ignored.setdefault(query, _Ignored())
        known.count += len(attributes)
        for attribute in dict.fromkeys(attributes):
            if attribute not in known.logged:
                known.logged.add(attribute)
                _logger(query).warning("unreadable attribute ignored", attribute=attribute)

    def forget_all_but(self, queries: Iterable[Query]) -> None:
        """Drop what is known of queries that are no longer configured, and learn nothing more of them.

        Their counters stay until the anchor's period ends, for a query that comes back before then.
        """
        self._kept = kept = frozenset(queries)
        self._errors = {query: known for query, known in self._errors.items() if query in kept}
        self._ignored = {query: known for query, known in self._ignored.items() if query in kept}
        self._last = {query: known for query, known in self._last.items() if query in kept}
        for observer in self._observers:
            observer.forget_all_but(kept)


def _series(query: Query, period: Anchored, base_url: str) -> _Series:
    row_sid = query.row.sid.lower() if query.row else ""
    target = query.target
    return _Series(target.workspace_sid.lower(), target.channel, query.kind, row_sid, period, base_url)


def _logger(query: Query) -> structlog.typing.FilteringBoundLogger:
    """Return a logger with the labels of a query."""
    logger: structlog.typing.FilteringBoundLogger = log.bind(**query.labels)
    return logger


def _named(counters: Sequence[str]) -> dict[str, object]:
    """Return the log fields that name the counters, or the first of many."""
    return {"counters": ", ".join(counters[:_NAMED_COUNTERS]), "number": len(counters)}
