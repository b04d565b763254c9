"""The poller and the client with hanging requests: on a virtual clock, and with the executor's threads."""

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace

import pytest
import structlog
from pydantic import SecretStr
from support.threads import fail_to_start_threads
from support.virtual_api import HANG, Reply, VirtualClient
from support.virtual_clock import run_virtually

from taskrouter_exporter.api.call import Call, HttpAnswer
from taskrouter_exporter.api.client import Client
from taskrouter_exporter.api.errors import ApiError, Reason
from taskrouter_exporter.api.executor import FairExecutor
from taskrouter_exporter.api.lists import list_channels
from taskrouter_exporter.config.model import Account, Polling
from taskrouter_exporter.periods import Window
from taskrouter_exporter.poll_history import PollHistory, PollResult
from taskrouter_exporter.poller import Poller
from taskrouter_exporter.queries import Query, Target

ACCOUNT = Account("main", "https://api.test", "AC" + "0" * 32, SecretStr("s3cret"))
SCRAPE_INTERVAL = 10.0
BUDGET = 9.4
AMPLE = 60.0  # seconds that no request here needs, however busy the machine


def query(number: int) -> Query:
    return Query(Target("main", f"WS{number:032x}", f"w{number}", "all"), Window(15))


QUERIES = [query(number) for number in range(60)]


def up(results: Sequence[PollResult]) -> int:
    return sum(result.up for result in results)


def first_forty_hang(call: Call) -> Reply:
    number = int(call.path.split("/Workspaces/WS")[1][:32], 16)
    return HANG if number < 40 else Reply(0.1)


def virtual_poller(client: VirtualClient) -> Poller:
    return Poller({"main": client}, PollHistory(), monotonic=asyncio.get_running_loop().time)


def test_twenty_good_queries_are_up_beside_forty_that_hang() -> None:
    async def scenario() -> list[int]:
        loop, poller = asyncio.get_running_loop(), virtual_poller(VirtualClient(16, first_forty_hang))
        good = []
        for _ in range(4):
            begin = loop.time()
            results = await poller.poll(QUERIES, begin + BUDGET)
            assert up(results[:40]) == 0
            good.append(up(results[40:]))
            await asyncio.sleep(begin + SCRAPE_INTERVAL - loop.time())
        return good

    with structlog.testing.capture_logs():
        assert run_virtually(scenario()) == [20, 20, 20, 20]


def test_a_second_prometheus_whose_scrapes_overlap_is_served_too() -> None:
    async def scenario() -> list[int]:
        loop, poller = asyncio.get_running_loop(), virtual_poller(VirtualClient(4, first_forty_hang))

        async def scrape(pause: float) -> int:
            await asyncio.sleep(pause)
            for _ in range(5):
                begin = loop.time()
                results = await poller.poll(QUERIES, begin + BUDGET)
                await asyncio.sleep(begin + SCRAPE_INTERVAL - loop.time())
            return up(results[40:])

        return list(await asyncio.gather(scrape(0), scrape(SCRAPE_INTERVAL / 2)))

    with structlog.testing.capture_logs():
        assert run_virtually(scenario()) == [20, 20]


