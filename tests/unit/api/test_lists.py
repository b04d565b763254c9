import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
from support.listed import (
    WORKSPACES,
    Api,
    channel_item,
    configuration,
    item,
    page,
    polled,
    tc,
    workspace,
    ws,
)
from support.virtual_clock import run_virtually

from taskrouter_exporter.api.errors import ApiError, Reason
from taskrouter_exporter.api.lists import channels_path, list_channels, list_workspaces
from taskrouter_exporter.discovered import Discovered


def test_every_page_is_read_and_the_host_is_never_the_answers() -> None:
    def answer(parameters: Mapping[str, str]) -> Any:
        number = int(parameters.get("Page", "0"))
        following = f"https://evil.example/prefix{WORKSPACES}?PageSize=2&Page={number + 1}&PageToken=x%26y"
        return page("workspaces", item(number), following=following if number < 2 else None)

    api = Api({WORKSPACES: answer})
    found = run_virtually(list_workspaces(api))
    assert [each.sid for each in found.items] == [ws(0), ws(1), ws(2)]
    assert [(path, dict(parameters)) for _, path, parameters in api.calls] == [
        (WORKSPACES, {"PageSize": "250"}),
        (WORKSPACES, {"PageSize": "2", "Page": "1", "PageToken": "x&y"}),
        (WORKSPACES, {"PageSize": "2", "Page": "2", "PageToken": "x&y"}),
    ]


def test_the_next_page_may_have_the_sid_in_another_case() -> None:
    asked, answered = (f"/v1/Workspaces/WS{digits * 32}/TaskChannels" for digits in ("a", "A"))

    def answer(parameters: Mapping[str, str]) -> Any:
        if "Page" in parameters:
            return page("channels", channel_item(2))
        return page("channels", channel_item(1), following=f"https://host{answered}?Page=1")

    found = run_virtually(list_channels(Api({asked: answer}), f"WS{'a' * 32}"))
    assert [each.sid for each in found.items] == [tc(1), tc(2)]


def test_the_published_examples_are_read() -> None:
    sid = "WS" + "a" * 32
    shared = {"sid": sid, "date_created": "2016-08-01T22:10:40Z", "events_filter": None}
    api = Api(
        {
            WORKSPACES: page("workspaces", {**shared, "friendly_name": "new"}),
            channels_path(sid): page("channels", {**channel_item(1, "default"), "workspace_sid": sid}),
        }
    )
    (found,) = run_virtually(list_workspaces(api)).items
    assert (found.sid, found.friendly_name) == (sid, "new")
    (first,) = run_virtually(list_channels(api, sid)).items
    assert (first.sid, first.unique_name) == (tc(1), "default")


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (b"<html>", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"\xff\xfe[\x00]\x00", "not JSON"),
        ({"workspaces": []}, "meta.missing"),
        ({"meta": {}}, "workspaces.missing"),
        ({"meta": {}, "workspaces": {}}, "workspaces.list_type"),
        ({"meta": {"next_page_url": 5}, "workspaces": [item(1)]}, "meta.next_page_url.string_type"),
        (b'{"meta": {"next_page_url": "\\ud83d"}, "workspaces": []}', "meta.next_page_url.string_unicode"),
        ([], "model_type"),
        (
            page("workspaces", {"sid": "WS12"}, 5),
            "no item .* item 0 of page 1: sid.string_pattern",
        ),
        (page("workspaces", {"sid": f"{ws(1)}\n"}), "no item .* sid.string_pattern_mismatch"),
        (page("workspaces", {**item(1), "friendly_name": 5}), "no item .* friendly_name.string_type"),
        (page("workspaces", following=f"https://host{WORKSPACES}?PageSize=1000"), "returns to a page"),
        (page("workspaces", following="https://host/v1/Other?Page=1"), "belongs to another list"),
        (page("workspaces", following="@evil.example/"), "belongs to another list"),
        (page("workspaces", following="https://[host/?Page=1"), "has no valid URL"),
        (lambda asked: page("workspaces", following=f"{WORKSPACES}?x=1{asked.get('x', '')}"), "does not end"),
    ],
)
def test_an_answer_that_is_not_a_list_of_workspaces_is_an_error(answer: Any, complaint: str) -> None:
    api = Api({WORKSPACES: answer})
    with pytest.raises(ApiError, match=complaint) as caught:
        run_virtually(list_workspaces(api))
    assert caught.value.reason is Reason.BAD_RESPONSE
    assert len(api.calls) <= 100


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ({"sid": "WS12"}, "sid.string_pattern_mismatch"),
        ({"sid": tc(1)}, "sid.string_pattern_mismatch"),
        ({"sid": f"{ws(3)}\n"}, "sid.string_pattern_mismatch"),
        ({"sid": "\ud83d"}, "sid.string_unicode"),
        ({"sid": None}, "sid.string_type"),
        ({}, "sid.missing"),
        ({"sid": ws(3), "friendly_name": 5}, "friendly_name.string_type"),
        (None, "model_type"),
        ([ws(3)], "model_type"),
        (ws(3), "model_type"),
    ],
)
def test_an_unreadable_item_is_skipped_and_the_rest_is_read(bad: Any, problem: str) -> None:
    found = run_virtually(list_workspaces(Api({WORKSPACES: page("workspaces", item(1), bad, item(2))})))
    assert [each.sid for each in found.items] == [ws(1), ws(2)]
    assert found.skipped == (f"item 1 of page 1: {problem}",)


