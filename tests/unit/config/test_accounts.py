from pathlib import Path

import pytest
from support.config_files import (
    AC,
    ENVIRONMENT,
    SECRET,
    SK,
    TARGETS,
    Expectations,
    account,
    parse,
    problems_of,
    target,
)

from taskrouter_exporter.api.credentials import read_password
from taskrouter_exporter.config.model import Account
from taskrouter_exporter.config.passwords import PasswordError

SID = "AC or SK and 32 hex digits"
PASSWORD = "1 to 512 printable ASCII characters without spaces or line breaks"

PROBLEMS: Expectations = {
    "password file in addition to a password": (
        account(f"username: {SK}", f"password: {SECRET}", "password_file: good"),
        ["7: accounts.default.password_file: mutually exclusive with password"],
    ),
    "password file with quotation marks": (
        account(f"username: {SK}", "password_file: quoted"),
        [
            (
                "6: accounts.default.password_file: <dir>/quoted contains quotation marks around the "
                "password; remove them"
            )
        ],
    ),
    "password file with a placeholder": (
        account(f"username: {SK}", "password_file: placeholder"),
        [
            (
                "6: accounts.default.password_file: <dir>/placeholder contains a placeholder, which is "
                "not expanded"
            )
        ],
    ),
    "password file missing": (
        account("username: AC12", "password_file: missing"),
        [
            (
                "5: accounts.default.username: the value is not an account SID or API key SID (expected "
                f"{SID})"
            ),
            ("6: accounts.default.password_file: <dir>/missing cannot be read: No such file or directory"),
        ],
    ),
    "password file empty": (
        account(f"username: {SK}", "password_file: empty"),
        ["6: accounts.default.password_file: <dir>/empty is empty"],
    ),
    "password file that is a directory": (
        account(f"username: {SK}", "password_file: ."),
        ["6: accounts.default.password_file: <dir> cannot be read: Is a directory"],
    ),
    "password file of two lines": (
        account(f"username: {SK}", "password_file: lines"),
        [f"6: accounts.default.password_file: <dir>/lines must contain one line of {PASSWORD}"],
    ),
    "password file that is not UTF-8": (
        account(f"username: {SK}", "password_file: latin1"),
        [f"6: accounts.default.password_file: <dir>/latin1 must contain one line of {PASSWORD}"],
    ),
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "good").write_text(SECRET)
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "quoted").write_text(f'"{SECRET}"\n')
    (tmp_path / "placeholder").write_text("${TWILIO_AUTH_TOKEN}\n")
    (tmp_path / "lines").write_text(f"{SECRET}\nmore\n")
    (tmp_path / "latin1").write_bytes(b"gr\xfc\xdfe\n")
    return tmp_path


@pytest.mark.parametrize(("text", "problems"), PROBLEMS.values(), ids=PROBLEMS.keys())
def test_a_password_file_without_a_password_is_reported(
    directory: Path, text: str, problems: list[str]
) -> None:
    assert [
        problem.replace(str(directory), "<dir>") for problem in problems_of(text, directory=directory)
    ] == problems


def test_a_password_file_is_reread_each_time(tmp_path: Path) -> None:
    token = tmp_path / "secrets" / "token"
    token.parent.mkdir()
    text = account(f"username: {SK}", "password_file: secrets/token")
    for beginning in ("", "\ufeff"):
        for ending in ("", "\n", "\r\n"):
            token.write_bytes(f"{beginning}{SECRET}{ending}".encode())
            configured = parse(text, directory=tmp_path).accounts["default"]
            assert configured.password_file == token
            assert read_password(configured) == SECRET
    token.write_text("rotated")
    assert read_password(configured) == "rotated"
    token.unlink()
    with pytest.raises(PasswordError, match=f"^{token} cannot be read: No such file or directory$"):
        read_password(configured)


def test_an_account_without_a_password_is_an_error() -> None:
    with pytest.raises(PasswordError, match="account x has neither a password nor a password file"):
        read_password(Account("x", "https://host", AC))


def test_a_relative_configuration_path_results_in_an_absolute_password_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text(SECRET)
    monkeypatch.chdir(tmp_path)
    config = parse(account(f"username: {SK}", "password_file: token"), directory=Path())
    assert config.accounts["default"].password_file == tmp_path / "token"


