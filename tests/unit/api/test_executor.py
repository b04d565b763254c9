import asyncio
import math
import random
import threading
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest
from support.threads import fail_to_start_threads

from taskrouter_exporter.api.errors import ApiError, Reason
from taskrouter_exporter.api.executor import FairExecutor
from taskrouter_exporter.api.fair_queue import Claim, Job, Standing, reserve_of_each_account


def run(
    executor: FairExecutor, account: str, function: Callable[[], Any], **attributes: Any
) -> Coroutine[Any, Any, Any]:
    """A job without a deadline, unless the test sets one."""
    return executor.run(Job(account, lambda _job: function(), deadline=lambda: math.inf, **attributes))


class Hanging:
    """Requests that end when they are let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun = 0
        self.most = 0
        self._lock = threading.Lock()
        self._now = 0

    def __call__(self) -> None:
        with self._lock:
            self.begun += 1
            self._now += 1
            self.most = max(self.most, self._now)
        self.go.wait(20)
        with self._lock:
            self._now -= 1


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 -- what is waited for happens in threads
        await asyncio.sleep(0.001)


def test_no_more_than_concurrency_requests_are_in_flight_and_all_are_carried_out() -> None:
    async def scenario() -> None:
        executor, request = FairExecutor(3, 1), Hanging()
        tasks = [asyncio.create_task(run(executor, "a", request)) for _ in range(10)]
        await until(lambda: request.begun == 3)
        request.go.set()
        await asyncio.gather(*tasks)
        assert (request.begun, request.most) == (10, 3)

    asyncio.run(scenario())


def test_all_slots_are_used_also_after_a_time_with_few_requests() -> None:
    async def scenario() -> None:
        executor, request = FairExecutor(8, 1), Hanging()
        await asyncio.gather(*(run(executor, "a", lambda: None) for _ in range(2)))
        await until(lambda: executor._idle == len(executor._threads))
        tasks = [asyncio.create_task(run(executor, "a", request)) for _ in range(20)]
        await until(lambda: request.begun == 8)
        request.go.set()
        await asyncio.gather(*tasks)

    asyncio.run(scenario())


def test_a_hanging_account_leaves_slots_for_a_later_one() -> None:
    async def scenario() -> None:
        executor, hanging = FairExecutor(8, 2), Hanging()
        hung = [asyncio.create_task(run(executor, "hanging", hanging)) for _ in range(50)]
        await until(lambda: hanging.begun == 6)
        assert (
            await asyncio.gather(*(run(executor, "other", lambda: "answer") for _ in range(20)))
            == ["answer"] * 20
        )
        assert hanging.begun == 6
        hanging.go.set()
        await asyncio.gather(*hung)

    asyncio.run(scenario())


def test_the_account_with_the_fewest_requests_in_flight_comes_next_and_within_it_the_first() -> None:
    order: list[str] = []

    async def scenario() -> None:
        executor, blocker = FairExecutor(1, 2), Hanging()
        blocked = asyncio.create_task(run(executor, "a", blocker))
        await until(lambda: blocker.begun == 1)
        names = ["a1", "a2", "b1", "b2"]
        tasks = [asyncio.create_task(run(executor, name[0], partial(order.append, name))) for name in names]
        await asyncio.sleep(0)
        blocker.go.set()
        await asyncio.gather(blocked, *tasks)

    asyncio.run(scenario())
    assert [name for name in order if name[0] == "a"] == ["a1", "a2"]
    assert [name for name in order if name[0] == "b"] == ["b1", "b2"]


def test_a_request_given_up_while_it_waits_is_never_carried_out() -> None:
    async def scenario() -> None:
        executor, blocker, given_up = FairExecutor(1, 1), Hanging(), Hanging()
        blocked = asyncio.create_task(run(executor, "a", blocker))
        await until(lambda: blocker.begun == 1)
        waiting = asyncio.create_task(run(executor, "a", given_up))
        await asyncio.sleep(0)
        waiting.cancel()
        blocker.go.set()
        await blocked
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await run(executor, "a", lambda: "next") == "next"
        assert given_up.begun == 0

    asyncio.run(scenario())


def test_a_request_given_up_in_flight_keeps_its_slot_until_it_ends_and_then_frees_it() -> None:
    async def scenario() -> None:
        executor, hanging = FairExecutor(1, 1), Hanging()
        given_up = asyncio.create_task(run(executor, "a", hanging))
        await until(lambda: hanging.begun == 1)
        given_up.cancel()
        following = asyncio.create_task(run(executor, "a", lambda: "next"))
        done, _ = await asyncio.wait([following], timeout=0.05)
        assert not done
        hanging.go.set()
        assert await following == "next"

    asyncio.run(scenario())


def test_a_request_cancelled_at_its_turn_returns_its_slot() -> None:
    async def scenario() -> None:
        executor, hanging = FairExecutor(1, 1), Hanging()
        blocked = asyncio.create_task(run(executor, "a", hanging))
        await until(lambda: hanging.begun == 1)
        waiting = asyncio.create_task(run(executor, "a", lambda: "never"))
        await asyncio.sleep(0)
        hanging.go.set()
        await blocked
        waiting.cancel()
        assert await asyncio.wait_for(run(executor, "a", lambda: "next"), 5) == "next"

    asyncio.run(scenario())


def test_an_error_reaches_the_caller_and_frees_the_slot() -> None:
    async def scenario() -> None:
        executor = FairExecutor(1, 1)
        with pytest.raises(ZeroDivisionError):
            await run(executor, "a", lambda: 1 // 0)
        assert await run(executor, "a", lambda: "next") == "next"

    asyncio.run(scenario())


@pytest.mark.parametrize("concurrency", [1, 2, 3, 16, 64])
@pytest.mark.parametrize("accounts", [1, 2, 3, 10, 100])
def test_the_reserves_fit_and_leave_slots_free(concurrency: int, accounts: int) -> None:
    reserve = reserve_of_each_account(concurrency, accounts)
    assert 0 <= reserve * accounts <= concurrency
    assert (reserve >= 1) is (accounts <= concurrency)


def test_several_hanging_accounts_leave_slots_for_a_later_one() -> None:
    async def scenario() -> None:
        executor, hanging = FairExecutor(16, 3), Hanging()
        hung = [asyncio.create_task(run(executor, account, hanging)) for account in "ab" * 40]
        await until(lambda: hanging.begun == 14)
        assert (
            await asyncio.gather(*(run(executor, "c", lambda: "answer") for _ in range(20)))
            == ["answer"] * 20
        )
        assert hanging.begun == 14
        hanging.go.set()
        await asyncio.gather(*hung)

    asyncio.run(scenario())


def test_a_single_busy_account_uses_all_but_the_reserves_of_the_others() -> None:
    async def scenario() -> None:
        executor, hanging = FairExecutor(16, 2), Hanging()
        hung = [asyncio.create_task(run(executor, "a", hanging)) for _ in range(40)]
        await until(lambda: hanging.begun == 12)
        hanging.go.set()
        await asyncio.gather(*hung)
        assert hanging.most == 12

    asyncio.run(scenario())


def test_close_lets_the_threads_end() -> None:
    async def scenario() -> list[threading.Thread]:
        executor = FairExecutor(2, 1)
        await asyncio.gather(*(run(executor, "a", lambda: None) for _ in range(4)))
        threads = list(executor._threads)
        executor.close()
        return threads

    threads = asyncio.run(scenario())
    for thread in threads:
        thread.join(5)
    assert threads
    assert not any(thread.is_alive() for thread in threads)


def test_after_threads_could_not_be_started_every_request_is_still_carried_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        executor = FairExecutor(8, 1)
        fail_to_start_threads(monkeypatch, 2)
        results = await asyncio.gather(
            *(run(executor, "a", lambda: 1) for _ in range(8)), return_exceptions=True
        )
        refused = [result for result in results if isinstance(result, ApiError)]
        assert [(error.reason, error.retryable) for error in refused] == [(Reason.CONNECTION, True)] * 2
        assert results.count(1) == 6
        hanging = Hanging()
        tasks = [asyncio.create_task(run(executor, "a", hanging)) for _ in range(8)]
        await until(lambda: hanging.begun == 8)
        hanging.go.set()
        await asyncio.gather(*tasks)

    asyncio.run(scenario())


def test_a_thread_survives_a_base_exception() -> None:
    def panic() -> None:
        raise SystemExit

    async def scenario() -> None:
        executor = FairExecutor(1, 1)
        with pytest.raises(RuntimeError, match="SystemExit"):
            await run(executor, "a", panic)
        assert await run(executor, "a", lambda: "next") == "next"

    asyncio.run(scenario())


def test_a_resized_executor_keeps_to_its_new_size_with_requests_of_the_old_one_in_flight() -> None:
    async def scenario() -> None:
        executor, old, new = FairExecutor(4, 1), Hanging(), Hanging()
        tasks = [asyncio.create_task(run(executor, "a", old)) for _ in range(4)]
        await until(lambda: old.begun == 4)
        executor.resize(2, 1)
        tasks += [asyncio.create_task(run(executor, "a", new)) for _ in range(6)]
        await asyncio.sleep(0.05)
        assert new.begun == 0
        new.go.set()
        old.go.set()
        await asyncio.gather(*tasks)
        assert new.most <= 2
        await until(lambda: len(executor._threads) <= 2)
        executor.resize(6, 1)
        more = Hanging()
        tasks = [asyncio.create_task(run(executor, "a", more)) for _ in range(6)]
        await until(lambda: more.begun == 6)
        more.go.set()
        await asyncio.gather(*tasks)

    asyncio.run(scenario())


def test_threads_wake_for_the_turn_of_a_paced_request() -> None:
    async def scenario() -> None:
        executor = FairExecutor(4, 1)
        begun: list[float] = []
        end = time.monotonic() + 0.5
        all_wait = threading.Event()

        def request(job: Job) -> None:
            begun.append(time.monotonic())
            assert all_wait.wait(20)
            executor.announce(job, 3)

        tasks = [asyncio.create_task(executor.run(Job("a", request, lambda: end))) for _ in range(12)]
        await until(lambda: len(begun) == 4)
        all_wait.set()
        await asyncio.gather(*tasks)
        assert len(begun) == 12
        assert 0.1 < max(begun) - min(begun) < 0.5

    asyncio.run(scenario())


@pytest.mark.parametrize("seed", range(3))
def test_every_job_is_carried_out_or_given_up_whatever_happens_at_once(seed: int) -> None:
    chance = random.Random(seed)

    async def scenario() -> None:
        executor = FairExecutor(8, 3)
        end = time.monotonic() + 1

        def request(job: Job) -> str:
            time.sleep(chance.random() * 0.002)
            if chance.random() < 0.1:
                executor.announce(job, chance.choice([None, 0, 5, 100]), chance.choice([0, 0.01]))
            if chance.random() < 0.1:
                raise ApiError(Reason.TIMEOUT, "no answer")
            return "answer"

        def job() -> Job:
            workspace, standing = chance.choice("wxyz"), chance.choice([*Standing])
            claim = Claim(workspace, workspace, standing, chance.random(), chance.random() < 0.5)
            return Job(chance.choice("abc"), request, lambda: end, claim, retry=chance.random() < 0.2)

        tasks = [asyncio.create_task(executor.run(job())) for _ in range(300)]
        for _ in range(20):
            await asyncio.sleep(0.002)
            executor.resize(chance.randint(1, 12), 3)
            for task in chance.sample(tasks, 10):
                task.cancel()
        async with asyncio.timeout(20):
            results = await asyncio.gather(*tasks, return_exceptions=True)
        wrong = [
            result
            for result in results
            if result != "answer" and not isinstance(result, ApiError | asyncio.CancelledError)
        ]
        assert wrong == []
        await until(lambda: executor._queue._in_flight == 0)
        queue = executor._queue
        assert (queue.waiting, queue._fresh_waiting, queue._patient) == (0, 0, 0)
        assert not queue._account_in_flight
        assert not queue._workspace_in_flight
        assert not queue._resource_waiting
        executor.close()
        await until(lambda: not executor._threads)

    asyncio.run(scenario())
