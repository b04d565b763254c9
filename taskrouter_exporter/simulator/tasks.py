"""The lives of Tasks, derived from the reservations of a TaskChannel on a day.

A reservation that is rejected, times out or is rescinded is followed by another one of the same Task: the
next that is created in the TaskChannel. Every other reservation belongs to a new Task. A Task that has no
further reservation in time, or never had one, is canceled by an impatient caller, times out in its Workflow
or is deleted. No life goes on for longer than `LONGEST_LIFE`, or from one day's reservations to the next's.

Times are in microseconds since the epoch in the contact centre's local time.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Final, NamedTuple

from taskrouter_exporter.simulator.model import HOUR, SECOND, Attempt, End, Outcome, Route, Stay, Task
from taskrouter_exporter.simulator.profiles import (
    CALLS,
    ESCALATION,
    ESCALATIONS,
    MESSAGES,
    MESSAGING,
    PRIORITY,
    VOICE,
    Handling,
)

LONGEST_LIFE: Final = 4 * HOUR
LONGEST_WAIT: Final = 120 * SECOND
"""Before a first reservation, when there is no shortage. A Task can be created so long before its day."""

_LONGEST_WORK: Final = 3600.0
_LONGEST_WRAP: Final = 300.0
RETRY: Final = 2 * SECOND
"""From the end of a reservation to the next at the earliest; a move happens halfway."""

_MOVED: Final = {Outcome.REJECTED: 0.1, Outcome.TIMED_OUT: 0.15, Outcome.RESCINDED: 0.5}
"""Share of the Tasks that move to another TaskQueue after a reservation with this outcome."""

_ENDS: Final = ((0.92, End.CANCELED), (0.97, End.TIMED_OUT), (1.0, End.DELETED))
"""How Tasks that are not accepted end, as cumulative shares."""


class Draws(NamedTuple):
    """The random numbers of one reservation's Task; durations are in microseconds."""

    wait: int
    priority: float
    work: int
    wrap: int
    patience: int
    fate: float
    move: float


class Routing(NamedTuple):
    """Where new Tasks of a TaskChannel go: `priority` with that share, the others to `general`."""

    general: Route
    priority: Route | None
    share: float

    def first(self, luck: float) -> Route:
        """Return where a Task enters."""
        return self.priority if self.priority is not None and luck < self.share else self.general

    def after(self, route: Route) -> Route | None:
        """Return where a Task moves from here: to the general TaskQueue, or to the escalations; or None."""
        if route.workflow == ESCALATION:
            return None
        return self.general if route == self.priority else Route(ESCALATION, ESCALATIONS)


def routing(unique_name: str, handling: Handling, queues: int) -> Routing:
    """Return the routing of a TaskChannel in a workspace with so many TaskQueues."""
    workflow, queue = (CALLS, VOICE) if unique_name == "voice" else (MESSAGES, MESSAGING)
    priority = Route(workflow, PRIORITY) if handling.priority and queues > PRIORITY else None
    return Routing(Route(workflow, queue), priority, handling.priority)


@dataclass(slots=True)
class Life:
    """A Task whose life is not over.

    Attributes:
        key: See Task.
        created: See Task.
        stays: See Task.
        attempts: The reservations so far.
        ready: The earliest time of the next reservation.
        deadline: The time of the end, if there is none until then.
        fate: How it would end then.
    """

    key: tuple[int, int]
    created: int
    stays: list[Stay]
    attempts: list[Attempt] = field(default_factory=list)
    ready: int = 0
    deadline: int = 0
    fate: End = End.CANCELED

    @property
    def route(self) -> Route:
        """Where the Task is."""
        return self.stays[-1].route

    def attempt(self, created: int, outcome: Outcome, ended: int) -> None:
        """Add a reservation."""
        self.attempts.append(Attempt(created, outcome, ended, self.route))

    def move(self, routes: Routing, at: int) -> None:
        """Move the Task to the next TaskQueue, if there is one."""
        route = routes.after(self.route)
        if route is not None:
            self.stays.append(Stay(route, at))

    def give_up(self) -> Task:
        """End at the deadline."""
        return self._finish(None, self.fate, self.deadline)

    def cancel(self, at: int) -> Task:
        """End by the caller's hand, as during a reservation."""
        return self._finish(None, End.CANCELED, at)

    def accept(self, at: int, work: int, wrap: int) -> Task:
        """End well: accepted at this time, and completed after work and wrapping."""
        return self._finish(at + work, End.COMPLETED, at + work + wrap)

    def _finish(self, wrapping: int | None, end: End, ended: int) -> Task:
        return Task(self.key, self.created, tuple(self.stays), tuple(self.attempts), wrapping, end, ended)


