from pathlib import Path
from typing import Annotated

import pytest
from pydantic import BaseModel, ConfigDict, Field
from support.config_files import (
    ACCOUNT_KEYS,
    FILE_KEYS,
    POLLING_KEYS,
    SECRET,
    SK,
    TARGET_KEYS,
    TARGETS,
    WS,
    Expectations,
    account,
    problems_of,
    target,
)

from taskrouter_exporter.config.document import KeyPath, Problem, read_yaml
from taskrouter_exporter.config.errors import (
    ConfigError,
    Schema,
    check_schema,
    problem_lines,
    quote,
    read_text,
)
from taskrouter_exporter.config.fields import Allowed

NAME = "1 to 200 characters, not blank, no control characters"
SID = "AC or SK and 32 hex digits"
ONE_PASSWORD = "either password or password_file is required"

PROBLEMS: Expectations = {
    "only a document mark": ("---\n", [f"2: expected a mapping (keys: {FILE_KEYS}), got an empty value"]),
    "list instead of a mapping": ("- targets\n", [f"1: expected a mapping (keys: {FILE_KEYS}), got a list"]),
    "password file as the configuration file": (
        f"{SECRET}\n",
        [f"1: expected a mapping (keys: {FILE_KEYS}), got a string"],
    ),
    "targets without a value": ("targets:\n", ["1: targets: expected a list, got an empty value"]),
    "targets as a mapping": (
        f"targets:\n  workspace: {WS}\n",
        ["1: targets: expected a list, got a mapping"],
    ),
    "target as a string": (
        f"targets:\n  - {WS}\n",
        [f"2: targets[0]: expected a mapping (keys: {TARGET_KEYS}), got '{WS}'"],
    ),
    "unknown key at the top level": (
        f"target: []\n{TARGETS}",
        [f"1: target: unknown key (did you mean targets?); allowed keys: {FILE_KEYS}"],
    ),
    "unknown keys in a target": (
        target("window: [15m]", "chanels: [voice]", "zzz: 1"),
        [
            f"3: targets[0].window: unknown key (did you mean windows?); allowed keys: {TARGET_KEYS}",
            f"4: targets[0].chanels: unknown key (did you mean channels?); allowed keys: {TARGET_KEYS}",
            f"5: targets[0].zzz: unknown key; allowed keys: {TARGET_KEYS}",
        ],
    ),
    "unknown key with control characters": (
        target('"a\\nb": 1'),
        [f"3: targets[0]['a\\nb']: unknown key; allowed keys: {TARGET_KEYS}"],
    ),
    "unknown key with a secret as its value": (
        account(f"username: {SK}", f"pasword: {SECRET}"),
        [
            f"4: accounts.default: {ONE_PASSWORD}",
            (
                "6: accounts.default.pasword: unknown key (did you mean password?); allowed keys: "
                f"{ACCOUNT_KEYS}"
            ),
        ],
    ),
    "workspace SID that YAML reads as a number": (
        "targets:\n  - workspace: 12\n",
        ["2: targets[0].workspace: 12 is not a workspace SID (expected WS and 32 hex digits)"],
    ),
    "name that YAML reads as a boolean": (
        target("name: no"),
        ["3: targets[0].name: no is a boolean in YAML; quote it to make it a string"],
    ),
    "name that YAML reads as a number": (
        target("name: 15:00"),
        ["3: targets[0].name: 15:00 is a number in YAML; quote it to make it a string"],
    ),
    "name that YAML reads as a date": (
        target("name: 2026-11-23"),
        ["3: targets[0].name: 2026-11-23 is a date in YAML; quote it to make it a string"],
    ),
    "polling as a string": (
        f"{TARGETS}polling: fast\n",
        [f"3: polling: expected a mapping (keys: {POLLING_KEYS}), got 'fast'"],
    ),
    "discovery as a string": (
        f"{TARGETS}discovery: auto\n",
        ["3: discovery: expected a mapping (keys: interval), got 'auto'"],
    ),
    "accounts without a value": (
        f"{TARGETS}accounts:\n",
        ["3: accounts: expected a mapping, got an empty value"],
    ),
    "accounts as a list": (
        f"{TARGETS}accounts: [{SECRET}]\n",
        ["3: accounts: expected a mapping, got a list"],
    ),
    "account as a string": (
        f"{TARGETS}accounts:\n  default: {SECRET}\n",
        [f"4: accounts.default: expected a mapping (keys: {ACCOUNT_KEYS}), got a string"],
    ),
    "account with an invalid name": (
        f'{TARGETS}accounts:\n  default: &a {{username: {SK}, password: x}}\n  "a\\tb": *a\n',
        [f"5: accounts['a\\tb']: this key is not a valid name (expected {NAME})"],
    ),
    "password that YAML reads as a number": (
        account(f"username: {SK}", "password: 123456789"),
        ["6: accounts.default.password: the value is a number in YAML; quote it to make it a string"],
    ),
}


