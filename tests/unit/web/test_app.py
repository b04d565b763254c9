from unittest.mock import MagicMock

import pytest
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request

from taskrouter_exporter.web.app import Web, _ClosingTime, _parameter, _positive_seconds, _wanted_collectors


def request(query: str, timeout: str | None = None) -> Request:
    headers = [] if timeout is None else [(b"x-prometheus-scrape-timeout-seconds", timeout.encode())]
    return Request({"type": "http", "query_string": query.encode(), "headers": headers})


def test_twice_the_time_of_the_last_rendering_is_kept_back() -> None:
    rendering = _ClosingTime()
    rendering.took(100, 1.0)
    assert rendering.reserve(100, 9.5) == pytest.approx(2.05)
    assert rendering.reserve(1, 9.5) == pytest.approx(0.07)


def test_no_more_than_half_of_the_time_is_kept_back() -> None:
    rendering = _ClosingTime()
    rendering.took(10, 60.0)
    assert rendering.reserve(10, 9.5) == pytest.approx(4.75)


def test_an_answer_without_queries_teaches_nothing() -> None:
    rendering = _ClosingTime()
    before = rendering.reserve(100, 9.5)
    rendering.took(0, 5.0)
    assert rendering.reserve(100, 9.5) == before


@pytest.mark.parametrize(("header", "seconds"), [("10", 10), ("0.25", 0.25), ("1e2", 100)])
def test_a_scrape_timeout_is_a_positive_number(header: str, seconds: float) -> None:
    assert _positive_seconds(header) == seconds


UNREADABLE = ["", "x", "0", "-1", "nan", "inf", "10s", "10, 10", "1,5"]


@pytest.mark.parametrize("header", UNREADABLE)
def test_anything_else_is_no_timeout(header: str) -> None:
    assert _positive_seconds(header) is None


def test_an_unreadable_scrape_timeout_is_the_default_and_is_logged_once() -> None:
    web = Web(MagicMock(), "/metrics", 0.5)
    with structlog.testing.capture_logs() as lines:
        budgets = {web._budget(request("", timeout=header)) for header in UNREADABLE}
    assert budgets == {9.5}
    assert [(line["event"], line["log_level"]) for line in lines] == [
        ("invalid scrape timeout; using the default", "warning")
    ]
    assert lines[0]["header"] == "X-Prometheus-Scrape-Timeout-Seconds"


def test_a_readable_scrape_timeout_is_not_logged() -> None:
    web = Web(MagicMock(), "/metrics", 0.5)
    with structlog.testing.capture_logs() as lines:
        assert web._budget(request("", timeout="3")) == 2.5
        assert web._budget(request("")) == 9.5
    assert lines == []


def test_collectors_are_both_unless_one_is_asked_for() -> None:
    assert list(_wanted_collectors(request(""))) == ["targets", "exporter"]
    assert list(_wanted_collectors(request("collect[]=exporter"))) == ["exporter"]
    with pytest.raises(HTTPException):
        _wanted_collectors(request("collect[]=nothing"))


@pytest.mark.parametrize("query", ["", "workspace=", "workspace=a&workspace=b"])
def test_a_probe_names_its_target_once(query: str) -> None:
    with pytest.raises(HTTPException, match="write /probe"):
        _parameter(request(query), "workspace")
    assert _parameter(request("workspace=a%20b"), "workspace") == "a b"
