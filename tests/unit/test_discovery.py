import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from support.virtual_clock import run_virtually

from taskrouter_exporter import discovery
from taskrouter_exporter.api.client import Call
from taskrouter_exporter.api.errors import ApiError, Reason
from taskrouter_exporter.api.executor import Standing
from taskrouter_exporter.api.transport import HttpAnswer
from taskrouter_exporter.config.loader import Config, parse_config
from taskrouter_exporter.discovery import (
    Discovered,
    DiscoveredChannel,
    DiscoveredWorkspace,
    Discovery,
    channels_path,
    expand,
    list_channels,
    list_workspaces,
)
from taskrouter_exporter.metrics import ExporterMetrics
from taskrouter_exporter.poll_history import PollResult
from taskrouter_exporter.runtime import Runtime

Parsed = TypeVar("Parsed")

WORKSPACES = "/v1/Workspaces"
SK = "SK0123456789abcdef0123456789abcdef"


def ws(number: int) -> str:
    return f"WS{number:032x}"


def tc(number: int) -> str:
    return f"TC{number:032x}"


def workspace(number: int, name: str | None = "support", created: str | None = None) -> DiscoveredWorkspace:
    return DiscoveredWorkspace(sid=ws(number), friendly_name=name, date_created=created)


def channel(number: int, name: str | None = "voice", created: str | None = None) -> DiscoveredChannel:
    return DiscoveredChannel(sid=tc(number), unique_name=name, date_created=created)


def configuration(targets: Any = (), interval: str = "10m", **accounts: Any) -> Config:
    """A configuration; each account's keys beside its credentials."""
    document = {
        "accounts": {
            name: {"username": SK, "password": "x", "base_url": "http://127.0.0.1:9", **keys}
            for name, keys in (accounts or {"main": {"workspaces": "auto"}}).items()
        },
        "targets": [*targets],
        "discovery": {"interval": interval},
    }
    return parse_config(json.dumps(document), "config.yaml", Path(), {})


def polled(config: Config, **found: Discovered) -> list[tuple[str, str, str, str]]:
    """Account, workspace SID, workspace and channel of each query."""
    queries, _ = expand(config, found)
    return [
        (target.account, target.workspace_sid, target.workspace, target.channel)
        for target in (query.target for query in queries)
    ]


# What follows from what was found


def test_each_workspace_that_was_found_is_polled_by_its_name() -> None:
    config = configuration()
    found = Discovered(workspaces=(workspace(1, "sales"), workspace(2, "support")))
    assert polled(config, main=found) == [
        ("main", ws(1), "sales", "all"),
        ("main", ws(2), "support", "all"),
    ]


def test_a_configured_workspace_is_not_added_again() -> None:
    config = configuration(
        [{"workspace": ws(1), "name": "mine", "channels": ["voice"], "account": "main"}],
        main={"workspaces": "auto"},
    )
    found = Discovered(workspaces=(workspace(1, "theirs"), workspace(2, "other")))
    assert [each[1:] for each in polled(config, main=found)] == [
        (ws(1), "mine", "voice"),
        (ws(2), "other", "all"),
    ]


def test_include_and_exclude_choose_by_name_and_exclude_wins() -> None:
    config = configuration(main={"workspaces": "auto", "include": ["s*", "x"], "exclude": ["*-test"]})
    names = ("support", "sales-test", "Sales", "x", "xx", None)
    found = Discovered(workspaces=tuple(workspace(number, name) for number, name in enumerate(names)))
    assert [each[2] for each in polled(config, main=found)] == ["support", "x"]


@pytest.mark.parametrize("order", [1, -1])
def test_the_older_of_two_namesakes_keeps_its_plain_name(order: int) -> None:
    both = (workspace(2, created="2020-01-01T00:00:00Z"), workspace(1, created="2021-01-01T00:00:00Z"))
    config = configuration()
    assert [each[1:3] for each in polled(config, main=Discovered(workspaces=both[::order]))] == [
        (ws(2), "support"),
        (ws(1), f"support ({ws(1)})"),
    ]


