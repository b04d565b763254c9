"""From the answers about a query's past to the series that are published of them."""

from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import Final

from taskrouter_exporter.history.journal import Samples
from taskrouter_exporter.history.plan import Range, interval
from taskrouter_exporter.periods import Anchored
from taskrouter_exporter.queries import Query
from taskrouter_exporter.statistics.kind import Family

_MILLISECONDS: Final = 1000

Key = tuple[int, tuple[str, ...]]
"""A series of a query: the index of its family, and the values of the family's own labels."""


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


def series_of(query: Query, span: Range, answers: Iterable[tuple[int, Samples]]) -> list[Series]:
    """Return the series of a query, by family, in the order in which they appeared.

    Args:
        query: What was asked.
        span: The steps of the backfill.
        answers: The samples at each step, the oldest first.
    """
    families = query.kind.families[query.period.role]
    collect = _gauges if query.period.role == "window" else _counters
    found = {
        key: Series(families[key[0]], key[1], *columns)
        for key, columns in collect(query, span, answers).items()
    }
    return [series for _, series in sorted(found.items(), key=lambda item: item[0][0])]


_Columns = tuple["array[int]", "array[float]", "array[int]"]


def _columns() -> _Columns:
    return array("q"), array("d"), array("q")


def _flat(samples: Samples) -> Iterator[tuple[Key, float]]:
    for family, members in enumerate(samples):
        for labels, value in members:
            yield (family, labels), value


def _gauges(_query: Query, _span: Range, answers: Iterable[tuple[int, Samples]]) -> Mapping[Key, _Columns]:
    found: defaultdict[Key, _Columns] = defaultdict(_columns)
    for step, samples in answers:
        for key, value in _flat(samples):
            times, values, _ = found[key]
            times.append(step * _MILLISECONDS)
            values.append(value)
    return found


def _counters(query: Query, span: Range, answers: Iterable[tuple[int, Samples]]) -> Mapping[Key, _Columns]:
    """Return the counters, which do not fall within an anchored period.

    The last sample of a period is a millisecond before the next anchor, at which the counter is 0: then
    `increase()` over the period has all of it. There is no such 0 where the point at the anchor was not to
    be asked for: the series has other samples there.
    """
    found: defaultdict[Key, _Columns] = defaultdict(_columns)
    reset: int | None = None
    zeroed: set[Key] = set()
    for begun, members in groupby(answers, lambda answer: _begun(query, answer[0])):
        highest: dict[Key, float] = {}
        step = begun
        for step, samples in members:
            if not found and not highest and step == span.steps.start:
                reset = span.start
            at = step * _MILLISECONDS - (step == _end(query, begun))
            for key, value in _flat(samples):
                if key not in highest and key not in zeroed and reset == begun:
                    _append(found[key], begun * _MILLISECONDS, 0, begun)
                highest[key] = max(value, highest.get(key, 0))
                _append(found[key], at, highest[key], begun)
        reset = step if step == _end(query, begun) else None
        zeroed = set(highest) if reset else set()
        for key in highest if reset else ():
            _append(found[key], step * _MILLISECONDS, 0, step)
    return found


def _begun(query: Query, step: int) -> int:
    """Return the anchor from which a counter's value at a step counts, in Unix seconds."""
    return int(interval(query, step)[0].timestamp())


def _end(query: Query, begun: int) -> int:
    """Return when the anchored period that started at `begun` ends, in Unix seconds."""
    if not isinstance(query.period, Anchored):
        raise TypeError(f"{query.period} has no anchor")
    return int(query.period.end(datetime.fromtimestamp(begun, UTC)).timestamp())


def _append(columns: _Columns, time: int, value: float, begun: int) -> None:
    times, values, anchors = columns
    times.append(time)
    values.append(value)
    anchors.append(begun)
