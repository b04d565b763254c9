import base64
import hashlib
import re
from collections.abc import Sequence
from html import unescape
from typing import Any

import pytest
from support.statistics import statistics

from taskrouter_exporter.api.call import RateLimit
from taskrouter_exporter.api.errors import ApiError, Reason
from taskrouter_exporter.api.listed import DiscoveredChannel, DiscoveredWorkspace
from taskrouter_exporter.discovered import Discovered
from taskrouter_exporter.failures import Failures
from taskrouter_exporter.periods import Anchored, Current, Window
from taskrouter_exporter.poll_history import PollResult
from taskrouter_exporter.queries import Query, Target
from taskrouter_exporter.runtime import FailedReload
from taskrouter_exporter.statistics.realtime import WORKSPACE as REALTIME
from taskrouter_exporter.statistics.workers import WORKERS
from taskrouter_exporter.web.landing import LANDING_HEADERS, Overview, landing_page

NOW = 1_700_000_000.0
SID = "WS" + "0" * 32
DOCUMENTATION = "https://docs.example/v1"
LINKS = {"Metrics": "/own-metrics", "Documentation": DOCUMENTATION}
STATISTICS = statistics(reservations_created=1234, reservations_accepted=1200, reservations_rejected=3)


def query(
    workspace: str = "support", channel: str = "all", period: Window | Anchored = Window(15)  # noqa: B008 -- frozen
) -> Query:  # fmt: skip
    return Query(Target("main", SID, workspace, channel), period)


def result(query: Query, **attributes: Any) -> PollResult:
    resource = query.kind.rate_limited_as
    values: dict[str, Any] = {"finished": NOW - 7, "duration": 0.25, "resource": resource, **attributes}
    return PollResult(query, **values)


def page(*results: PollResult, queries: Sequence[Query] | None = None, **attributes: Any) -> str:
    last = {each.query: each for each in results}
    asked = list(last) if queries is None else queries
    return landing_page(Overview(asked, last.get, LINKS, **attributes), NOW)


def text(html: str) -> str:
    return unescape(re.sub("<[^>]*>", "", html))


def headings(page: str) -> list[str]:
    return re.findall(r"<th[^>]*>(.*?)</th>", page.partition('id="targets"')[2].partition("</thead>")[0])


def headline(page: str) -> str:
    (line,) = re.findall('<p class="headline[^>]*>(.*?)</p>', page)
    return text(line)


def rows(page: str) -> list[dict[str, str]]:
    """Text of the table's cells by label, as a phone shows them."""
    body = page.partition("<tbody>")[2].partition("</tbody>")[0]
    return [
        {label: text(html) for label, html in re.findall(r'<td[^>]* data-label="([^"]*)">(.*?)</td>', row)}
        for row in body.split("</tr>")[:-1]
    ]


def test_a_target_has_one_row_with_all_its_windows() -> None:
    queries = [query(period=Window(15)), query(period=Window(240)), query(period=Anchored("day"))]
    (row,) = rows(page(queries=queries))
    assert (row["Workspace"], row["Channel"], row["Windows"]) == ("support", "all", "15m, 4h, day")


def test_a_target_is_not_polled_yet_before_the_first_scrape() -> None:
    (row,) = rows(page(queries=[query()]))
    assert (row["Last poll"], row["Duration"], row["State"]) == ("never", "", "not polled yet")
    assert [row[name] for name in ("Created", "Accepted", "Rejected", "Timed out")] == ["-"] * 4


def test_a_target_that_is_up_shows_when_how_long_and_its_counts() -> None:
    (row,) = rows(page(result(query(), answer=STATISTICS)))
    assert (row["Last poll"], row["Duration"], row["State"]) == ("7 s ago", "0.25 s", "up")
    assert (row["Created"], row["Accepted"], row["Rejected"]) == ("1,234", "1,200", "3 (0.2 %)")
    assert row["Timed out"] == "-", "a missing count is not 0"


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_description(reason: Reason) -> None:
    (row,) = rows(page(result(query(), error=ApiError(reason, "message"))))
    assert re.fullmatch("down: [a-zA-Z ]+", row["State"])
    assert "_" not in row["State"]


def test_a_target_is_down_when_one_window_failed_and_names_each_reason_once() -> None:
    errors = [None, ApiError(Reason.TIMEOUT, ""), ApiError(Reason.TIMEOUT, ""), ApiError(Reason.AUTH, "")]
    polled = [result(query(period=Window(15 * n)), error=each) for n, each in enumerate(errors, 1)]
    (row,) = rows(page(*polled))
    assert row["State"] == "down: timeout, authentication failed"