def test_a_configured_name_is_never_given_to_another_workspace() -> None:
    config = configuration(
        [{"workspace": ws(9), "name": "support", "account": "main"}], main={"workspaces": "auto"}
    )
    found = Discovered(workspaces=(workspace(1),))
    assert [each[2] for each in polled(config, main=found)] == ["support", f"support ({ws(1)})"]


@pytest.mark.parametrize("name", [None, "", "  ", "a\nb", "x" * 201, ws(7), "WS" + "A" * 32])
def test_a_workspace_whose_name_cannot_be_one_goes_by_its_sid(name: str | None) -> None:
    found = Discovered(workspaces=(workspace(1, name),))
    assert polled(configuration(), main=found) == [("main", ws(1), ws(1), "all")]


def test_a_workspace_found_through_two_accounts_is_polled_through_the_first() -> None:
    config = configuration(
        second={"workspaces": "auto", "windows": ["4h"]}, first={"workspaces": "auto", "channels": ["voice"]}
    )
    found = Discovered(workspaces=(workspace(1),))
    assert polled(config, first=found, second=found) == [("second", ws(1), "support", "all")]


def test_each_channel_of_a_workspace_is_polled_beside_those_that_are_named() -> None:
    config = configuration(
        [{"workspace": ws(1), "channels": ["all", "auto", "voice", tc(3)], "account": "main"}], main={}
    )
    found = Discovered(channels={ws(1): (channel(1, "voice"), channel(2, "chat"), channel(3, "sms"))})
    assert [each[3] for each in polled(config, main=found)] == ["all", "voice", tc(3), "chat"]


def test_a_channel_named_in_another_entry_of_the_workspace_keeps_to_it() -> None:
    config = configuration(
        [
            {"workspace": ws(1), "channels": "auto", "account": "main"},
            {"workspace": ws(1), "channels": ["voice"], "windows": ["4h"], "account": "main"},
        ],
        main={},
    )
    found = Discovered(channels={ws(1): (channel(1, "voice"), channel(2, "chat"))})
    assert [each[3] for each in polled(config, main=found)] == ["chat", "voice"]


@pytest.mark.parametrize("name", [None, "", "all", "auto", "a\tb", "TC" + "A" * 32, tc(9)])
def test_a_channel_whose_name_cannot_be_one_goes_by_its_sid(name: str | None) -> None:
    config = configuration(main={"workspaces": "auto", "channels": ["all", "auto"]})
    found = Discovered(workspaces=(workspace(1),), channels={ws(1): (channel(1, name),)})
    assert [each[3] for each in polled(config, main=found)] == ["all", tc(1)]


def test_sids_are_compared_without_regard_to_case() -> None:
    lower, upper = "a" * 32, "A" * 32
    config = configuration(
        [
            {
                "workspace": f"WS{lower}",
                "name": f"WS{'b' * 32}",
                "channels": [f"TC{lower}", "auto"],
                "account": "main",
            }
        ],
        main={"workspaces": "auto"},
        second={"workspaces": "auto"},
    )
    found = Discovered(
        workspaces=(
            DiscoveredWorkspace(sid=f"WS{upper}", friendly_name="configured"),
            DiscoveredWorkspace(sid=f"WS{'B' * 32}"),
            DiscoveredWorkspace(sid=f"WS{'c' * 32}", friendly_name=f"WS{upper}"),
        ),
        channels={
            f"WS{lower}": (DiscoveredChannel(sid=f"TC{upper}", unique_name="voice"), channel(2, f"TC{upper}"))
        },
    )
    second = Discovered(workspaces=(DiscoveredWorkspace(sid=f"WS{'C' * 32}", friendly_name="again"),))
    assert polled(config, main=found, second=second) == [
        ("main", f"WS{lower}", f"WS{'b' * 32}", f"TC{lower}"),
        ("main", f"WS{'B' * 32}", f"WS{'B' * 32} (2)", "all"),
        ("main", f"WS{'c' * 32}", f"WS{'c' * 32}", "all"),
    ]


