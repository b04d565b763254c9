"""The events of a TaskChannel's Tasks on a day, sorted so that any interval is counted quickly."""

from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping
from enum import IntEnum
from itertools import count, pairwise
from typing import Final, NamedTuple

from taskrouter_exporter.simulator.model import OUTCOMES, SECOND, End, Outcome, Route, Stay, Task


class Event(IntEnum):
    """What a ledger counts. The outcomes of reservations follow, in the order of Outcome."""

    CREATED = 0
    MOVED_IN = 1
    """From another TaskQueue of the same Workflow."""
    TRANSFERRED_IN = 2
    """From another Workflow."""
    MOVED_OUT = 3
    TRANSFERRED_OUT = 4
    COMPLETED = 5
    CANCELED = 6
    DELETED = 7
    """A Task that times out in its Workflow is deleted, and counts as both."""
    TIMED_OUT = 8
    RESERVED = 9


FIRST_OUTCOME: Final = len(Event)
EVENTS: Final = len(Event) + len(OUTCOMES)
_ENDS: Final[Mapping[End, tuple[Event, ...]]] = {
    End.COMPLETED: (Event.COMPLETED,),
    End.CANCELED: (Event.CANCELED,),
    End.DELETED: (Event.DELETED,),
    End.TIMED_OUT: (Event.DELETED, Event.TIMED_OUT),
}


class WaitSum(NamedTuple):
    """The number of waits with their total, shortest and longest, in whole seconds; 0 if there are none."""

    number: int
    total: int
    shortest: int
    longest: int


def add_waits(sums: Iterable[WaitSum]) -> WaitSum:
    """Return the sum of several."""
    parts = [part for part in sums if part.number]
    if not parts:
        return WaitSum(0, 0, 0, 0)
    numbers, totals, shortest, longest = zip(*parts, strict=True)
    return WaitSum(sum(numbers), sum(totals), min(shortest), max(longest))


class Waits:
    """Waits of whole seconds, each with the time of its end."""

    def __init__(self, waits: Iterable[tuple[int, int]]) -> None:
        ordered = sorted(waits)
        self._times = array("q", [time for time, _ in ordered])
        self._seconds = array("i", [wait for _, wait in ordered])
        self._sorted = array("i", sorted(self._seconds))
        self._sum = _sum_of(self._seconds)

    def sum(self, first: int, last: int) -> WaitSum:
        """Return the sum of those that end in `[first, last)`."""
        low, high = self._bounds(first, last)
        return self._sum if high - low == len(self._times) else _sum_of(self._seconds[low:high])

    def below(self, first: int, last: int, thresholds: tuple[int, ...], most: int) -> tuple[int, list[int]]:
        """Return the number of those that end in `[first, last)`, and how many are below each threshold.

        Only the first `most` of them are counted.
        """
        low, high = self._bounds(first, last)
        if high - low == len(self._times) <= most:
            return high - low, [bisect_left(self._sorted, threshold) for threshold in thresholds]
        waits = self._seconds[low : min(high, low + most)]
        return len(waits), [sum(wait < threshold for wait in waits) for threshold in thresholds]

    def _bounds(self, first: int, last: int) -> tuple[int, int]:
        return bisect_left(self._times, first), bisect_left(self._times, last)


def _sum_of(waits: "array[int]") -> WaitSum:
    return WaitSum(len(waits), sum(waits), min(waits, default=0), max(waits, default=0))


class Ledger:
    """The events of one TaskChannel's Tasks of a day on one route.

    Attributes:
        accepted: The waits from the creation of the Tasks until a Worker accepted them.
        accepted_in_queue: Those from entering the TaskQueue.
        canceled: The waits from the creation until the caller gave up.
    """

    def __init__(self, draft: "_Draft") -> None:
        self._times = tuple(array("q", sorted(times)) for times in draft.times)
        self._totals = tuple(map(len, self._times))
        busy = [times for times in self._times if times]
        self._first, self._last = min(times[0] for times in busy), max(times[-1] for times in busy)
        self.accepted = Waits(draft.accepted)
        self.accepted_in_queue = Waits(draft.accepted_in_queue)
        self.canceled = Waits(draft.canceled)

    def within(self, first: int, last: int) -> bool:
        """Return whether any event can be in `[first, last)`."""
        return self._first < last and self._last >= first

    def counts(self, first: int, last: int) -> tuple[int, ...]:
        """Return the number of each Event, and of each outcome, in `[first, last)`."""
        if first <= self._first and self._last < last:
            return self._totals
        return tuple(bisect_left(times, last) - bisect_left(times, first) for times in self._times)


class _Draft:
    def __init__(self) -> None:
        self.times: list[list[int]] = [[] for _ in range(EVENTS)]
        self.accepted: list[tuple[int, int]] = []
        self.accepted_in_queue: list[tuple[int, int]] = []
        self.canceled: list[tuple[int, int]] = []


def ledgers(tasks: Iterable[Task]) -> dict[Route, Ledger]:
    """Return the ledger of each route."""
    drafts: defaultdict[Route, _Draft] = defaultdict(_Draft)
    for task in tasks:
        first, last = task.stays[0], task.stays[-1]
        drafts[first.route].times[Event.CREATED].append(task.created)
        for old, new in pairwise(task.stays):
            _move(drafts, old, new)
        for attempt in task.attempts:
            times = drafts[attempt.route].times
            times[Event.RESERVED].append(attempt.created)
            times[FIRST_OUTCOME + _NUMBERS[attempt.outcome]].append(attempt.ended)
        draft = drafts[last.route]
        for event in _ENDS[task.end]:
            draft.times[event].append(task.ended)
        accepted = task.accepted
        if accepted is not None:
            draft.accepted.append((accepted, (accepted - task.created) // SECOND))
            draft.accepted_in_queue.append((accepted, (accepted - last.entered) // SECOND))
        elif task.end is End.CANCELED:
            draft.canceled.append((task.ended, (task.ended - task.created) // SECOND))
    return {route: Ledger(draft) for route, draft in drafts.items()}


_NUMBERS: Final[Mapping[Outcome, int]] = dict(zip(OUTCOMES, count(), strict=False))


def _move(drafts: Mapping[Route, _Draft], old: Stay, new: Stay) -> None:
    same = old.route.workflow == new.route.workflow
    out, into = (Event.MOVED_OUT, Event.MOVED_IN) if same else (Event.TRANSFERRED_OUT, Event.TRANSFERRED_IN)
    drafts[old.route].times[out].append(new.entered)
    drafts[new.route].times[into].append(new.entered)
