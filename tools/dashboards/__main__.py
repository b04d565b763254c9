"""Writes the dashboards into `monitoring/dashboards/`."""

from typing import Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import AnnotationContainer, Dashboard

from tools.dashboards import channel, exporter, overview, queues
from tools.dashboards.parts import FiringAlerts
from tools.thresholds import ROOT

DIRECTORY: Final = ROOT / "monitoring" / "dashboards"
_SCHEMA_VERSION: Final = 42
"""The last version of this JSON model, which Grafana 12.3 and later write. The SDK still says 41."""


def dashboards() -> dict[str, str]:
    """JSON by file name."""
    modules = (overview, channel, queues, exporter)
    built = [module.dashboard().build() for module in modules]
    return {f"{each.uid}.json": _json(each) for each in built}


def _json(dashboard: Dashboard) -> str:
    dashboard.schema_version = _SCHEMA_VERSION
    dashboard.annotations = AnnotationContainer([FiringAlerts()])
    for variable in dashboard.templating.list_val or ():
        # Only an interval has these, but the SDK gives them to every variable.
        variable.auto = variable.auto_count = variable.auto_min = None
    for number, panel in enumerate(dashboard.panels or (), 1):
        panel.id_val = number
    return JSONEncoder(indent=2, sort_keys=True, ensure_ascii=False).encode(dashboard) + "\n"


if __name__ == "__main__":
    for name, text in dashboards().items():
        (DIRECTORY / name).write_text(text, encoding="utf-8")
