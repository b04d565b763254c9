"""The history of all Tasks and their reservations, generated and kept day by day.

Times are in microseconds since the epoch in the contact centre's local time.
"""

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Final

from taskrouter_exporter.simulator.ledger import Ledger, ledgers
from taskrouter_exporter.simulator.model import DAY, HOUR, OUTCOMES, Outcome, Route, Scenario, Task
from taskrouter_exporter.simulator.profiles import PROFILES, VOICE
from taskrouter_exporter.simulator.shortage import Shortage, delay
from taskrouter_exporter.simulator.tasks import LONGEST_LIFE, LONGEST_WAIT, lives, routing, unanswered
from taskrouter_exporter.simulator.traffic import Hour, Traffic, hour_of, hourly_rates

_TASK_DAYS_CACHED: Final = 24
"""Cached days of single TaskChannels with whole Tasks, up to 2 MB each: two of all nine are 18."""
_LEDGER_DAYS_CACHED: Final = 400
"""Cached days of single TaskChannels as ledgers: 32 of all twelve are 384, about 30 MB."""
_BACKLOG_SHARE: Final = 0.35
"""Share of the reservations that there still are in the scenario queue-backlog."""


@dataclass(frozen=True, slots=True)
class _TaskDay:
    """The Tasks whose reservations are created on one day, in the order of their creation."""

    created: "array[int]"
    ended: "array[int]"
    tasks: tuple[Task, ...]


class History:
    """The Tasks and reservations of all workspaces; these and TaskChannels are selected by their numbers.

    Args:
        source: Returns the random source for these names.
        scenario: The problem in the first workspace.
        incident: Start and end of the problem.
    """

    def __init__(
        self,
        source: Callable[..., Random],
        scenario: Scenario,
        incident: tuple[int, int] | None,
    ) -> None:
        self._source = source
        self._traffic = Traffic(source, scenario, incident)
        self._shortages = _shortages(scenario, incident)
        self._delayed = lru_cache(None)(self._delay)
        self._hour_of_shortage = lru_cache(None)(self._generate_hour)
        self._tasks = lru_cache(_TASK_DAYS_CACHED)(self._generate_tasks)
        self._ledgers = lru_cache(_LEDGER_DAYS_CACHED)(self._generate_ledgers)

    def hours(self, index: int, number: int, first: int, last: int) -> Iterator[Hour]:
        """Return every hour of a TaskChannel's reservations that overlaps `[first, last)`."""
        return (self._hour(index, number, hour) for hour in range(first // HOUR, -(-last // HOUR)))

    def ledgers(self, index: int, number: int, first: int, last: int) -> Iterator[tuple[Route, Ledger]]:
        """Yield every ledger of a TaskChannel that can have events in `[first, last)`, with its route."""
        for day in _days(first, last):
            for route, ledger in self._ledgers(index, number, day).items():
                if ledger.within(first, last):
                    yield route, ledger

    def tasks(self, index: int, number: int, first: int, last: int) -> Iterator[Task]:
        """Yield the Tasks of a TaskChannel that were created before `last` and do not end before `first`."""
        for day in _days(first, last):
            block = self._tasks(index, number, day)
            low = bisect_left(block.created, first - LONGEST_LIFE)
            high = bisect_left(block.created, last)
            for ended, task in zip(block.ended[low:high], block.tasks[low:high], strict=True):
                if ended >= first:
                    yield task

    def _hour(self, index: int, number: int, hour: int) -> Hour:
        shortage = self._shortages.get((index, number))
        if shortage and shortage.start // HOUR <= hour <= (shortage.end + LONGEST_LIFE) // HOUR:
            return self._hour_of_shortage(index, number, hour)
        return self._traffic.hour(index, number, hour)

    def _generate_hour(self, index: int, number: int, hour: int) -> Hour:
        """Return the reservations of the Tasks in an hour that a shortage concerns."""
        first, last = hour * HOUR, (hour + 1) * HOUR
        return hour_of(
            sorted(
                (attempt.created, attempt.outcome, attempt.ended)
                for task in self.tasks(index, number, first, last)
                for attempt in task.attempts
                if first <= attempt.created < last
            )
        )

    def _generate_ledgers(self, index: int, number: int, day: int) -> dict[Route, Ledger]:
        return ledgers(self._tasks(index, number, day).tasks)

    def _generate_tasks(self, index: int, number: int, day: int) -> _TaskDay:
        delayed = self._delayed(index, number)
        tasks = tuple(delayed.get(task.key, task) for task in self._undelayed(index, number, day))
        return _TaskDay(
            array("q", [task.created for task in tasks]), array("q", [task.ended for task in tasks]), tasks
        )

    def _undelayed(self, index: int, number: int, day: int) -> list[Task]:
        """Return the Tasks of a day as they are without a shortage, in the order of their creation."""
        profile = PROFILES[index]
        channel = profile.channels[number]
        handling = channel.handling
        routes = routing(channel.unique_name, handling, len(profile.queues))

        def source(name: str, hour: int) -> Random:
            return self._source(profile.name, channel.unique_name, name, hour)

        hours = range(day * 24, day * 24 + 24)
        tasks = list(
            lives(
                ((hour, source("tasks", hour), self._reservations(index, number, hour)) for hour in hours),
                handling,
                routes,
            )
        )
        for hour in hours:
            rates = hourly_rates(index, number, hour)
            tasks += (
                task
                for task in unanswered(hour, source("unanswered", hour), rates, handling, routes)
                if not self._traffic.without_calls(index, number, task.created)
            )
        return sorted(tasks, key=lambda task: (task.created, task.key))

    def _reservations(self, index: int, number: int, hour: int) -> Iterator[tuple[int, Outcome, int]]:
        reservations = self._traffic.hour(index, number, hour)
        for created, outcome, ended in zip(
            reservations.created, reservations.outcomes, reservations.ended, strict=True
        ):
            yield created, OUTCOMES[outcome], ended

    def _delay(self, index: int, number: int) -> Mapping[tuple[int, int], Task]:
        """Return the Tasks of a TaskChannel that a shortage changes, by key."""
        shortage = self._shortages.get((index, number))
        if shortage is None:
            return {}
        channel = PROFILES[index].channels[number]
        names = PROFILES[index].name, channel.unique_name, "shortage"
        days = range(shortage.start // DAY, -(-shortage.end // DAY))
        tasks = (task for day in days for task in self._undelayed(index, number, day))
        return delay(tasks, shortage, channel.handling, lambda key: self._source(*names, *key))


def _days(first: int, last: int) -> range:
    """Return the days whose Tasks can have events in `[first, last)`."""
    return range((first - LONGEST_LIFE) // DAY, -(-(last + LONGEST_WAIT) // DAY))


def _shortages(scenario: Scenario, incident: tuple[int, int] | None) -> dict[tuple[int, int], Shortage]:
    """Return the shortage of each TaskChannel that has one."""
    if incident is None:
        return {}
    if scenario is Scenario.NO_AGENTS:
        channels = range(len(PROFILES[0].channels))
        return {(0, number): Shortage(*incident, 0.0, lambda _: True) for number in channels}
    if scenario is Scenario.QUEUE_BACKLOG:
        return {(0, 0): Shortage(*incident, _BACKLOG_SHARE, lambda route: route.queue == VOICE)}
    return {}