def test_before_anything_is_found_the_static_queries_are_polled() -> None:
    config = configuration(
        [{"workspace": ws(1), "channels": ["auto", "voice"], "account": "main"}],
        main={"workspaces": "auto", "channels": "auto"},
    )
    assert expand(config, {}) == (config.queries, False)


def test_what_is_more_than_can_be_polled_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "MAX_QUERIES", 3)
    for number, cut in ((3, False), (4, True)):
        found = Discovered(workspaces=tuple(workspace(each, f"w{each}") for each in range(number)))
        queries, was_cut = expand(configuration(), {"main": found})
        assert [query.target.workspace for query in queries] == ["w0", "w1", "w2"]
        assert was_cut is cut


NAMES = st.sampled_from(
    [
        "a",
        "b",
        f"a ({ws(1)})",
        f"{ws(2)} (2)",
        ws(1),
        ws(2),
        ws(3),
        "all",
        "auto",
        "",
        " ",
        "a\x00",
        tc(1),
        None,
    ]
)
CREATED = st.sampled_from([None, "2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z"])
FOUND = st.builds(
    lambda workspaces, channels: Discovered(
        tuple(workspaces), {ws(n): tuple(each) for n, each in channels.items()}
    ),
    st.lists(st.builds(workspace, st.integers(1, 6), NAMES, CREATED), max_size=8),
    st.dictionaries(
        st.integers(1, 6), st.lists(st.builds(channel, st.integers(1, 3), NAMES, CREATED), max_size=4)
    ),
)
CHANNELS = st.just("auto") | st.lists(
    st.sampled_from(["all", "auto", "a", "b", tc(1)]), min_size=1, max_size=3, unique=True
)
ACCOUNT = st.fixed_dictionaries(
    {"workspaces": st.just("auto"), "channels": CHANNELS, "windows": st.just(["15m", "1h"])}
)
TARGETS = st.lists(
    st.tuples(st.integers(1, 6), st.sampled_from(["a", "b", "c", ws(1), ws(2), None]), CHANNELS),
    unique_by=(lambda each: each[0], lambda each: each[1] or ws(each[0])),
    max_size=3,
)


@given(TARGETS, ACCOUNT, ACCOUNT, FOUND, FOUND)
def test_whatever_is_found_no_two_queries_have_equal_labels(
    targets: list[tuple[int, str | None, Any]], one: Any, two: Any, first: Discovered, second: Discovered
) -> None:
    config = configuration(
        [
            {"workspace": ws(n), "channels": channels, "account": "one"} | ({"name": name} if name else {})
            for n, name, channels in targets
        ],
        one=one,
        two=two,
    )
    queries, cut = expand(config, {"one": first, "two": second})
    labels = [(each.target.workspace, each.target.channel, each.period.label) for each in queries]
    assert len({*labels}) == len(labels)
    assert {*config.queries} <= {*queries}
    names = {(each.target.workspace, each.target.workspace_sid) for each in queries}
    assert len({name for name, _ in names}) == len({sid for _, sid in names}) == len(names)
    assert not cut


# Reading the lists


def page(key: str, *items: object, following: str | None = None) -> dict[str, Any]:
    return {"meta": {"next_page_url": following, "key": key}, key: [*items]}


def item(number: int, name: str = "support") -> dict[str, Any]:
    return {"sid": ws(number), "friendly_name": name, "date_created": None, "links": {}}


def channel_item(number: int, name: str = "voice") -> dict[str, Any]:
    return {"sid": tc(number), "unique_name": name}


