"""A TaskRouter of our own: a deterministic contact centre behind a real HTTP server on loopback."""

from taskrouter_exporter.simulator.api import ReceivedRequest, Simulator
from taskrouter_exporter.simulator.faults import Fault
from taskrouter_exporter.simulator.traffic import (
    ActivityModel,
    ChannelModel,
    ContactCentre,
    Incident,
    Outcome,
    Reservation,
    Scenario,
    WorkspaceModel,
)

__all__ = [
    "ActivityModel",
    "ChannelModel",
    "ContactCentre",
    "Fault",
    "Incident",
    "Outcome",
    "ReceivedRequest",
    "Reservation",
    "Scenario",
    "Simulator",
    "WorkspaceModel",
]
