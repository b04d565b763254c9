"""What a contact centre consists of, and what can happen to it."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, Protocol, TypeVar

from taskrouter_exporter.sids import sid_key

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
SECOND: Final = 1_000_000
HOUR: Final = 3600 * SECOND
DAY: Final = 24 * HOUR
DAY_SECONDS: Final = 86_400


class Scenario(enum.StrEnum):
    """The problem in the first workspace during the incident; without Workers in all of it, else in voice."""

    CALM = "calm"
    REJECTION_SPIKE = "rejection-spike"
    TIMEOUT_SPIKE = "timeout-spike"
    OUTAGE = "outage"
    NO_AGENTS = "no-agents"
    QUEUE_BACKLOG = "queue-backlog"


class Outcome(enum.StrEnum):
    """How a reservation ended, named as in the API's `reservations_*` attributes."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    TIMED_OUT = "timed_out"
    CANCELED = "canceled"
    RESCINDED = "rescinded"


OUTCOMES: Final = tuple(Outcome)


@dataclass(frozen=True, slots=True)
class Incident:
    """The interval `[start, end)` of a scenario's problem, as aware datetimes."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise ValueError("an incident's start and end need a time zone")
        if self.end <= self.start:
            raise ValueError("an incident ends after its start")


class ActivityModel(NamedTuple):
    """An Activity that Workers can be in."""

    sid: str
    friendly_name: str


class QueueModel(NamedTuple):
    """A TaskQueue."""

    sid: str
    friendly_name: str


class WorkflowModel(NamedTuple):
    """A Workflow."""

    sid: str
    friendly_name: str


@dataclass(frozen=True, slots=True)
class ChannelModel:
    """A TaskChannel."""

    sid: str
    unique_name: str
    friendly_name: str


@dataclass(frozen=True, slots=True)
class WorkspaceModel:
    """A workspace with its TaskChannels, Activities, TaskQueues and Workflows."""

    sid: str
    friendly_name: str
    channels: tuple[ChannelModel, ...]
    activities: tuple[ActivityModel, ...]
    queues: tuple[QueueModel, ...]
    workflows: tuple[WorkflowModel, ...]

    def channel(self, name: str) -> ChannelModel | None:
        """Return the TaskChannel with this unique name or SID (in upper or lower case)."""
        key = sid_key(name)
        return next(
            (channel for channel in self.channels if key in (sid_key(channel.sid), channel.unique_name)), None
        )

    def queue(self, sid: str) -> QueueModel | None:
        """Return the TaskQueue with this SID (in upper or lower case)."""
        return _find(self.queues, sid)

    def workflow(self, sid: str) -> WorkflowModel | None:
        """Return the Workflow with this SID (in upper or lower case)."""
        return _find(self.workflows, sid)


class _Identified(Protocol):
    @property
    def sid(self) -> str: ...


_Item = TypeVar("_Item", bound=_Identified)


def _find(items: Sequence[_Item], sid: str) -> _Item | None:
    key = sid_key(sid)
    return next((item for item in items if sid_key(item.sid) == key), None)


@dataclass(frozen=True, slots=True)
class Reservation:
    """A line of the event log. Every reservation ends at most an hour after its creation.

    Attributes:
        channel: The TaskChannel's unique name.
        created: The time of creation, in UTC.
        outcome: How it ends.
        ended: The time of the end, in UTC; until then it is pending.
    """

    channel: str
    created: datetime
    outcome: Outcome
    ended: datetime


class TaskEventKind(enum.StrEnum):
    """What happens to a Task. A move is two events: `moved` in one TaskQueue, `entered` in another."""

    CREATED = "created"
    ENTERED = "entered"
    MOVED = "moved"
    RESERVED = "reserved"
    ACCEPTED = "accepted"
    RELEASED = "released"
    WRAPPING = "wrapping"
    COMPLETED = "completed"
    CANCELED = "canceled"
    DELETED = "deleted"
    TIMED_OUT = "timed_out"


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """A line of the Tasks' event log.

    Attributes:
        at: The time, in UTC.
        kind: What happens. `released` is the end of a reservation that was not accepted.
        task_sid: The Task's SID.
        channel: The TaskChannel's unique name.
        queue: The TaskQueue that the Task is in; of `moved`, the one that it leaves.
        workflow: Likewise the Workflow.
        outcome: How a reservation ended, of `accepted` and `released`.
    """

    at: datetime
    kind: TaskEventKind
    task_sid: str
    channel: str
    queue: QueueModel
    workflow: WorkflowModel
    outcome: Outcome | None = None


class Route(NamedTuple):
    """Where a Task is: the numbers of its Workflow and TaskQueue in the workspace."""

    workflow: int
    queue: int


class Attempt(NamedTuple):
    """A reservation of a Task; times are in microseconds since the epoch."""

    created: int
    outcome: Outcome
    ended: int
    route: Route


class Stay(NamedTuple):
    """A Task's time in one TaskQueue, from this microsecond until its next stay or its end."""

    route: Route
    entered: int


class End(enum.Enum):
    """How a Task ends. One that times out in its Workflow is deleted by that."""

    COMPLETED = enum.auto()
    CANCELED = enum.auto()
    DELETED = enum.auto()
    TIMED_OUT = enum.auto()


class Task(NamedTuple):
    """The whole life of a Task; times are in microseconds since the epoch.

    Attributes:
        key: The hour and a number, unique within the TaskChannel.
        created: The creation, which is also the start of the first stay.
        stays: The TaskQueues, at least one.
        attempts: The reservations; if the last is accepted, the Task is completed.
        wrapping: The start of wrapping, if a Worker accepted the Task.
        end: How it ends.
        ended: The time of the end.
    """

    key: tuple[int, int]
    created: int
    stays: tuple[Stay, ...]
    attempts: tuple[Attempt, ...]
    wrapping: int | None
    end: End
    ended: int

    @property
    def accepted(self) -> int | None:
        """The time when a Worker accepted the Task, None if nobody did."""
        return None if self.wrapping is None else self.attempts[-1].ended

    def route_at(self, moment: int) -> Route:
        """Return where the Task is just before a moment after its creation."""
        route = self.stays[0].route
        for stay in self.stays[1:]:
            if stay.entered < moment:
                route = stay.route
        return route


def microseconds(moment: datetime) -> int:
    """Return the microseconds since the epoch."""
    return (moment - EPOCH) // MICROSECOND


def api_time(moment: datetime) -> str:
    """Format a time as the API does, truncated to seconds: `2026-11-23T00:00:00Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