def lives(
    hours: Iterable[tuple[int, Random, Iterable[tuple[int, Outcome, int]]]],
    handling: Handling,
    routes: Routing,
) -> Iterator[Task]:
    """Yield the Tasks of a day's reservations.

    Args:
        hours: Number, random source and reservations (creation, outcome, end) of each hour.
        handling: How the Tasks wait and are handled.
        routes: How they are routed.
    """
    waiting: list[Life] = []
    for hour, random, reservations in hours:
        for count, (created, outcome, ended) in enumerate(reservations):
            draws = _draw(random, handling)
            for life in waiting:
                if life.deadline <= created:
                    yield life.give_up()
            waiting = [life for life in waiting if life.deadline > created]
            ready = [life for life in waiting if life.ready <= created]
            if ready:
                life = min(ready, key=lambda life: life.created)
                waiting.remove(life)
            else:
                begin = created - draws.wait
                life = Life((hour, count), begin, [Stay(routes.first(draws.priority), begin)])
            life.attempt(created, outcome, ended)
            if outcome is Outcome.ACCEPTED:
                yield life.accept(ended, draws.work, draws.wrap)
            elif outcome is Outcome.CANCELED:
                yield life.cancel(ended)
            else:
                life.ready = ended + RETRY
                life.deadline = life.ready + draws.patience
                life.fate = fate(draws.fate)
                if draws.move < _MOVED[outcome]:
                    life.move(routes, ended + RETRY // 2)
                waiting.append(life)
    for life in waiting:
        yield life.give_up()


def unanswered(
    hour: int,
    random: Random,
    rates: tuple[float, float],
    handling: Handling,
    routes: Routing,
) -> Iterator[Task]:
    """Yield the Tasks of an hour that end before any reservation.

    Args:
        hour: The number of the hour.
        random: Its random source.
        rates: Reservations per hour at its start and at its end.
        handling: How Tasks wait and are handled.
        routes: How they are routed.
    """
    at_start, at_end = (rate * handling.unanswered for rate in rates)
    busiest = max(at_start, at_end)
    position = random.expovariate(busiest) if busiest else 1
    count = -1
    while position < 1:
        kept = random.random() * busiest < at_start + (at_end - at_start) * position
        created = hour * HOUR + int(position * 3_600_000) * 1000
        draws = _draw(random, handling)
        if kept:
            life = Life((hour, count), created, [Stay(routes.first(draws.priority), created)])
            life.deadline, life.fate = created + draws.patience, fate(draws.fate)
            yield life.give_up()
        count -= 1
        position += random.expovariate(busiest)


def fate(luck: float) -> End:
    """Return how a Task ends that is not accepted."""
    return next((end for share, end in _ENDS if luck < share), End.CANCELED)


def work_and_wrap(random: Random, handling: Handling) -> tuple[int, int]:
    """Draw how long a Worker works on a Task, and wraps it up."""
    work = min(random.lognormvariate(0, 0.7) * handling.work, _LONGEST_WORK)
    wrap = min(random.lognormvariate(0, 0.5) * handling.wrap, _LONGEST_WRAP)
    return _whole_milliseconds(work), _whole_milliseconds(wrap)


def _draw(random: Random, handling: Handling) -> Draws:
    wait = min(random.lognormvariate(0, 0.9) * handling.wait, LONGEST_WAIT / SECOND)
    work, wrap = work_and_wrap(random, handling)
    return Draws(
        wait=_whole_milliseconds(wait),
        priority=random.random(),
        work=work,
        wrap=wrap,
        patience=_whole_milliseconds(20 + 200 * random.random() ** 2),
        fate=random.random(),
        move=random.random(),
    )


def _whole_milliseconds(seconds: float) -> int:
    return int(seconds * 1000 + 1) * 1000