@pytest.mark.parametrize(
    ("keys", "base_url"),
    [
        ("", "https://taskrouter.twilio.com"),
        ("region: ie1", "https://taskrouter.dublin.ie1.twilio.com"),
        ("region: us1", "https://taskrouter.ashburn.us1.twilio.com"),
        ("region: au1, edge: singapore", "https://taskrouter.singapore.au1.twilio.com"),
        ("region: xx9, edge: ashburn-ix", "https://taskrouter.ashburn-ix.xx9.twilio.com"),
        ("base_url: 'https://proxy.example:8443/twilio/'", "https://proxy.example:8443/twilio"),
    ],
)
def test_region_edge_and_base_url_determine_the_api_host(keys: str, base_url: str) -> None:
    config = parse(f"{TARGETS}accounts: {{default: {{username: {SK}, password: x, {keys}}}}}\n")
    assert config.accounts["default"].base_url == base_url


def test_accounts_in_the_file_replace_the_environment() -> None:
    config = parse(f"{TARGETS}    account: eu\naccounts: {{eu: {{username: {SK}, password: x}}}}\n")
    assert list(config.accounts) == ["eu"]
    assert config.accounts["eu"].username == SK


KEY_ENVIRONMENT = {"TWILIO_API_KEY": SK, "TWILIO_API_SECRET": SECRET}


@pytest.mark.parametrize(
    ("environ", "username", "base_url"),
    [
        (ENVIRONMENT, AC, "https://taskrouter.twilio.com"),
        (KEY_ENVIRONMENT, SK, "https://taskrouter.twilio.com"),
        ({"TWILIO_ACCOUNT_SID": AC, **KEY_ENVIRONMENT}, SK, "https://taskrouter.twilio.com"),
        ({**ENVIRONMENT, "TWILIO_REGION": "ie1"}, AC, "https://taskrouter.dublin.ie1.twilio.com"),
        (
            {**ENVIRONMENT, "TWILIO_REGION": "ie1", "TWILIO_EDGE": "ashburn"},
            AC,
            "https://taskrouter.ashburn.ie1.twilio.com",
        ),
        ({**ENVIRONMENT, "TWILIO_API_KEY": "", "TWILIO_REGION": ""}, AC, "https://taskrouter.twilio.com"),
    ],
)
def test_the_environment_contains_the_default_account(
    environ: dict[str, str], username: str, base_url: str
) -> None:
    configured = parse(TARGETS, environ).accounts["default"]
    assert (configured.username, configured.base_url) == (username, base_url)
    assert read_password(configured) == SECRET


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("environ", [ENVIRONMENT, KEY_ENVIRONMENT])
def test_one_newline_at_the_end_of_a_variable_is_ignored(environ: dict[str, str], newline: str) -> None:
    variables = {**environ, "TWILIO_REGION": "ie1", "TWILIO_EDGE": "ashburn"}
    configured = parse(TARGETS, {name: value + newline for name, value in variables.items()}).accounts
    assert configured == parse(TARGETS, variables).accounts
    assert read_password(configured["default"]) == SECRET


