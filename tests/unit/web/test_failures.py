import json
import re
from html import unescape
from typing import Any

from taskrouter_exporter.api.errors import Reason
from taskrouter_exporter.failures import Failure
from taskrouter_exporter.periods import Current, Window
from taskrouter_exporter.queries import Query, Row, Target
from taskrouter_exporter.statistics.realtime import QUEUE
from taskrouter_exporter.web.failures import failures_by_target, failures_json, failures_section

NOW = 1_700_000_000.0
REQUEST_ID = "RQ" + "0" * 32


def target(name: str = "support") -> Target:
    return Target("main", "WS" + "0" * 32, name, "voice")


def failure(asked: Query | None = None, **attributes: Any) -> Failure:
    values: dict[str, Any] = {
        "query": asked or Query(target(), Window(15)),
        "finished": NOW - 7.25,
        "reason": Reason.AUTH,
        "status": 401,
        "code": 20003,
        "request_id": REQUEST_ID,
    }
    return Failure(**{**values, **attributes})


def cells(section: str) -> list[list[str]]:
    return [
        [unescape(cell) for cell in re.findall("<td>(.*?)</td>", row)]
        for row in re.findall("<tr>(.*?)</tr>", section)
        if "<td>" in row
    ]


def test_a_failed_poll_is_json_with_the_labels_of_its_query() -> None:
    text = failures_json([target(), target("b")], lambda asked: [failure()] if asked == target() else [])
    assert json.loads(text) == {
        "failures": [
            {
                "workspace": "support",
                "channel": "voice",
                "window": "15m",
                "statistics": "workers",
                "time": "2023-11-14T22:13:12.750Z",
                "reason": "auth",
                "status": 401,
                "code": 20003,
                "request_id": REQUEST_ID,
            }
        ]
    }


def test_what_a_failed_poll_does_not_have_is_null() -> None:
    asked = Query(target(), Current(), QUEUE, Row("WQ" + "0" * 32, "Voice"))
    missing = failure(asked, reason=Reason.TIMEOUT, status=None, code=None, request_id=None)
    (item,) = json.loads(failures_json([target()], lambda _: [missing]))["failures"]
    assert (item["status"], item["code"], item["request_id"]) == (None, None, None)
    assert (item["queue"], item["statistics"]) == ("Voice", "realtime")
    assert "window" not in item


def test_no_failed_polls_are_an_empty_list_and_no_section() -> None:
    assert json.loads(failures_json([target()], lambda _: ())) == {"failures": []}
    assert failures_section({}, NOW) == ""


def test_the_section_has_a_collapsed_element_for_each_target() -> None:
    html = failures_section({target("a"): [failure(), failure()], target("b"): [failure()]}, NOW)
    summaries = [re.sub("<[^>]*>", "", text) for text in re.findall("<summary>(.*?)</summary>", html)]
    assert summaries == [
        "a, voice: 2 failed polls, last 7 s ago (authentication failed)",
        "b, voice: 1 failed poll, last 7 s ago (authentication failed)",
    ]
    assert re.findall("<details([^>]*)>", html) == [' id="failures-0"', ' id="failures-1"']


def test_each_failed_poll_has_a_row() -> None:
    asked = Query(target(), Current(), QUEUE, Row("WQ" + "0" * 32, "<b>"))
    late = failure(asked, reason=Reason.TIMEOUT, status=None, code=None, request_id=None)
    assert cells(failures_section({target(): [failure(), late]}, NOW)) == [
        ["2023-11-14 22:13:12 UTC", "workers, 15m", "auth", "401", "20003", REQUEST_ID],
        ["2023-11-14 22:13:12 UTC", "realtime, queue <b>", "timeout", "-", "-", "-"],
    ]


def test_names_are_escaped() -> None:
    asked = Query(target(), Current(), QUEUE, Row("WQ" + "0" * 32, "<i>"))
    html = failures_section({target("<script>"): [failure(asked)]}, NOW)
    assert "<script>" not in html
    assert "<i>" not in html


def test_only_the_first_fifty_targets_with_failed_polls_are_shown() -> None:
    targets = [target(str(number)) for number in range(100)]
    known = failures_by_target(targets, lambda each: [failure()] if int(each.workspace) % 2 == 0 else [])
    assert [each.workspace for each in known] == [str(number) for number in range(0, 100, 2)]
    more = failures_by_target(targets, lambda _: [failure()])
    assert [each.workspace for each in more] == [str(number) for number in range(50)]
    assert "Those of the first 50 targets" in failures_section(more, NOW)
