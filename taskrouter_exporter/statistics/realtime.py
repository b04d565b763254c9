"""Real-time statistics: the tasks and Workers of this moment."""

from collections.abc import Iterator
from typing import Annotated, Final

from pydantic import Field

from taskrouter_exporter.statistics.answer import (
    MOST_ACTIVITIES,
    ActivityModel,
    Number,
    StatisticsModel,
    value_of,
)
from taskrouter_exporter.statistics.kind import (
    ACTIVITY_LABELS,
    CURRENT,
    Bulk,
    Column,
    Family,
    Kind,
    Sample,
    SubjectName,
)

_MOST_STATUSES: Final = 20
"""A task has one of four statuses here; many more are not statistics but a burden."""


class _ActivityModel(ActivityModel):
    workers: Number | None = None


class _TasksModel(StatisticsModel):
    secondary = frozenset({"longest_task_waiting_age"})

    total_tasks: Number | None = None
    tasks_by_status: Annotated[dict[str, Number | None], Field(max_length=_MOST_STATUSES)] | None = None
    longest_task_waiting_age: Number | None = None


class _WorkersModel(_TasksModel):
    secondary = _TasksModel.secondary | {"activity_statistics"}

    activity_statistics: Annotated[list[_ActivityModel], Field(max_length=MOST_ACTIVITIES)] | None = None


class _QueueModel(_WorkersModel):
    secondary = _WorkersModel.secondary | {
        "total_available_workers",
        "total_eligible_workers",
        "longest_relative_task_age_in_queue",
    }

    total_available_workers: Number | None = None
    total_eligible_workers: Number | None = None
    longest_relative_task_age_in_queue: Number | None = None


def _tasks(answer: _TasksModel) -> Iterator[Sample]:
    for status, count in (answer.tasks_by_status or {}).items():
        if count is not None:
            yield (status,), count


def _workers(answer: _WorkersModel) -> Iterator[Sample]:
    for activity in answer.activity_statistics or ():
        if activity.workers is not None:
            yield activity.labels, activity.workers


_TASKS: Final = (
    Family(
        "tasks",
        "gauge",
        f"Tasks by status: pending (waiting), reserved, assigned or wrapping. {CURRENT}",
        _tasks,
        ("status",),
    ),
    Family(
        "longest_waiting_task_age_seconds",
        "gauge",
        f"Age of the task that has been waiting longest. {CURRENT}",
        value_of("longest_task_waiting_age"),
        unit="seconds",
    ),
)
_WORKERS: Final = (
    Family("workers", "gauge", f"Workers by their current Activity. {CURRENT}", _workers, ACTIVITY_LABELS),
)
_QUEUE: Final = (
    Family(
        "available_workers",
        "gauge",
        f"Workers of the queue who are available for a task. {CURRENT}",
        value_of("total_available_workers"),
    ),
    Family(
        "eligible_workers",
        "gauge",
        f"Workers of the queue, whatever their Activity. {CURRENT}",
        value_of("total_eligible_workers"),
    ),
    Family(
        "longest_relative_task_age_seconds",
        "gauge",
        "Time that the task which has been waiting longest has spent in this queue. Absent where one request "
        f"was about several queues. {CURRENT}",
        value_of("longest_relative_task_age_in_queue"),
        unit="seconds",
    ),
)


def _kind(
    subject: SubjectName,
    resource: str,
    model: type[StatisticsModel],
    families: tuple[Family, ...],
    bulk: Bulk | None = None,
) -> Kind:
    columns = (
        Column("Waiting", "tasks", ("pending",)),
        Column("Longest wait", "longest_waiting_task_age_seconds", unit=" s"),
    )
    return Kind("realtime", subject, resource, model, {"current": families}, columns, bulk=bulk)


WORKSPACE: Final = _kind("workspace", "RealTimeStatistics", _WorkersModel, _TASKS + _WORKERS)
QUEUE: Final = _kind(
    "queue",
    "TaskQueues/{sid}/RealTimeStatistics",
    _QueueModel,
    _TASKS + _WORKERS + _QUEUE,
    # Source: https://www.twilio.com/docs/taskrouter/api/taskqueue-statistics, "Bulk retrieval".
    Bulk(
        rate_limited_as="TaskQueues/BulkRealTimeStatistics",
        resource="TaskQueues/RealTimeStatistics",
        most=50,
        names="queueSids",
        items="task_queue_data",
        sid="task_queue_sid",
    ),
)
WORKFLOW: Final = _kind("workflow", "Workflows/{sid}/RealTimeStatistics", _TasksModel, _TASKS)
