"""A TaskRouter simulator: a deterministic contact centre behind an HTTP server on loopback."""

from taskrouter_exporter.simulator.api import Simulator
from taskrouter_exporter.simulator.centre import ContactCentre
from taskrouter_exporter.simulator.limits import ReceivedRequest
from taskrouter_exporter.simulator.model import (
    ActivityModel,
    ChannelModel,
    Incident,
    Outcome,
    QueueModel,
    Reservation,
    Scenario,
    TaskEvent,
    TaskEventKind,
    WorkflowModel,
    WorkspaceModel,
)

__all__ = [
    "ActivityModel",
    "ChannelModel",
    "ContactCentre",
    "Incident",
    "Outcome",
    "QueueModel",
    "ReceivedRequest",
    "Reservation",
    "Scenario",
    "Simulator",
    "TaskEvent",
    "TaskEventKind",
    "WorkflowModel",
    "WorkspaceModel",
]