def test_names_that_are_not_unicode_are_read_with_replacement_characters() -> None:
    names = (
        rb'{"meta": {}, "workspaces": [{"sid": "SID", "friendly_name": "caf\ud83d \u00e9\ud83d\udcde \xff"}]}'
    )
    body = names.replace(b"SID", ws(1).encode()).replace(rb"\xff", b"\xff")
    (found,) = run_virtually(list_workspaces(Api({WORKSPACES: body}))).items
    assert found.friendly_name == "caf\ufffd é📞 \ufffd"
    assert [each[2] for each in polled(configuration(), main=Discovered(workspaces=(found,)))] == [
        found.friendly_name
    ]


def test_a_channel_whose_name_is_not_unicode_is_labelled_by_its_sid() -> None:
    path = channels_path(ws(1))
    api = Api({path: page("channels", channel_item(1, "caf\ud83d"))})
    found = Discovered(
        workspaces=(workspace(1),), channels={ws(1): run_virtually(list_channels(api, ws(1))).items}
    )
    config = configuration(main={"workspaces": "auto", "channels": "auto"})
    assert [each[3] for each in polled(config, main=found)] == [tc(1)]


@pytest.mark.parametrize("odd", [5, True, ["2020"], {"year": 2020}, "\ud83d"])
def test_an_invalid_attribute_used_only_for_sorting_is_ignored(odd: Any) -> None:
    found = run_virtually(
        list_workspaces(Api({WORKSPACES: page("workspaces", {**item(1), "date_created": odd, "links": odd})}))
    )
    assert [each.sid for each in found.items] == [ws(1)]
    assert found.skipped == ()


def test_a_byte_order_mark_before_a_page_is_no_error() -> None:
    body = b"\xef\xbb\xbf" + json.dumps(page("workspaces", item(1))).encode()
    assert [each.sid for each in run_virtually(list_workspaces(Api({WORKSPACES: body}))).items] == [ws(1)]


def test_a_page_that_does_not_arrive_is_a_timeout() -> None:
    async def scenario() -> None:
        begin, api = asyncio.get_running_loop().time(), Api()
        api.seconds = 1000
        with pytest.raises(ApiError) as caught:
            await list_workspaces(api)
        assert caught.value.reason is Reason.TIMEOUT
        assert asyncio.get_running_loop().time() - begin == pytest.approx(30)

    run_virtually(scenario())
