"""What is asked of TaskRouter: targets, periods and queries."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from taskrouter_exporter.durations import format_duration
from taskrouter_exporter.statistics.workers import statistics_path

ALL_CHANNELS: Final = "all"
"""The `channel` of a target that asks for statistics over every TaskChannel."""

AnchorName = Literal["day", "week"]


@dataclass(frozen=True, slots=True)
class Target:
    """A workspace with one TaskChannel, or with `all` of them.

    Attributes:
        account: Name of the account whose credentials reach the workspace. A target that moves to another
            account stays the same target.
        workspace_sid: `WS…`.
        workspace: The label `workspace`: the configured name, by default the SID.
        channel: The label `channel`: a TaskChannel's unique name or SID, or `all`.
    """

    account: str = field(compare=False)
    workspace_sid: str
    workspace: str
    channel: str


@dataclass(frozen=True, slots=True)
class Window:
    """A sliding period: the last so many minutes before the question."""

    minutes: int

    @property
    def label(self) -> str:
        """The label `window`, canonical: `15m`, `4h`."""
        return format_duration(timedelta(minutes=self.minutes))

    def parameters(self, _start: datetime | None) -> dict[str, str]:
        """Query parameters that ask for this period."""
        return {"Minutes": str(self.minutes)}


@dataclass(frozen=True, slots=True)
class Anchored:
    """A period that begins at a fixed instant, midnight UTC of the day or of the week's Monday."""

    label: AnchorName

    def start(self, now: datetime) -> datetime:
        """The anchor that is in force at `now`, in UTC."""
        midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return midnight if self.label == "day" else midnight - timedelta(days=midnight.weekday())

    def end(self, start: datetime) -> datetime:
        """The instant at which the anchor `start` ceases to be in force."""
        return start + timedelta(days=1 if self.label == "day" else 7)

    def parameters(self, start: datetime | None) -> dict[str, str]:
        """Query parameters that ask for the time since the anchor `start`."""
        if start is None:
            raise ValueError("an anchored period is asked for from its anchor on")
        return {"StartDate": start.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}


Period = Window | Anchored


@dataclass(frozen=True, slots=True)
class Query:
    """One target with one period: exactly one API call."""

    target: Target
    period: Period

    @property
    def path(self) -> str:
        """Path of the API resource."""
        return statistics_path(self.target.workspace_sid)

    def parameters(self, start: datetime | None = None) -> Mapping[str, str]:
        """Query parameters; `start` is the anchor of an anchored period."""
        parameters = self.period.parameters(start)
        if self.target.channel != ALL_CHANNELS:
            parameters["TaskChannel"] = self.target.channel
        return parameters
