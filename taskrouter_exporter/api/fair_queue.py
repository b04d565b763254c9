"""The order in which API requests get a thread: fair to accounts, workspaces and queries."""

import asyncio
import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any, Final, TypeVar

_RATE_LIMIT_SECONDS: Final = 10.0
"""TaskRouter averages its rate limits over so long; what was announced earlier no longer counts."""

_PACED_PART: Final = 0.8
"""The part of the time left over which paced requests are spread: the last one must still be answered."""

_SHORTEST_INTERVAL: Final = 0.02

_FEW_JOBS: Final = 64

_Key = TypeVar("_Key")


class Standing(IntEnum):
    """How a query has behaved so far; better ones go first when threads are scarce."""

    PROVEN = 0
    """Answered quickly at its last poll."""
    UNKNOWN = 1
    """Not asked yet."""
    DOUBTFUL = 2
    """Answered slowly at its last poll, or hung not long ago."""
    HUNG = 3
    """Had no answer in time at its last poll."""
    LIST = 4
    """A list for discovery, not a query; it can wait."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What decides when a request gets a thread.

    Attributes:
        workspace: Workspaces share the threads evenly.
        resource: Path that a rate limit applies to.
        standing: Better ones go first.
        rank: Order of first attempts within a workspace and standing, the lowest first.
        limited: Whether proven queries exist for which threads are kept free.
    """

    workspace: str = ""
    resource: str = ""
    standing: Standing = Standing.UNKNOWN
    rank: float = 0.0
    limited: bool = False


@dataclass(eq=False, slots=True)
class Job:
    """A blocking request that waits for a thread or has one.

    Attributes:
        account: Each account has threads in reserve.
        claim: See Claim.
        function: Carries the request out.
        deadline: Returns the instant, on the monotonic clock, until which the result is of use.
        retry: Whether it is not the first attempt; those go first.
        patience: Seconds that a first attempt may take even while others wait.
        future: Of whoever awaits it; the executor sets it.
        parked: Whether it waits for its turn within a rate limit.
        paced: Whether it has waited for one.
    """

    account: str
    function: Callable[["Job"], Any]
    deadline: Callable[[], float]
    claim: Claim = field(default_factory=Claim)
    retry: bool = False
    patience: float = math.inf
    future: asyncio.Future[Any] | None = None
    number: int = 0
    begun: float | None = None
    given_up: bool = False
    parked: bool = False
    paced: bool = False
    patient: bool = False
    next_check: float | None = None

    @property
    def order(self) -> tuple[float, int]:
        """Sorts the jobs of one workspace and level; retries as they come, so that no query has them all."""
        return 0.0 if self.retry else self.claim.rank, self.number

    @property
    def fresh(self) -> bool:
        """Whether it is the first attempt of a query that is expected to answer."""
        return not self.retry and self.claim.standing <= Standing.UNKNOWN


