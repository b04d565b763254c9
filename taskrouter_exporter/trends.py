"""Shares of reservations over the last hour, one point a minute, for the trends of the landing page."""

from array import array
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from taskrouter_exporter.periods import Window
from taskrouter_exporter.poll_history import PollResult
from taskrouter_exporter.queries import Query, Target
from taskrouter_exporter.statistics.kind import Column, Statistics

MINUTES: Final = 60
"""Length of a trend. The share of a longer window hardly changes in this time."""

_MISSING: Final = 0xFFFF
_WHOLE: Final = 10_000
"""A share of 100 %, as it is stored."""

_MINUTE_SECONDS: Final = 60


class _Points:
    """The points of one query: a ring of minutes, each with a share for each column that has one."""

    __slots__ = ("_newest", "_shares", "query")

    def __init__(self, query: Query) -> None:
        self.query = query
        self._newest = -MINUTES
        self._shares = array("H")
        self._clear()

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.query.kind.shares

    def record(self, minute: int, statistics: Statistics) -> None:
        """Store the shares of a minute that has none yet."""
        ahead = minute - self._newest
        if -MINUTES < ahead <= 0:
            return
        if not 0 < ahead < MINUTES:  # nothing for an hour, or a clock that was set back
            self._clear()
        else:
            for skipped in range(self._newest + 1, minute):
                self._store(skipped, [_MISSING] * len(self.columns))
        self._newest = minute
        self._store(minute, [_stored(column.share(statistics)) for column in self.columns])

    def read(self, minute: int) -> Mapping[Column, Sequence[float | None]]:
        """Return the shares of the hour that ends with a minute, the oldest first."""
        number = len(self.columns)
        oldest = (minute + 1) % MINUTES * number
        stored = (self._shares[oldest:] + self._shares[:oldest]).tolist()
        # The ring has other hours' shares where it is behind the clock, or where the clock was set back.
        behind = min(max(minute - self._newest, 0), MINUTES) * number
        ahead = min(max(self._newest - minute, 0), MINUTES) * number
        stored = [_MISSING] * ahead + stored[ahead : len(stored) - behind] + [_MISSING] * behind
        return {
            column: [None if share == _MISSING else share / _WHOLE for share in stored[index::number]]
            for index, column in enumerate(self.columns)
        }

    def _store(self, minute: int, shares: Sequence[int]) -> None:
        start = minute % MINUTES * len(shares)
        self._shares[start : start + len(shares)] = array("H", shares)

    def _clear(self) -> None:
        self._shares = array("H", [_MISSING]) * (MINUTES * len(self.columns))


class Trends:
    """The trend of each target: of its shortest window, if that is not longer than the trend.

    At most one point a minute is kept, the first. Other threads may read it.
    """

    def __init__(self) -> None:
        self._by_target: dict[Target, _Points] = {}

    def record(self, result: PollResult) -> None:
        """Take an answer into account."""
        query, statistics = result.query, result.statistics
        period = query.period
        if (
            statistics is None
            or not isinstance(period, Window)
            or period.minutes > MINUTES
            or query.row
            or not query.kind.shares
        ):
            return
        points = self._by_target.get(query.target)
        if points is None or _minutes(points.query) > period.minutes:
            points = self._by_target[query.target] = _Points(query)
        elif points.query != query:
            return
        points.record(int(result.finished // _MINUTE_SECONDS), statistics)

    def of(self, target: Target, now: float) -> Mapping[Column, Sequence[float | None]]:
        """Return the shares of the last hour by column, minute by minute, None where one is unknown."""
        points = self._by_target.get(target)
        return points.read(int(now // _MINUTE_SECONDS)) if points else {}

    def forget_all_but(self, queries: Collection[Query]) -> None:
        """Drop the trends of queries that are no longer configured."""
        self._by_target = {
            target: points for target, points in self._by_target.items() if points.query in queries
        }


def _minutes(query: Query) -> float:
    return query.period.minutes if isinstance(query.period, Window) else float("inf")


def _stored(share: float | None) -> int:
    return _MISSING if share is None else round(share * _WHOLE)
