"""The list of the alerts that fire, or that will if their cause lasts."""

from typing import Final

from grafana_foundation_sdk.builders import common, table
from grafana_foundation_sdk.models.dashboard import (
    DataTransformerConfig,
    DynamicConfigValue,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from tools.dashboards.colours import COLOURS
from tools.dashboards.parts import COUNT, SELECTED_ALERTS, filled, query

_KEYS: Final = {
    "severity": "Severity",
    "alertname": "Alert",
    "alertstate": "State",
    "workspace": "Workspace",
    "channel": "Channel",
    "queue": "Queue",
    "reason": "Reason",
    "instance": "Instance",
}
"""The labels in the order of their columns, and their headings."""


def alert_list() -> table.Panel:
    """Return a table of the alerts that are pending or firing.

    It reads them from Prometheus, so that it follows the dashboard's variables.
    """
    alerts = f"max by ({', '.join(_KEYS)}) (ALERTS{{{SELECTED_ALERTS}}})"
    order = {name: place for place, name in enumerate(_KEYS)}
    hidden = dict.fromkeys(("Time", "Value"), True)
    organize = {"excludeByName": hidden, "renameByName": _KEYS, "indexByName": order}
    made = (
        table.Panel()
        .unit(COUNT)
        .sort_by([common.TableSortByFieldState().display_name("Severity")])
        .with_transformation(DataTransformerConfig("organize", options=organize))
    )
    colours = {
        severity: ValueMappingResult(color=colour, index=place)
        for place, (severity, colour) in enumerate(COLOURS.items())
        if severity
    }
    properties = [
        DynamicConfigValue("mappings", [ValueMap(colours)]),
        DynamicConfigValue("custom.cellOptions", {"type": "color-background"}),
    ]
    made.override_by_name("Severity", properties)
    filled(
        made,
        "Alerts",
        "The alerts of this selection: firing, or pending until their cause has lasted long enough. "
        "docs/runbooks.md says what to do.",
        [query(alerts, instant=True).format(PromQueryFormat.TABLE)],
        6,
        24,
    )
    return made.no_value("No alert is pending or firing")
