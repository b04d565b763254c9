"""The statistics of Tasks in the API's form, from ledgers and from the Tasks that are present.

An event counts in `[start, end)`, and has happened at a moment if it was before it. Therefore statistics of
adjacent intervals add up, and real-time statistics agree with cumulative ones that end at their time.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from taskrouter_exporter.simulator.ledger import (
    EVENTS,
    FIRST_OUTCOME,
    Event,
    Ledger,
    Waits,
    WaitSum,
    add_waits,
)
from taskrouter_exporter.simulator.model import OUTCOMES, SECOND, Route, Task
from taskrouter_exporter.simulator.profiles import PRIORITY

SPLIT_LIMIT: Final = 10_000
"""How many Tasks and reservations are split by their wait at most. Source: the OpenAPI description of
`SplitByWaitTime`. It does not say which of them; here, those of the earliest days."""

_PRIORITY_LEVEL: Final = 10
"""The priority of Tasks in the TaskQueue Priority; all others have 0."""


class Subject(Enum):
    """What statistics are about."""

    WORKSPACE = "workspace"
    QUEUE = "queue"
    WORKFLOW = "workflow"

    def has(self, number: int, route: Route) -> bool:
        """Return whether the subject with this number includes a route."""
        return self is Subject.WORKSPACE or number == (
            route.queue if self is Subject.QUEUE else route.workflow
        )


_ENTERED: Final = {
    Subject.WORKSPACE: ("tasks_created", (Event.CREATED,)),
    Subject.QUEUE: ("tasks_entered", (Event.CREATED, Event.MOVED_IN, Event.TRANSFERRED_IN)),
    Subject.WORKFLOW: ("tasks_entered", (Event.CREATED, Event.TRANSFERRED_IN)),
}
_MOVED: Final = {
    Subject.WORKSPACE: (Event.MOVED_OUT, Event.TRANSFERRED_OUT),
    Subject.QUEUE: (Event.MOVED_OUT, Event.TRANSFERRED_OUT),
    Subject.WORKFLOW: (Event.TRANSFERRED_OUT,),
}


def cumulative(
    subject: Subject, ledgers: Sequence[Ledger], first: int, last: int, thresholds: tuple[int, ...]
) -> dict[str, Any]:
    """Return the attributes of cumulative statistics that are not about the request.

    Waits are whole seconds, rounded down. Without any, their statistics are 0.
    """
    counts = [sum(column) for column in zip(*(ledger.counts(first, last) for ledger in ledgers), strict=True)]
    counts = counts or [0] * EVENTS
    entered, entries = _ENTERED[subject]
    accepted = _wait_sum(ledgers, lambda ledger: ledger.accepted, first, last)
    answer: dict[str, Any] = {
        "avg_task_acceptance_time": _average(accepted),
        entered: sum(counts[event] for event in entries),
        "tasks_completed": counts[Event.COMPLETED],
        "tasks_canceled": counts[Event.CANCELED],
        "tasks_deleted": counts[Event.DELETED],
        "tasks_moved": sum(counts[event] for event in _MOVED[subject]),
        "reservations_created": counts[Event.RESERVED],
        **{f"reservations_{outcome}": counts[FIRST_OUTCOME + i] for i, outcome in enumerate(OUTCOMES)},
        "wait_duration_until_accepted": _durations(accepted),
        "wait_duration_until_canceled": _durations(
            _wait_sum(ledgers, lambda ledger: ledger.canceled, first, last)
        ),
        "split_by_wait_time": _split(ledgers, first, last, thresholds) if thresholds else None,
    }
    if subject is Subject.QUEUE:
        answer["wait_duration_in_queue_until_accepted"] = _durations(
            _wait_sum(ledgers, lambda ledger: ledger.accepted_in_queue, first, last)
        )
    else:
        answer["tasks_timed_out_in_workflow"] = counts[Event.TIMED_OUT]
    return answer


def _wait_sum(ledgers: Iterable[Ledger], waits: Callable[[Ledger], Waits], first: int, last: int) -> WaitSum:
    return add_waits(waits(ledger).sum(first, last) for ledger in ledgers)


def _average(waits: WaitSum) -> int:
    return round(waits.total / waits.number) if waits.number else 0


def _durations(waits: WaitSum) -> dict[str, int]:
    return {"avg": _average(waits), "min": waits.shortest, "max": waits.longest, "total": waits.total}


def _split(
    ledgers: Iterable[Ledger], first: int, last: int, thresholds: tuple[int, ...]
) -> dict[str, dict[str, dict[str, int]]]:
    """Return the accepted reservations and canceled Tasks below and above each threshold in seconds.

    "Above" includes waits that are equal to the threshold.
    """
    attributes = ("reservations_accepted", "tasks_canceled")
    numbers = dict.fromkeys(attributes, 0)
    below = {name: [0] * len(thresholds) for name in attributes}
    left = SPLIT_LIMIT
    for ledger in ledgers:
        for name, waits in zip(attributes, (ledger.accepted, ledger.canceled), strict=True):
            number, counts = waits.below(first, last, thresholds, left)
            numbers[name] += number
            below[name] = [a + b for a, b in zip(below[name], counts, strict=True)]
            left -= number
    return {
        str(threshold): {
            "below": {name: below[name][i] for name in attributes},
            "above": {name: numbers[name] - below[name][i] for name in attributes},
        }
        for i, threshold in enumerate(thresholds)
    }


@dataclass(frozen=True, slots=True)
class Present:
    """A Task that is present at a moment.

    Attributes:
        task: The Task.
        channel: The number of its TaskChannel.
        route: Where it is.
    """

    task: Task
    channel: int
    route: Route

    def status(self, moment: int) -> str:
        """Return its assignment status."""
        accepted, wrapping = self.task.accepted, self.task.wrapping
        if accepted is not None and accepted < moment:
            return "wrapping" if wrapping is not None and wrapping < moment else "assigned"
        reserved = any(attempt.created < moment <= attempt.ended for attempt in self.task.attempts)
        return "reserved" if reserved else "pending"

    def entered(self, moment: int) -> int:
        """Return when it entered its TaskQueue."""
        return max(stay.entered for stay in self.task.stays if stay.entered < moment)


def real_time(present: Sequence[Present], moment: int, task_sid: Callable[[Present], str]) -> dict[str, Any]:
    """Return the attributes about Tasks that all real-time statistics have.

    A Task waits until a Worker accepts it. Without a waiting Task, the age is 0 and the SID is null.
    """
    statuses = [task.status(moment) for task in present]
    waiting = [
        task for task, status in zip(present, statuses, strict=True) if status in ("pending", "reserved")
    ]
    longest = min(waiting, key=lambda task: task.task.created, default=None)
    priorities = Counter(_PRIORITY_LEVEL if task.route.queue == PRIORITY else 0 for task in present)
    return {
        "longest_task_waiting_age": 0 if longest is None else (moment - longest.task.created) // SECOND,
        "longest_task_waiting_sid": None if longest is None else task_sid(longest),
        "tasks_by_priority": {str(level): number for level, number in sorted(priorities.items())},
        "tasks_by_status": {
            status: statuses.count(status) for status in ("reserved", "pending", "assigned", "wrapping")
        },
        "total_tasks": len(present),
    }


def longest_in_queue(
    present: Sequence[Present], moment: int, task_sid: Callable[[Present], str]
) -> dict[str, Any]:
    """Return the attributes about the Task that has waited in its TaskQueue for the longest time."""
    waiting = [task for task in present if task.status(moment) in ("pending", "reserved")]
    longest = min(waiting, key=lambda task: task.entered(moment), default=None)
    return {
        "longest_relative_task_age_in_queue": 0
        if longest is None
        else (moment - longest.entered(moment)) // SECOND,
        "longest_relative_task_sid_in_queue": None if longest is None else task_sid(longest),
    }
