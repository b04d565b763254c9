"""The alerts' thresholds out of the rules, so that a panel's colours change where the alerts do."""

from pathlib import Path
from typing import Any, Final

import yaml
from grafana_foundation_sdk.builders.dashboard import ThresholdsConfig
from grafana_foundation_sdk.models.dashboard import Threshold, ThresholdsMode

RULES: Final = Path(__file__).parent.parent / "rules" / "taskrouter.yaml"
COLOURS: Final = {"": "orange", "warning": "orange", "critical": "red"}
"""By severity."""


def threshold(name: str) -> dict[str, float]:
    """A threshold's values by severity, the empty one where it has none.

    Raises:
        KeyError: There is no such threshold.
    """
    if found := _read().get(name):
        return found
    raise KeyError(name)


def above(name: str, base: str = "green") -> ThresholdsConfig:
    """A base colour, then the colours of the alerts that fire above a threshold."""
    alerts = [(value, COLOURS[severity]) for severity, value in threshold(name).items()]
    return steps(base, *sorted(alerts))


def below(name: str) -> ThresholdsConfig:
    """The colour of the alert that fires below a threshold, then green."""
    ((severity, value),) = threshold(name).items()
    return steps(COLOURS[severity], (value, "green"))


def steps(base: str, *more: tuple[float, str]) -> ThresholdsConfig:
    """A colour, and others from a value on."""
    all_steps = [Threshold(color=base), *(Threshold(value, colour) for value, colour in more)]
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(all_steps)


def _read() -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    groups: list[dict[str, Any]] = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    for rule in (rule for group in groups for rule in group["rules"]):
        if rule.get("record") == "taskrouter:threshold":
            labels, value = rule["labels"], rule["expr"].removeprefix("vector(").removesuffix(")")
            found.setdefault(labels["threshold"], {})[labels.get("severity", "")] = float(value)
    return found