class Api:
    """A client that answers each path with what the test put there: a page, pages, an error, or a hang."""

    def __init__(self, pages: Mapping[str, Any] | None = None) -> None:
        self.pages: dict[str, Any] = dict(pages or {})
        self.calls: list[tuple[float, str, Mapping[str, str]]] = []
        self.claimed: list[Call] = []
        self.seconds = 0.0
        self.at_once = self.most_at_once = 0

    async def get(self, call: Call, read: Callable[[HttpAnswer], Parsed]) -> Parsed:
        self.claimed.append(call)
        self.calls.append((asyncio.get_running_loop().time(), call.path, call.parameters))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        call.requesting = True
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.at_once -= 1
        answer = self.pages[call.path]
        if callable(answer):
            answer = answer(call.parameters)
        if isinstance(answer, Exception):
            raise answer
        return read(HttpAnswer(200, {}, answer if isinstance(answer, bytes) else json.dumps(answer).encode()))


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
        (page("workspaces", {"sid": "WS12"}, 5), "no item .* first is item 0 of page 1: sid.string_pattern"),
        (page("workspaces", {"sid": f"{ws(1)}\n"}), "no item .* sid.string_pattern_mismatch"),
        (page("workspaces", {**item(1), "friendly_name": 5}), "no item .* friendly_name.string_type"),
        (page("workspaces", following=f"https://host{WORKSPACES}?PageSize=1000"), "comes back to a page"),
        (page("workspaces", following="https://host/v1/Other?Page=1"), "is one of something else"),
        (page("workspaces", following="@evil.example/"), "is one of something else"),
        (page("workspaces", following="https://[host/?Page=1"), "has no valid URL"),
        (lambda asked: page("workspaces", following=f"{WORKSPACES}?x=1{asked.get('x', '')}"), "does not end"),
    ],
)
def test_what_is_no_list_of_workspaces_fails(answer: Any, complaint: str) -> None:
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
def test_an_item_that_cannot_be_read_does_not_cost_the_rest_of_the_list(bad: Any, problem: str) -> None:
    found = run_virtually(list_workspaces(Api({WORKSPACES: page("workspaces", item(1), bad, item(2))})))
    assert [each.sid for each in found.items] == [ws(1), ws(2)]
    assert found.skipped == (f"item 1 of page 1: {problem}",)


def test_names_that_are_no_unicode_are_read_with_replacement_characters() -> None:
    names = (
        rb'{"meta": {}, "workspaces": [{"sid": "SID", "friendly_name": "caf\ud83d \u00e9\ud83d\udcde \xff"}]}'
    )
    body = names.replace(b"SID", ws(1).encode()).replace(rb"\xff", b"\xff")
    (found,) = run_virtually(list_workspaces(Api({WORKSPACES: body}))).items
    assert found.friendly_name == "caf\ufffd é📞 \ufffd"
    assert [each[2] for each in polled(configuration(), main=Discovered(workspaces=(found,)))] == [
        found.friendly_name
    ]


def test_a_channel_whose_name_is_no_unicode_goes_by_its_sid() -> None:
    path = channels_path(ws(1))
    api = Api({path: page("channels", channel_item(1, "caf\ud83d"))})
    found = Discovered(
        workspaces=(workspace(1),), channels={ws(1): run_virtually(list_channels(api, ws(1))).items}
    )
    config = configuration(main={"workspaces": "auto", "channels": "auto"})
    assert [each[3] for each in polled(config, main=found)] == [tc(1)]


@pytest.mark.parametrize("odd", [5, True, ["2020"], {"year": 2020}, "\ud83d"])
def test_an_odd_attribute_that_only_orders_the_list_costs_nothing(odd: Any) -> None:
    found = run_virtually(
        list_workspaces(Api({WORKSPACES: page("workspaces", {**item(1), "date_created": odd, "links": odd})}))
    )
    assert [each.sid for each in found.items] == [ws(1)]
    assert found.skipped == ()


def test_a_byte_order_mark_before_a_page_is_no_error() -> None:
    body = b"\xef\xbb\xbf" + json.dumps(page("workspaces", item(1))).encode()
    assert [each.sid for each in run_virtually(list_workspaces(Api({WORKSPACES: body}))).items] == [ws(1)]


