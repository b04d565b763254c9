"""Configurations that export from a simulator."""

from typing import Any

from taskrouter_exporter.simulator import Simulator


def simulated(simulator: Simulator, **polling: Any) -> dict[str, Any]:
    """Return a configuration of every workspace: the channels all and voice, a window, daily counters."""
    return {
        "accounts": {
            "default": {
                "username": simulator.centre.account_sid,
                "password": simulator.centre.auth_token,
                "base_url": simulator.base_url,
            }
        },
        "polling": polling,
        "targets": [
            {
                "workspace": workspace.sid,
                "name": workspace.friendly_name,
                "channels": ["all", "voice"],
                "windows": ["15m"],
                "counters": "day",
            }
            for workspace in simulator.centre.workspaces
        ],
    }
