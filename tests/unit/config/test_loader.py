import json
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from taskrouter_exporter.config.accounts import PasswordError, read_password
from taskrouter_exporter.config.errors import ConfigError
from taskrouter_exporter.config.json_schema import json_schema
from taskrouter_exporter.config.loader import load_config, parse_config
from taskrouter_exporter.config.model import (
    Account,
    Config,
    Polling,
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
from taskrouter_exporter.queries import Anchored, Query, Target, Window

ROOT = Path(__file__).parents[3]
WS = "WS0123456789abcdef0123456789abcdef"
WS2 = "WSfedcba9876543210fedcba9876543210"
SK = "SK0123456789abcdef0123456789abcdef"
AC = "AC0123456789abcdef0123456789abcdef"
SECRET = "hunter2-is-a-secret"
ENVIRONMENT = {"TWILIO_ACCOUNT_SID": AC, "TWILIO_AUTH_TOKEN": SECRET}
TARGETS = f"targets:\n  - workspace: {WS}\n"


def parse(text: str, environ: dict[str, str] | None = None, directory: Path = Path()) -> Config:
    return parse_config(text, "config.yaml", directory, ENVIRONMENT if environ is None else environ)


def test_a_workspace_alone_is_asked_about_all_channels_and_a_quarter_of_an_hour() -> None:
    config = parse(TARGETS)
    assert config.polling == Polling(concurrency=16, attempts=4, request_timeout=5.0, cache=0.0)
    assert config.queries == (Query(Target("default", WS, WS, "all"), Window(15)),)
    assert config.accounts == {
        "default": Account("default", "https://taskrouter.twilio.com", AC, SecretStr(SECRET))
    }


def test_queries_are_targets_by_channels_by_periods_in_file_order() -> None:
    config = parse(
        f"{TARGETS}    name: support\n    channels: [voice, all]\n    windows: [4h, 15m]\n    counters: day\n"
        f"  - workspace: {WS2}\n    windows: []\n    counters: week\n"
    )
    voice, everything, other = (
        Target("default", WS, "support", "voice"),
        Target("default", WS, "support", "all"),
        Target("default", WS2, WS2, "all"),
    )
    assert config.queries == (
        *(Query(voice, period) for period in (Window(240), Window(15), Anchored("day"))),
        *(Query(everything, period) for period in (Window(240), Window(15), Anchored("day"))),
        Query(other, Anchored("week")),
    )
    assert config.targets == (voice, everything, other)


def test_what_is_found_at_run_time_is_no_static_query() -> None:
    config = parse(
        f"{TARGETS}    channels: [all, auto]\n  - workspace: {WS2}\n    channels: auto\n    windows: [4h]\n"
        f"accounts: {{default: {{username: {SK}, password: x, workspaces: auto, include: ['s*'],"
        " exclude: [x], channels: [auto, voice], windows: [], counters: week}}\n"
        "discovery: {interval: 1m}\n"
    )
    assert config.queries == (Query(Target("default", WS, WS, "all"), Window(15)),)
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


def test_nothing_is_discovered_by_default() -> None:
    config = parse(TARGETS)
    assert config.discovering_accounts == ()
    assert config.discovery_interval == 600


def test_one_workspace_may_be_spread_over_entries_with_windows_of_their_own() -> None:
    config = parse(f"{TARGETS}  - workspace: {WS}\n    channels: [voice]\n    windows: [1h]\n")
    assert [(query.target.channel, query.period) for query in config.queries] == [
        ("all", Window(15)),
        ("voice", Window(60)),
    ]


def test_sids_have_hex_digits_of_either_case_and_stay_as_they_are_written() -> None:
    upper, channel, username = (f"{prefix}0123456789ABCDEF0123456789abcdef" for prefix in ("WS", "TC", "SK"))
    config = parse(
        f"targets: [{{workspace: {upper}, channels: [{channel}]}}]\n"
        f"accounts: {{default: {{username: {username}, password: x}}}}\n"
    )
    assert config.targets == (Target("default", upper, upper, channel),)
    assert config.accounts["default"].username == username
    environment = {"TWILIO_ACCOUNT_SID": f"AC{username[2:]}", "TWILIO_AUTH_TOKEN": SECRET}
    assert parse(TARGETS, environment).accounts["default"].username == f"AC{username[2:]}"


def test_a_workspace_in_two_cases_is_one_spelled_as_the_first() -> None:
    config = parse(f"{TARGETS}  - workspace: WS{WS[2:].upper()}\n    channels: [voice]\n")
    assert config.targets == (Target("default", WS, WS, "all"), Target("default", WS, WS, "voice"))


def test_names_and_channels_are_any_text() -> None:
    config = parse(
        f"{TARGETS}    name: 'Kundendienst \"Köln\" \\ 客服 📞'\n"
        f"    channels: ['no', Ünïque, {'TC' + '0' * 32}]\n"
    )
    assert config.targets[0].workspace == 'Kundendienst "Köln" \\ 客服 📞'
    assert [target.channel for target in config.targets] == ["no", "Ünïque", "TC" + "0" * 32]


def test_a_list_may_be_repeated_by_an_alias() -> None:
    config = parse(f"{TARGETS}    windows: &usual [15m, 4h]\n  - workspace: {WS2}\n    windows: *usual\n")
    assert [query.period for query in config.queries] == [Window(15), Window(240)] * 2


def test_polling_durations_become_seconds() -> None:
    config = parse(
        f"{TARGETS}polling: {{concurrency: 1, attempts: 1, request_timeout: 1s500ms, cache: 1m}}\n"
    )
    assert config.polling == Polling(concurrency=1, attempts=1, request_timeout=1.5, cache=60.0)


@pytest.mark.parametrize(
    ("keys", "base_url"),
    [
        ("", "https://taskrouter.twilio.com"),
        ("region: ie1", "https://taskrouter.dublin.ie1.twilio.com"),
        ("region: us1", "https://taskrouter.ashburn.us1.twilio.com"),
        ("region: au1, edge: singapore", "https://taskrouter.singapore.au1.twilio.com"),
        ("region: xx9, edge: ashburn-ix", "https://taskrouter.ashburn-ix.xx9.twilio.com"),
        ("base_url: 'https://proxy.example:8443/twilio/'", "https://proxy.example:8443/twilio"),
        ("base_url: 'https://proxy.example/'", "https://proxy.example"),
        (f"base_url: 'https://a-b.c/{'x' * 300}'", f"https://a-b.c/{'x' * 300}"),
        ("base_url: 'http://127.0.0.1:8080'", "http://127.0.0.1:8080"),
        ("base_url: 'http://127.1.2.3'", "http://127.1.2.3"),
        ("base_url: 'http://[::1]:8080/'", "http://[::1]:8080"),
        ("base_url: 'http://localhost:8080'", "http://localhost:8080"),
    ],
)
def test_the_api_is_where_region_edge_or_base_url_say(keys: str, base_url: str) -> None:
    config = parse(f"{TARGETS}accounts: {{default: {{username: {SK}, password: x, {keys}}}}}\n")
    assert config.accounts["default"].base_url == base_url


def test_accounts_in_the_file_replace_the_environment() -> None:
    config = parse(f"{TARGETS}    account: eu\naccounts: {{eu: {{username: {SK}, password: x}}}}\n")
    assert list(config.accounts) == ["eu"]
    assert config.accounts["eu"].username == SK


@pytest.mark.parametrize(
    ("environ", "username", "base_url"),
    [
        (ENVIRONMENT, AC, "https://taskrouter.twilio.com"),
        ({"TWILIO_API_KEY": SK, "TWILIO_API_SECRET": SECRET}, SK, "https://taskrouter.twilio.com"),
        (
            {"TWILIO_ACCOUNT_SID": AC, "TWILIO_API_KEY": SK, "TWILIO_API_SECRET": SECRET},
            SK,
            "https://taskrouter.twilio.com",
        ),
        ({**ENVIRONMENT, "TWILIO_REGION": "ie1"}, AC, "https://taskrouter.dublin.ie1.twilio.com"),
        (
            {**ENVIRONMENT, "TWILIO_REGION": "ie1", "TWILIO_EDGE": "ashburn"},
            AC,
            "https://taskrouter.ashburn.ie1.twilio.com",
        ),
        ({**ENVIRONMENT, "TWILIO_API_KEY": "", "TWILIO_REGION": ""}, AC, "https://taskrouter.twilio.com"),
    ],
)
def test_the_environment_holds_the_default_account(
    environ: dict[str, str], username: str, base_url: str
) -> None:
    account = parse(TARGETS, environ).accounts["default"]
    assert (account.username, account.base_url, read_password(account)) == (username, base_url, SECRET)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("environ", [ENVIRONMENT, {"TWILIO_API_KEY": SK, "TWILIO_API_SECRET": SECRET}])
def test_one_newline_at_the_end_of_a_variable_is_ignored(environ: dict[str, str], newline: str) -> None:
    variables = {**environ, "TWILIO_REGION": "ie1", "TWILIO_EDGE": "ashburn"}
    account = parse(TARGETS, {name: value + newline for name, value in variables.items()}).accounts["default"]
    assert account == parse(TARGETS, variables).accounts["default"]
    assert read_password(account) == SECRET


@pytest.mark.parametrize(
    "written", [f"|\n      {SECRET}", f'"{SECRET}\\n"', f'"{SECRET}\\r\\n"', f"'{SECRET}'"]
)
def test_one_newline_at_the_end_of_a_password_is_ignored(written: str) -> None:
    config = parse(f"{TARGETS}accounts:\n  default:\n    username: {SK}\n    password: {written}\n")
    assert read_password(config.accounts["default"]) == SECRET


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r", "\x85"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_file_may_have_any_line_ends(tmp_path: Path, encoding: str, line_end: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(f"{TARGETS}    name: support\n".replace("\n", line_end).encode(encoding))
    assert load_config(path, ENVIRONMENT).targets == (Target("default", WS, "support", "all"),)


@pytest.mark.parametrize("beginning", ["", "\ufeff"])
@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_password_file_is_found_beside_the_configuration_and_read_each_time(
    tmp_path: Path, beginning: str, ending: str
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"{TARGETS}accounts: {{default: {{username: {SK}, password_file: secrets/token}}}}\n")
    token = tmp_path / "secrets" / "token"
    token.parent.mkdir()
    token.write_bytes(f"{beginning}{SECRET}{ending}".encode())
    account = load_config(path, {}).accounts["default"]
    assert account.password_file == token
    assert read_password(account) == SECRET
    token.write_text("rotated")
    assert read_password(account) == "rotated"
    token.unlink()
    with pytest.raises(PasswordError, match=f"^{token} cannot be read: No such file or directory$"):
        read_password(account)


def test_a_relative_configuration_path_gives_an_absolute_password_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.yaml").write_text(
        f"{TARGETS}accounts: {{default: {{username: {SK}, password_file: token}}}}\n"
    )
    (tmp_path / "token").write_text(SECRET)
    monkeypatch.chdir(tmp_path)
    assert load_config(Path("config.yaml"), {}).accounts["default"].password_file == tmp_path / "token"