def test_a_page_that_does_not_come_is_given_up() -> None:
    async def scenario() -> None:
        begin, api = asyncio.get_running_loop().time(), Api()
        api.seconds = 1000
        with pytest.raises(ApiError) as caught:
            await list_workspaces(api)
        assert caught.value.reason is Reason.TIMEOUT
        assert asyncio.get_running_loop().time() - begin == pytest.approx(30)

    run_virtually(scenario())


def test_lists_wait_for_polls_and_have_short_attempts_once_they_hung() -> None:
    async def scenario() -> None:
        path = channels_path(ws(1))
        api = Api({path: page("channels")})
        config = configuration([{"workspace": ws(1), "account": "main", "channels": "auto"}], main={})
        subject = discover(config, Told(), main=api)
        short = []
        for answer in (page("channels"), ApiError(Reason.TIMEOUT, "no answer"), page("channels")) * 2:
            api.pages[path] = answer
            await subject.refresh("main")
            short.append(api.claimed[-1].short_attempts > 0)
            assert api.claimed[-1].claim.standing is Standing.LIST
        assert short == [False, False, True, False, False, True]

    run_virtually(scenario())


# Keeping it up to date


class Told:
    """What a discovery told: an observer, and how often something changed."""

    def __init__(self) -> None:
        self.up: list[tuple[str, bool]] = []
        self.changes = 0

    def discovered(self, account: str, *, up: bool) -> None:
        self.up.append((account, up))

    def changed(self) -> None:
        self.changes += 1


def discover(
    config: Config, told: Told, before: Mapping[str, Discovered] | None = None, **apis: Api
) -> Discovery:
    return Discovery(config, apis, observer=told, changed=told.changed, before=before or {})


def test_a_failed_refresh_keeps_the_last_list_and_is_told_when_it_begins_changes_and_ends() -> None:
    async def scenario() -> None:
        told, api = Told(), Api({WORKSPACES: page("workspaces", item(1))})
        subject = discover(configuration(), told, main=api)
        assert not subject.attempted
        errors = [ApiError(Reason.AUTH, "Authenticate", 401, 20003), ApiError(Reason.CONNECTION, "refused")]
        good = api.pages[WORKSPACES]
        with capture_logs() as logs:
            for answer in (good, errors[0], errors[0], errors[1], good, good):
                api.pages[WORKSPACES] = answer
                await subject.refresh("main")
                assert [each.sid for each in subject.discovered["main"].workspaces] == [ws(1)]
        assert [up for _, up in told.up] == [True, False, False, False, True, True]
        assert told.changes == 1
        assert subject.attempted
        assert [(each["log_level"], each.get("reason")) for each in logs] == [
            ("warning", "auth"),
            ("warning", "connection"),
            ("info", None),
        ]
        assert logs[0]["code"] == 20003
        assert logs[0]["list"] == WORKSPACES

    run_virtually(scenario())


def test_items_that_cannot_be_read_are_told_once_as_long_as_they_are_as_many() -> None:
    async def scenario() -> None:
        told, secret = Told(), {"sid": "not-to-be-told"}
        bad = page("workspaces", item(1), secret)
        api, failed = Api(), ApiError(Reason.CONNECTION, "refused")
        subject = discover(configuration(), told, main=api)
        with capture_logs() as logs:
            for answer in (
                bad,
                page("workspaces", secret, item(1)),
                failed,
                bad,
                page("workspaces", item(1), secret, secret),
                page("workspaces", item(1)),
                bad,
            ):
                api.pages[WORKSPACES] = answer
                await subject.refresh("main")
                assert [each.sid for each in subject.discovered["main"].workspaces] == [ws(1)]
        assert [up for _, up in told.up] == [True, True, False, True, True, True, True]
        skipped = [each for each in logs if each["event"] == "list items skipped"]
        assert [each["items_skipped"] for each in skipped] == [1, 2, 1]
        assert skipped[0] == {
            "event": "list items skipped",
            "log_level": "warning",
            "account": "main",
            "list": WORKSPACES,
            "problem": "item 1 of page 1: sid.string_pattern_mismatch",
            "items_skipped": 1,
        }

    run_virtually(scenario())


