"""The contact centre's parameters: how many Workers, how much traffic, how Tasks are routed and handled."""

from dataclasses import dataclass
from typing import Final, NamedTuple


@dataclass(frozen=True, slots=True)
class Handling:
    """How Tasks of a TaskChannel wait and are handled, in seconds.

    Attributes:
        wait: Median until the first reservation.
        work: Median from acceptance to wrapping.
        wrap: Median from wrapping to completion.
        patience: Median until a caller gives up while Workers are short.
        limit: How long a Task can wait in its Workflow while Workers are short.
        priority: Share of Tasks that enter the TaskQueue Priority, in workspaces that have it.
        unanswered: Tasks that end before any reservation, relative to the reservations.
    """

    wait: float
    work: float
    wrap: float
    patience: float
    limit: int
    priority: float
    unanswered: float


@dataclass(frozen=True, slots=True)
class ChannelProfile:
    """A TaskChannel's traffic.

    Attributes:
        unique_name: The unique name.
        friendly_name: The friendly name.
        hourly: Reservations in the busiest hour.
        answer: Median seconds until a Worker answers.
        timeout: Seconds until a reservation times out.
        shares: Shares of the outcomes, in the order of Outcome.
    """

    unique_name: str
    friendly_name: str
    hourly: float
    answer: float
    timeout: int
    shares: tuple[float, float, float, float, float]

    @property
    def handling(self) -> Handling:
        """How its Tasks wait and are handled."""
        return _HANDLING[self.unique_name]


class QueueProfile(NamedTuple):
    """A TaskQueue, and which Workers it serves: those whose number has one of the remainders."""

    name: str
    modulus: int
    remainders: tuple[int, ...]

    def serves(self, worker: int) -> bool:
        """Return whether a Worker is eligible for the TaskQueue."""
        return worker % self.modulus in self.remainders


@dataclass(frozen=True, slots=True)
class WorkspaceProfile:
    """A workspace; the weekend's traffic is relative to a weekday's."""

    name: str
    workers: int
    night_workers: int
    weekend: float
    queues: tuple[QueueProfile, ...]
    channels: tuple[ChannelProfile, ...]


DEFAULT_CHANNEL: Final = "default"
"""Unique name of the TaskChannel that Twilio creates with each workspace. No Task of the model uses it."""

WORKFLOWS: Final = ("Incoming calls", "Incoming messages", "Escalations")
CALLS, MESSAGES, ESCALATION = range(len(WORKFLOWS))

VOICE, MESSAGING, ESCALATIONS, PRIORITY = range(4)
"""The TaskQueues' numbers; every workspace has the first three."""

TARGETS: Final = ((VOICE, PRIORITY), (MESSAGING, PRIORITY), (ESCALATIONS,))
"""The TaskQueues that each Workflow routes to."""

_HANDLING: Final = {
    "voice": Handling(3, 210, 40, 900, 3600, 0.15, 0.02),
    "chat": Handling(5, 420, 30, 1200, 5400, 0.1, 0.015),
    "sms": Handling(8, 300, 20, 2700, 7200, 0, 0.01),
    DEFAULT_CHANNEL: Handling(1, 1, 1, 1, 60, 0, 0),
}

_DEFAULT_CHANNEL_PROFILE: Final = ChannelProfile(DEFAULT_CHANNEL, "Default", 0, 1, 60, (1, 0, 0, 0, 0))
_GENERAL_QUEUES: Final = (
    QueueProfile("Voice", 3, (0, 1)),
    QueueProfile("Messaging", 3, (1, 2)),
)

PROFILES: Final = (
    WorkspaceProfile("support", 40, 6, 0.5, (
        *_GENERAL_QUEUES, QueueProfile("Escalations", 5, (0, 2)), QueueProfile("Priority", 4, (0, 3)),
    ), (
        ChannelProfile("voice", "Voice", 180, 9, 60, (0.86, 0.04, 0.05, 0.03, 0.02)),
        ChannelProfile("chat", "Chat", 95, 22, 120, (0.88, 0.03, 0.05, 0.03, 0.01)),
        ChannelProfile("sms", "SMS", 40, 70, 300, (0.92, 0.02, 0.03, 0.02, 0.01)),
        _DEFAULT_CHANNEL_PROFILE,
    )),
    WorkspaceProfile("sales", 18, 2, 0.35, (
        *_GENERAL_QUEUES, QueueProfile("Escalations", 5, (0, 1)), QueueProfile("Priority", 4, (0, 1)),
    ), (
        ChannelProfile("voice", "Voice", 70, 7, 45, (0.89, 0.03, 0.03, 0.03, 0.02)),
        ChannelProfile("chat", "Chat", 45, 15, 90, (0.9, 0.03, 0.03, 0.02, 0.02)),
        ChannelProfile("sms", "SMS", 14, 90, 600, (0.93, 0.02, 0.02, 0.02, 0.01)),
        _DEFAULT_CHANNEL_PROFILE,
    )),
    WorkspaceProfile("billing", 8, 1, 0.25, (
        *_GENERAL_QUEUES, QueueProfile("Escalations", 4, (0, 3)),
    ), (
        ChannelProfile("voice", "Voice", 30, 12, 60, (0.82, 0.06, 0.06, 0.04, 0.02)),
        ChannelProfile("chat", "Chat", 12, 30, 120, (0.85, 0.04, 0.06, 0.03, 0.02)),
        ChannelProfile("sms", "SMS", 6, 120, 600, (0.9, 0.03, 0.04, 0.02, 0.01)),
        _DEFAULT_CHANNEL_PROFILE,
    )),
)  # fmt: skip

BY_HOUR: Final = (
    *(0.15, 0.13, 0.12, 0.12, 0.13, 0.16, 0.22, 0.4, 0.7, 0.95, 1.0, 0.95),
    *(0.8, 0.85, 0.95, 1.0, 0.9, 0.7, 0.5, 0.38, 0.3, 0.24, 0.2, 0.17),
    0.15,
)
"""Traffic at each full hour of a day relative to the busiest hour; interpolated in between."""

ACTIVITIES: Final = (
    "Offline", "Available", "Unavailable", "Break", "Lunch", "Training", "Meeting", "Wrap-up",
)  # fmt: skip


def is_weekend(day: int) -> bool:
    """Return whether this day since the epoch is a Saturday or a Sunday; the epoch was a Thursday."""
    return (day + 3) % 7 > 4  # noqa: PLR2004 - Friday, counted from Monday
