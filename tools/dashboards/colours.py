"""The colours of panels, taken from the alerts' thresholds, so that both change at the same values."""

from typing import Final

from grafana_foundation_sdk.builders.dashboard import ThresholdsConfig
from grafana_foundation_sdk.models.dashboard import Threshold, ThresholdsMode

from tools.thresholds import RULES, read_thresholds

COLOURS: Final = {"": "orange", "warning": "orange", "critical": "red"}
"""By severity."""


def threshold(name: str) -> dict[str, float]:
    """Return a threshold's values by severity, the empty one where it has none.

    Raises:
        KeyError: there is no such threshold.
    """
    return read_thresholds(RULES.read_text(encoding="utf-8"))[name]


def above(name: str, base: str = "green") -> ThresholdsConfig:
    """Return a base colour, then the colours of the alerts that fire above a threshold."""
    alerts = [(value, COLOURS[severity]) for severity, value in threshold(name).items()]
    return steps(base, *sorted(alerts))


def below(name: str) -> ThresholdsConfig:
    """Return the colour of the alert that fires below a threshold, then green."""
    ((severity, value),) = threshold(name).items()
    return steps(COLOURS[severity], (value, "green"))


def steps(base: str, *more: tuple[float, str]) -> ThresholdsConfig:
    """Return a colour, and others from a value on."""
    all_steps = [Threshold(color=base), *(Threshold(value, colour) for value, colour in more)]
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(all_steps)
