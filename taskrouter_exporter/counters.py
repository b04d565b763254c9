"""Counters that do not fall: what is published of one query's answers since an anchor."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from taskrouter_exporter.statistics.kind import Sample, Statistics

_AGREEING_ANSWERS: Final = 3
"""So many answers in a row outvote an earlier, higher one."""

_LAG_SHARE: Final = 0.05
"""By so much of its value, a counter may be lower because the server that answers is behind another one."""

_MOST_COUNTERS: Final = 2_000
"""More than one query's answers can have, unless each has other Activities: a bound for the memory."""


@dataclass(slots=True)
class _Counter:
    """The highest value seen of one counter, and how many answers in a row agree on a lower one."""

    highest: float
    agreeing: int = 0
    newest: float = 0

    def lowered_by(self, value: float) -> bool:
        """Take an answer into account and return whether it lowers the counter.

        Answers that are lower by no more than an API server may be behind do not count, however many they
        are: to publish them is a counter reset, after which `increase()` has the whole value once more, while
        to hold the counter hides the little that it lacks until that has come.
        """
        if value >= self.highest * (1 - _LAG_SHARE):
            self.agreeing = 0
            self.highest = max(self.highest, value)
            return False
        self.agreeing = self.agreeing + 1 if self.agreeing and value >= self.newest else 1
        self.newest = value
        if self.agreeing < _AGREEING_ANSWERS:
            return False
        self.agreeing = 0
        self.highest = value
        return True


@dataclass(frozen=True, slots=True)
class Published:
    """What one answer lets publish.

    Attributes:
        statistics: The answer's, with an earlier, higher value for each counter that is held.
        held: Names of the counters that are held.
        released: Names of the counters that are lower than published before.
    """

    statistics: Statistics
    held: tuple[str, ...] = ()
    released: tuple[str, ...] = ()


@dataclass(slots=True)
class HeldCounters:
    """One query's counters since an anchor.

    Statistics come from several machines at Twilio, and a later answer can be lower than an earlier one.
    Published as it is, `increase()` would take it for a reset and count everything twice. So it is held at
    the highest value seen, until three answers in a row say that this value was wrong.

    Attributes:
        warned: Whether a warning about held counters was logged.
    """

    warned: bool = False
    _counters: dict[tuple[str, ...], _Counter] = field(default_factory=dict)

    def publish(self, statistics: Statistics) -> Published:
        """Take an answer into account and return what it lets publish. What it does not say stays absent."""
        held: list[str] = []
        released: list[str] = []

        def value_of(key: tuple[str, ...], answer: float) -> float:
            counter = self._counters.get(key)
            if counter is None:
                if len(self._counters) < _MOST_COUNTERS:
                    self._counters[key] = _Counter(answer)
                return answer
            if counter.lowered_by(answer):
                released.append(" ".join(key))
            elif answer < counter.highest:
                held.append(" ".join(key))
            return counter.highest

        def hold(family: str, samples: Iterable[Sample]) -> tuple[Sample, ...]:
            return tuple((labels, value_of((family, *labels), value)) for labels, value in samples)

        samples = tuple(
            hold(family.name, each) if family.type == "counter" else each
            for family, each in zip(statistics.families, statistics.samples, strict=True)
        )
        published = replace(statistics, samples=samples, held=len(held))
        return Published(published, tuple(held), tuple(released))
