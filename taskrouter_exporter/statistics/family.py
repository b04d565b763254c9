"""What a metric family is, apart from the labels that every family of a query has."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

_Statistics = TypeVar("_Statistics")

Sample = tuple[tuple[str, ...], float]
"""Values of the family's own labels, and the sample's value."""

SLIDING = "The window slides: do not use rate(). No series while up is 0."
ANCHORED = "since the start of the UTC day (or week). No series while up is 0."


@dataclass(frozen=True, slots=True)
class Family(Generic[_Statistics]):
    """A metric family that is published of one kind of statistics.

    Attributes:
        name: Without the exporter's prefix, and without `_total` where it is a counter.
        kind: The metric type.
        text: The HELP text.
        samples: Returns the samples of an answer; what the answer lacks has none.
        labels: Beside those of the query.
        unit: As in OpenMetrics; the name ends in it.
    """

    name: str
    kind: Literal["gauge", "counter"]
    text: str
    samples: Callable[[_Statistics], Iterable[Sample]]
    labels: tuple[str, ...] = ()
    unit: str = ""