def test_no_secret_shows_in_a_configuration_that_is_printed() -> None:
    assert SECRET not in f"{parse(TARGETS)!r} {parse(TARGETS)}"


def test_a_thousand_wrong_targets_are_a_thousand_lines() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("targets:\n" + "  - workspace: x\n" * 1000)
    assert [problem.split(":")[1] for problem in caught.value.problems] == [str(n) for n in range(2, 1002)]


# What people and mutations write is drawn from the words below.
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


def check(text: str, directory: Path = Path()) -> tuple[str, ...]:
    """The text's problems, none if it is a configuration. Nothing else is raised."""
    try:
        parse(text, directory=directory)
    except ConfigError as error:
        problems = error.problems
    else:
        return ()
    assert problems
    assert all(problem.isprintable() for problem in problems)
    return problems


@given(st.text() | st.lists(WORDS | SNIPPETS | st.characters()).map("".join))
def test_any_text_is_a_configuration_or_an_error(text: str) -> None:
    check(text)


@given(FILES | TREES)
def test_any_yaml_is_a_configuration_or_an_error(data: object) -> None:
    check(yaml.safe_dump(data, allow_unicode=True))


@given(st.data())
def test_the_example_with_any_mutation_is_a_configuration_or_an_error(data: st.DataObject) -> None:
    text = (ROOT / "config.example.yaml").read_text(encoding="utf-8")
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 40)))
    check(text[:start] + data.draw(SNIPPETS | WORDS) + text[end:])