@pytest.mark.parametrize(("text", "problems"), PROBLEMS.values(), ids=PROBLEMS.keys())
def test_an_error_is_one_line_with_the_place_the_value_and_what_is_expected(
    text: str, problems: list[str]
) -> None:
    assert problems_of(text) == problems


class SafeModel(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    size: Annotated[int, Field(gt=0), Allowed("a size", "1 or more")] = 1
    secret: Annotated[str, Field(max_length=3), Allowed("a PIN", any_string=True)] = ""


SAFE = Schema(
    root=SafeModel,
    model_at=lambda _path: SafeModel,
    may_quote=lambda path: path != ("secret",),
    redact=lambda path: () if path[:1] not in {("size",), ("secret",)} else path,
)


def problems_of_safe(text: str) -> list[str]:
    return problem_lines("safe.yaml", check_schema(read_yaml(text), SAFE), SAFE)


def test_the_schema_decides_what_is_allowed_quoted_and_redacted() -> None:
    assert problems_of_safe("size: 0\nsecret: 1234\n12a: x\n") == [
        "safe.yaml:1: size: 0 is not a size (expected 1 or more)",
        "safe.yaml:2: secret: the value is a number in YAML; quote it to make it a string",
        "safe.yaml:3: unknown key; allowed keys: size, secret",
    ]
    assert problems_of_safe("secret: abcd") == ["safe.yaml:1: secret: the value is not a PIN"]
    assert problems_of_safe("secret: [a]") == ["safe.yaml:1: secret: expected a PIN, got a list"]
    assert problems_of_safe("{}") == []


def test_problems_are_in_file_order_with_their_paths() -> None:
    path: KeyPath = ("targets", 1, "a b", "windows", 0)
    problems = [Problem(14, path, "wrong"), Problem(2, (), "early")]
    schema = Schema(SafeModel, lambda _path: SafeModel, lambda _path: True, lambda path: path)
    assert problem_lines("config.yaml", problems, schema) == [
        "config.yaml:2: early",
        "config.yaml:14: targets[1]['a b'].windows[0]: wrong",
    ]


def test_a_quoted_text_is_one_short_line() -> None:
    assert quote("a\nb") == r"'a\nb'"
    assert quote("x" * 60) == f"'{'x' * 60}'"
    assert quote("x" * 61) == f"'{'x' * 60}…'"


def test_a_configuration_error_has_one_line_for_each_problem() -> None:
    error = ConfigError(iter(["a", "b"]))
    assert error.problems == ("a", "b")
    assert str(error) == "a\nb"


def refusal(path: Path, hint: str = "") -> str:
    with pytest.raises(ConfigError) as caught:
        read_text(path, 2 * 1024**2, hint)
    (problem,) = caught.value.problems
    return problem


def test_a_file_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert refusal(missing) == f"{missing}: no such file"
    assert refusal(missing, "create it") == f"{missing}: no such file: create it"
    assert refusal(tmp_path) == f"{tmp_path}: cannot be read: Is a directory"


def test_a_file_that_is_not_utf_8_is_reported_with_its_first_invalid_byte(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes("a: b\nname: Größe\n".encode("latin-1"))
    assert refusal(path) == f"{path}:2: byte 0xf6 is not valid UTF-8; save the file as UTF-8"


def test_a_file_is_read_up_to_its_largest_size(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"#" * 2 * 1024**2)
    assert len(read_text(path, 2 * 1024**2)) == 2 * 1024**2
    path.write_bytes(b"#" * (2 * 1024**2 + 1))
    assert refusal(path) == f"{path}: is larger than 2 MiB"


def test_a_problem_is_one_line_whatever_the_name_of_a_file_is() -> None:
    problem = "a\nb\x1b[31m \U00014647 ü \U0001f4de: no such file"
    assert ConfigError([problem]).problems == (r"a\nb\x1b[31m \U00014647 ü " + "\U0001f4de: no such file",)