def test_counts_are_those_of_the_shortest_window_or_else_of_the_counters() -> None:
    day, long, window = query(period=Anchored("day")), query(period=Window(60)), query(period=Window(15))
    polled = [
        result(each, answer=statistics(each.period.role, reservations_created=n))
        for n, each in enumerate((day, long, window), 1)
    ]
    assert rows(page(*polled))[0]["Created"] == "3"
    assert "day, 1h, <b>15m</b>" in page(*polled)
    assert headings(page(*polled))[4] == "Created (15m)"
    assert rows(page(polled[0]))[0]["Created"] == "1"
    assert headings(page(polled[0]))[4] == "Created (day)"


def test_the_counts_of_a_window_whose_poll_failed_are_not_those_of_another() -> None:
    failed = result(query(period=Window(15)), error=ApiError(Reason.TIMEOUT, ""))
    assert rows(page(failed, result(query(period=Window(60)), answer=STATISTICS)))[0]["Created"] == "-"


def test_headings_have_no_period_where_targets_have_different_ones() -> None:
    html = page(queries=[query("a", period=Window(15)), query("b", period=Window(60))])
    assert headings(html)[4:8] == ["Created", "Accepted", "Rejected", "Timed out"]


def test_current_numbers_have_no_period_in_their_heading() -> None:
    html = page(queries=[query(), Query(query().target, Current(), REALTIME)])
    assert headings(html)[4:10] == [
        "Created (15m)", "Accepted (15m)", "Rejected (15m)", "Timed out (15m)", "Waiting", "Longest wait",
    ]  # fmt: skip


def test_a_share_of_no_reservations_is_not_shown() -> None:
    nothing = statistics(reservations_created=0, reservations_rejected=0)
    assert rows(page(result(query(), answer=nothing)))[0]["Rejected"] == "0"


def test_the_headline_counts_targets_that_are_up_or_down_and_why() -> None:
    up, down = (result(query(name), answer=STATISTICS) for name in ("a", "b")), ApiError(Reason.AUTH, "")
    assert headline(page(queries=[])) == "No targets"
    assert headline(page(queries=[query()])) == "0 of 1 target up not polled yet: 1"
    assert headline(page(*up)) == "2 of 2 targets up"
    failed = [result(query(name), error=down) for name in ("c", "d")]
    late = result(query("e"), error=ApiError(Reason.TIMEOUT, ""))
    polled = (late, *failed, result(query("a"), answer=STATISTICS))
    asked = [*(each.query for each in polled), query("f")]
    assert headline(page(*polled, queries=asked)) == (
        "3 of 5 targets down authentication failed: 2, timeout: 1, not polled yet: 1"
    )


def test_targets_that_are_down_come_first() -> None:
    failed = result(query("c"), error=ApiError(Reason.AUTH, ""))
    html = page(result(query("a"), answer=STATISTICS), result(query("b"), answer=STATISTICS), failed)
    assert [row["Workspace"] for row in rows(html)] == ["c", "a", "b"]


def test_the_demo_is_named_with_its_scenario() -> None:
    assert "DEMO Simulated statistics, scenario outage." in text(page(queries=[], demo_scenario="outage"))
    assert "DEMO" not in page(queries=[])


def test_a_failed_reload_shows_its_problems_escaped() -> None:
    html = page(queries=[], failed_reload=FailedReload(NOW - 9, ["config.yaml:1: '<b>'", "second"]))
    assert "The last reload failed 9 s ago; keeping the previous configuration." in text(html)
    assert re.findall("<li>(.*?)</li>", html) == ["config.yaml:1: &#x27;&lt;b&gt;&#x27;", "second"]


def test_only_the_first_problems_of_a_failed_reload_are_shown() -> None:
    problems = [f"problem {number}" for number in range(1_010)]
    lines = re.findall("<li>(.*?)</li>", page(queries=[], failed_reload=FailedReload(NOW, problems)))
    assert lines == [*problems[:10], "1,000 more"]


def test_a_trend_is_drawn_in_the_column_of_its_share() -> None:
    column = WORKERS.shares[0]
    html = page(
        result(query(), answer=STATISTICS),
        trend=lambda _, now: {column: [0.01, 0.5]} if now == NOW else {},
    )
    (cell,) = re.findall('<td[^>]*data-label="Rejected">(.*?)</td>', html)
    assert "<title>1.0 to 50.0 % in the last hour</title>" in cell
    assert html.count("<svg") == 1


def test_the_state_of_a_target_that_is_down_leads_to_its_failed_polls() -> None:
    failed = result(query(), error=ApiError(Reason.AUTH, "", 401))
    failures = Failures()
    failures.record(failed)
    html = page(failed, failures=failures.of)
    (link,) = re.findall('<a class="down" href="#([^"]+)">', html)
    assert f'<details id="{link}">' in html


