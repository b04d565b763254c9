"""A seeded contact centre whose whole history is a pure function of time.

Reservations are generated per TaskChannel and hour, Workers' activities per workspace and UTC day. Each of
these has its own random source, seeded with its name. Therefore intervals can be requested in any order,
overlapping intervals agree, and two processes with the same seed give the same answers. Internally, times are
whole microseconds since the epoch; reservations use whole milliseconds.
"""

import enum
import hashlib
from array import array
from bisect import bisect, bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import accumulate
from random import Random
from typing import Any, Final, NamedTuple

from taskrouter_exporter.sids import sid_key

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_SECOND: Final = 1_000_000
_HOUR: Final = 3600 * _SECOND
_DAY_SECONDS: Final = 86_400

_HOURS_CACHED: Final = 10_000
"""Cached hours of single TaskChannels: 30 days of all twelve are 8,640 hours, about 10 MB."""
_DAYS_CACHED: Final = 128
"""Cached days of single workspaces' Workers: 30 days of all three are 93, about 2 MB."""


class Scenario(enum.StrEnum):
    """The problem in the voice channel of the first workspace during the incident."""

    CALM = "calm"
    REJECTION_SPIKE = "rejection-spike"
    TIMEOUT_SPIKE = "timeout-spike"
    OUTAGE = "outage"


class Outcome(enum.StrEnum):
    """How a reservation ended, named as in the API's `reservations_*` attributes."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    TIMED_OUT = "timed_out"
    CANCELED = "canceled"
    RESCINDED = "rescinded"


_OUTCOMES: Final = tuple(Outcome)
_SPIKES: Final = {Scenario.REJECTION_SPIKE: Outcome.REJECTED, Scenario.TIMEOUT_SPIKE: Outcome.TIMED_OUT}
_SPIKE_SHARE: Final = 0.43
"""Share of the reservations that a spike affects. Together with the usual share of the rest, about 45 %."""


@dataclass(frozen=True, slots=True)
class Incident:
    """The interval `[start, end)` of a scenario's problem, as aware datetimes."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise ValueError("an incident's start and end need a time zone")
        if self.end <= self.start:
            raise ValueError("an incident ends after its start")


class ActivityModel(NamedTuple):
    """An Activity that Workers can be in."""

    sid: str
    friendly_name: str


@dataclass(frozen=True, slots=True)
class ChannelModel:
    """A TaskChannel."""

    sid: str
    unique_name: str
    friendly_name: str


@dataclass(frozen=True, slots=True)
class WorkspaceModel:
    """A workspace with its TaskChannels and Activities."""

    sid: str
    friendly_name: str
    channels: tuple[ChannelModel, ...]
    activities: tuple[ActivityModel, ...]

    def channel(self, name: str) -> ChannelModel | None:
        """Return the TaskChannel with this unique name or SID (in upper or lower case)."""
        key = sid_key(name)
        return next(
            (channel for channel in self.channels if key in (sid_key(channel.sid), channel.unique_name)), None
        )


@dataclass(frozen=True, slots=True)
class Reservation:
    """A line of the event log. Every reservation ends at most an hour after its creation.

    Attributes:
        channel: The TaskChannel's unique name.
        created: The time of creation, in UTC.
        outcome: How it ends.
        ended: The time of the end, in UTC; until then it is pending.
    """

    channel: str
    created: datetime
    outcome: Outcome
    ended: datetime


@dataclass(frozen=True, slots=True)
class _ChannelProfile:
    unique_name: str
    friendly_name: str
    hourly: float  # reservations in the busiest hour
    answer: float  # median seconds until a Worker answers
    timeout: int  # seconds until a reservation times out
    shares: tuple[float, float, float, float, float]  # of the outcomes, in the order of Outcome


@dataclass(frozen=True, slots=True)
class _WorkspaceProfile:
    name: str
    workers: int
    night_workers: int
    weekend: float  # traffic relative to a weekday's
    channels: tuple[_ChannelProfile, ...]


DEFAULT_CHANNEL: Final = "default"
"""Unique name of the TaskChannel that Twilio creates with each workspace. No Task of the model uses it."""

