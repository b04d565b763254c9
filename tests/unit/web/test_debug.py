from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from pydantic import SecretStr

from taskrouter_exporter.api.call import Attempt, RateLimit
from taskrouter_exporter.api.errors import ApiError, Reason
from taskrouter_exporter.config.model import Account, Config, Polling
from taskrouter_exporter.periods import Anchored, Window
from taskrouter_exporter.poll_history import PollResult
from taskrouter_exporter.queries import Query, Target
from taskrouter_exporter.web.debug import describe_polls

SECRET = "a-secret-of-the-account"
SID = "WS" + "0" * 32
URL = f"https://taskrouter.twilio.com/v1/Workspaces/{SID}/Workers/CumulativeStatistics"
WINDOW = Query(Target("main", SID, "support", "voice"), Window(240))
ACCOUNT = Account("main", "https://taskrouter.twilio.com", "AC" + "0" * 32, SecretStr(SECRET))
CONFIG = Config(accounts=MappingProxyType({"main": ACCOUNT}), polling=Polling(attempts=3))


def output(query: Query = WINDOW, **attributes: Any) -> list[str]:
    finished = datetime(2026, 11, 23, 12, 0, 1, 500_000, UTC).timestamp()
    values: dict[str, Any] = {"finished": finished, "duration": 1.5, **attributes}
    return describe_polls([PollResult(query, **values)], CONFIG).splitlines()


def test_a_poll_that_succeeded_is_described_on_a_few_lines() -> None:
    assert output(attempts=(Attempt(0, 1.5, 200, None),), rate_limit=RateLimit(100, 99)) == [
        "Query: workspace 'support', channel 'voice', workers, 4h",
        f"  GET {URL}?Minutes=240&TaskChannel=voice",
        "  account 'main', up to 3 attempts with a timeout of 5 s",
        "  attempt 1: HTTP 200 in 1.500 s",
        "  rate limit 100, remaining 99",
        "  up; 1.500 s in total, finished 2026-11-23T12:00:01.500+00:00",
    ]


def test_a_failed_poll_lists_every_attempt_with_wait_and_reason() -> None:
    lost = ApiError(Reason.CONNECTION, "connection reset")
    busy = ApiError(Reason.RATE_LIMITED, "Too Many Requests", 429)
    lines = output(attempts=(Attempt(0, 0.1, None, lost), Attempt(0.7, 0.2, 429, busy)), error=busy)
    assert lines[3:] == [
        "  attempt 1: no response in 0.100 s: connection, connection reset",
        "  attempt 2, waited 0.700 s: HTTP 429 in 0.200 s: rate_limited, Too Many Requests",
        "  down: rate_limited, Too Many Requests; 1.500 s in total, finished 2026-11-23T12:00:01.500+00:00",
    ]


def test_an_anchored_query_shows_its_anchor() -> None:
    query = Query(WINDOW.target, Anchored("day"))
    lines = output(query, anchor=datetime(2026, 11, 23, tzinfo=UTC))
    assert lines[0].endswith(", day")
    assert "?StartDate=2026-11-23T00%3A00%3A00Z&TaskChannel=voice" in lines[1]


def test_a_missing_rate_limit_header_is_unknown() -> None:
    assert "  rate limit unknown, remaining 3" in output(rate_limit=RateLimit(None, 3))


def test_a_name_with_line_breaks_stays_on_one_line() -> None:
    lines = output(Query(Target("main", SID, "a\u2028b\nHTTP 200", "all"), Window(15)))
    assert lines[0] == r"Query: workspace 'a\u2028b\nHTTP 200', channel 'all', workers, 15m"


def test_polls_are_described_in_order() -> None:
    result = PollResult(WINDOW, finished=0, duration=0)
    assert describe_polls([result, result], CONFIG).count("Query: ") == 2
    assert describe_polls([], CONFIG) == ""


def test_no_password_is_shown() -> None:
    assert SECRET not in "\n".join(output(error=ApiError(Reason.AUTH, "Authenticate", 401)))


def test_a_paused_query_says_when_it_is_polled_next() -> None:
    error = ApiError(Reason.NOT_FOUND, "gone (refused 3 times in a row, next attempt in 50 s)", 404)
    assert output(error=error)[3:] == [
        "  no attempts",
        f"  down: not_found, {error.message}; 1.500 s in total, finished 2026-11-23T12:00:01.500+00:00",
    ]


def test_a_single_attempt_is_written_in_the_singular() -> None:
    config = replace(CONFIG, polling=Polling(attempts=1))
    text = describe_polls([PollResult(WINDOW, finished=0, duration=0)], config)
    assert "up to 1 attempt with a timeout of 5 s" in text
