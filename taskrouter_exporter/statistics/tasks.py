"""Tasks' cumulative statistics: what became of them, and how long they waited."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Final

from pydantic import Field

from taskrouter_exporter.durations import format_duration
from taskrouter_exporter.statistics.answer import (
    AnswerModel,
    Number,
    StatisticsModel,
    by_label,
    value_of,
)
from taskrouter_exporter.statistics.kind import ANCHORED, SLIDING, Family, Kind, Sample
from taskrouter_exporter.statistics.workers import (
    ANCHORED_RESERVATIONS,
    WINDOW_RESERVATIONS,
    ReservationsModel,
)

_MOST_SPLITS: Final = 100
_WHOLE_SECONDS: Final = re.compile("[0-9]{1,7}")


class _WaitModel(AnswerModel):
    min: Number | None = None
    avg: Number | None = None
    max: Number | None = None
    total: Number | None = None


class _SideModel(AnswerModel):
    reservations_accepted: Number | None = None
    tasks_canceled: Number | None = None


class _SplitModel(AnswerModel):
    below: _SideModel | None = None
    above: _SideModel | None = None


class _TasksModel(StatisticsModel):
    secondary = frozenset(
        {
            "avg_task_acceptance_time",
            "wait_duration_until_accepted",
            "wait_duration_until_canceled",
            "split_by_wait_time",
        }
    )

    tasks_completed: Number | None = None
    tasks_canceled: Number | None = None
    tasks_deleted: Number | None = None
    tasks_moved: Number | None = None
    avg_task_acceptance_time: Number | None = None
    wait_duration_until_accepted: _WaitModel | None = None
    wait_duration_until_canceled: _WaitModel | None = None
    split_by_wait_time: Annotated[dict[str, _SplitModel | None], Field(max_length=_MOST_SPLITS)] | None = None


class _WorkspaceModel(_TasksModel):
    tasks_created: Number | None = None
    tasks_timed_out_in_workflow: Number | None = None


class _RowModel(ReservationsModel, _TasksModel):
    tasks_entered: Number | None = None


class _QueueModel(_RowModel):
    secondary = _TasksModel.secondary | {"wait_duration_in_queue_until_accepted"}

    wait_duration_in_queue_until_accepted: _WaitModel | None = None


class _WorkflowModel(_RowModel):
    tasks_timed_out_in_workflow: Number | None = None


_EVENTS: Final = {
    event: f"tasks_{event}" for event in ("created", "entered", "completed", "canceled", "deleted", "moved")
} | {"timed_out": "tasks_timed_out_in_workflow"}
_WAITS: Final = {
    "accepted": "wait_duration_until_accepted",
    "canceled": "wait_duration_until_canceled",
}
_SIDES: Final = ("below", "above")
_SPLIT_COUNTS: Final = {"accepted": "reservations_accepted", "canceled": "tasks_canceled"}
_WAIT_SECONDS: Final = {"min": "Shortest", "avg": "Average", "max": "Longest", "total": "Total"}


def _splits(answer: _TasksModel) -> Iterator[Sample]:
    """Yield the tasks that waited less, or more, than each threshold until they were accepted or canceled."""
    for seconds, split in (answer.split_by_wait_time or {}).items():
        if not _WHOLE_SECONDS.fullmatch(seconds):
            continue
        threshold = format_duration(timedelta(seconds=int(seconds)))
        for side in _SIDES:
            for until, attribute in _SPLIT_COUNTS.items():
                count = getattr(getattr(split, side, None), attribute, None)
                if count is not None:
                    yield (until, threshold, side), count


_events: Final = by_label(_EVENTS)


def _wait_families(
    name: str, what: str, attributes: dict[str, str], labels: tuple[str, ...]
) -> Iterator[Family]:
    for part, which in _WAIT_SECONDS.items():
        extraction = by_label({label: f"{attribute}.{part}" for label, attribute in attributes.items()})
        yield Family(
            f"window_{name}_{part}_seconds",
            "gauge",
            f"{which} time that {what} {SLIDING}",
            extraction if labels else value_of(f"{attributes['']}.{part}"),
            labels,
            "seconds",
        )


_WINDOW: Final = (
    Family(
        "window_task_events",
        "gauge",
        f"Tasks of the window by what happened to them. {SLIDING}",
        _events,
        ("event",),
    ),
    Family(
        "window_task_acceptance_avg_seconds",
        "gauge",
        f"Average time from the creation of a task to its acceptance, in the window. {SLIDING}",
        value_of("avg_task_acceptance_time"),
        unit="seconds",
    ),
    *_wait_families(
        "task_wait", "tasks of the window waited until they were accepted or canceled.", _WAITS, ("until",)
    ),
    Family(
        "window_task_waits",
        "gauge",
        "Tasks of the window that waited less (below) or more (above) than a service level until they were "
        f"accepted or canceled. {SLIDING}",
        _splits,
        ("until", "threshold", "side"),
    ),
)
_QUEUE_WINDOW: Final = tuple(
    _wait_families(
        "task_queue_wait",
        "tasks of the window spent in the queue until they were accepted.",
        {"": "wait_duration_in_queue_until_accepted"},
        (),
    )
)
_ANCHORED: Final = (
    Family("task_events", "counter", f"Tasks by what happened to them, {ANCHORED}", _events, ("event",)),
    Family(
        "task_wait_seconds",
        "counter",
        f"Time that tasks waited until they were accepted or canceled, {ANCHORED}",
        by_label({label: f"{attribute}.total" for label, attribute in _WAITS.items()}),
        ("until",),
        "seconds",
    ),
)

WORKSPACE: Final = Kind(
    name="tasks",
    subject="workspace",
    resource="CumulativeStatistics",
    model=_WorkspaceModel,
    families={"window": _WINDOW, "anchored": _ANCHORED},
    splits=True,
)
QUEUE: Final = Kind(
    name="tasks",
    subject="queue",
    resource="TaskQueues/{sid}/CumulativeStatistics",
    model=_QueueModel,
    families={
        "window": _WINDOW + _QUEUE_WINDOW + WINDOW_RESERVATIONS,
        "anchored": _ANCHORED + ANCHORED_RESERVATIONS,
    },
    splits=True,
)
WORKFLOW: Final = Kind(
    name="tasks",
    subject="workflow",
    resource="Workflows/{sid}/CumulativeStatistics",
    model=_WorkflowModel,
    families={"window": _WINDOW + WINDOW_RESERVATIONS, "anchored": _ANCHORED + ANCHORED_RESERVATIONS},
    splits=True,
)
