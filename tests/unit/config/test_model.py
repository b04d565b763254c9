from support.config_files import WS, WS2

from taskrouter_exporter.config.model import (
    Config,
    Polling,
    Selection,
    StaticWorkspace,
    WorkspaceDiscovery,
    queries_of,
)
from taskrouter_exporter.queries import Anchored, Query, Target, Window

SELECTION = Selection(("all",), discover_channels=False, periods=(Window(15),))


def discovery(include: tuple[str, ...] | None = None, exclude: tuple[str, ...] = ()) -> WorkspaceDiscovery:
    return WorkspaceDiscovery("default", include, exclude, SELECTION)


def test_queries_are_all_combinations_of_channels_and_periods() -> None:
    voice, chat = (Target("default", WS, "support", channel) for channel in ("voice", "chat"))
    day = Anchored("day")
    assert list(queries_of("default", WS, "support", ["voice", "chat"], [Window(15), day])) == [
        Query(voice, Window(15)),
        Query(voice, day),
        Query(chat, Window(15)),
        Query(chat, day),
    ]


def test_a_static_workspace_has_the_queries_of_its_named_channels() -> None:
    selection = Selection(("voice",), discover_channels=True, periods=(Window(15), Window(60)))
    workspace = StaticWorkspace("default", WS, "support", selection)
    assert [(query.target.channel, query.period) for query in workspace.queries] == [
        ("voice", Window(15)),
        ("voice", Window(60)),
    ]


def test_all_workspaces_are_included_by_default() -> None:
    assert discovery().wants("anything")
    assert discovery().wants("")


def test_include_and_exclude_are_case_sensitive_patterns() -> None:
    wanted = discovery(("support-*", "sale[sz]"), ("*-test",))
    names = ["support-eu", "sales", "salez", "support-eu-test", "Support-eu", "sale", "support"]
    assert [name for name in names if wanted.wants(name)] == ["support-eu", "sales", "salez"]


def test_targets_are_unique_and_in_file_order() -> None:
    first, second = Target("default", WS, WS, "all"), Target("default", WS2, WS2, "all")
    queries = (Query(first, Window(15)), Query(second, Window(15)), Query(first, Window(60)))
    assert Config({}, Polling(), queries).targets == (first, second)


def test_discovering_accounts_discover_workspaces_or_channels() -> None:
    channels = Selection((), discover_channels=True, periods=(Window(15),))
    config = Config(
        {},
        Polling(),
        (),
        workspaces=(
            StaticWorkspace("channels", WS, WS, channels),
            StaticWorkspace("static", WS2, WS2, SELECTION),
        ),
        workspace_discoveries=(discovery(),),
    )
    assert config.discovering_accounts == ("default", "channels")
