"""Targets, periods and queries: what the exporter asks TaskRouter for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from taskrouter_exporter.durations import format_duration

ALL_CHANNELS: Final = "all"
"""The `channel` of a target for statistics over all TaskChannels."""

AnchorName = Literal["day", "week"]


@dataclass(frozen=True, slots=True)
class Target:
    """A workspace and one TaskChannel, or `all` for every channel.

    Attributes:
        account: Name of the account that has access to the workspace. Not compared: a target that moves to
            another account remains the same target.
        workspace_sid: Workspace SID (`WS…`).
        workspace: Value of the label `workspace`: the configured name, by default the SID.
        channel: Value of the label `channel`: unique name or SID of a TaskChannel, or `all`.
    """

    account: str = field(compare=False)
    workspace_sid: str
    workspace: str
    channel: str


@dataclass(frozen=True, slots=True)
class Window:
    """A sliding period that ends at the time of the request."""

    minutes: int

    @property
    def label(self) -> str:
        """The canonical value of the label `window`: `15m`, `4h`."""
        return format_duration(timedelta(minutes=self.minutes))

    def parameters(self, _start: datetime | None) -> dict[str, str]:
        """Return the URL parameters of this period."""
        return {"Minutes": str(self.minutes)}


@dataclass(frozen=True, slots=True)
class Anchored:
    """A period with a fixed start: midnight UTC of the day, or of the Monday of the week."""

    label: AnchorName

    def start(self, now: datetime) -> datetime:
        """Return the start, in UTC, of the period that contains `now`."""
        midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return midnight if self.label == "day" else midnight - timedelta(days=midnight.weekday())

    def end(self, start: datetime) -> datetime:
        """Return the end of the period that starts at `start`."""
        return start + timedelta(days=1 if self.label == "day" else 7)

    def parameters(self, start: datetime | None) -> dict[str, str]:
        """Return the URL parameters of the period since `start`."""
        if start is None:
            raise ValueError("an anchored period needs its start")
        return {"StartDate": start.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}


Period = Window | Anchored


@dataclass(frozen=True, slots=True)
class Query:
    """One target and one period: exactly one API call."""

    target: Target
    period: Period

    def parameters(self, start: datetime | None = None) -> Mapping[str, str]:
        """Return the URL parameters; `start` is the start of an anchored period."""
        parameters = self.period.parameters(start)
        if self.target.channel != ALL_CHANNELS:
            parameters["TaskChannel"] = self.target.channel
        return parameters
