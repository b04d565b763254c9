from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.listed import channel, configuration, polled, tc, workspace, ws

from taskrouter_exporter import expansion
from taskrouter_exporter.api.listed import DiscoveredChannel, DiscoveredRow, DiscoveredWorkspace
from taskrouter_exporter.config.model import RowSelection, Selection
from taskrouter_exporter.discovered import ROW_SIDS, Discovered, missing_rows
from taskrouter_exporter.expansion import expand, static_queries
from taskrouter_exporter.periods import Anchored, Window
from taskrouter_exporter.queries import Query, Target
from taskrouter_exporter.statistics.kind import SubjectName


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
def test_a_workspace_with_an_invalid_name_is_labelled_by_its_sid(name: str | None) -> None:
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
def test_a_channel_with_an_invalid_name_is_labelled_by_its_sid(name: str | None) -> None:
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
    assert expand(config, {}) == (static_queries(config), False)


def test_targets_over_the_limit_are_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expansion, "MAX_QUERIES", 3)
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
def test_no_two_discovered_queries_have_equal_labels(
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
    assert {*static_queries(config)} <= {*queries}
    names = {(each.target.workspace, each.target.workspace_sid) for each in queries}
    assert len({name for name, _ in names}) == len({sid for _, sid in names}) == len(names)
    assert not cut


def test_a_static_workspace_has_the_queries_of_its_named_channels_by_channel_and_period() -> None:
    day = Anchored("day")
    config = configuration(
        [
            {
                "workspace": ws(1),
                "name": "support",
                "account": "main",
                "channels": ["voice", "auto", "chat"],
                "counters": "day",
            }
        ]
    )
    voice, chat = (Target("main", ws(1), "support", channel) for channel in ("voice", "chat"))
    assert static_queries(config) == (
        Query(voice, Window(15)),
        Query(voice, day),
        Query(chat, Window(15)),
        Query(chat, day),
    )


def rows_of(found: Discovered, **keys: Any) -> list[tuple[str, str, str, str]]:
    """Kind, period, SID and label of each query for a queue or workflow."""
    config = configuration(
        [{"workspace": ws(1), "account": "main", "statistics": ["realtime"], **keys}], main={}
    )
    queries, _ = expand(config, {"main": found})
    return [
        (f"{each.kind.subject} {each.kind.name}", each.period.label, each.row.sid, each.row.name)
        for each in queries
        if each.row is not None
    ]


def listed(*names: str | None, subject: SubjectName = "queue") -> Discovered:
    """The list of a workspace's queues or workflows, the oldest first."""
    prefix = ROW_SIDS[subject]
    items = tuple(
        DiscoveredRow(sid=f"{prefix}{number:032x}", friendly_name=name, date_created=f"2026-01-0{number}")
        for number, name in enumerate(names, 1)
    )
    return Discovered(rows={(subject, ws(1)): items}, refreshed=1)


def test_auto_is_every_queue_by_its_name() -> None:
    assert [each[2:] for each in rows_of(listed("Sales", "Support"), queues="auto")] == [
        ("WQ" + "0" * 31 + "1", "Sales"),
        ("WQ" + "0" * 31 + "2", "Support"),
    ]
    assert rows_of(listed("Sales")) == []


def test_queues_are_named_by_name_or_sid_in_any_case_and_have_their_friendly_name_as_label() -> None:
    lower, upper = "WQ" + "a" * 32, "WQ" + "A" * 32
    items = (DiscoveredRow(sid=lower, friendly_name="Sales"), DiscoveredRow(sid="WQ1", friendly_name="Other"))
    found = Discovered(rows={("queue", ws(1)): items}, refreshed=1)
    assert [each[2:] for each in rows_of(found, queues=[upper])] == [(lower, "Sales")]
    assert [each[3] for each in rows_of(found, queues=["Other", lower])] == ["Sales", "Other"]


def test_patterns_choose_among_discovered_queues_and_named_ones_are_always_polled() -> None:
    found = listed("Sales", "Sales-test", "Support", "Named-test")
    keys = {"queues": ["auto", "Named-test"], "include_queues": ["S*"], "exclude_queues": ["*-test"]}
    assert [each[3] for each in rows_of(found, **keys)] == ["Sales", "Support", "Named-test"]


def test_the_younger_of_two_queues_with_one_name_has_its_sid_appended() -> None:
    assert [each[3] for each in rows_of(listed("Sales", "Sales", None), queues="auto")] == [
        "Sales",
        f"Sales (WQ{2:032x})",
        f"WQ{3:032x}",
    ]


def test_a_sid_that_the_list_lacks_is_polled_once_the_lists_were_tried() -> None:
    sid = "WQ" + "f" * 32
    assert [each[2:] for each in rows_of(listed("Sales"), queues=[sid])] == [(sid, sid)]
    assert [each[2:] for each in rows_of(Discovered(refreshed=1), queues=[sid])] == [(sid, sid)]
    assert rows_of(Discovered(), queues=[sid]) == []


def test_a_name_that_the_list_lacks_is_missing_and_not_polled() -> None:
    assert rows_of(listed("Sales"), queues=["Support"]) == []
    selection = Selection((), discover_channels=False, periods=(), rows={"queue": RowSelection(("Support",))})
    assert list(missing_rows(selection, listed("Sales"), ws(1))) == ["Support"]
    assert list(missing_rows(selection, Discovered(), ws(1))) == [], "unknown until the list was read"


def test_rows_have_the_statistics_of_the_target_by_kind_and_period() -> None:
    keys = {"statistics": ["tasks", "realtime"], "counters": "day"}
    found = listed("Assign", subject="workflow")
    assert [each[:2] for each in rows_of(found, workflows="auto", **keys)] == [
        ("workflow tasks", "15m"),
        ("workflow tasks", "day"),
        ("workflow realtime", ""),
    ]


@given(st.lists(st.sampled_from(["a", "b", f"a (WQ{2:032x})", f"WQ{1:032x}", "", None]), max_size=9))
def test_no_two_queries_for_queues_have_equal_labels(names: list[str | None]) -> None:
    labels = [each[3] for each in rows_of(listed(*names), queues=["auto", f"WQ{1:032x}", f"WQ{8:032x}"])]
    assert len(labels) == len(set(labels))
    assert len(labels) >= len(names)
