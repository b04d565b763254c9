"""Sample lines of the exposition formats, written when an answer arrives: a scrape only joins them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

from prometheus_client import Metric
from prometheus_client.utils import floatToGoString

from taskrouter_exporter.statistics.kind import Family, Kind, Sample, Statistics

PREFIX: Final = "twilio_taskrouter_"
CREATED: Final = "_created"
"""Ends the names of samples that only OpenMetrics has."""

_SAME_AS_PYTHON: Final = 1e6
"""Below this number both formats write what `repr` writes."""

_MOST_LABELS: Final = 4_096


@dataclass(frozen=True, slots=True)
class WrittenFamily:
    """A metric family whose sample lines are written already.

    Attributes:
        head: The family without samples.
        lines: One or more lines each. Those of a counter are as in OpenMetrics.
    """

    head: Metric
    lines: Iterable[bytes]

    @property
    def name(self) -> str:
        """The family's name, as that of a Metric."""
        return str(self.head.name)


def label_text(labels: Iterable[tuple[str, str]]) -> str:
    """Return labels as they stand between the braces of a sample line."""
    return ",".join([f'{name}="{_escaped(value)}"' for name, value in labels])


def _escaped(value: str) -> str:
    """Return a label's value as both formats write it (OpenMetrics 1.0, "ABNF")."""
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def family_name(kind: Kind, family: Family) -> str:
    """Return the full name of a family of a kind; that of a counter is without `_total`."""
    return PREFIX + kind.prefix + family.name


def own_labels(family: Family, values: tuple[str, ...]) -> str:
    """Return a sample's labels beside those that its query's samples have in common, to be put after them."""
    return _own_labels(family.labels, values)


def number(value: float) -> str:
    """Return a sample's value as both formats write it."""
    if -_SAME_AS_PYTHON < value < _SAME_AS_PYTHON:
        return repr(float(value))
    text: str = floatToGoString(value)  # type: ignore[no-untyped-call] # the library's own number format
    return text


def statistics_lines(
    kind: Kind, common: str, statistics: Statistics, anchor: datetime | None
) -> tuple[bytes, ...]:
    """Return the lines of each family of a query's statistics, in the order of its kind's families.

    Those of a counter are as in OpenMetrics: each value is followed by when the counter began, unless that is
    to be left out.

    Args:
        kind: What was asked.
        common: The labels that the query's statistics have in common, as text.
        statistics: The answer.
        anchor: When its counters began, None to leave that out.
    """
    created = "" if anchor is None else number(anchor.timestamp())
    return tuple(
        "".join(_lines(family, family_name(kind, family), samples, common, created)).encode()
        for family, samples in zip(statistics.families, statistics.samples, strict=True)
    )


def _lines(family: Family, name: str, samples: Iterable[Sample], common: str, created: str) -> Iterator[str]:
    """Yield the lines of one family.

    Args:
        family: The family.
        name: Its full name.
        samples: Those of one answer.
        common: The labels of all of them.
        created: When its counters began, "" to leave that out.
    """
    counts = family.type == "counter"
    for values, value in samples:
        own = own_labels(family, values) if values else ""
        if counts:
            yield f"{name}_total{{{common}{own}}} {number(value)}\n"
            if created:
                yield f"{name}{CREATED}{{{common}{own}}} {created}\n"
        else:
            yield f"{name}{{{common}{own}}} {number(value)}\n"


@lru_cache(_MOST_LABELS)
def _own_labels(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    """Return the labels of a sample as they follow others: those of an Activity stand in every channel."""
    return "".join([f',{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True)])
