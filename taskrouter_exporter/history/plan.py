"""What a backfill asks for: which queries, at which steps, and what each of these points is about."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from taskrouter_exporter.periods import Anchored, Window
from taskrouter_exporter.queries import Query

KEPT: Final = timedelta(days=30)
"""How far back TaskRouter's statistics reach: no StartDate may be earlier.

Source: https://www.twilio.com/docs/taskrouter/api/worker/statistics
"""

_SECOND: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Range:
    """The steps of a backfill: multiples of `step` in UTC after `start`, up to `end`. All in Unix seconds."""

    start: int
    end: int
    step: int

    @property
    def steps(self) -> range:
        """Every step, the oldest first."""
        return range(self.start - self.start % self.step + self.step, self.end + 1, self.step)


@dataclass(frozen=True, slots=True)
class Point:
    """One query at one step: exactly one API request.

    Attributes:
        query: Index of the query.
        step: Unix seconds.
    """

    query: int
    step: int


def interval(query: Query, step: int) -> tuple[datetime, datetime]:
    """Return StartDate and EndDate: what the exporter would have asked for at that step.

    An anchored period that starts at the step is still empty; the one that ends there is asked for.
    """
    end = datetime.fromtimestamp(step, UTC)
    if isinstance(query.period, Window):
        return end - timedelta(minutes=query.period.minutes), end
    return anchor(query, end - _SECOND), end


def anchor(query: Query, moment: datetime) -> datetime:
    """Return the start of the anchored period of a query that contains a moment."""
    if not isinstance(query.period, Anchored):
        raise TypeError(f"{query.period} has no anchor")
    return query.period.start(moment)


class Points:
    """The points that are still to be asked.

    Args:
        queries: Number of queries.
        span: The steps.
        gaps: For each query, the first and last step of each span to ask for; None for every step.
    """

    def __init__(
        self, queries: int, span: Range, gaps: Sequence[Sequence[tuple[int, int]]] | None = None
    ) -> None:
        self._steps = span.steps
        self._queries = queries
        self._open = bytearray((0 if gaps is not None else 1).to_bytes() * (queries * len(self._steps)))
        for query, spans in enumerate(gaps or ()):
            for first, last in spans:
                for step in range(first, last + 1, span.step):
                    self._open[self._place(Point(query, step))] = 1
        self.left = self._open.count(1)

    def __contains__(self, point: Point) -> bool:
        """Return whether a point is of this backfill and has not been closed."""
        return (
            0 <= point.query < self._queries
            and point.step in self._steps
            and self._open[self._place(point)] == 1
        )

    def close(self, point: Point) -> None:
        """Take note that a point needs no request any more."""
        self._open[self._place(point)] = 0
        self.left -= 1

    def __iter__(self) -> Iterator[Point]:
        """Yield the open points, the oldest step first: TaskRouter forgets that one first."""
        for step in self._steps:
            for query in range(self._queries):
                point = Point(query, step)
                if self._open[self._place(point)]:
                    yield point

    def _place(self, point: Point) -> int:
        return (point.step - self._steps.start) // self._steps.step * self._queries + point.query


def earliest_start(queries: Sequence[Query], now: datetime) -> datetime:
    """Return the earliest start of a range whose every point is within what TaskRouter keeps."""
    limit = now - KEPT
    return max((_earliest(query, limit) for query in queries), default=limit)


def _earliest(query: Query, limit: datetime) -> datetime:
    if isinstance(query.period, Window):
        return limit + timedelta(minutes=query.period.minutes)
    if not isinstance(query.period, Anchored):
        return limit
    begun = query.period.start(limit)
    return begun if begun == limit else query.period.end(begun)


def lost_points(queries: Sequence[Query], points: Points, rate: float, now: datetime) -> int:
    """Return how many points TaskRouter will not keep until it is their turn."""
    limit = now - KEPT
    return sum(
        interval(queries[point.query], point.step)[0] < limit + timedelta(seconds=turn / rate)
        for turn, point in enumerate(points)
    )
