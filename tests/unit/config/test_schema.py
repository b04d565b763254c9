import re
from pathlib import Path

import pytest
from pydantic import BaseModel
from support.config_files import (
    ACCOUNT_KEYS,
    SECRET,
    SK,
    TARGETS,
    WS,
    Expectations,
    account,
    parse,
    problems_of,
    target,
)

from taskrouter_exporter.config.errors import ConfigError
from taskrouter_exporter.config.files import ConfigFiles
from taskrouter_exporter.config.model import Polling
from taskrouter_exporter.config.schema import (
    AccountModel,
    DiscoveryModel,
    FileModel,
    PollingModel,
    TargetModel,
)
from taskrouter_exporter.expansion import static_queries

NAME = "1 to 200 characters, not blank, no control characters"
SID = "AC or SK and 32 hex digits"
ONE_PASSWORD = "either password or password_file is required"

ROOT = Path(__file__).parents[3]
MODELS: list[type[BaseModel]] = [FileModel, AccountModel, PollingModel, DiscoveryModel, TargetModel]

PROBLEMS: Expectations = {
    "no channels": (target("channels: []"), ["3: targets[0].channels: must have at least one entry"]),
    "polling out of range": (
        f"{TARGETS}polling:\n  concurrency: 0\n  attempts: 11\n  request_timeout: 6m\n  cache: 1h1s\n",
        [
            "4: polling.concurrency: 0 is not an integer from 1 to 1000",
            "5: polling.attempts: 11 is not an integer from 1 to 10",
            "6: polling.request_timeout: '6m' is not between 100ms and 5m",
            "7: polling.cache: '1h1s' is not between 0s and 1h",
        ],
    ),
    "polling of the wrong types": (
        f"{TARGETS}polling:\n  concurrency: '16'\n  attempts: 4.0\n  request_timeout: 5\n  cache: yes\n",
        [
            "4: polling.concurrency: '16' is not an integer from 1 to 1000",
            "5: polling.attempts: 4.0 is a number in YAML, not an integer from 1 to 10",
            "6: polling.request_timeout: 5 is not a duration (expected e.g. 5s, 500ms)",
            "7: polling.cache: yes is a boolean in YAML, not a duration (expected e.g. 5s, 500ms)",
        ],
    ),
    "discovery out of range, and a misspelled key": (
        f"{TARGETS}discovery:\n  interval: 5s\n  intervall: 1m\n",
        [
            "4: discovery.interval: '5s' is not between 10s and 1d",
            "5: discovery.intervall: unknown key (did you mean interval?); allowed keys: interval",
        ],
    ),
    "workspaces: auto with bad patterns, channels and windows": (
        account(
            f"username: {SK}",
            "password: x",
            "workspaces: auto",
            "include: []",
            "exclude: [no, 'a']",
            f"channels: [{SECRET}, {SECRET}]",
            "windows: [4h, 240m]",
            "chanels: auto",
        ),
        [
            "8: accounts.default.include: must have at least one entry",
            ("9: accounts.default.exclude[0]: the value is a boolean in YAML; quote it to make it a string"),
            (
                "12: accounts.default.chanels: unknown key (did you mean channels?); allowed keys: "
                f"{ACCOUNT_KEYS}"
            ),
        ],
    ),
    "unknown region without an edge": (
        account(f"username: {SK}", "password: x", "region: xx9"),
        [
            (
                "7: accounts.default.region: unknown region; set edge as well (regions with a known edge:"
                " au1, br1, de1, ie1, jp1, jp2, sg1, us1, us2)"
            )
        ],
    ),
    "no accounts": (f"{TARGETS}accounts: {{}}\n", ["3: accounts: must have at least one entry"]),
    "empty account": (
        f"{TARGETS}accounts:\n  default: {{}}\n",
        [
            f"4: accounts.default.username: missing, expected an account SID or API key SID ({SID})",
            f"4: accounts.default: {ONE_PASSWORD}",
        ],
    ),
    "target without a workspace": (
        "targets:\n  - name: support\n",
        ["2: targets[0].workspace: missing, expected a workspace SID (WS and 32 hex digits)"],
    ),
    "keys without values": (
        target("name:", "account: ~", "channels:", "windows:", "counters: null"),
        [
            f"3: targets[0].name: expected a valid name ({NAME}), got an empty value",
            f"4: targets[0].account: expected a valid name ({NAME}), got an empty value",
            "5: targets[0].channels: expected a list or auto, got an empty value",
            "6: targets[0].windows: expected a list, got an empty value",
            "7: targets[0].counters: expected day or week, got an empty value",
        ],
    ),
}


@pytest.mark.parametrize(("text", "problems"), PROBLEMS.values(), ids=PROBLEMS.keys())
def test_keys_that_a_model_does_not_accept_are_reported(text: str, problems: list[str]) -> None:
    assert problems_of(text) == problems


@pytest.fixture
def example() -> str:
    return (ROOT / "config.example.yaml").read_text(encoding="utf-8")


def test_the_example_only_lacks_the_password_file(tmp_path: Path, example: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(example, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        ConfigFiles([path], {}).load()
    assert len(caught.value.problems) == 1
    (tmp_path / "auth_token").write_text(SECRET)
    config = ConfigFiles([path], {}).load()
    assert config.polling == Polling()
    # Three channels: four periods of workers and of tasks, and realtime. Queues and workflows come later.
    assert len(static_queries(config)) == 27


@pytest.mark.parametrize("model", MODELS)
def test_the_example_explains_every_key_in_a_comment(example: str, model: type[BaseModel]) -> None:
    for key in model.model_fields:
        assert re.search(rf"^ *# .*\n(?: *- )?[ #]*{key}:", example, re.MULTILINE), key


def test_the_keys_that_the_example_comments_out_are_valid(tmp_path: Path, example: str) -> None:
    (tmp_path / "auth_token").write_text(SECRET)
    for key, others in {
        "password": ["password_file"],
        "region": [],
        "edge": ["edge", "region"],
        "base_url": [],
        "workspaces": ["include", "exclude", "channels", "windows", "counters", "timezone"],
    }.items():
        text = re.sub(rf"^    # ({'|'.join([key, *others])}):", r"    \1:", example, flags=re.MULTILINE)
        if key == "password":
            text = text.replace("    password_file:", "    # password_file:")
        assert text != example
        assert parse(text, {}, tmp_path).workspaces


def test_every_key_has_a_description() -> None:
    for model in MODELS:
        for name, field in model.model_fields.items():
            assert field.description, name


def test_polling_durations_are_in_seconds() -> None:
    config = parse(
        f"{TARGETS}polling: {{concurrency: 1, attempts: 1, request_timeout: 1s500ms, cache: 1m}}\n"
    )
    assert config.polling == Polling(concurrency=1, attempts=1, request_timeout=1.5, cache=60.0)


def test_the_label_of_a_target_is_its_name_or_its_sid() -> None:
    assert TargetModel(workspace=WS, name="support").label == "support"
    assert TargetModel(workspace=WS).label == WS