REGION = "a region (expected lowercase letters, digits and hyphens, e.g. ie1)"
USERNAME = "an account SID or API key SID (expected AC or SK and 32 hex digits)"
ENVIRONMENT_PROBLEMS: dict[str, tuple[dict[str, str], list[str]]] = {
    "nothing is set": (
        {},
        [
            (
                "no credentials; set TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN, or TWILIO_API_KEY and "
                "TWILIO_API_SECRET, or add accounts to the file"
            )
        ],
    ),
    "empty token": (
        {"TWILIO_ACCOUNT_SID": AC, "TWILIO_AUTH_TOKEN": ""},
        ["TWILIO_AUTH_TOKEN: required because TWILIO_ACCOUNT_SID is set"],
    ),
    "token without an account": (
        {"TWILIO_AUTH_TOKEN": SECRET},
        ["TWILIO_ACCOUNT_SID: required because TWILIO_AUTH_TOKEN is set"],
    ),
    "key without a secret": (
        {"TWILIO_API_KEY": SK, "TWILIO_ACCOUNT_SID": AC},
        ["TWILIO_API_SECRET: required because TWILIO_API_KEY is set"],
    ),
    "secret without a key": (
        {"TWILIO_API_SECRET": SECRET},
        ["TWILIO_API_KEY: required because TWILIO_API_SECRET is set"],
    ),
    "account SID instead of a key": (
        {"TWILIO_API_KEY": AC, "TWILIO_API_SECRET": SECRET},
        ["TWILIO_API_KEY: the value is not an API key SID (expected SK and 32 hex digits)"],
    ),
    "key instead of an account SID": (
        {"TWILIO_ACCOUNT_SID": SK, "TWILIO_AUTH_TOKEN": SECRET},
        ["TWILIO_ACCOUNT_SID: the value is not an account SID (expected AC and 32 hex digits)"],
    ),
    "both pairs": (
        {**ENVIRONMENT, "TWILIO_API_KEY": SK, "TWILIO_API_SECRET": SECRET},
        ["TWILIO_AUTH_TOKEN: mutually exclusive with TWILIO_API_KEY; unset one of them"],
    ),
    "malformed values": (
        {"TWILIO_ACCOUNT_SID": SECRET, "TWILIO_AUTH_TOKEN": f"{SECRET} ", "TWILIO_REGION": "ie1/"},
        [
            f"TWILIO_ACCOUNT_SID: the value is not {USERNAME}",
            f"TWILIO_AUTH_TOKEN: the value is not a valid password (expected {PASSWORD})",
            f"TWILIO_REGION: the value is not {REGION}",
        ],
    ),
    "placeholders": (
        {"TWILIO_ACCOUNT_SID": "${SID}", "TWILIO_AUTH_TOKEN": "<token>"},
        [
            "TWILIO_ACCOUNT_SID: placeholders are not expanded; set the value itself",
            "TWILIO_AUTH_TOKEN: placeholders are not expanded; set the value itself",
        ],
    ),
    "quotation marks of an env file": (
        {"TWILIO_ACCOUNT_SID": f'"{AC}"', "TWILIO_AUTH_TOKEN": f"'{SECRET}'", "TWILIO_REGION": '"ie1"'},
        [
            f"{name}: remove the quotation marks around the value; they would be part of it"
            for name in ("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN", "TWILIO_REGION")
        ],
    ),
    "more than one newline at the end": (
        {"TWILIO_API_KEY": f"{SK}\n\n", "TWILIO_API_SECRET": f"{SECRET}\n\n", "TWILIO_REGION": "ie1 "},
        [
            f"TWILIO_API_KEY: the value is not {USERNAME}",
            f"TWILIO_API_SECRET: the value is not a valid password (expected {PASSWORD})",
            f"TWILIO_REGION: the value is not {REGION}",
        ],
    ),
    "only a newline": (
        {"TWILIO_ACCOUNT_SID": AC, "TWILIO_AUTH_TOKEN": "\n"},
        ["TWILIO_AUTH_TOKEN: required because TWILIO_ACCOUNT_SID is set"],
    ),
    "edge without region": (
        {**ENVIRONMENT, "TWILIO_EDGE": "dublin"},
        ["TWILIO_REGION: required because TWILIO_EDGE is set"],
    ),
    "unknown region": (
        {**ENVIRONMENT, "TWILIO_REGION": "xx9"},
        [
            (
                "TWILIO_REGION: unknown region; set edge as well (regions with a known edge: "
                "au1, br1, de1, ie1, jp1, jp2, sg1, us1, us2)"
            )
        ],
    ),
}


@pytest.mark.parametrize(
    ("environ", "problems"), ENVIRONMENT_PROBLEMS.values(), ids=ENVIRONMENT_PROBLEMS.keys()
)
def test_problems_of_the_environment_name_the_variable_and_follow_those_of_the_file(
    environ: dict[str, str], problems: list[str]
) -> None:
    assert problems_of(target("counters: month"), environ) == [
        "3: targets[0].counters: 'month' is not day or week",
        *(f"environment: {problem}" for problem in problems),
    ]
