from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from pydantic import SecretStr

from taskrouter_exporter.api.client import Attempt, RateLimit
from taskrouter_exporter.api.errors import ApiError, Reason
from taskrouter_exporter.config.model import Account, Config, Polling
from taskrouter_exporter.poll_history import PollResult
from taskrouter_exporter.queries import Anchored, Query, Target, Window
from taskrouter_exporter.web.debug import tell_polls

SECRET = "a-secret-of-the-account"
SID = "WS" + "0" * 32
URL = f"https://taskrouter.twilio.com/v1/Workspaces/{SID}/Workers/CumulativeStatistics"
WINDOW = Query(Target("main", SID, "support", "voice"), Window(240))
ACCOUNT = Account("main", "https://taskrouter.twilio.com", "AC" + "0" * 32, SecretStr(SECRET))
CONFIG = Config(accounts=MappingProxyType({"main": ACCOUNT}), polling=Polling(attempts=3), queries=(WINDOW,))


def story(query: Query = WINDOW, **attributes: Any) -> list[str]:
    finished = datetime(2026, 11, 23, 12, 0, 1, 500_000, UTC).timestamp()
    values: dict[str, Any] = {"finished": finished, "duration": 1.5, **attributes}
    return tell_polls([PollResult(query, **values)], CONFIG).splitlines()


def test_a_good_poll_s_story() -> None:
    assert story(attempts=(Attempt(0, 1.5, 200, None),), rate_limit=RateLimit(100, 99)) == [
        "Query: workspace 'support', channel 'voice', 4h",
        f"  GET {URL}?Minutes=240&TaskChannel=voice",
        "  account 'main', at most 3 attempts of 5 s",
        "  attempt 1, at once: HTTP 200 in 1.500 s",
        "  rate limit 100, remaining 99",
        "  up, 1.500 s in all, finished 2026-11-23T12:00:01.500+00:00",
    ]


def test_a_failed_poll_s_story_has_every_attempt_its_wait_and_its_reason() -> None:
    lost = ApiError(Reason.CONNECTION, "connection reset")
    busy = ApiError(Reason.RATE_LIMITED, "Too Many Requests", 429)
    told = story(attempts=(Attempt(0, 0.1, None, lost), Attempt(0.7, 0.2, 429, busy)), error=busy)
    assert told[3:] == [
        "  attempt 1, at once: no answer in 0.100 s: connection, connection reset",
        "  attempt 2, after waiting 0.700 s: HTTP 429 in 0.200 s: rate_limited, Too Many Requests",
        "  down: rate_limited, Too Many Requests, 1.500 s in all, finished 2026-11-23T12:00:01.500+00:00",
    ]


def test_an_anchored_query_s_story_tells_its_anchor() -> None:
    query = Query(WINDOW.target, Anchored("day"))
    told = story(query, anchor=datetime(2026, 11, 23, tzinfo=UTC))
    assert told[0].endswith(", day")
    assert "?StartDate=2026-11-23T00%3A00%3A00Z&TaskChannel=voice" in told[1]


def test_half_of_a_rate_limit_is_told_as_such() -> None:
    assert "  rate limit unknown, remaining 3" in story(rate_limit=RateLimit(None, 3))


def test_a_name_with_line_breaks_stays_on_its_line() -> None:
    told = story(Query(Target("main", SID, "a\u2028b\nHTTP 200", "all"), Window(15)))
    assert told[0] == r"Query: workspace 'a\u2028b\nHTTP 200', channel 'all', 15m"


def test_stories_follow_each_other_in_order() -> None:
    each = PollResult(WINDOW, finished=0, duration=0)
    assert tell_polls([each, each], CONFIG).count("Query: ") == 2
    assert tell_polls([], CONFIG) == ""


def test_no_password_is_told() -> None:
    assert SECRET not in "\n".join(story(error=ApiError(Reason.AUTH, "Authenticate", 401)))


def test_a_refused_query_s_story_says_when_it_is_asked_again() -> None:
    error = ApiError(Reason.NOT_FOUND, "gone (refused 3 times in a row, next attempt in 50 s)", 404)
    assert story(error=error)[3:] == [
        "  no attempt",
        f"  down: not_found, {error.message}, 1.500 s in all, finished 2026-11-23T12:00:01.500+00:00",
    ]
