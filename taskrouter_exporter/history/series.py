"""From the answers about a query's past to the series that are published of them."""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import Final

from taskrouter_exporter.history.plan import Range, interval
from taskrouter_exporter.periods import Anchored
from taskrouter_exporter.queries import Query
from taskrouter_exporter.statistics.kind import Family, Sample

_MILLISECONDS: Final = 1000

Answer = tuple[int, tuple[Sample, ...]]
"""A step, and the samples of one family at it."""


@dataclass(slots=True)
class Series:
    """One series of a query.

    Attributes:
        family: What it belongs to.
        labels: Values of the family's own labels.
        times: Of its samples, ascending, in Unix milliseconds.
        values: Of its samples.
        anchors: When the counter of each sample began, in Unix seconds; none for a gauge.
    """

    family: Family
    labels: tuple[str, ...]
    times: "array[int]" = field(default_factory=lambda: array("q"))
    values: "array[float]" = field(default_factory=lambda: array("d"))
    anchors: "array[int]" = field(default_factory=lambda: array("q"))

    def __len__(self) -> int:
        return len(self.times)

    def add(self, time: int, value: float, begun: int) -> None:
        """Append a sample of a counter that began at `begun`."""
        self.times.append(time)
        self.values.append(value)
        self.anchors.append(begun)


def series_of(query: Query, family: Family, span: Range, answers: Iterable[Answer]) -> list[Series]:
    """Return the series of one family of a query, in the order in which they appeared.

    Args:
        query: What was asked.
        family: One of those of its kind and role.
        span: The steps of the backfill.
        answers: The samples at each step, the oldest first.
    """
    collect = _collect_gauges if family.type == "gauge" else _collect_counters
    found: dict[tuple[str, ...], Series] = {}
    collect(query, family, span, answers, found)
    return list(found.values())


_Found = dict[tuple[str, ...], Series]


def _series(found: _Found, family: Family, labels: tuple[str, ...]) -> Series:
    series = found.get(labels)
    if series is None:
        series = found[labels] = Series(family, labels)
    return series


def _collect_gauges(
    _query: Query, family: Family, _span: Range, answers: Iterable[Answer], found: _Found
) -> None:
    for step, samples in answers:
        for labels, value in samples:
            series = _series(found, family, labels)
            series.times.append(step * _MILLISECONDS)
            series.values.append(value)


def _collect_counters(
    query: Query, family: Family, span: Range, answers: Iterable[Answer], found: _Found
) -> None:
    """Collect counters, which do not fall within an anchored period.

    The last sample of a period is a millisecond before the next anchor, at which the counter is 0: then
    `increase()` over the period has all of it. There is no such 0 where the point at the anchor was not to
    be asked for: the series has other samples there.
    """
    reset: int | None = None
    zeroed: set[tuple[str, ...]] = set()
    for begun, members in groupby(answers, lambda answer: _begun(query, answer[0])):
        end, step = _end(query, begun), begun
        highest: dict[tuple[str, ...], float] = {}
        for step, samples in members:
            if step == span.steps.start:
                reset = span.start
            for labels, value in samples:
                series = _series(found, family, labels)
                if labels not in highest and labels not in zeroed and reset == begun:
                    series.add(begun * _MILLISECONDS, 0, begun)
                highest[labels] = max(value, highest.get(labels, 0))
                series.add(step * _MILLISECONDS - (step == end), highest[labels], begun)
        reset, zeroed = None, set()
        if step == end:
            reset, zeroed = end, set(highest)
            for labels in highest:
                found[labels].add(end * _MILLISECONDS, 0, end)


def _begun(query: Query, step: int) -> int:
    """Return the anchor from which a counter's value at a step counts, in Unix seconds."""
    return int(interval(query, step)[0].timestamp())


def _end(query: Query, begun: int) -> int:
    """Return when the anchored period that started at `begun` ends, in Unix seconds."""
    if not isinstance(query.period, Anchored):
        raise TypeError(f"{query.period} has no anchor")
    return int(query.period.end(datetime.fromtimestamp(begun, UTC)).timestamp())
