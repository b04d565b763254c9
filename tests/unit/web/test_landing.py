import re
from html import unescape
from typing import Any

import pytest

from taskrouter_exporter.api.client import RateLimit
from taskrouter_exporter.api.errors import ApiError, Reason
from taskrouter_exporter.poll_history import PollResult
from taskrouter_exporter.queries import Anchored, Query, Target, Window
from taskrouter_exporter.statistics.workers import WorkersStatistics
from taskrouter_exporter.web.landing import LANDING_HEADERS, landing_page

NOW = 1_700_000_000.0
SID = "WS" + "0" * 32
STATISTICS = WorkersStatistics(created=1234, outcomes={"accepted": 1200, "rejected": 3})


def query(
    workspace: str = "support", channel: str = "all", period: Window | Anchored = Window(15)  # noqa: B008 -- frozen
) -> Query:  # fmt: skip
    return Query(Target("main", SID, workspace, channel), period)


def outcome(query: Query, **attributes: Any) -> PollResult:
    values: dict[str, Any] = {"finished": NOW - 7, "duration": 0.25, **attributes}
    return PollResult(query, **values)


def page(*outcomes: PollResult, queries: list[Query] | None = None) -> str:
    last = {each.query: each for each in outcomes}
    asked = list(last) if queries is None else queries
    return landing_page(asked, last.get, "/metrics", NOW)


def rows(page: str) -> list[dict[str, str]]:
    """Text of the table's cells by label, as a phone shows them."""
    body = page.partition("<tbody>")[2].partition("</tbody>")[0]
    return [
        {
            label: unescape(re.sub("<[^>]*>", "", html))
            for label, html in re.findall(r'<td[^>]* data-label="([^"]*)">(.*?)</td>', row)
        }
        for row in body.split("</tr>")[:-1]
    ]


def test_a_target_has_one_row_with_all_its_windows() -> None:
    queries = [query(period=Window(15)), query(period=Window(240)), query(period=Anchored("day"))]
    (row,) = rows(page(queries=queries))
    assert (row["Workspace"], row["Channel"], row["Windows"]) == ("support", "all", "15m, 4h, day")


def test_a_target_that_was_never_polled_says_so() -> None:
    (row,) = rows(page(queries=[query()]))
    assert (row["Last poll"], row["Took"], row["State"]) == ("never", "", "not polled yet")
    assert [row[name] for name in ("Created", "Accepted", "Rejected", "Timed out")] == ["-"] * 4


def test_a_target_that_is_up_shows_when_how_long_and_its_counts() -> None:
    (row,) = rows(page(outcome(query(), statistics=STATISTICS)))
    assert (row["Last poll"], row["Took"], row["State"]) == ("7 s ago", "0.25 s", "up")
    assert (row["Created"], row["Accepted"], row["Rejected"]) == ("1,234", "1,200", "3")
    assert row["Timed out"] == "-", "what Twilio did not say is not 0"


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_words(reason: Reason) -> None:
    (row,) = rows(page(outcome(query(), error=ApiError(reason, "message"))))
    assert re.fullmatch("down: [a-zA-Z ]+", row["State"])
    assert "_" not in row["State"]


def test_one_failed_window_makes_the_target_down_and_each_reason_stands_once() -> None:
    errors = [None, ApiError(Reason.TIMEOUT, ""), ApiError(Reason.TIMEOUT, ""), ApiError(Reason.AUTH, "")]
    polled = [outcome(query(period=Window(15 * n)), error=each) for n, each in enumerate(errors, 1)]
    (row,) = rows(page(*polled))
    assert row["State"] == "down: no answer in time, credentials refused"


def test_counts_are_those_of_the_first_window_and_of_the_counters_where_there_is_none() -> None:
    day, window, later = query(period=Anchored("day")), query(period=Window(15)), query(period=Window(60))
    polled = [
        outcome(each, statistics=WorkersStatistics(created=n))
        for n, each in enumerate((day, window, later), 1)
    ]
    assert rows(page(*polled))[0]["Created"] == "2"
    assert rows(page(polled[0]))[0]["Created"] == "1"


def test_a_clock_set_back_shows_no_negative_age() -> None:
    (row,) = rows(page(outcome(query(), finished=NOW + 60)))
    assert row["Last poll"] == "0 s ago"


def test_the_newest_rate_limit_of_each_workspace_is_shown() -> None:
    told = page(
        outcome(query("a"), rate_limit=RateLimit(100, 40)),
        outcome(query("a", "voice"), rate_limit=RateLimit(100, 39), finished=NOW - 1),
        outcome(query("b"), rate_limit=RateLimit(100, None)),
    )
    assert re.findall("<li>(.*?)</li>", told) == ["a: 39 of 100 requests left"]
    assert "Not known yet." in page(queries=[query()])


@pytest.mark.parametrize("hostile", ["<script>x()</script>", '"><img src=x>', "' onclick='x()", "a&amp;b"])
def test_names_are_escaped_in_text_and_links(hostile: str) -> None:
    asked = query(hostile, hostile)
    told = page(outcome(asked, rate_limit=RateLimit(10, 5), statistics=STATISTICS))
    (row,) = rows(told)
    assert (row["Workspace"], row["Channel"]) == (hostile, hostile)
    assert hostile not in told
    assert set(re.findall(r"<([a-z0-9]+)", told)) == {
        "html", "head", "meta", "title", "style", "body", "h1", "span", "p", "nav", "a", "h2", "div",
        "table", "thead", "tbody", "tr", "th", "td", "ul", "li",
    }  # fmt: skip


def test_an_error_s_message_is_not_shown() -> None:
    assert "from-twilio" not in page(outcome(query(), error=ApiError(Reason.AUTH, "from-twilio")))


def test_a_page_of_no_targets_is_a_page() -> None:
    assert "<tbody></tbody>" in page(queries=[])


def test_of_very_many_targets_those_that_are_down_come_first_and_the_rest_is_counted() -> None:
    queries = [query(str(number)) for number in range(1_500)]
    ill = outcome(queries[-1], error=ApiError(Reason.TIMEOUT, ""))
    told = page(outcome(queries[0], statistics=STATISTICS), ill, queries=queries)
    shown = [row["Workspace"] for row in rows(told)]
    assert shown == ["1499", *(str(number) for number in range(999))]
    assert "And 500 more that are not shown." in told
    assert "not shown" not in page(queries=queries[:1_000])
    assert len(rows(page(queries=queries[:1_000]))) == 1_000


def test_nothing_is_loaded_and_no_script_allowed() -> None:
    told = page(outcome(query(), statistics=STATISTICS))
    assert not re.search(r"<script|<img|<link|@import|url\(|src=|https?:", told)
    policy = LANDING_HEADERS["Content-Security-Policy"]
    assert policy.startswith("default-src 'none';")
    assert "script-src" not in policy