def test_a_clock_set_back_shows_no_negative_age() -> None:
    (row,) = rows(page(result(query(), finished=NOW + 60)))
    assert row["Last poll"] == "0 s ago"


def test_the_newest_rate_limit_of_each_workspace_is_shown() -> None:
    html = page(
        result(query("a"), rate_limit=RateLimit(100, 40)),
        result(query("a", "voice"), rate_limit=RateLimit(100, 39), finished=NOW - 1),
        result(query("b"), rate_limit=RateLimit(100, None)),
    )
    assert re.findall("<li>(.*?)</li>", html) == [
        "a, Workers/CumulativeStatistics: 39 of 100 requests remaining"
    ]
    assert "Unknown." in page(queries=[query()])


@pytest.mark.parametrize("hostile", ["<script>x()</script>", '"><img src=x>', "' onclick='x()", "a&amp;b"])
def test_names_are_escaped_in_text_and_links(hostile: str) -> None:
    asked = query(hostile, hostile)
    html = page(result(asked, rate_limit=RateLimit(10, 5), answer=STATISTICS))
    (row,) = rows(html)
    assert (row["Workspace"], row["Channel"]) == (hostile, hostile)
    assert hostile not in html
    assert set(re.findall(r"<([a-z0-9]+)", html)) == {
        "html", "head", "meta", "title", "style", "body", "header", "h1", "span", "p", "nav", "a", "main",
        "h2", "div", "label", "input", "select", "option", "output", "table", "thead", "tbody", "tr", "th",
        "td", "ul", "li", "script",
    }  # fmt: skip


def test_error_messages_of_the_api_are_not_shown() -> None:
    failed = result(query(), error=ApiError(Reason.AUTH, "from-twilio"))
    failures = Failures()
    failures.record(failed)
    assert "from-twilio" not in page(failed, failures=failures.of)


def test_a_page_without_targets_has_an_empty_table() -> None:
    assert "<tbody></tbody>" in page(queries=[])


def test_only_the_first_thousand_targets_are_shown_those_that_are_down_first() -> None:
    queries = [query(str(number)) for number in range(1_500)]
    failed = result(queries[-1], error=ApiError(Reason.TIMEOUT, ""))
    html = page(result(queries[0], answer=STATISTICS), failed, queries=queries)
    shown = [row["Workspace"] for row in rows(html)]
    assert shown == ["1499", *(str(number) for number in range(999))]
    assert "500 more targets are not shown." in html
    assert "not shown" not in page(queries=queries[:1_000])
    assert len(rows(page(queries=queries[:1_000]))) == 1_000


def test_the_page_loads_nothing_and_allows_its_own_script_and_style_only() -> None:
    html = page(result(query(), answer=STATISTICS))
    assert not re.search(r"<img|<link|@import|url\(|src=|style=|https?:", html.replace(DOCUMENTATION, ""))
    policy = dict(each.split(" ", 1) for each in LANDING_HEADERS["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    for element in ("script", "style"):
        (content,) = re.findall(f"<{element}>(.*?)</{element}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert policy[f"{element}-src"] == f"'sha256-{digest}'"


def test_the_page_links_to_the_given_targets() -> None:
    html = page(queries=[query()])
    assert '<a href="/own-metrics">Metrics</a>' in html
    assert f'<a href="{DOCUMENTATION}">Documentation</a>' in html


def test_one_omitted_target_is_written_in_the_singular() -> None:
    assert "1 more target is not shown." in page(queries=[query(str(number)) for number in range(1_001)])


def discovered(**attributes: Any) -> str:
    html = page(queries=[], found={"main": Discovered(**attributes)})
    (line,) = re.findall("<li>(.*?)</li>", html)
    return text(line)


def test_discovery_shows_its_last_refresh_and_what_it_found() -> None:
    workspace = DiscoveredWorkspace(sid=SID, friendly_name="support")
    channels = {SID: (DiscoveredChannel(sid="TC" + "0" * 32), DiscoveredChannel(sid="TC" + "1" * 32))}
    line = discovered(workspaces=(workspace,), channels=channels, refreshed=NOW - 60)
    assert line == "main: last refresh 60 s ago, found 1 workspace and 2 channels, up"
    assert discovered(refreshed=NOW) == "main: last refresh 0 s ago, found nothing, up"


def test_discovery_shows_why_its_last_refresh_failed() -> None:
    failures = {"/v1/Workspaces": ApiError(Reason.AUTH, "from-twilio", 401)}
    line = discovered(refreshed=NOW, failures=failures)
    assert line.endswith(", down: authentication failed")


def test_account_names_are_escaped() -> None:
    assert "<b>" not in page(queries=[], found={"new<b>": Discovered()})


def test_discovery_is_in_progress_before_the_first_refresh() -> None:
    assert discovered() == "main: first refresh in progress"
