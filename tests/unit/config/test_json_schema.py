import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from support.config_files import SK, TARGETS, parse, problems_of

from taskrouter_exporter import __version__
from taskrouter_exporter.config.json_schema import json_schema

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def schema() -> jsonschema.Draft202012Validator:
    content = json.loads(json_schema())
    jsonschema.Draft202012Validator.check_schema(content)
    return jsonschema.Draft202012Validator(content)


def test_the_committed_schema_is_up_to_date() -> None:
    command = [sys.executable, "-m", "taskrouter_exporter.config.json_schema"]
    generated = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    assert (ROOT / "docs" / "config.schema.json").read_bytes() == generated, "out of date: make docs"


def test_the_id_is_the_address_of_the_released_file() -> None:
    assert json.loads(json_schema())["$id"] == (
        "https://raw.githubusercontent.com/taskrouter-exporter/twilio-taskrouter-exporter/"
        f"v{__version__}/docs/config.schema.json"
    )


def test_the_schema_accepts_the_example(schema: jsonschema.Draft202012Validator) -> None:
    schema.validate(yaml.safe_load((ROOT / "config.example.yaml").read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "text",
    [
        "targets: []",
        f"{TARGETS}    window: [15m]",
        f"{TARGETS}    windows: [15 minutes]",
        f"{TARGETS}    windows: ['']",
        f"{TARGETS}    counters: month",
        f"{TARGETS}    timezone: Europe/Berlin",
        f"{TARGETS}    counters: day\n    timezone: 1",
        f"{TARGETS}    name:",
        f"{TARGETS}polling: {{concurrency: 0}}",
        f"{TARGETS}discovery: {{interval: ten minutes}}",
        f"{TARGETS}    channels: every",
        f"accounts: {{default: {{username: {SK}, password: x}}}}",
        f"{TARGETS}accounts: {{default: {{username: {SK}, password: x, workspaces: all}}}}",
        f"{TARGETS}accounts: {{default: {{username: {SK}, password: x, windows: [4h]}}}}",
        f"{TARGETS}accounts: {{default: {{username: {SK}, password: x, workspaces: auto, timezone: UTC}}}}",
        f"{TARGETS}accounts: {{default: {{username: {SK}}}}}",
        f"{TARGETS}accounts: {{default: {{username: {SK}, password: x, password_file: y}}}}",
        f"{TARGETS}accounts: {{default: {{username: {SK}, password: x, edge: dublin}}}}",
        f"{TARGETS}accounts: {{default: {{username: {SK}, password: x, region: ie1, base_url: 'https://x'}}}}",
    ],
)
def test_the_schema_and_the_exporter_reject_the_same_files(
    schema: jsonschema.Draft202012Validator, text: str
) -> None:
    assert not schema.is_valid(yaml.safe_load(text))
    assert problems_of(text)


@pytest.mark.parametrize("targets", ["", "targets: []\n", TARGETS])
def test_targets_are_optional_if_an_account_discovers_its_workspaces(
    schema: jsonschema.Draft202012Validator, targets: str
) -> None:
    text = (
        f"{targets}accounts: {{default: {{username: {SK}, password: x, workspaces: auto, channels: auto}}}}"
    )
    schema.validate(yaml.safe_load(text))
    assert parse(text).workspace_discoveries