_DEFAULT_CHANNEL_PROFILE: Final = _ChannelProfile(DEFAULT_CHANNEL, "Default", 0, 1, 60, (1, 0, 0, 0, 0))

_PROFILES: Final = (
    _WorkspaceProfile("support", 40, 6, 0.5, (
        _ChannelProfile("voice", "Voice", 180, 9, 60, (0.86, 0.04, 0.05, 0.03, 0.02)),
        _ChannelProfile("chat", "Chat", 95, 22, 120, (0.88, 0.03, 0.05, 0.03, 0.01)),
        _ChannelProfile("sms", "SMS", 40, 70, 300, (0.92, 0.02, 0.03, 0.02, 0.01)),
        _DEFAULT_CHANNEL_PROFILE,
    )),
    _WorkspaceProfile("sales", 18, 2, 0.35, (
        _ChannelProfile("voice", "Voice", 70, 7, 45, (0.89, 0.03, 0.03, 0.03, 0.02)),
        _ChannelProfile("chat", "Chat", 45, 15, 90, (0.9, 0.03, 0.03, 0.02, 0.02)),
        _ChannelProfile("sms", "SMS", 14, 90, 600, (0.93, 0.02, 0.02, 0.02, 0.01)),
        _DEFAULT_CHANNEL_PROFILE,
    )),
    _WorkspaceProfile("billing", 8, 1, 0.25, (
        _ChannelProfile("voice", "Voice", 30, 12, 60, (0.82, 0.06, 0.06, 0.04, 0.02)),
        _ChannelProfile("chat", "Chat", 12, 30, 120, (0.85, 0.04, 0.06, 0.03, 0.02)),
        _ChannelProfile("sms", "SMS", 6, 120, 600, (0.9, 0.03, 0.04, 0.02, 0.01)),
        _DEFAULT_CHANNEL_PROFILE,
    )),
)  # fmt: skip

_BY_HOUR: Final = (
    *(0.15, 0.13, 0.12, 0.12, 0.13, 0.16, 0.22, 0.4, 0.7, 0.95, 1.0, 0.95),
    *(0.8, 0.85, 0.95, 1.0, 0.9, 0.7, 0.5, 0.38, 0.3, 0.24, 0.2, 0.17),
    0.15,
)
"""Traffic at each full hour of a UTC day relative to the busiest hour; interpolated in between."""

_ACTIVITIES: Final = (
    "Offline", "Available", "Unavailable", "Break", "Lunch", "Training", "Meeting", "Wrap-up",
)  # fmt: skip
_OFFLINE: Final = _ACTIVITIES.index("Offline")
_AVAILABLE: Final = _ACTIVITIES.index("Available")
_LUNCH: Final = _ACTIVITIES.index("Lunch")
_PAUSES: Final = tuple(
    (_ACTIVITIES.index(name), shortest, longest)
    for name, shortest, longest in (
        ("Wrap-up", 40, 240),
        ("Unavailable", 60, 600),
        ("Break", 600, 1080),
        ("Meeting", 900, 2700),
        ("Training", 1800, 3600),
    )
)
_PAUSE_WEIGHTS: Final = (60, 20, 13, 4, 3)


@dataclass(frozen=True, slots=True)
class _Hour:
    """The reservations of one TaskChannel created in one hour; times are in microseconds since the epoch."""

    created: "array[int]"
    outcomes: bytes
    ended: "array[int]"
    ended_by_outcome: "tuple[array[int], ...]"  # each sorted


class _Draw(NamedTuple):
    """The random numbers of a reservation: calm outcome, seconds until an answer, effect of a spike."""

    outcome: Outcome
    answer: float
    luck: float


_Timeline = tuple["array[int]", bytes]
"""The starts of a Worker's stints on a day, in epoch seconds, and the index of each stint's Activity."""


