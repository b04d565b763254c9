from support.config_files import WS, WS2

from taskrouter_exporter.config.model import (
    Config,
    Polling,
    Selection,
    StaticWorkspace,
    WorkspaceDiscovery,
)
from taskrouter_exporter.periods import Window

SELECTION = Selection(("all",), discover_channels=False, periods=(Window(15),))


def discovery(include: tuple[str, ...] | None = None, exclude: tuple[str, ...] = ()) -> WorkspaceDiscovery:
    return WorkspaceDiscovery("default", include, exclude, SELECTION)


def test_all_workspaces_are_included_by_default() -> None:
    assert discovery().wants("anything")
    assert discovery().wants("")


def test_include_and_exclude_are_case_sensitive_patterns() -> None:
    wanted = discovery(("support-*", "sale[sz]"), ("*-test",))
    names = ["support-eu", "sales", "salez", "support-eu-test", "Support-eu", "sale", "support"]
    assert [name for name in names if wanted.wants(name)] == ["support-eu", "sales", "salez"]


def test_discovering_accounts_discover_workspaces_or_channels() -> None:
    channels = Selection((), discover_channels=True, periods=(Window(15),))
    config = Config(
        {},
        Polling(),
        workspaces=(
            StaticWorkspace("channels", WS, WS, channels),
            StaticWorkspace("static", WS2, WS2, SELECTION),
        ),
        workspace_discoveries=(discovery(),),
    )
    assert config.discovering_accounts == ("default", "channels")