@pytest.mark.parametrize("concurrency", [1, 2, 3, 4])
def test_polls_are_up_while_lists_hang(concurrency: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> list[int]:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr("taskrouter_exporter.api.lists.time", SimpleNamespace(monotonic=loop.time))
        client = VirtualClient(
            concurrency, lambda call: HANG if call.path.endswith("TaskChannels") else Reply(0.1)
        )
        poller = virtual_poller(client)

        async def refresh(number: int) -> None:
            has_hung = False
            while True:
                try:
                    await list_channels(client, f"WS{number:032x}", has_hung=has_hung)
                except ApiError as error:
                    has_hung = error.reason is Reason.TIMEOUT

        refreshing = [asyncio.create_task(refresh(number)) for number in range(4)]
        await asyncio.sleep(0.5)
        good = [up(await poller.poll(QUERIES[:10], loop.time() + BUDGET)) for _ in range(5)]
        for task in refreshing:
            task.cancel()
        await asyncio.gather(*refreshing, return_exceptions=True)
        return good

    with structlog.testing.capture_logs():
        assert run_virtually(scenario()) == [10] * 5


class ControlledTransport:
    """Answers every request once the test allows it, or fails at the request's deadline."""

    def __init__(self, body: bytes = b'{"reservations_created": 5}', *, held: bool = False) -> None:
        self.go = threading.Event()
        if not held:
            self.go.set()
        self.in_flight = 0
        self.most = 0
        self._body = body
        self._lock = threading.Lock()

    def get(
        self, _url: str, _parameters: Mapping[str, str], _auth: tuple[str, str], deadline: Callable[[], float]
    ) -> HttpAnswer:
        with self._lock:
            self.in_flight += 1
            self.most = max(self.most, self.in_flight)
        try:
            while not self.go.wait(0.01):
                if deadline() <= time.monotonic():
                    raise ApiError(Reason.TIMEOUT, "no answer")
            return HttpAnswer(200, {}, self._body)
        finally:
            with self._lock:
                self.in_flight -= 1

    def post(self, _url: str, _body: bytes, _auth: object, _deadline: object) -> HttpAnswer:
        raise AssertionError("nothing here asks for several queues at once")

    def close(self) -> None:
        pass


class Unobserved:
    def requested(self, account: str, status: int | None, duration: float) -> None:
        pass

    def retried(self, account: str) -> None:
        pass


def client_of(transport: ControlledTransport, executor: FairExecutor) -> Client:
    return Client(ACCOUNT, Polling(request_timeout=AMPLE), transport, executor, Unobserved())


async def until_in_flight(transport: ControlledTransport, requests: int) -> None:
    async with asyncio.timeout(AMPLE):
        while transport.in_flight < requests:  # noqa: ASYNC110 -- it happens in threads
            await asyncio.sleep(0.005)


def test_a_scrape_with_a_later_deadline_gets_the_answer_to_the_same_attempt() -> None:
    async def scenario() -> None:
        executor, transport = FairExecutor(4, 1), ControlledTransport(held=True)
        poller = Poller({"main": client_of(transport, executor)}, PollHistory())
        impatient = asyncio.create_task(poller.poll([query(1)], time.monotonic() + 2))
        await until_in_flight(transport, 1)
        patient = asyncio.create_task(poller.poll([query(1)], time.monotonic() + AMPLE))
        assert up(await impatient) == 0
        transport.go.set()
        (result,) = await patient
        assert result.up
        assert [attempt.status for attempt in result.attempts] == [200], "the same attempt"
        executor.close()

    asyncio.run(scenario())


def test_every_query_is_up_after_threads_could_not_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        executor = FairExecutor(8, 1)
        poller = Poller({"main": client_of(ControlledTransport(), executor)}, PollHistory())
        failures = fail_to_start_threads(monkeypatch, 2)
        assert up(await poller.poll(QUERIES[:8], time.monotonic() + AMPLE)) == 8
        assert failures == []
        executor.close()

    asyncio.run(scenario())


def test_six_reloads_leave_two_requests_in_flight() -> None:
    async def scenario() -> int:
        executor, transport = FairExecutor(2, 1), ControlledTransport(held=True)
        polls = []
        for _ in range(7):
            poller = Poller({"main": client_of(transport, executor)}, PollHistory())
            polls.append(asyncio.create_task(poller.poll(QUERIES[:6], time.monotonic() + AMPLE)))
            await until_in_flight(transport, 2)
            executor.resize(2, 1)
        transport.go.set()
        for results in await asyncio.gather(*polls):
            assert up(results) == 6
        executor.close()
        return transport.most

    assert asyncio.run(scenario()) == 2


def test_large_answers_are_parsed_in_the_request_threads_and_within_the_attempt() -> None:
    threads: set[str] = set()

    def read(_answer: HttpAnswer) -> str:
        threads.add(threading.current_thread().name)
        time.sleep(0.1)
        return "parsed"

    async def scenario() -> Call:
        executor = FairExecutor(4, 1)
        call = Call("/v1/x", {}, time.monotonic() + AMPLE)
        assert await client_of(ControlledTransport(), executor).get(call, read) == "parsed"
        executor.close()
        return call

    (attempt,) = asyncio.run(scenario()).attempts
    assert attempt.duration >= 0.1
    assert threads
    assert all(name.startswith("request-") for name in threads)


def test_an_answer_that_cannot_be_parsed_is_the_error_of_its_attempt() -> None:
    async def scenario() -> PollResult:
        executor = FairExecutor(4, 1)
        client = client_of(ControlledTransport(b"<html>"), executor)
        (result,) = await Poller({"main": client}, PollHistory()).poll([query(1)], time.monotonic() + AMPLE)
        executor.close()
        return result

    (attempt,) = asyncio.run(scenario()).attempts
    assert attempt.status == 200
    assert attempt.error is not None
    assert attempt.error.reason is Reason.BAD_RESPONSE


def test_calls_leave_no_reference_cycles_behind() -> None:
    """Which is why all calls share one AsyncRetrying: a copy for each would be one."""

    async def scenario() -> int:
        executor = FairExecutor(4, 1)
        client = client_of(ControlledTransport(), executor)

        async def ask() -> None:
            await client.get(Call("/v1/x", {}, time.monotonic() + AMPLE), lambda answer: answer)

        await ask()
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                await ask()
            return gc.collect()
        finally:
            gc.enable()
            executor.close()

    assert asyncio.run(scenario()) < 20