def test_a_list_of_channels_that_cannot_be_read_stays_and_the_others_are_read() -> None:
    async def scenario() -> None:
        one, two = channels_path(ws(1)), channels_path(ws(2))
        told, api = Told(), Api({WORKSPACES: page("workspaces", item(1), item(2))})
        api.pages |= {one: page("channels", channel_item(1)), two: page("channels", channel_item(2))}
        subject = discover(configuration(main={"workspaces": "auto", "channels": "auto"}), told, main=api)
        await subject.refresh("main")
        api.pages[one] = ApiError(Reason.SERVER_ERROR, "no", 500)
        api.pages[two] = page("channels", channel_item(2), channel_item(3, "chat"))
        await subject.refresh("main")
        found = subject.discovered["main"]
        assert {sid: [each.sid for each in channels] for sid, channels in found.channels.items()} == {
            ws(1): [tc(1)],
            ws(2): [tc(2), tc(3)],
        }
        assert list(found.failures) == [one]
        assert told.up == [("main", True), ("main", False)]
        api.pages[WORKSPACES] = page("workspaces", item(2))
        await subject.refresh("main")
        assert list(subject.discovered["main"].channels) == [ws(2)]
        assert told.up[-1] == ("main", True)

    run_virtually(scenario())


def test_without_a_list_of_workspaces_their_channels_stay_and_are_not_asked_for() -> None:
    async def scenario() -> None:
        told = Told()
        api = Api({WORKSPACES: ApiError(Reason.AUTH, "no", 401)})
        before = Discovered((workspace(1),), {ws(1): (channel(1),)}, refreshed=1.0)
        config = configuration(main={"workspaces": "auto", "channels": "auto"})
        subject = discover(config, told, {"main": before}, main=api)
        await subject.refresh("main")
        assert subject.discovered["main"].channels == before.channels
        assert [path for _, path, _ in api.calls] == [WORKSPACES]

    run_virtually(scenario())


def test_only_the_lists_that_are_needed_are_read_and_few_at_once() -> None:
    async def scenario() -> None:
        told = Told()
        api = Api({channels_path(ws(number)): page("channels", channel_item(number)) for number in range(20)})
        api.seconds = 1
        config = configuration(
            [{"workspace": ws(number), "channels": "auto", "account": "main"} for number in range(19)]
            + [{"workspace": ws(19), "account": "main"}],
            main={},
            other={},
        )
        subject = discover(config, told, main=api, other=Api())
        assert list(subject.discovered) == ["main"]
        await subject.refresh("main")
        assert {path for _, path, _ in api.calls} == {channels_path(ws(number)) for number in range(19)}
        assert api.most_at_once == 4

    run_virtually(scenario())


def test_what_was_found_is_told_before_all_channels_are_known() -> None:
    async def scenario() -> None:
        seen: list[tuple[int, int]] = []
        api = Api(
            {WORKSPACES: page("workspaces", item(1)), channels_path(ws(1)): page("channels", channel_item(1))}
        )

        def changed() -> None:
            found = subject.discovered["main"]
            seen.append((len(found.workspaces), len(found.channels)))

        config = configuration(main={"workspaces": "auto", "channels": "auto"})
        subject = Discovery(config, {"main": api}, observer=Told(), changed=changed)
        await subject.refresh("main")
        assert seen == [(1, 0), (1, 1)]

    run_virtually(scenario())