class _Line:
    """The jobs of one level and account that wait; the workspaces take turns.

    Next is the workspace with the fewest requests in flight, of equals the one with the fewest turns so far.
    A workspace therefore never exceeds its share of the threads while another one waits below its own.
    """

    def __init__(self) -> None:
        self._jobs: dict[str, list[tuple[tuple[float, int], Job]]] = {}
        self._turns: dict[str, int] = {}
        self._turn = 0
        self._places: dict[str, tuple[int, int, tuple[float, int], str]] = {}
        self._heap: list[tuple[int, int, tuple[float, int], str]] = []

    def __bool__(self) -> bool:
        return bool(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        return (job for jobs in self._jobs.values() for _, job in jobs)

    def put(self, job: Job, in_flight: int) -> None:
        """Add a job."""
        workspace = job.claim.workspace
        heappush(self._jobs.setdefault(workspace, []), (job.order, job))
        self._turns.setdefault(workspace, self._turn)
        self.update(workspace, in_flight)

    def update(self, workspace: str, in_flight: int) -> None:
        """Give a workspace its place for the requests that it has in flight now."""
        jobs = self._jobs.get(workspace)
        if not jobs:
            return
        place = in_flight, self._turns[workspace], jobs[0][0], workspace
        if self._places.get(workspace) == place:
            return
        self._places[workspace] = place
        heappush(self._heap, place)
        # Former places stay in the heap until they come to its top.
        if len(self._heap) > _FEW_JOBS + 4 * len(self._places):
            self._heap = list(self._places.values())
            heapify(self._heap)

    def take(self) -> Job:
        """Remove and return the next job; its workspace waits for an update."""
        place = heappop(self._heap)
        while self._places.get(place[3]) != place:
            place = heappop(self._heap)
        workspace = place[3]
        jobs = self._jobs[workspace]
        job = heappop(jobs)[1]
        self._turn = max(self._turn, self._turns[workspace])
        self._turns[workspace] += 1
        del self._places[workspace]
        if not jobs:
            del self._jobs[workspace], self._turns[workspace]
        return job


@dataclass(slots=True)
class _Limit:
    """How many requests a rate limit still admits, as announced at an instant and counted since."""

    remaining: float
    announced: float


@dataclass(slots=True)
class _Pace:
    """The spacing of a resource's requests, and the jobs that wait for their turn.

    Attributes:
        turn: When the next request may start.
        interval: Seconds between two requests.
        deadline: Of the scrape that the spacing ends with, because the API asks to wait for longer.
        jobs: Those that wait, the best first.
    """

    turn: float
    interval: float
    deadline: float = math.inf
    jobs: list[tuple[tuple[int, bool], tuple[float, int], Job]] = field(default_factory=list)


class FairQueue:
    """Decides which job gets a free thread. Not safe for use from several threads.

    The order is, first criterion first: standing, first attempts before retries, the account with the fewest
    requests in flight, the workspace with the fewest, rank, age. In addition:

    - each account has a reserve, so that one whose requests all hang cannot take every thread;
    - where proven queries exist, hung ones hold at most half of the threads, and everything that is not
      proven leaves an eighth free;
    - lists of discovery hold at most a quarter;
    - requests that would exhaust a rate limit are spaced over the time left.
    """

    def __init__(self, concurrency: int, accounts: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._numbers = count()
        self._levels: dict[tuple[Standing, bool], dict[str, _Line]] = {
            (standing, retry): {} for standing in Standing for retry in (False, True)
        }
        self._limited = dict.fromkeys(Standing, False)
        self._account_in_flight: Counter[str] = Counter()
        self._workspace_in_flight: Counter[tuple[str, str]] = Counter()
        self._resource_in_flight: Counter[str] = Counter()
        self._standing_in_flight: Counter[Standing] = Counter()
        self._resource_waiting: Counter[str] = Counter()
        self._in_flight = self._waiting = self._fresh_waiting = self._stale = self._patient = 0
        self._slowest_answer: float | None = None
        self._limits: OrderedDict[str, _Limit] = OrderedDict()
        self._paces: dict[str, _Pace] = {}
        self._turns: list[tuple[float, str]] = []
        self.resize(concurrency, accounts)

    def resize(self, concurrency: int, accounts: int) -> None:
        """Change how many jobs may be in flight; those that are, count."""
        self.concurrency = concurrency
        self._accounts = accounts
        self._reserve = reserve_of_each_account(concurrency, accounts)

    @property
    def waiting(self) -> int:
        """How many jobs wait, those that wait for their turn within a rate limit included."""
        return self._waiting

    @property
    def next_turn(self) -> float | None:
        """When the next job that waits for a rate limit has its turn."""
        while self._turns:
            turn, resource = self._turns[0]
            pace = self._paces.get(resource)
            if pace is not None and pace.jobs and pace.turn == turn:
                return turn
            heappop(self._turns)
        return None

    def put(self, job: Job) -> None:
        """Let a job wait for a thread."""
        job.number = next(self._numbers)
        if not self._fresh_waiting:
            self._slowest_answer = None
        self._limited[job.claim.standing] = job.claim.limited
        self._waiting += 1
        self._fresh_waiting += job.fresh
        self._resource_waiting[job.claim.resource] += 1
        pace = self._paces.get(job.claim.resource)
        if pace is not None and not job.retry and job.deadline() > pace.deadline:
            # A later scrape asks anew, however long the API wanted an earlier one to wait.
            self._end_pace(job.claim.resource)
        self._enter_line(job)

    def take(self) -> Job | None:
        """Return the job whose turn it is, if one may begin now; from then on it is in flight."""
        self._release_due_jobs()
        if self._in_flight >= self.concurrency:
            return None
        for (standing, _), lines in self._levels.items():
            if not lines or not self._admits(standing):
                continue
            while (account := self._next_account(lines)) is not None:
                line = lines[account]
                job = line.take()
                if not line:
                    del lines[account]
                if job.future is not None and job.future.done():
                    self.give_up(job)  # it was cancelled just now
                if not job.given_up and self._may_begin(job):
                    self._begin(job)
                    return job
                line.update(job.claim.workspace, self._workspace_in_flight[account, job.claim.workspace])
                self._stale -= job.given_up
        return None

    def give_up(self, job: Job) -> None:
        """Drop a waiting job whose result is no longer needed; one in flight continues."""
        if job.begun is not None or job.given_up:
            return
        job.given_up = True
        self._leave(job)
        self._stale += 1
        if self._stale > _FEW_JOBS + self._waiting:
            self._drop_given_up_jobs()

    def finish(self, job: Job, *, answered: bool) -> None:
        """Take note that a job in flight ended, and whether the API answered at all."""
        now = self._clock()
        if answered and job.begun is not None and job.fresh:
            self._slowest_answer = max(self._slowest_answer or 0, now - job.begun)
        self._patient -= job.patient
        self._count_in_flight(job, -1)

    def until(self, job: Job, end: float) -> float:
        """Return until when a job in flight may continue, at most `end`; to be asked again at that time.

        A first attempt that takes longer than its patience is ended early where that helps others: while
        first attempts wait, others were answered in less than half of its time, and half of the threads are
        left to requests that may be slow but good. Where all are slow, none is ended.
        """
        if not job.fresh or job.patient or job.begun is None:
            return end
        now = self._clock()
        if job.next_check is not None and now >= job.next_check and self._fresh_waiting:
            slowest = self._slowest_answer
            if slowest is not None and now - job.begun >= 2 * slowest:
                if self._patient >= self.concurrency // 2:
                    return job.next_check
                job.patient = True
                self._patient += 1
                return end
        if job.next_check is None or now >= job.next_check:
            rounds = math.ceil(self._fresh_waiting / max(1, self.concurrency // 2))
            job.next_check = now + max(job.patience, (job.deadline() - now) / (rounds + 1))
        return min(end, job.next_check)

    def announce(self, job: Job, remaining: float | None, wait: float = 0.0) -> None:
        """Take into account how many more requests a resource's rate limit admits, as an answer says.

        Args:
            job: Whose answer it was.
            remaining: Requests; None where this one was refused already, and comes again.
            wait: Seconds that none is admitted for.
        """
        resource, now = job.claim.resource, self._clock()
        # Whether the API has counted the requests in flight is not known; assuming not is the safe side.
        others = self._resource_in_flight[resource] - 1
        self._limits[resource] = _Limit((remaining or 0) - max(others, 0), now)
        self._limits.move_to_end(resource)
        while next(iter(self._limits.values())).announced < now - _RATE_LIMIT_SECONDS:
            outdated, _ = self._limits.popitem(last=False)
            if outdated not in self._resource_waiting:
                self._paces.pop(outdated, None)
        remaining_time = job.deadline() - now
        too_long = wait >= remaining_time
        if too_long:
            wait = max(min(remaining_time, _RATE_LIMIT_SECONDS), 0)
        interval = self._interval(resource, job.deadline() - wait, coming=remaining is None)
        if interval is None:
            self._end_pace(resource)
            return
        pace = self._paces.setdefault(resource, _Pace(math.inf, interval))
        pace.interval = interval
        pace.deadline = job.deadline() if too_long else math.inf
        refused = remaining is None
        turn = now + (wait or interval) if refused else min(pace.turn, now + interval)
        self._set_turn(resource, pace, turn)

    def _enter_line(self, job: Job) -> None:
        in_flight = self._workspace_in_flight[job.account, job.claim.workspace]
        lines = self._levels[job.claim.standing, job.retry]
        lines.setdefault(job.account, _Line()).put(job, in_flight)

    def _leave(self, job: Job) -> None:
        """Count a job no longer as waiting."""
        resource = job.claim.resource
        self._waiting -= 1
        self._fresh_waiting -= job.fresh
        _add(self._resource_waiting, resource, -1)

    def _begin(self, job: Job) -> None:
        job.begun = self._clock()
        self._leave(job)
        self._count_in_flight(job, 1)
        limit = self._limits.get(job.claim.resource)
        if limit is not None:
            limit.remaining -= 1

    def _count_in_flight(self, job: Job, change: int) -> None:
        workspace = job.claim.workspace
        self._in_flight += change
        _add(self._account_in_flight, job.account, change)
        _add(self._workspace_in_flight, (job.account, workspace), change)
        _add(self._resource_in_flight, job.claim.resource, change)
        _add(self._standing_in_flight, job.claim.standing, change)
        in_flight = self._workspace_in_flight[job.account, workspace]
        for lines in self._levels.values():
            if job.account in lines:
                lines[job.account].update(workspace, in_flight)

    def _admits(self, standing: Standing) -> bool:
        """Whether one more of a standing may be in flight."""
        in_flight, concurrency = self._standing_in_flight, self.concurrency
        if standing is Standing.LIST and in_flight[standing] >= max(1, concurrency // 4):
            return False
        if standing is Standing.PROVEN or not self._limited[standing]:
            return True
        if standing is Standing.HUNG and in_flight[standing] >= max(1, concurrency // 2):
            return False
        unproven = self._in_flight - in_flight[Standing.PROVEN]
        return unproven < max(1, concurrency - max(1, concurrency // 8))

    def _next_account(self, lines: dict[str, _Line]) -> str | None:
        account = min(lines, key=self._account_in_flight.__getitem__, default=None)
        if account is None or self._account_in_flight[account] < self._reserve:
            return account
        # Whoever waits has its own reserve in use: the threads that are free above the others' are for all.
        reserves_used = sum(min(in_flight, self._reserve) for in_flight in self._account_in_flight.values())
        reserved = self._reserve * self._accounts - reserves_used
        return account if self.concurrency - self._in_flight > reserved else None

    def _drop_given_up_jobs(self) -> None:
        """Build the lines anew: jobs that were given up would otherwise wait for a turn of their own."""
        for lines in self._levels.values():
            jobs = [job for line in lines.values() for job in line if not job.given_up]
            lines.clear()
            for job in jobs:
                self._enter_line(job)
        for pace in self._paces.values():
            pace.jobs = [entry for entry in pace.jobs if not entry[-1].given_up]
            heapify(pace.jobs)
        self._stale = 0

    def _may_begin(self, job: Job) -> bool:
        """Whether the rate limit lets a job begin now; otherwise it waits for its turn."""
        resource, now = job.claim.resource, self._clock()
        if job.paced:
            return True
        pace = self._paces.get(resource)
        if pace is None or not pace.jobs:
            interval = self._interval(resource, job.deadline())
            if interval is None:
                self._paces.pop(resource, None)
                return True
            exhausted = self._limits[resource].remaining <= 0
            first_turn = now + interval if exhausted else now
            pace = pace or self._paces.setdefault(resource, _Pace(first_turn, interval))
        if pace.turn <= now and not pace.jobs:
            pace.turn = now + pace.interval
            return True
        job.parked = True
        heappush(pace.jobs, ((job.claim.standing, job.retry), job.order, job))
        self._set_turn(resource, pace, pace.turn)
        return False

    def _interval(self, resource: str, deadline: float, *, coming: bool = False) -> float | None:
        """Seconds between the requests that wait for a resource, None where its limit admits them all.

        `coming` says that another one will wait soon.
        """
        limit, now = self._limits.get(resource), self._clock()
        waiting = self._resource_waiting.get(resource, 0) + coming
        if limit is None or now - limit.announced > _RATE_LIMIT_SECONDS or limit.remaining >= waiting:
            return None
        return max(_PACED_PART * (deadline - now) / (waiting + 1), _SHORTEST_INTERVAL)

    def _set_turn(self, resource: str, pace: _Pace, turn: float) -> None:
        pace.turn = turn
        heappush(self._turns, (turn, resource))

    def _release_due_jobs(self) -> None:
        now = self._clock()
        while (turn := self.next_turn) is not None and turn <= now:
            resource = heappop(self._turns)[1]
            pace = self._paces[resource]
            while pace.jobs:
                job = heappop(pace.jobs)[-1]
                if not job.given_up:
                    job.parked, job.paced = False, True
                    self._enter_line(job)
                    break
                self._stale -= 1
            if pace.jobs:
                self._set_turn(resource, pace, now + pace.interval)
            else:
                del self._paces[resource]

    def _end_pace(self, resource: str) -> None:
        pace = self._paces.pop(resource, None)
        for *_, job in pace.jobs if pace else ():
            job.parked = False
            self._enter_line(job)


def reserve_of_each_account(concurrency: int, accounts: int) -> int:
    """Return how many threads are kept for each account, whatever the others do.

    Half of an equal share and at least one, as long as there are enough. It is a compromise: without a
    reserve hanging accounts starve the others, with an equal share a large account never uses what others
    leave.
    """
    return max(1, concurrency // (2 * accounts)) if accounts <= concurrency else 0


def _add(counter: Counter[_Key], key: _Key, change: int) -> None:
    """Change a count, and forget the key where nothing is left."""
    counter[key] += change
    if not counter[key]:
        del counter[key]