@given(st.binary())
def test_any_bytes_are_a_configuration_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    with suppress(ConfigError):
        load_config(path, ENVIRONMENT)


# The example and the schema


@pytest.fixture
def example() -> str:
    return (ROOT / "config.example.yaml").read_text(encoding="utf-8")


def test_the_example_works_once_the_password_is_there(tmp_path: Path, example: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(example, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path, {})
    assert len(caught.value.problems) == 1
    (tmp_path / "auth_token").write_text(SECRET)
    config = load_config(path, {})
    assert config.polling == Polling()
    assert len(config.queries) == 12


@pytest.mark.parametrize("keys", [FileModel, AccountModel, PollingModel, DiscoveryModel, TargetModel])
def test_the_example_has_every_key_under_a_comment(example: str, keys: type[BaseModel]) -> None:
    for key in keys.model_fields:
        assert re.search(rf"^ *# .*\n(?: *- )?[ #]*{key}:", example, re.MULTILINE), key


def test_the_keys_that_the_example_has_in_comments_work(tmp_path: Path, example: str) -> None:
    for key, others in {
        "password": ["password_file"],
        "region": [],
        "edge": ["edge", "region"],
        "base_url": [],
        "workspaces": ["include", "exclude", "channels", "windows", "counters"],
    }.items():
        text = re.sub(rf"^    # ({'|'.join([key, *others])}):", r"    \1:", example, flags=re.MULTILINE)
        if key == "password":
            text = text.replace("    password_file:", "    # password_file:")
        (tmp_path / "auth_token").write_text(SECRET)
        assert text != example
        parse(text, {}, tmp_path)


def test_the_committed_schema_is_in_step_with_the_keys() -> None:
    generated = subprocess.run(
        [sys.executable, "-m", "taskrouter_exporter.config.json_schema"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    committed = (ROOT / "docs" / "config.schema.json").read_bytes()
    assert committed == generated, (
        "run: python -m taskrouter_exporter.config.json_schema >docs/config.schema.json"
    )


@pytest.fixture(scope="module")
def schema() -> jsonschema.Draft202012Validator:
    content = json.loads(json_schema())
    jsonschema.Draft202012Validator.check_schema(content)
    return jsonschema.Draft202012Validator(content)


def test_the_schema_allows_the_example(schema: jsonschema.Draft202012Validator, example: str) -> None:
    schema.validate(yaml.safe_load(example))


@pytest.mark.parametrize(
    "text",
    [
        "targets: []",
        f"{TARGETS}    window: [15m]",
        f"{TARGETS}    windows: [15 minutes]",
        f"{TARGETS}    windows: ['']",
        f"{TARGETS}    counters: month",
        f"{TARGETS}    name:",
        f"{TARGETS}polling: {{concurrency: 0}}",
        f"{TARGETS}discovery: {{interval: ten minutes}}",
        f"{TARGETS}    channels: every",
        f"accounts: {{default: {{username: {SK}, password: x}}}}",
        f"{TARGETS}accounts: {{default: {{username: {SK}, password: x, workspaces: all}}}}",
        f"{TARGETS}accounts: {{default: {{username: {SK}, password: x, windows: [4h]}}}}",
        f"{TARGETS}accounts: {{default: {{username: {SK}}}}}",
        f"{TARGETS}accounts: {{default: {{username: {SK}, password: x, password_file: y}}}}",
        f"{TARGETS}accounts: {{default: {{username: {SK}, password: x, edge: dublin}}}}",
        f"{TARGETS}accounts: {{default: {{username: {SK}, password: x, region: ie1, base_url: 'https://x'}}}}",
    ],
)
def test_the_schema_refuses_what_the_exporter_refuses(
    schema: jsonschema.Draft202012Validator, text: str
) -> None:
    assert not schema.is_valid(yaml.safe_load(text))
    assert check(text)


@pytest.mark.parametrize("targets", ["", "targets: []\n", TARGETS])
def test_the_schema_needs_no_targets_where_an_account_discovers_its_workspaces(
    schema: jsonschema.Draft202012Validator, targets: str
) -> None:
    text = (
        f"{targets}accounts: {{default: {{username: {SK}, password: x, workspaces: auto, channels: auto}}}}"
    )
    schema.validate(yaml.safe_load(text))
    assert check(text) == ()


def test_every_key_of_the_schema_says_what_it_is_for() -> None:
    for keys in (FileModel, AccountModel, PollingModel, DiscoveryModel, TargetModel):
        for name, field in keys.model_fields.items():
            assert field.description, name
