"""Reservations, hour by hour: a pure function of seed, scenario and time.

Internally, times are whole microseconds since the epoch in the contact centre's local time; reservations use
whole milliseconds.
"""

from array import array
from bisect import bisect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from random import Random
from typing import Final, NamedTuple

from taskrouter_exporter.simulator.model import HOUR, OUTCOMES, Outcome, Scenario
from taskrouter_exporter.simulator.profiles import BY_HOUR, PROFILES, ChannelProfile, is_weekend

_HOURS_CACHED: Final = 10_000
"""Cached hours of single TaskChannels: 30 days of all twelve are 8,640 hours, about 10 MB."""

_SPIKES: Final = {Scenario.REJECTION_SPIKE: Outcome.REJECTED, Scenario.TIMEOUT_SPIKE: Outcome.TIMED_OUT}
_SPIKE_SHARE: Final = 0.43
"""Share of the reservations that a spike affects. Together with the usual share of the rest, about 45 %."""


@dataclass(frozen=True, slots=True)
class Hour:
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


class Traffic:
    """The reservations of all workspaces.

    A shortage of Workers is not part of it: in these scenarios, it is the traffic that there would be without
    the shortage.

    Args:
        source: Returns the random source for these names.
        scenario: The problem in voice of the first workspace.
        incident: Start and end of the problem.
    """

    def __init__(
        self,
        source: Callable[[str, str, int], Random],
        scenario: Scenario,
        incident: tuple[int, int] | None,
    ) -> None:
        self._source = source
        self._scenario = scenario
        self._incident = incident if scenario in (*_SPIKES, Scenario.OUTAGE) else None
        self.hour = lru_cache(_HOURS_CACHED)(self._generate_hour)

    def without_calls(self, index: int, number: int, moment: int) -> bool:
        """Return whether an outage prevents new Tasks of a TaskChannel at a moment."""
        return self._scenario is Scenario.OUTAGE and self._struck(index, number, moment)

    def _struck(self, index: int, number: int, moment: int) -> bool:
        if self._incident is None or (index, number) != (0, 0):
            return False
        start, end = self._incident
        return start <= moment < end

    def _generate_hour(self, index: int, number: int, hour: int) -> Hour:
        """Draw the reservations of an hour: a Poisson process, thinned to the rate at each instant."""
        profile = PROFILES[index]
        channel = profile.channels[number]
        random = self._source(profile.name, channel.unique_name, hour)
        at_start, at_end = hourly_rates(index, number, hour)
        busiest = max(at_start, at_end)
        shares = tuple(accumulate(channel.shares))
        reservations = []
        position = random.expovariate(busiest) if busiest else 1
        while position < 1:
            kept = random.random() * busiest < at_start + (at_end - at_start) * position
            # Drawn for every instant, even if not kept or not used in a scenario, so that all later draws are
            # the same in every scenario.
            draw = _Draw(
                outcome=OUTCOMES[min(bisect(shares, random.random()), len(shares) - 1)],
                answer=random.lognormvariate(0, 0.6) * channel.answer,
                luck=random.random(),
            )
            begin = hour * HOUR + int(position * 3_600_000) * 1000
            position += random.expovariate(busiest)
            fate = self._fate(index, number, begin, draw) if kept else None
            if fate is not None:
                reservations.append((begin, *fate))
        return hour_of(reservations)

    def _fate(self, index: int, number: int, created: int, draw: _Draw) -> tuple[Outcome, int] | None:
        """Return outcome and end of a reservation in the scenario; None if an outage prevents it.

        A spike changes only reservations that are created and end within the incident, so that the counts of
        all other intervals stay the same.
        """
        channel = PROFILES[index].channels[number]
        calm = draw.outcome, _end(channel, created, draw.outcome, draw.answer)
        if self._incident is None or not self._struck(index, number, created):
            return calm
        if self._scenario is Scenario.OUTAGE:
            return None
        spike = _SPIKES[self._scenario]
        struck = spike, _end(channel, created, spike, draw.answer)
        return struck if draw.luck < _SPIKE_SHARE and max(calm[1], struck[1]) < self._incident[1] else calm


def hour_of(reservations: Iterable[tuple[int, Outcome, int]]) -> Hour:
    """Return an hour with these reservations: creation, outcome and end, in the order of creation."""
    created, outcomes, ended = array("q"), bytearray(), array("q")
    by_outcome = tuple(array("q") for _ in OUTCOMES)
    for begin, outcome, end in reservations:
        created.append(begin)
        outcomes.append(OUTCOMES.index(outcome))
        ended.append(end)
        by_outcome[OUTCOMES.index(outcome)].append(end)
    return Hour(created, bytes(outcomes), ended, tuple(array("q", sorted(times)) for times in by_outcome))


def hourly_rates(index: int, number: int, hour: int) -> tuple[float, float]:
    """Return the reservations per hour at the start and at the end of an hour."""
    profile = PROFILES[index]
    day, hour_of_day = divmod(hour, 24)
    level = profile.channels[number].hourly * (profile.weekend if is_weekend(day) else 1)
    return level * BY_HOUR[hour_of_day], level * BY_HOUR[hour_of_day + 1]


def _end(channel: ChannelProfile, created: int, outcome: Outcome, answer: float) -> int:
    """Return the end of a reservation in microseconds; a Worker would answer after `answer` seconds."""
    seconds = (
        channel.timeout if outcome is Outcome.TIMED_OUT else min(max(answer, 0.5), channel.timeout - 0.5)
    )
    return created + int(seconds * 1000) * 1000
