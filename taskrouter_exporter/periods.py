"""Periods that statistics cover: sliding windows, anchored periods, and this moment."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Literal

from taskrouter_exporter.durations import format_duration
from taskrouter_exporter.statistics.kind import Role

AnchorName = Literal["day", "week"]


@dataclass(frozen=True, slots=True)
class Window:
    """A sliding period that ends at the time of the request."""

    role: ClassVar[Role] = "window"

    minutes: int

    @property
    def label(self) -> str:
        """The canonical value of the label `window`: `15m`, `4h`."""
        return format_duration(timedelta(minutes=self.minutes))

    def parameters(self, start: datetime | None, end: datetime | None = None) -> dict[str, str]:
        """Return the URL parameters of the window that ends now, or of a past one from `start` to `end`."""
        if start is None:
            return {"Minutes": str(self.minutes)}
        return _between(start, end)


@dataclass(frozen=True, slots=True)
class Anchored:
    """A period with a fixed start: midnight UTC of the day, or of the Monday of the week."""

    role: ClassVar[Role] = "anchored"

    label: AnchorName

    def start(self, now: datetime) -> datetime:
        """Return the start, in UTC, of the period that contains `now`."""
        midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return midnight if self.label == "day" else midnight - timedelta(days=midnight.weekday())

    def end(self, start: datetime) -> datetime:
        """Return the end of the period that starts at `start`."""
        return start + timedelta(days=1 if self.label == "day" else 7)

    def parameters(self, start: datetime | None, end: datetime | None = None) -> dict[str, str]:
        """Return the URL parameters of the period from `start` until now, or until `end`."""
        if start is None:
            raise ValueError("an anchored period needs its start")
        return _between(start, end)


@dataclass(frozen=True, slots=True)
class Current:
    """This moment, which real-time statistics are about."""

    role: ClassVar[Role] = "current"

    label: ClassVar[str] = ""

    def parameters(self, _start: datetime | None, _end: datetime | None = None) -> dict[str, str]:
        """Return no URL parameters."""
        return {}


Period = Window | Anchored | Current


def _between(start: datetime, end: datetime | None) -> dict[str, str]:
    """Return the URL parameters of a range, of which the API takes whole seconds."""
    dates = {"StartDate": start} if end is None else {"StartDate": start, "EndDate": end}
    return {name: date.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for name, date in dates.items()}
