import asyncio
import time
from collections.abc import Sequence
from types import MappingProxyType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
import structlog
from pydantic import SecretStr
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from taskrouter_exporter.config.model import Account, Config, Polling
from taskrouter_exporter.metrics import ExporterMetrics
from taskrouter_exporter.periods import Window
from taskrouter_exporter.poll_history import PollHistory, PollResult
from taskrouter_exporter.queries import Query, Target
from taskrouter_exporter.web.exposition import Exposition
from taskrouter_exporter.web.scrape import (
    ScrapeHandler,
    _AnswerTime,
    _positive_seconds,
    _select_collectors,
    _select_target,
)

SID = "WS" + "0" * 32
VOICE, CHAT = (Query(Target("main", SID, "support", channel), Window(15)) for channel in ("voice", "chat"))
ACCOUNT = Account("main", "https://taskrouter.twilio.com", "AC" + "0" * 32, SecretStr("x"))
CONFIG = Config(accounts=MappingProxyType({"main": ACCOUNT}), polling=Polling())
UNREADABLE = ["", "x", "0", "-1", "nan", "inf", "10s", "10, 10", "1,5"]


class Snapshot:
    """Answers polls at once, and records them."""

    config = CONFIG
    queries: tuple[Query, ...] = (VOICE, CHAT)

    def __init__(self) -> None:
        self.polled: list[Sequence[Query]] = []
        self.deadlines: list[float] = []

    def find(self, workspace: str, channel: str) -> Sequence[Query]:
        return [each for each in self.queries if (workspace, channel) == ("support", each.target.channel)]

    async def poll(self, queries: Sequence[Query], deadline: float) -> list[PollResult]:
        self.polled.append(queries)
        self.deadlines.append(deadline)
        return [PollResult(query, finished=0, duration=0.1) for query in queries]


def request(query: str = "", timeout: str | None = None, method: str = "GET") -> Request:
    headers = [] if timeout is None else [(b"x-prometheus-scrape-timeout-seconds", timeout.encode())]
    scope = {
        "type": "http",
        "method": method,
        "path": "/probe",
        "query_string": query.encode(),
        "headers": headers,
    }
    return Request(scope, receive=asyncio.Event().wait)  # type: ignore[arg-type] # the client stays


@pytest.fixture
def snapshot() -> Snapshot:
    return Snapshot()


@pytest.fixture
def handler(snapshot: Snapshot) -> ScrapeHandler:
    runtime: Any = SimpleNamespace(
        snapshot=snapshot, history=PollHistory(), metrics=ExporterMetrics("1", "abc")
    )
    return ScrapeHandler(runtime, 0.5, 120)


def metrics(handler: ScrapeHandler, query: str = "", **attributes: Any) -> Response:
    return asyncio.run(handler.metrics(request(query, **attributes)))


def probe(handler: ScrapeHandler, query: str, **attributes: Any) -> Response:
    return asyncio.run(handler.probe(request(query, **attributes)))


def test_metrics_polls_every_query_and_has_the_exporter_s_own_metrics(
    handler: ScrapeHandler, snapshot: Snapshot
) -> None:
    text = bytes(metrics(handler).body).decode()
    assert snapshot.polled == [(VOICE, CHAT)]
    assert text.count("twilio_taskrouter_up{") == 2
    assert "twilio_taskrouter_exporter_build_info{" in text


def test_the_exporter_s_own_metrics_need_no_poll(handler: ScrapeHandler, snapshot: Snapshot) -> None:
    text = bytes(metrics(handler, "collect[]=exporter").body).decode()
    assert snapshot.polled == []
    assert "twilio_taskrouter_up{" not in text
    assert "twilio_taskrouter_exporter_build_info{" in text


def test_a_probe_polls_one_target_and_has_no_metrics_of_the_exporter(
    handler: ScrapeHandler, snapshot: Snapshot
) -> None:
    text = bytes(probe(handler, "workspace=support&channel=chat").body).decode()
    assert snapshot.polled == [[CHAT]]
    assert text.count("twilio_taskrouter_up{") == 1
    assert "exporter_build_info" not in text


def test_debug_output_ends_with_the_metrics(handler: ScrapeHandler) -> None:
    text = bytes(probe(handler, "workspace=support&channel=chat&debug=true").body).decode()
    description, metrics = text.split("\nMetrics:\n")
    assert description.startswith("Query: workspace 'support', channel 'chat', workers, 15m\n")
    assert "twilio_taskrouter_up{" in metrics


def test_head_requests_are_answered_without_a_poll(handler: ScrapeHandler, snapshot: Snapshot) -> None:
    for answer in (
        metrics(handler, method="HEAD"),
        probe(handler, "workspace=support&channel=chat", method="HEAD"),
    ):
        assert (answer.status_code, answer.body) == (200, b"")
        assert answer.headers["content-type"].startswith("text/plain")
        assert "content-length" not in answer.headers  # its value would take a poll
    assert snapshot.polled == []


def test_polls_end_before_the_scrape_timeout_less_the_offset(
    handler: ScrapeHandler, snapshot: Snapshot
) -> None:
    before = time.monotonic()
    metrics(handler, timeout="3")
    (deadline,) = snapshot.deadlines
    assert before + 2.3 < deadline < before + 2.5


