"""Workers' shifts and activities, day by day.

Internally, times are whole seconds since the epoch in the contact centre's local time.
"""

from array import array
from bisect import bisect, bisect_left
from collections.abc import Callable, Iterator
from functools import lru_cache
from random import Random
from typing import Final

from taskrouter_exporter.simulator.model import DAY_SECONDS, SECOND
from taskrouter_exporter.simulator.profiles import ACTIVITIES, PROFILES, WorkspaceProfile, is_weekend

_DAYS_CACHED: Final = 128
"""Cached days of single workspaces' Workers: 30 days of all three are 93, about 2 MB."""

_OFFLINE: Final = ACTIVITIES.index("Offline")
AVAILABLE: Final = ACTIVITIES.index("Available")
_UNAVAILABLE: Final = ACTIVITIES.index("Unavailable")
_LUNCH: Final = ACTIVITIES.index("Lunch")
_PAUSES: Final = tuple(
    (ACTIVITIES.index(name), shortest, longest)
    for name, shortest, longest in (
        ("Wrap-up", 40, 240),
        ("Unavailable", 60, 600),
        ("Break", 600, 1080),
        ("Meeting", 900, 2700),
        ("Training", 1800, 3600),
    )
)
_PAUSE_WEIGHTS: Final = (60, 20, 13, 4, 3)

_Timeline = tuple["array[int]", bytes]
"""The starts of a Worker's stints on a day, in epoch seconds, and the index of each stint's Activity."""


class Workers:
    """The Workers of all workspaces.

    Args:
        source: Returns the random source for these names.
        absence: Microseconds from and to which nobody in the first workspace is available.
    """

    def __init__(
        self, source: Callable[[str, str, int], Random], absence: tuple[int, int] | None = None
    ) -> None:
        self._source = source
        self._absence = absence and (absence[0] // SECOND, absence[1] // SECOND)
        self._day = lru_cache(_DAYS_CACHED)(self._generate_day)

    def durations(self, index: int, start: int, end: int) -> list[list[int]]:
        """Return the durations of the stints in each Activity within the seconds `[start, end)`."""
        durations: list[list[int]] = [[] for _ in ACTIVITIES]
        days = [self._day(index, day) for day in range(start // DAY_SECONDS, -(-end // DAY_SECONDS))]
        for worker in range(PROFILES[index].workers if end > start else 0):
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
        return durations

    def activities_at(self, index: int, moment: int) -> list[int]:
        """Return the index of each Worker's Activity in the second that starts at this moment."""
        return [
            activities[bisect(starts, moment) - 1]
            for starts, activities in self._day(index, moment // DAY_SECONDS)
        ]

    def _generate_day(self, index: int, day: int) -> tuple[_Timeline, ...]:
        """Draw the activities of each Worker of a workspace on a day (days since the epoch)."""
        profile = PROFILES[index]
        random = self._source(profile.name, "workers", day)
        midnight = day * DAY_SECONDS
        timelines = []
        for worker in range(profile.workers):
            starts, activities = array("q", [midnight]), bytearray([_OFFLINE])
            for begin, end in _shifts(random, profile, worker, day):
                if begin == 0:
                    starts.pop()
                    activities.pop()
                for second, activity in (*_stints(random, begin, end), (end, _OFFLINE)):
                    if second < DAY_SECONDS:
                        starts.append(midnight + second)
                        activities.append(activity)
            timelines.append((starts, bytes(activities)))
        if self._absence is None or index != 0:
            return tuple(timelines)
        return tuple(_without_availability(timeline, *self._absence) for timeline in timelines)


def _without_availability(timeline: _Timeline, start: int, end: int) -> _Timeline:
    """Return a Worker's day with `Unavailable` in place of `Available` in the seconds `[start, end)`."""
    starts, activities = array("q"), bytearray()
    stints = [*zip(*timeline, strict=True)]
    ends = [*(second for second, _ in stints[1:]), stints[0][0] + DAY_SECONDS]
    for (begin, activity), finish in zip(stints, ends, strict=True):
        cuts = {begin, *(cut for cut in (start, end) if begin < cut < finish)}
        for second in sorted(cuts):
            starts.append(second)
            absent = activity == AVAILABLE and start <= second < end
            activities.append(_UNAVAILABLE if absent else activity)
    return starts, bytes(activities)


def _shifts(random: Random, profile: WorkspaceProfile, worker: int, day: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of a Worker's shifts in seconds of the day. A night shift spans two days."""
    if worker >= profile.workers - profile.night_workers:
        if _works(worker, day - 1):
            yield 0, 6 * 3600 + random.randint(0, 900)
        if _works(worker, day):
            yield 22 * 3600 - random.randint(0, 900), DAY_SECONDS
    elif _works(worker, day):
        begin = (6 + worker % 8) * 3600 + random.randint(-900, 900)
        yield begin, begin + 8 * 3600 + random.randint(1200, 2400)


def _works(worker: int, day: int) -> bool:
    """Return whether a Worker works on a day. Every fourth has changing days off, all others the weekend."""
    return (day + worker) % 7 > 1 if worker % 4 == 0 else not is_weekend(day)


def _stints(random: Random, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the starts and activities of a shift: available, with pauses, and lunch halfway if it is long."""
    lunch = begin + (end - begin) // 2 if end - begin > 7 * 3600 else end
    now = begin
    while now < end:
        yield now, AVAILABLE
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
