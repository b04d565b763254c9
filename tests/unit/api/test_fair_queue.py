import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from taskrouter_exporter.api.fair_queue import Claim, FairQueue, Job, Standing

PROVEN, UNKNOWN, DOUBTFUL, HUNG, LIST = Standing


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def job(
    workspace: str = "w", standing: Standing = PROVEN, *, account: str = "a", rank: float = 0, **more: Any
) -> Job:
    claim = Claim(workspace, more.pop("resource", workspace), standing, rank, more.pop("limited", False))
    return Job(account, bool, lambda: 1009.4, claim, more.pop("retry", False), more.pop("patience", 1.25))


def filled(concurrency: int, jobs: Sequence[Job], clock: Clock | None = None, accounts: int = 1) -> FairQueue:
    queue = FairQueue(concurrency, accounts, clock or Clock())
    for each in jobs:
        queue.put(each)
    return queue


def taken(queue: FairQueue) -> list[Job]:
    return list(iter(queue.take, None))


def one_by_one(queue: FairQueue) -> list[Job]:
    order = []
    while (each := queue.take()) is not None:
        queue.finish(each, answered=True)
        order.append(each)
    return order


def test_the_better_standing_goes_first_and_within_it_first_attempts() -> None:
    jobs = [job(standing=standing, retry=retry) for standing in Standing for retry in (False, True)]
    assert one_by_one(filled(1, jobs[::-1])) == jobs


def test_within_a_workspace_the_lowest_rank_goes_first_and_of_equals_the_first() -> None:
    jobs = [job(rank=rank) for rank in (2, 1, 3, 1)]
    assert one_by_one(filled(1, jobs)) == [jobs[1], jobs[3], jobs[0], jobs[2]]


def test_a_workspace_holds_no_more_than_its_share_while_others_wait() -> None:
    large, small = [job("large") for _ in range(50)], [job("small") for _ in range(4)]
    queue = filled(8, [*large, *small])
    in_flight = taken(queue)
    assert [each.claim.workspace for each in in_flight].count("small") == 4
    late = job("late")
    queue.put(late)
    queue.finish(in_flight[0], answered=True)
    assert queue.take() is late


def test_a_workspace_may_use_the_slots_that_others_leave() -> None:
    assert len(taken(filled(8, [job("only") for _ in range(50)]))) == 8


def test_workspaces_take_turns_where_each_request_ends_before_the_next() -> None:
    queue = filled(1, [job(name) for name in "aaab"])
    assert [each.claim.workspace for each in one_by_one(queue)][:2] in (["a", "b"], ["b", "a"])


@pytest.mark.parametrize(
    ("concurrency", "hung", "unproven"), [(1, 1, 1), (2, 1, 1), (4, 2, 3), (16, 8, 14), (64, 32, 56)]
)
def test_hung_queries_hold_half_and_all_that_are_not_proven_leave_an_eighth(
    concurrency: int, hung: int, unproven: int
) -> None:
    queue = filled(concurrency, [job(standing=HUNG, limited=True) for _ in range(100)])
    assert len(taken(queue)) == hung
    for _ in range(100):
        queue.put(job(standing=UNKNOWN, limited=True))
    assert len(taken(queue)) == unproven - hung
    for _ in range(100):
        queue.put(job())
    assert len(taken(queue)) == concurrency - unproven


def test_where_no_query_is_proven_hung_ones_may_use_every_thread() -> None:
    assert len(taken(filled(16, [job(standing=HUNG) for _ in range(100)]))) == 16


@pytest.mark.parametrize(("concurrency", "lists"), [(1, 1), (2, 1), (4, 1), (8, 2), (16, 4)])
def test_lists_hold_a_quarter_and_wait_for_polls(concurrency: int, lists: int) -> None:
    poll = job(standing=HUNG)
    queue = filled(concurrency, [job(standing=LIST, limited=True) for _ in range(50)])
    assert len(taken(queue)) == lists
    queue = filled(1, [job(standing=LIST, limited=True), poll])
    assert queue.take() is poll