def test_parallel_probes_do_not_shorten_the_polls_of_the_next_scrape(
    handler: ScrapeHandler, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each waits for the others' rendering; per query, that would be far more than `/metrics` takes."""
    snapshot.queries = tuple(
        Query(Target("main", SID, "support", str(number)), Window(15)) for number in range(300)
    )
    render = Exposition.render

    def slow(exposition: Exposition, collectors: Any) -> bytes:
        time.sleep(0.02)
        return render(exposition, collectors)

    monkeypatch.setattr(Exposition, "render", slow)

    async def scenario() -> float:
        probes = [request(f"workspace=support&channel={number}") for number in range(60)]
        await asyncio.gather(*map(handler.probe, probes))
        before = time.monotonic()
        await handler.metrics(request())
        return snapshot.deadlines[-1] - before

    assert asyncio.run(scenario()) > 9


def test_a_client_that_has_gone_ends_its_scrape(
    handler: ScrapeHandler, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []

    async def poll(_queries: Sequence[Query], _deadline: float) -> list[PollResult]:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return []

    async def disconnect() -> dict[str, str]:
        await asyncio.sleep(0.05)
        return {"type": "http.disconnect"}

    monkeypatch.setattr(snapshot, "poll", poll)
    answer = asyncio.run(handler.metrics(Request(request().scope, receive=disconnect)))
    assert (answer.status_code, ended) == (499, ["cancelled"])


def test_collectors_are_both_unless_one_is_given() -> None:
    snapshot: Any = Snapshot()
    both = _select_collectors(request(), snapshot)
    assert (both.queries, both.exporter) == ((VOICE, CHAT), True)
    targets = _select_collectors(request("collect[]=targets"), snapshot)
    assert (targets.queries, targets.exporter) == ((VOICE, CHAT), False)


def test_an_unknown_collector_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(HTTPException) as caught:
        _select_collectors(request("collect[]=nothing"), MagicMock())
    assert caught.value.status_code == 400
    assert "'nothing' (expected targets or exporter)" in caught.value.detail


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("", "workspace is missing"),
        ("workspace=&channel=all", "workspace is missing"),
        ("workspace=a&workspace=b&channel=all", "workspace is given more than once"),
        ("workspace=a", "channel is missing"),
    ],
)
def test_a_probe_needs_each_parameter_once(query: str, problem: str) -> None:
    with pytest.raises(HTTPException) as caught:
        _select_target(request(query), MagicMock())
    assert caught.value.status_code == 400
    assert problem in caught.value.detail


def test_an_unknown_target_is_not_found() -> None:
    snapshot: Any = Snapshot()
    with pytest.raises(HTTPException) as caught:
        _select_target(request(f"workspace={SID}&channel=other"), snapshot)
    assert caught.value.status_code == 404
    assert "/sd lists the configured targets" in caught.value.detail


@pytest.mark.parametrize(("header", "seconds"), [("10", 10), ("0.25", 0.25), ("1e2", 100)])
def test_a_scrape_timeout_is_a_positive_number(header: str, seconds: float) -> None:
    assert _positive_seconds(header) == seconds


@pytest.mark.parametrize("header", UNREADABLE)
def test_anything_else_is_no_timeout(header: str) -> None:
    assert _positive_seconds(header) is None


def test_an_unreadable_scrape_timeout_is_the_default_and_is_logged_once(handler: ScrapeHandler) -> None:
    with structlog.testing.capture_logs() as lines:
        timeouts = {handler._timeout(request(timeout=header)) for header in UNREADABLE}
    assert timeouts == {9.5}
    assert [(line["event"], line["log_level"]) for line in lines] == [
        ("invalid scrape timeout; using the default", "warning")
    ]
    assert lines[0]["header"] == "X-Prometheus-Scrape-Timeout-Seconds"


def test_a_readable_scrape_timeout_is_not_logged(handler: ScrapeHandler) -> None:
    with structlog.testing.capture_logs() as lines:
        assert handler._timeout(request(timeout="3")) == 2.5
        assert handler._timeout(request()) == 9.5
    assert lines == []


def test_a_timeout_below_twice_the_offset_is_halved(handler: ScrapeHandler) -> None:
    assert handler._timeout(request(timeout="0.4")) == 0.2


def test_twice_the_time_of_the_previous_answer_is_reserved() -> None:
    answer_time = _AnswerTime()
    answer_time.record(100, 1.0)
    assert answer_time.reserve(100, 9.5) == pytest.approx(2.0)
    assert answer_time.reserve(110, 9.5) == pytest.approx(2.195), "of about that size"


def test_scrapes_of_another_size_say_nothing_about_the_time_of_an_answer() -> None:
    """60 parallel probes, each of which waited for the others, cost the next `/metrics` healthy polls."""
    answer_time = _AnswerTime()
    before = answer_time.reserve(300, 9.5)
    for _ in range(60):
        answer_time.record(1, 0.5)
    assert answer_time.reserve(300, 9.5) == before < 0.4
    assert answer_time.reserve(1, 9.5) == pytest.approx(1.0)


def test_an_answer_quicker_than_the_fixed_share_reserves_that() -> None:
    answer_time = _AnswerTime()
    answer_time.record(1, 0.001)
    assert answer_time.reserve(1, 9.5) == pytest.approx(0.05)


def test_at_most_half_of_the_timeout_is_reserved() -> None:
    answer_time = _AnswerTime()
    answer_time.record(10, 60.0)
    assert answer_time.reserve(10, 9.5) == pytest.approx(4.75)


def test_an_answer_without_queries_does_not_change_the_reserve() -> None:
    answer_time = _AnswerTime()
    before = answer_time.reserve(100, 9.5)
    answer_time.record(0, 5.0)
    assert answer_time.reserve(100, 9.5) == before
