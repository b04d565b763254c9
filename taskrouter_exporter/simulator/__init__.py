"""A TaskRouter simulator: a deterministic contact centre behind an HTTP server on loopback."""

from taskrouter_exporter.simulator.api import ReceivedRequest, Simulator
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
    "Incident",
    "Outcome",
    "ReceivedRequest",
    "Reservation",
    "Scenario",
    "Simulator",
    "WorkspaceModel",
]