class ContactCentre:
    """Three workspaces with their reservations and their Workers' activities.

    Outside the incident, the data are the same as in the calm scenario with the same seed. Only after an
    outage, the outcomes of the missing reservations are missing until the last of them would have ended.

    Args:
        seed: The seed of all random sources.
        scenario: The problem during the incident.
        incident: The time of the problem. Every scenario needs one, except the calm one, which has none.

    Raises:
        ValueError: The scenario and the incident do not go together.
    """

    def __init__(
        self, seed: int = 1, scenario: Scenario = Scenario.CALM, incident: Incident | None = None
    ) -> None:
        if (scenario is Scenario.CALM) != (incident is None):
            raise ValueError(f"{scenario}: the calm scenario has no incident, and every other one needs one")
        self.seed = seed
        self.scenario = scenario
        self.incident = incident
        self.account_sid = "AC" + self._hex("account")
        self.auth_token = self._hex("token")
        self.api_key_sid = "SK" + self._hex("key")
        self.api_key_secret = self._hex("secret")
        self.workspaces = tuple(
            WorkspaceModel(
                sid="WS" + self._hex(profile.name),
                friendly_name=profile.name,
                channels=tuple(
                    ChannelModel(
                        "TC" + self._hex(profile.name, c.unique_name), c.unique_name, c.friendly_name
                    )
                    for c in profile.channels
                ),
                activities=tuple(
                    ActivityModel("WA" + self._hex(profile.name, name), name) for name in _ACTIVITIES
                ),
            )
            for profile in _PROFILES
        )
        self._index = {sid_key(workspace.sid): index for index, workspace in enumerate(self.workspaces)}
        self._hour = lru_cache(_HOURS_CACHED)(self._generate_hour)
        self._day = lru_cache(_DAYS_CACHED)(self._generate_day)

    def reservations(
        self, workspace_sid: str, start: datetime, end: datetime, channel: str | None = None
    ) -> list[Reservation]:
        """Return the event log: every reservation created in `[start, end)`, in the order of creation.

        Raises:
            KeyError: There is no such workspace or TaskChannel (SID or unique name).
        """
        index, channels = self._find(workspace_sid, channel)
        first, last = _microseconds(start), _microseconds(end)
        log = [
            Reservation(
                channel=_PROFILES[index].channels[number].unique_name,
                created=_EPOCH + created * _MICROSECOND,
                outcome=_OUTCOMES[outcome],
                ended=_EPOCH + ended * _MICROSECOND,
            )
            for number in channels
            for hour in self._hours(index, number, first, last)
            for created, outcome, ended in zip(hour.created, hour.outcomes, hour.ended, strict=True)
            if first <= created < last
        ]
        return sorted(log, key=lambda reservation: reservation.created)

    def statistics(
        self, workspace_sid: str, start: datetime, end: datetime, channel: str | None = None
    ) -> dict[str, Any]:
        """Return cumulative statistics of `[start, end)` in the API's form, without `account_sid` and `url`.

        `reservations_created` counts by the time of creation, the outcomes by the time of the end. Durations
        are clipped to the interval, with bounds truncated to whole seconds, so that totals add up. They are
        the same for every channel: it is not known whether the real API's `TaskChannel` filters them.

        Raises:
            KeyError: There is no such workspace or TaskChannel (SID or unique name).
        """
        index, channels = self._find(workspace_sid, channel)
        first, last = _microseconds(start), _microseconds(end)
        created = 0
        ended = [0] * len(_OUTCOMES)
        for number in channels:
            for hour in self._hours(index, number, first - _HOUR, last):
                created += bisect_left(hour.created, last) - bisect_left(hour.created, first)
                for outcome, times in enumerate(hour.ended_by_outcome):
                    if times:
                        ended[outcome] += bisect_left(times, last) - bisect_left(times, first)
        return {
            "workspace_sid": workspace_sid,
            "reservations_created": created,
            **{f"reservations_{outcome}": count for outcome, count in zip(_OUTCOMES, ended, strict=True)},
            "activity_durations": self._activity_durations(index, first // _SECOND, last // _SECOND),
            "start_time": api_time(start),
            "end_time": api_time(end),
        }

    def _activity_durations(self, index: int, start: int, end: int) -> list[dict[str, Any]]:
        """Return each Activity's durations within the epoch seconds `[start, end)`."""
        durations: list[list[int]] = [[] for _ in _ACTIVITIES]
        days = [self._day(index, day) for day in range(start // _DAY_SECONDS, -(-end // _DAY_SECONDS))]
        for worker in range(_PROFILES[index].workers if end > start else 0):
            activity, since = -1, start
            for timelines in days:
                starts, activities = timelines[worker]
                for stint in range(max(bisect(starts, start) - 1, 0), bisect_left(starts, end)):
                    # A stint that continues after midnight is one, as are two pauses of a kind in a row.
                    if activities[stint] != activity:
                        if activity >= 0:
                            durations[activity].append(starts[stint] - since)
                            since = starts[stint]
                        activity = activities[stint]
            durations[activity].append(end - since)
        return [
            {
                "max": max(stints, default=0),
                "min": min(stints, default=0),
                "sid": activity_model.sid,
                "friendly_name": activity_model.friendly_name,
                "avg": round(sum(stints) / len(stints)) if stints else 0,
                "total": sum(stints),
            }
            for activity_model, stints in zip(self.workspaces[index].activities, durations, strict=True)
        ]

    def _find(self, workspace_sid: str, channel: str | None) -> tuple[int, range]:
        """Return the index of the workspace and those of the selected channels."""
        index = self._index[sid_key(workspace_sid)]
        channels = self.workspaces[index].channels
        if channel is None:
            return index, range(len(channels))
        model = self.workspaces[index].channel(channel)
        if model is None:
            raise KeyError(channel)
        number = channels.index(model)
        return index, range(number, number + 1)

    def _hours(self, index: int, number: int, start: int, end: int) -> Iterator[_Hour]:
        """Return every hour that overlaps the microseconds `[start, end)`."""
        return (self._hour(index, number, hour) for hour in range(start // _HOUR, -(-end // _HOUR)))

    def _generate_hour(self, index: int, number: int, hour: int) -> _Hour:
        """Draw the reservations of an hour: a Poisson process, thinned to the rate at each instant."""
        profile = _PROFILES[index]
        channel = profile.channels[number]
        random = self._random(profile.name, channel.unique_name, hour)
        day, hour_of_day = divmod(hour, 24)
        level = channel.hourly * (profile.weekend if _is_weekend(day) else 1)
        at_start, at_end = level * _BY_HOUR[hour_of_day], level * _BY_HOUR[hour_of_day + 1]
        busiest = max(at_start, at_end)
        shares = tuple(accumulate(channel.shares))
        created, outcomes, ended = array("q"), bytearray(), array("q")
        by_outcome = tuple(array("q") for _ in _OUTCOMES)
        position = random.expovariate(busiest) if busiest else 1
        while position < 1:
            kept = random.random() * busiest < at_start + (at_end - at_start) * position
            # Drawn for every instant, even if not kept or not used in a scenario, so that all later draws are
            # the same in every scenario.
            draw = _Draw(
                outcome=_OUTCOMES[min(bisect(shares, random.random()), len(shares) - 1)],
                answer=random.lognormvariate(0, 0.6) * channel.answer,
                luck=random.random(),
            )
            begin = hour * _HOUR + int(position * 3_600_000) * 1000
            position += random.expovariate(busiest)
            fate = self._fate(index, number, begin, draw) if kept else None
            if fate is not None:
                outcome, end = fate
                created.append(begin)
                outcomes.append(_OUTCOMES.index(outcome))
                ended.append(end)
                by_outcome[_OUTCOMES.index(outcome)].append(end)
        return _Hour(
            created, bytes(outcomes), ended, tuple(array("q", sorted(times)) for times in by_outcome)
        )

    def _fate(self, index: int, number: int, created: int, draw: _Draw) -> tuple[Outcome, int] | None:
        """Return outcome and end of a reservation in the scenario; None if an outage prevents it.

        A spike changes only reservations that are created and end within the incident, so that the counts of
        all other intervals stay the same.
        """
        channel = _PROFILES[index].channels[number]
        calm = draw.outcome, _end(channel, created, draw.outcome, draw.answer)
        if self.incident is None or (index, number) != (0, 0):
            return calm
        start, end = _microseconds(self.incident.start), _microseconds(self.incident.end)
        if not start <= created < end:
            return calm
        if self.scenario is Scenario.OUTAGE:
            return None
        spike = _SPIKES[self.scenario]
        struck = spike, _end(channel, created, spike, draw.answer)
        return struck if draw.luck < _SPIKE_SHARE and max(calm[1], struck[1]) < end else calm

    def _generate_day(self, index: int, day: int) -> tuple[_Timeline, ...]:
        """Draw the activities of each Worker of a workspace on a day (days since the epoch)."""
        profile = _PROFILES[index]
        random = self._random(profile.name, "workers", day)
        midnight = day * _DAY_SECONDS
        timelines = []
        for worker in range(profile.workers):
            starts, activities = array("q", [midnight]), bytearray([_OFFLINE])
            for begin, end in _shifts(random, profile, worker, day):
                if begin == 0:
                    starts.pop()
                    activities.pop()
                for second, activity in (*_stints(random, begin, end), (end, _OFFLINE)):
                    if second < _DAY_SECONDS:
                        starts.append(midnight + second)
                        activities.append(activity)
            timelines.append((starts, bytes(activities)))
        return tuple(timelines)

    def _hex(self, *names: str) -> str:
        """Return 32 hexadecimal digits derived from these names."""
        return hashlib.sha256("/".join(("sid", str(self.seed), *names)).encode()).hexdigest()[:32]

    def _random(self, *names: str | int) -> Random:
        """Return the random source for these names. hash() would differ between processes."""
        return Random("/".join(map(str, (self.seed, *names))))  # noqa: S311 - generates traffic, no secrets


def api_time(moment: datetime) -> str:
    """Format a time as the API does, truncated to seconds: `2026-11-23T00:00:00Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def _is_weekend(day: int) -> bool:
    """Return whether this day since the epoch is a Saturday or a Sunday; the epoch was a Thursday."""
    return (day + 3) % 7 > 4  # noqa: PLR2004 - Friday, counted from Monday


def _end(channel: _ChannelProfile, created: int, outcome: Outcome, answer: float) -> int:
    """Return the end of a reservation in microseconds; a Worker would answer after `answer` seconds."""
    seconds = (
        channel.timeout if outcome is Outcome.TIMED_OUT else min(max(answer, 0.5), channel.timeout - 0.5)
    )
    return created + int(seconds * 1000) * 1000


def _shifts(random: Random, profile: _WorkspaceProfile, worker: int, day: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of a Worker's shifts in seconds of the UTC day. A night shift spans two days."""
    if worker >= profile.workers - profile.night_workers:
        if _works(worker, day - 1):
            yield 0, 6 * 3600 + random.randint(0, 900)
        if _works(worker, day):
            yield 22 * 3600 - random.randint(0, 900), _DAY_SECONDS
    elif _works(worker, day):
        begin = (6 + worker % 8) * 3600 + random.randint(-900, 900)
        yield begin, begin + 8 * 3600 + random.randint(1200, 2400)


def _works(worker: int, day: int) -> bool:
    """Return whether a Worker works on a day. Every fourth has changing days off, all others the weekend."""
    return (day + worker) % 7 > 1 if worker % 4 == 0 else not _is_weekend(day)


def _stints(random: Random, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the starts and activities of a shift: available, with pauses, and lunch halfway if it is long."""
    lunch = begin + (end - begin) // 2 if end - begin > 7 * 3600 else end
    now = begin
    while now < end:
        yield now, _AVAILABLE
        now += 30 + int(random.expovariate(1 / 900))
        if now >= end:
            return
        if now >= lunch:
            lunch = end
            activity, shortest, longest = _LUNCH, 1800, 2700
        else:
            activity, shortest, longest = random.choices(_PAUSES, _PAUSE_WEIGHTS)[0]
        yield now, activity
        now += random.randint(shortest, longest)
