"""What a panel says when it has no data: what to switch on in the exporter's configuration."""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from taskrouter_exporter.lines import PREFIX
from taskrouter_exporter.statistics import KINDS
from taskrouter_exporter.statistics.kind import Family, Kind, Role

_NO_RULES: Final = "No data. Are the recording rules loaded?"
_NO_SCRAPES: Final = "No data. Does Prometheus scrape the exporter?"


def _settings(kind: Kind, role: Role, family: Family) -> Iterator[tuple[str, str]]:
    """Yield the keys of a target that a family needs, and their values, unless they are the defaults."""
    if kind.name != "workers":
        yield "statistics", kind.name
    if kind.subject != "workspace":
        yield f"{kind.subject}s", "auto"
    if role == "anchored":
        yield "counters", "day"
    if "threshold" in family.labels:
        yield "service_levels", "[20s]"


_NEEDED: Final = {
    PREFIX
    + ("" if kind.subject == "workspace" else f"{kind.subject}_")
    + family.name
    + ("_total" if family.type == "counter" else ""): tuple(_settings(kind, role, family))
    for kind in KINDS
    for role, families in kind.families.items()
    for family in families
}
_METRIC: Final = re.compile(rf"\b{PREFIX}\w+")


def no_value(expressions: Iterable[str]) -> str:
    """Return the text for a panel of these queries."""
    text = " ".join(expressions)
    needed = dict.fromkeys(setting for metric in _METRIC.findall(text) for setting in _NEEDED.get(metric, ()))
    statistics = [value for key, value in needed if key == "statistics"]
    settings = [f"statistics: [{', '.join(statistics)}]"] if statistics else []
    settings += [f"{key}: {value}" for key, value in needed if key != "statistics"]
    if settings:
        return f"No data. Needs {', '.join(settings)}"
    return _NO_RULES if "taskrouter:" in text else _NO_SCRAPES
