import re
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from support.config_files import AC, ENVIRONMENT, SECRET, SK, TARGETS, WS, WS2, parse, problems_of, targets_of

from taskrouter_exporter.config.errors import ConfigError
from taskrouter_exporter.config.files import MAX_FILE_BYTES, ConfigFiles
from taskrouter_exporter.config.model import (
    Account,
    Polling,
    RowSelection,
    Selection,
    StaticWorkspace,
    WorkspaceDiscovery,
)
from taskrouter_exporter.config.schema import (
    AccountModel,
    DiscoveryModel,
    FileModel,
    PollingModel,
    TargetModel,
)
from taskrouter_exporter.expansion import static_queries
from taskrouter_exporter.periods import Anchored, Current, Window
from taskrouter_exporter.queries import Query, Target

ROOT = Path(__file__).parents[3]


def test_a_target_defaults_to_all_channels_and_a_window_of_15_minutes() -> None:
    config = parse(TARGETS)
    assert config.polling == Polling(concurrency=16, attempts=4, request_timeout=5.0, cache=0.0)
    assert static_queries(config) == (Query(Target("default", WS, WS, "all"), Window(15)),)
    assert config.accounts == {
        "default": Account("default", "https://taskrouter.twilio.com", AC, SecretStr(SECRET))
    }


def test_queries_are_in_file_order_by_target_channel_and_period() -> None:
    config = parse(
        f"{TARGETS}    name: support\n    channels: [voice, all]\n    windows: [4h, 15m]\n    counters: day\n"
        f"  - workspace: {WS2}\n    windows: []\n    counters: week\n"
    )
    voice, everything, other = (
        Target("default", WS, "support", "voice"),
        Target("default", WS, "support", "all"),
        Target("default", WS2, WS2, "all"),
    )
    assert static_queries(config) == (
        *(Query(voice, period) for period in (Window(240), Window(15), Anchored("day"))),
        *(Query(everything, period) for period in (Window(240), Window(15), Anchored("day"))),
        Query(other, Anchored("week")),
    )
    assert targets_of(config) == (voice, everything, other)


def test_counters_begin_in_the_time_zone_of_the_target_by_default_utc() -> None:
    config = parse(
        f"{TARGETS}    windows: []\n    counters: day\n    timezone: Europe/Berlin\n"
        f"  - workspace: {WS2}\n    windows: []\n    counters: day\n    timezone: UTC\n"
    )
    berlin, utc = (workspace.selection.periods for workspace in config.workspaces)
    assert berlin == (Anchored("day", ZoneInfo("Europe/Berlin")),)
    assert utc == (Anchored("day"),)


def test_discovery_adds_no_static_queries() -> None:
    config = parse(
        f"{TARGETS}    channels: [all, auto]\n  - workspace: {WS2}\n    channels: auto\n    windows: [4h]\n"
        f"accounts: {{default: {{username: {SK}, password: x, workspaces: auto, include: ['s*'],"
        " exclude: [x], channels: [auto, voice], windows: [], counters: week}}\n"
        "discovery: {interval: 1m}\n"
    )
    assert static_queries(config) == (Query(Target("default", WS, WS, "all"), Window(15)),)
    assert config.workspaces == (
        StaticWorkspace(
            "default", WS, WS, Selection(("all",), discover_channels=True, periods=(Window(15),))
        ),
        StaticWorkspace("default", WS2, WS2, Selection((), discover_channels=True, periods=(Window(240),))),
    )
    selection = Selection(("voice",), discover_channels=True, periods=(Anchored("week"),))
    assert config.workspace_discoveries == (WorkspaceDiscovery("default", ("s*",), ("x",), selection),)
    assert config.discovery_interval == 60
    assert config.discovering_accounts == ("default",)


def test_a_target_selects_statistics_queues_workflows_and_service_levels() -> None:
    config = parse(
        f"{TARGETS}    statistics: [tasks, realtime]\n    queues: [auto, Sales]\n    include_queues: ['S*']\n"
        "    exclude_queues: [x]\n    workflows: [Assign]\n    service_levels: [20s, 1m]\n"
    )
    (workspace,) = config.workspaces
    assert workspace.selection == Selection(
        ("all",),
        discover_channels=False,
        periods=(Window(15),),
        statistics=("tasks", "realtime"),
        rows={
            "queue": RowSelection(("Sales",), discover=True, include=("S*",), exclude=("x",)),
            "workflow": RowSelection(("Assign",)),
        },
        service_levels=(20, 60),
    )
    assert config.discovering_accounts == ("default",)
    assert [(each.kind.name, each.period, each.parameters()) for each in static_queries(config)] == [
        ("tasks", Window(15), {"Minutes": "15", "SplitByWaitTime": "20,60"}),
        ("realtime", Current(), {}),
    ]


def test_counters_are_not_split_by_service_level() -> None:
    config = parse(f"{TARGETS}    statistics: [tasks]\n    counters: day\n    service_levels: [20s]\n")
    _, day = static_queries(config)
    assert "SplitByWaitTime" not in day.parameters(datetime(2026, 11, 25, tzinfo=UTC))


def test_nothing_is_discovered_by_default() -> None:
    config = parse(TARGETS)
    assert config.discovering_accounts == ()
    assert config.discovery_interval == 600


def test_several_targets_may_have_one_workspace_with_different_windows() -> None:
    config = parse(f"{TARGETS}  - workspace: {WS}\n    channels: [voice]\n    windows: [1h]\n")
    assert [(query.target.channel, query.period) for query in static_queries(config)] == [
        ("all", Window(15)),
        ("voice", Window(60)),
    ]