def test_jobs_in_flight_count_after_the_queue_was_made_smaller() -> None:
    queue = filled(4, [job() for _ in range(10)])
    first = taken(queue)
    queue.resize(2, 1)
    for each in first[:2]:
        queue.finish(each, answered=True)
        assert queue.take() is None
    queue.finish(first[2], answered=True)
    assert len(taken(queue)) == 1


def test_cancelled_jobs_neither_start_nor_accumulate() -> None:
    kept = job(standing=HUNG, limited=True, rank=99)
    queue = filled(2, [kept])
    holder = job(standing=HUNG, limited=True)
    queue.put(holder)
    assert queue.take() is holder
    for _ in range(100):
        late = [job(standing=HUNG, limited=True, rank=100) for _ in range(100)]
        for each in late:
            queue.put(each)
        for each in late:
            queue.give_up(each)
        assert queue.waiting == 1
        assert sum(len([*line]) for level in queue._levels.values() for line in level.values()) < 200
    queue.finish(holder, answered=False)
    assert one_by_one(queue) == [kept]


@pytest.mark.usefixtures("uncovered")
def test_a_hundred_thousand_jobs_are_taken_in_seconds() -> None:
    begin = time.process_time()
    queue = filled(64, [job(f"w{number % 5000}", rank=number % 7) for number in range(100_000)])
    in_flight = taken(queue)
    for each in in_flight:
        queue.finish(each, answered=True)
        if (following := queue.take()) is not None:
            in_flight.append(following)
    assert len(in_flight) == 100_000
    assert time.process_time() - begin < 20  # 2 s on a machine of today


# First attempts that take longer than their patience


def waited(queue: FairQueue, each: Job, clock: Clock, end: float) -> float:
    """Return the time limit of a job that asks again whenever its time is up."""
    while (until := queue.until(each, end)) > clock.now:
        clock.now = until
    assert each.begun is not None
    return clock.now - each.begun


def test_a_first_attempt_has_the_full_timeout_while_no_other_waits() -> None:
    clock = Clock()
    queue = filled(2, [job(), job()], clock)
    assert waited(queue, taken(queue)[0], clock, 1005) == 5


def test_a_first_attempt_is_ended_early_for_waiting_ones_if_others_were_quick() -> None:
    clock = Clock()
    queue = filled(3, [job() for _ in range(10)], clock)
    quick, slow, slower = taken(queue)
    clock.now += 0.1
    queue.finish(quick, answered=True)
    assert waited(queue, slow, clock, 1005) == 5, "a part of the threads is left to those that may be good"
    assert 0 < waited(queue, slower, clock, 1015) < 10


def test_no_attempt_is_ended_early_while_none_has_been_answered() -> None:
    clock = Clock()
    queue = filled(2, [job() for _ in range(10)], clock)
    first, second = taken(queue)
    for each in (first, second):
        clock.now = 1000
        assert waited(queue, each, clock, 1005) == 5


@pytest.mark.parametrize(("standing", "retry"), [(PROVEN, True), (DOUBTFUL, False), (HUNG, False)])
def test_only_first_attempts_of_queries_that_should_be_quick_are_ended_early(
    standing: Standing, *, retry: bool
) -> None:
    clock = Clock()
    queue = filled(1, [job(standing=standing, retry=retry)], clock)
    each = queue.take()
    assert each is not None
    queue.put(job())
    queue._slowest_answer = 0.1
    assert queue.until(each, 1005) == 1005


# Rate limits


def paced(queue: FairQueue, clock: Clock, remaining: float) -> list[float]:
    """Return the start times of jobs that are answered at once, with the remaining requests of the limit."""
    begun = []
    while queue.waiting:
        while (each := queue.take()) is not None:
            begun.append(round(clock.now - 1000, 3))
            remaining -= 1
            queue.announce(each, remaining)
            queue.finish(each, answered=True)
        if queue.next_turn is None:
            break
        clock.now = max(queue.next_turn, clock.now + 1e-6)
    return begun


def test_requests_that_would_exhaust_a_limit_are_spaced_over_the_time_left() -> None:
    clock = Clock()
    queue = filled(16, [job() for _ in range(30)], clock)
    begun = paced(queue, clock, 20)
    assert len(begun) == 30
    gaps = [after - before for before, after in pairwise(begun)]
    assert max(gaps) < 1.5
    assert begun[-1] < 9.4, "the last one must still be answered"
    assert begun[10] > 1, "no burst"


