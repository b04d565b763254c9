"""What a poll costs, in numbers that do not depend on the machine: a guard against slow growth.

The bounds are a tenth above what was counted. Where a change needs more, raise them with a reason.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, ClassVar

import pytest
from pydantic import SecretStr

from taskrouter_exporter.api import transport as transport_module
from taskrouter_exporter.api.client import Client
from taskrouter_exporter.api.executor import FairExecutor
from taskrouter_exporter.api.fair_queue import Job
from taskrouter_exporter.api.streams import Deadline
from taskrouter_exporter.api.transport import RequestsTransport
from taskrouter_exporter.config.model import Account, Polling
from taskrouter_exporter.metrics import ExporterMetrics, TargetsCollector
from taskrouter_exporter.periods import Window
from taskrouter_exporter.poll_history import PollHistory
from taskrouter_exporter.poller import Poller
from taskrouter_exporter.queries import Query, Target
from taskrouter_exporter.web.exposition import Exposition

CONCURRENCY = 4
BODY = json.dumps(
    {
        **{f"reservations_{each}": 7 for each in ("created", "accepted", "rejected", "timed_out")},
        "activity_durations": [
            {"sid": f"WA{number:032x}", "friendly_name": f"Activity {number}", "min": 1, "avg": 2.5, "max": 9,
             "total": 30}
            for number in range(8)
        ],
    }
).encode()  # fmt: skip
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
    len(BODY),
    BODY,
)
QUERIES = [
    Query(Target("bench", f"WS{number:032x}", f"w{number}", "voice"), Window(15)) for number in range(40)
]


class CountingStream:
    """A stream to an API that answers at once; each of its operations is a system call or two."""

    operations: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        self.operations["connect"] += 1

    def send(self, data: bytes, _deadline: Deadline) -> None:
        self.operations["send"] += 1
        self.operations["bytes sent"] += len(data)

    def receive(self, _deadline: Deadline) -> bytes:
        self.operations["receive"] += 1
        return ANSWER

    def receive_now(self) -> bytes | None:
        self.operations["receive now"] += 1
        return None

    def close(self) -> None:
        pass


class InlineExecutor(FairExecutor):
    """Carries requests out in the event loop, where their calls can be counted."""

    async def run(self, job: Job) -> Any:
        await asyncio.sleep(0)
        job.begun = time.monotonic()
        return job.function(job)


@pytest.fixture(autouse=True)
def operations(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    monkeypatch.setattr(transport_module, "open_stream", lambda *_: CountingStream())
    monkeypatch.setattr(CountingStream, "operations", Counter())
    return CountingStream.operations


@pytest.fixture
def executor() -> Iterator[FairExecutor]:
    executor = FairExecutor(CONCURRENCY, 1)
    yield executor
    executor.close()


def poller(executor: FairExecutor, history: PollHistory) -> Poller:
    account = Account("bench", "http://api.test", "AC" + "0" * 32, SecretStr("secret"))
    transport = RequestsTransport(account.base_url, CONCURRENCY, {}, "test")
    api = ExporterMetrics("1", "2").api
    api.expect("bench")
    return Poller({"bench": Client(account, Polling(), transport, executor, api)}, history)


def test_a_poll_is_one_request_on_a_kept_connection(executor: FairExecutor, operations: Counter[str]) -> None:
    """Each request is sent and read at once, and its connection is looked at once before and once after."""
    scrapes = 5

    async def scrape() -> None:
        polling = poller(executor, PollHistory())
        for _ in range(scrapes):
            results = await polling.poll(QUERIES, time.monotonic() + 30)
            assert all(result.up for result in results)

    asyncio.run(scrape())
    requests = scrapes * len(QUERIES)
    assert (operations["send"], operations["receive"]) == (requests, requests)
    assert operations["connect"] <= CONCURRENCY
    assert operations["receive now"] <= 2 * requests
    assert operations["bytes sent"] / requests < 320


@contextmanager
def counted_calls() -> Iterator[Counter[str]]:
    """Count the calls of functions in Python and in C, of this thread and within the block."""
    calls: Counter[str] = Counter()

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        calls[event] += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        yield calls
    finally:
        sys.setprofile(before)


def test_a_poll_and_its_rendering_take_a_bounded_number_of_calls() -> None:
    history = PollHistory()
    polling = poller(InlineExecutor(CONCURRENCY, 1), history)
    exposition = Exposition("application/openmetrics-text", "gzip")

    async def count() -> tuple[Counter[str], Counter[str]]:
        await polling.poll(QUERIES, time.monotonic() + 30)  # what is prepared once is not counted
        with counted_calls() as polled:
            results = await polling.poll(QUERIES, time.monotonic() + 30)
        with counted_calls() as rendered:
            exposition.render([TargetsCollector(results, history, 9)])
        return polled, rendered

    polled, rendered = asyncio.run(count())
    assert (polled["call"] + polled["c_call"]) / len(QUERIES) <= 1440  # 1,308 with 8 Activities
    assert (rendered["call"] + rendered["c_call"]) / len(QUERIES) <= 154  # 139, gzip included