def test_two_spellings_of_a_workspace_sid_are_one_workspace_in_the_first_spelling() -> None:
    config = parse(f"{TARGETS}  - workspace: WS{WS[2:].upper()}\n    channels: [voice]\n")
    assert targets_of(config) == (Target("default", WS, WS, "all"), Target("default", WS, WS, "voice"))


@pytest.mark.parametrize("line_ending", ["\n", "\r\n", "\r", "\x85"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_file_may_have_any_line_endingings_and_a_byte_order_mark(
    tmp_path: Path, encoding: str, line_ending: str
) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(f"{TARGETS}    name: support\n".replace("\n", line_ending).encode(encoding))
    assert targets_of(ConfigFiles([path], ENVIRONMENT).load()) == (Target("default", WS, "support", "all"),)


def test_a_missing_file_is_reported_with_a_hint(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    with pytest.raises(ConfigError) as caught:
        ConfigFiles([path], ENVIRONMENT).load()
    assert caught.value.problems == (
        (
            f"{path}: no such file: create it (config.example.yaml is an example), or start with --demo, "
            "which needs no configuration"
        ),
    )


def test_a_file_has_a_largest_size(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    with pytest.raises(ConfigError, match="larger than 4 MiB"):
        ConfigFiles([path], ENVIRONMENT).load()


def test_an_error_names_the_file_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.yaml").write_text("targets: [{workspace: x}]")
    monkeypatch.chdir(tmp_path)
    for path in (Path("config.yaml"), tmp_path / "config.yaml"):
        with pytest.raises(ConfigError, match=f"^{re.escape(str(path))}:1: targets"):
            ConfigFiles([path], ENVIRONMENT).load()


def test_all_problems_are_reported_at_once_in_file_order() -> None:
    text = "polling: {cache: 5}\naccounts: {default: {username: x, password: 1}}\ntargets: [{workspace: x}]\n"
    assert problems_of(text) == [
        "1: polling.cache: 5 is not a duration (expected e.g. 5s, 500ms)",
        (
            "2: accounts.default.username: the value is not an account SID or API key SID (expected AC or "
            "SK and 32 hex digits)"
        ),
        "2: accounts.default.password: the value is a number in YAML; quote it to make it a string",
        "3: targets[0].workspace: 'x' is not a workspace SID (expected WS and 32 hex digits)",
    ]


def test_a_printed_configuration_shows_no_secret() -> None:
    assert SECRET not in f"{parse(TARGETS)!r} {parse(TARGETS)}"


def test_every_invalid_target_is_reported() -> None:
    problems = problems_of("targets:\n" + "  - workspace: x\n" * 1000)
    assert [problem.split(":")[0] for problem in problems] == [str(n) for n in range(2, 1002)]


# The words that people and mutations use.
WORDS = st.sampled_from(
    [
        *FileModel.model_fields,
        *AccountModel.model_fields,
        *PollingModel.model_fields,
        *TargetModel.model_fields,
        *DiscoveryModel.model_fields,
        *(
            "auto",
            "default",
            "all",
            "voice",
            "15m",
            "240m",
            "4h",
            "5s",
            "day",
            "ie1",
            "xx9",
            WS,
            WS2,
            SK,
            "TC",
            "../x",
            "/",
        ),
        *(
            "https://host",
            "http://localhost:1",
            "http://[::1",
            "a\x00b",
            "\ud800",
            "",
            " ",
            "=",
            "<<",
            "é",
            "yes",
        ),
    ]
)
SCALARS = WORDS | st.none() | st.booleans() | st.integers() | st.floats() | st.dates() | st.text(max_size=9)
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(SCALARS, inner, max_size=6)
)
TARGET_KEYS = st.dictionaries(st.sampled_from([*TargetModel.model_fields]), TREES)
ACCOUNT_KEYS = st.dictionaries(st.sampled_from([*AccountModel.model_fields]), TREES)
FILES = st.fixed_dictionaries(
    {"targets": st.lists(TARGET_KEYS | TREES, max_size=4)},
    optional={"accounts": st.dictionaries(WORDS, ACCOUNT_KEYS), "polling": TREES, "discovery": TREES},
)
SNIPPETS = st.sampled_from(
    [
        *"\n\t:-[]{},&*!|>'\"%@`#?~ ",
        "\n  ",
        ": ",
        "- ",
        "&a ",
        "*a",
        "<<: ",
        "!!int ",
        "---\n",
        "0b_",
        "\\",
        "\x85",
    ]
)


def check(text: str) -> None:
    """Parse the text; a configuration and a ConfigError of printable lines are both right."""
    try:
        parse(text)
    except ConfigError as error:
        assert error.problems  # noqa: PT017 - both are right
        assert all(problem.isprintable() for problem in error.problems)  # noqa: PT017 - both are right


@given(st.text() | st.lists(WORDS | SNIPPETS | st.characters()).map("".join))
def test_any_text_is_parsed_or_reported(text: str) -> None:
    check(text)


@given(FILES | TREES)
def test_any_yaml_is_parsed_or_reported(data: object) -> None:
    check(yaml.safe_dump(data, allow_unicode=True))


@given(st.data())
def test_a_mutated_example_is_parsed_or_reported(data: st.DataObject) -> None:
    text = (ROOT / "config.example.yaml").read_text(encoding="utf-8")
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 40)))
    check(text[:start] + data.draw(SNIPPETS | WORDS) + text[end:])


@given(st.binary())
def test_any_bytes_are_parsed_or_reported(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    with suppress(ConfigError):
        ConfigFiles([path], ENVIRONMENT).load()