def test_requests_that_a_limit_admits_are_not_delayed() -> None:
    clock = Clock()
    queue = filled(16, [job() for _ in range(30)], clock)
    assert paced(queue, clock, 50) == [0.0] * 30


def test_another_workspace_is_not_delayed() -> None:
    clock = Clock()
    queue = filled(1, [job("limited") for _ in range(30)], clock)
    each = queue.take()
    assert each is not None
    queue.announce(each, 2)
    queue.finish(each, answered=True)
    other = job("other")
    queue.put(other)
    assert one_by_one(queue) == [other]


@pytest.mark.parametrize(("age", "at_once"), [(9, 1), (11, 16)])
def test_a_limit_announced_less_than_10_s_ago_counts_from_the_first_request(age: float, at_once: int) -> None:
    clock = Clock()
    queue = filled(16, [job()], clock)
    each = queue.take()
    assert each is not None
    queue.announce(each, 5)
    queue.finish(each, answered=True)
    clock.now += age
    for _ in range(30):
        queue.put(job())
    assert len(taken(queue)) == at_once


def test_the_spacing_ends_when_the_limit_admits_what_waits() -> None:
    clock = Clock()
    queue = filled(4, [job() for _ in range(30)], clock)
    first, *others = taken(queue)
    queue.announce(first, 5)
    for each in others:
        queue.finish(each, answered=True)
    assert queue.take() is None
    queue.announce(first, 100)
    queue.finish(first, answered=True)
    assert len(taken(queue)) == 4


def test_a_paced_job_that_is_cancelled_leaves_its_turn_to_the_next() -> None:
    clock = Clock()
    jobs = [job() for _ in range(20)]
    queue = filled(1, jobs, clock)
    each = queue.take()
    assert each is jobs[0]
    queue.announce(each, 1)
    queue.finish(each, answered=True)
    assert queue.take() is None
    queue.give_up(jobs[1])
    assert queue.next_turn is not None
    clock.now = queue.next_turn
    assert queue.take() is jobs[2]


def test_after_a_429_nothing_is_sent_before_its_retry_after_is_over() -> None:
    clock = Clock()
    queue = filled(1, [job() for _ in range(10)], clock)
    each = queue.take()
    assert each is not None
    queue.announce(each, None, 4)
    queue.finish(each, answered=True)
    assert queue.take() is None
    begun = []
    while (turn := queue.next_turn) is not None:
        clock.now = turn
        begun.append(round(turn - 1000, 3))
        begun_jobs = taken(queue)
        assert len(begun_jobs) == 1
        queue.finish(begun_jobs[0], answered=True)
    assert len(begun) == 9
    assert begun[0] == 4
    assert begun[-1] < 9.4


def test_a_retry_after_past_the_deadline_ends_the_requests_of_this_scrape_and_not_of_the_next() -> None:
    clock = Clock()
    jobs = [job() for _ in range(10)]
    queue = filled(1, jobs, clock)
    each = queue.take()
    assert each is not None
    queue.announce(each, None, 3600)
    queue.finish(each, answered=True)
    assert queue.take() is None
    assert queue.next_turn == 1009.4
    for waiting in jobs[1:]:
        queue.give_up(waiting)
    clock.now = 1010
    following = replace(job(), deadline=lambda: 1019.4)
    queue.put(following)
    assert queue.take() is None, "the limit was exhausted less than 10 s ago"
    assert queue.next_turn is not None
    assert queue.next_turn < 1015
    clock.now = queue.next_turn
    assert queue.take() is following


def test_a_later_scrape_does_not_wait_as_long_as_the_api_wanted_an_earlier_one_to() -> None:
    first, later_scrape = job(), job()
    later_scrape.deadline = lambda: 1010.4
    queue = filled(4, [first])
    assert queue.take() is first
    queue.announce(first, None, 3600)
    queue.finish(first, answered=True)
    queue.put(later_scrape)
    assert queue.take() is None, "the limit was exhausted a moment ago"
    assert queue.next_turn is not None
    assert queue.next_turn < 1006, "not after the earlier scrape"