@pytest.mark.parametrize(("interval", "retry"), [("10m", 60), ("20s", 20)])
def test_a_refresh_comes_every_interval_and_sooner_after_a_failure(interval: str, retry: float) -> None:
    async def scenario() -> None:
        told, api = Told(), Api({WORKSPACES: page("workspaces", item(1))})
        config = configuration(interval=interval)
        subject = discover(config, told, main=api)
        begin = asyncio.get_running_loop().time()
        subject.start()
        await asyncio.sleep(1)
        assert subject.attempted
        api.pages[WORKSPACES] = ApiError(Reason.CONNECTION, "refused")
        await asyncio.sleep(config.discovery_interval + 2 * retry)
        subject.cancel()
        await subject.ended()
        times = [time - begin for time, _, _ in api.calls]
        first = config.discovery_interval
        assert times == pytest.approx([0, first, first + retry, first + 2 * retry])

    run_virtually(scenario())


def test_an_account_that_hangs_does_not_delay_another_and_lets_go_when_cancelled() -> None:
    async def scenario() -> None:
        told, good, slow = Told(), Api({WORKSPACES: page("workspaces", item(1))}), Api()
        slow.seconds = 1000
        config = configuration(slow={"workspaces": "auto"}, good={"workspaces": "auto"})
        subject = discover(config, told, slow=slow, good=good)
        subject.start()
        await asyncio.sleep(1)
        assert told.up == [("good", True)]
        assert not subject.attempted
        subject.cancel()
        await subject.ended()
        assert told.up == [("good", True)]
        assert len(asyncio.all_tasks()) == 1

    run_virtually(scenario())


def test_an_error_that_nobody_foresaw_does_not_end_the_discovery() -> None:
    async def scenario() -> None:
        told, api = Told(), Api({WORKSPACES: KeyError("secret")})
        subject = discover(configuration(interval="10s"), told, main=api)
        with capture_logs() as logs:
            subject.start()
            await asyncio.sleep(15)
            api.pages[WORKSPACES] = page("workspaces", item(1))
            await asyncio.sleep(15)
        subject.cancel()
        await subject.ended()
        assert {True, False} == {up for _, up in told.up}
        assert "unforeseen KeyError" in logs[0]["message"]
        assert "secret" not in str(logs)

    run_virtually(scenario())


def test_what_was_found_before_a_reload_is_known_at_once() -> None:
    before = {"main": Discovered((workspace(1),), refreshed=5.0), "gone": Discovered()}
    subject = discover(configuration(), Told(), before, main=Api())
    assert subject.discovered == {"main": before["main"]}
    assert subject.attempted


# What becomes of it


def test_scrapes_from_then_on_have_what_was_found_and_what_went_away_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(discovery, "MAX_QUERIES", 2)

    async def scenario() -> None:
        runtime = Runtime(configuration, ExporterMetrics("1", "x"))
        before = runtime.snapshot
        assert not runtime.ready
        with capture_logs() as logs:
            for names in (("a", "b"), ("b", "c", "d"), ("c", "d", "e")):
                workspaces = tuple(workspace(number, name) for number, name in enumerate(names))
                runtime.discovery.discovered["main"] = Discovered(workspaces, refreshed=1.0)
                runtime._found_something()
                assert [each.workspace for each in runtime.snapshot.targets] == [*names[:2]]
                for query in runtime.snapshot.queries:
                    runtime.history.record(PollResult(query, finished=0, duration=0))
        assert runtime.ready
        assert before.queries == ()
        assert runtime.snapshot.poller is before.poller
        assert {query.target.workspace for query in runtime.history._last} == {"c", "d"}
        assert [each["event"] for each in logs] == [
            "discovery changed what is polled",
            "more was found than can be polled, the rest is left out",
            "discovery changed what is polled",
            "discovery changed what is polled",
        ]
        await runtime.stop()

    asyncio.run(scenario())


def test_once_ready_a_reload_does_not_make_it_unready() -> None:
    async def scenario() -> None:
        configs = [configuration([{"workspace": ws(1), "account": "main"}], main={}), configuration()]
        runtime = Runtime(lambda: configs.pop(0), ExporterMetrics("1", "x"))
        await runtime.reload()
        assert not runtime.discovery.attempted
        assert runtime.ready
        await runtime.stop()

    asyncio.run(scenario())
