"""What becomes of Tasks when Workers are short: they wait, first come, first served, until somebody is there.

Times are in microseconds since the epoch in the contact centre's local time.
"""

import heapq
from collections.abc import Callable, Iterable
from random import Random
from typing import Final, NamedTuple

from taskrouter_exporter.simulator.model import SECOND, Attempt, End, Outcome, Route, Task
from taskrouter_exporter.simulator.profiles import Handling
from taskrouter_exporter.simulator.tasks import RETRY, Life, work_and_wrap

_DRAIN_STEP: Final = 6 * SECOND
"""Between the reservations that catch up with the Tasks still waiting at the end of a shortage."""


class Shortage(NamedTuple):
    """A lack of Workers.

    Attributes:
        start: When it starts.
        end: When it ends.
        share: The share of the reservations that there still are.
        concerns: Whether it concerns Tasks on a route.
    """

    start: int
    end: int
    share: float
    concerns: Callable[[Route], bool]

    def delays(self, attempt: Attempt) -> bool:
        """Return whether the Workers for a reservation are missing."""
        return self.start <= attempt.created < self.end and self.concerns(attempt.route)


class _Delayed(NamedTuple):
    """A waiting Task; the first comes first."""

    created: int
    key: tuple[int, int]
    life: Life
    random: Random


def delay(
    tasks: Iterable[Task],
    shortage: Shortage,
    handling: Handling,
    source: Callable[[tuple[int, int]], Random],
) -> dict[tuple[int, int], Task]:
    """Return the Tasks that a shortage changes, by key.

    Args:
        tasks: All Tasks that have reservations during the shortage, as they would be without it.
        shortage: The shortage.
        handling: How the Tasks wait and are handled.
        source: Returns the random source of the Task with this key.
    """
    arriving: list[tuple[int, _Delayed]] = []
    offers: list[Attempt] = []
    for task in tasks:
        missing = [attempt for attempt in task.attempts if shortage.delays(attempt)]
        if not missing:
            continue
        random = source(task.key)
        delayed = _Delayed(task.created, task.key, _cut(task, missing[0], handling, random), random)
        arriving.append((delayed.life.ready, delayed))
        offers += [attempt for attempt in missing if random.random() < shortage.share]
    heapq.heapify(arriving)
    offers.sort(key=lambda attempt: attempt.created)
    line = _Line(arriving, handling)
    for offer in offers:
        line.serve(offer.created, offer.outcome, offer.ended)
    moment = shortage.end + _DRAIN_STEP
    while not line.is_empty:
        line.serve(moment, Outcome.ACCEPTED, None)
        moment += _DRAIN_STEP
    return line.finished


class _Line:
    """The waiting Tasks: those `arriving` at a known time, and those in the line."""

    def __init__(self, arriving: list[tuple[int, _Delayed]], handling: Handling) -> None:
        self._arriving = arriving
        self._waiting: list[_Delayed] = []
        self._handling = handling
        self.finished: dict[tuple[int, int], Task] = {}

    @property
    def is_empty(self) -> bool:
        """Whether no Task waits or arrives."""
        return not self._arriving and not self._waiting

    def serve(self, moment: int, outcome: Outcome, ended: int | None) -> None:
        """Create a reservation for the Task that has waited longest, if there is one."""
        while self._arriving and self._arriving[0][0] <= moment:
            heapq.heappush(self._waiting, heapq.heappop(self._arriving)[1])
        while self._waiting:
            _, key, life, random = delayed = heapq.heappop(self._waiting)
            if life.deadline <= moment:
                self.finished[key] = life.give_up()
                continue
            if ended is None:
                ended = moment + int(random.uniform(3, 12) * 1000) * 1000
            life.attempt(moment, outcome, ended)
            if outcome is Outcome.ACCEPTED:
                self.finished[key] = life.accept(ended, *work_and_wrap(random, self._handling))
            elif outcome is Outcome.CANCELED:
                self.finished[key] = life.cancel(ended)
            else:
                life.ready = ended + RETRY
                life.deadline = max(life.deadline, life.ready + 5 * SECOND)
                heapq.heappush(self._arriving, (life.ready, delayed))
            return


def _cut(task: Task, missing: Attempt, handling: Handling, random: Random) -> Life:
    """Return the life of a Task up to the first missing reservation, and for how long it can wait.

    Without the shortage, the caller would still have been there at that time.
    """
    life = Life(
        task.key,
        task.created,
        [stay for stay in task.stays if stay.entered < missing.created],
        [attempt for attempt in task.attempts if attempt.created < missing.created],
    )
    life.ready = life.attempts[-1].ended + RETRY if life.attempts else life.created
    patience = int(random.lognormvariate(0, 0.8) * handling.patience) * SECOND
    limit = handling.limit * SECOND
    life.fate = End.CANCELED if patience < limit else End.TIMED_OUT
    life.deadline = max(task.created + min(patience, limit), missing.created + SECOND)
    return life
