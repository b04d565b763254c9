"""Periods that statistics cover: sliding windows, anchored periods, and this moment."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
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
    """A period with a fixed start: midnight of the day, or of the Monday of the week, in a time zone.

    A day on which the clock is moved has 23 or 25 hours. A midnight that the clock skips is the instant at
    which it is moved; of two midnights, the first is the start.
    """

    role: ClassVar[Role] = "anchored"

    label: AnchorName
    zone: tzinfo = UTC

    def start(self, now: datetime) -> datetime:
        """Return the start, in UTC, of the period that contains `now`."""
        first = self._first_date(now.astimezone(self.zone).date())
        # Where the clock is set back over midnight, the date goes back as well, but the period does not.
        starts = (self._midnight(first + days) for days in (self._days, timedelta(), -self._days))
        return next(start for start in starts if start <= now)

    def end(self, start: datetime) -> datetime:
        """Return the end, in UTC, of the period that starts at `start`."""
        return self._midnight(self._first_date(start.astimezone(self.zone).date()) + self._days)

    @property
    def _days(self) -> timedelta:
        return timedelta(days=1 if self.label == "day" else 7)

    def _first_date(self, day: date) -> date:
        return day if self.label == "day" else day - timedelta(days=day.weekday())

    def _midnight(self, day: date) -> datetime:
        return datetime.combine(day, time(), self.zone).astimezone(UTC)

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
