"""The embedded demo: a TaskRouter simulator on loopback, and a configuration for it."""

import json
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Final

from taskrouter_exporter.config.loader import parse_config
from taskrouter_exporter.config.model import Config
from taskrouter_exporter.simulator.api import Simulator
from taskrouter_exporter.simulator.centre import ContactCentre
from taskrouter_exporter.simulator.model import Incident, Scenario, WorkspaceModel
from taskrouter_exporter.simulator.profiles import DEFAULT_CHANNEL

_INCIDENT_DELAY = timedelta(minutes=5)
_INCIDENT_LENGTH = timedelta(hours=1)
_RATE_LIMIT: Final = "rate-limit"
_LOW_RATE: Final = 1.0
"""Requests per second in the scenario rate-limit: a scrape of the demo needs 16 for each workspace."""

_ASKED: Final = timedelta(days=1)
"""The longest period that a scrape of the demo asks about."""

_WEEK: Final = timedelta(days=7)
_BUSY: Final = timedelta(days=2, hours=9)
"""A Wednesday's busiest hours, from the start of the week."""

SCENARIOS: Final = (*map(str, Scenario), _RATE_LIMIT)
"""The scenarios of `--demo.scenario`."""


def start_demo(scenario: str) -> tuple[Simulator, Config]:
    """Start a simulator and return it with a configuration for it.

    Its contact centre has a Wednesday morning between nine and ten, whatever the time. The incident of a
    scenario starts in five minutes and lasts for an hour. The scenario rate-limit is calm, and has a low rate
    limit throughout.
    """
    now = datetime.now(UTC)
    ahead = busy_offset(now)
    if scenario == _RATE_LIMIT:
        simulator = Simulator(ContactCentre(ahead=ahead), rate_limit=_LOW_RATE)
    else:
        traffic = Scenario(scenario)
        start = now + _INCIDENT_DELAY
        incident = None if traffic is Scenario.CALM else Incident(start, start + _INCIDENT_LENGTH)
        simulator = Simulator(ContactCentre(scenario=traffic, incident=incident, ahead=ahead))
    simulator.centre.prepare(now - _ASKED, now)
    simulator.start()
    return simulator, parse_config(demo_configuration(simulator), "--demo", Path.cwd(), {})


def busy_offset(now: datetime) -> timedelta:
    """Return the time zone, in whole hours, in which it is a busy hour now."""
    monday = datetime.combine(now.date() - timedelta(days=now.weekday()), time(), UTC)
    hour = now.replace(minute=0, second=0, microsecond=0)
    return (_BUSY - (hour - monday)) % _WEEK


def demo_configuration(simulator: Simulator) -> str:
    """Return a configuration, as YAML, with every workspace of a simulator.

    It asks for every kind of statistics over all channels, with queues and workflows, for the calls that wait
    in each queue, and of the other channels for the statistics of the Workers. It leaves out the channel
    `default`, which has no Tasks.
    """
    centre = simulator.centre
    document = {
        "accounts": {
            "demo": {
                "username": centre.account_sid,
                "password": centre.auth_token,
                "base_url": simulator.base_url,
            }
        },
        "targets": [target for workspace in centre.workspaces for target in _targets(workspace)],
    }
    return json.dumps(document, indent=2)


def _targets(workspace: WorkspaceModel) -> list[dict[str, object]]:
    channels = [channel.unique_name for channel in workspace.channels]
    common = {
        "workspace": workspace.sid,
        "name": workspace.friendly_name,
        "account": "demo",
        "windows": ["15m", "4h", "8h"],
        "counters": "day",
    }
    everything = {
        "statistics": ["workers", "tasks", "realtime"],
        "queues": "auto",
        "workflows": "auto",
        # Which a calm day meets: as long as there is no baseline, the alerts compare with a fixed share.
        "service_levels": ["5m", "10m"],
    }
    calls = [name for name in channels if name == "voice"]
    return [
        {**common, "channels": ["all"], **everything},
        {**common, "channels": calls, "statistics": ["workers", "realtime"], "queues": "auto"},
        {**common, "channels": [name for name in channels if name not in {*calls, DEFAULT_CHANNEL}]},
    ]
