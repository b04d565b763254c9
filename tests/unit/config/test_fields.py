import pytest
from support.config_files import (
    SECRET,
    SK,
    TARGETS,
    TC,
    WS,
    Expectations,
    account,
    parse,
    problems_of,
    target,
    targets_of,
)

from taskrouter_exporter.api.credentials import read_password
from taskrouter_exporter.queries import Target

NAME = "1 to 200 characters, not blank, no control characters"
SID = "AC or SK and 32 hex digits"
PASSWORD = "1 to 512 printable ASCII characters without spaces or line breaks"
LABEL = "lowercase letters, digits and hyphens"

PROBLEMS: Expectations = {
    "workspace SID in lower case": (
        f"targets:\n  - workspace: {WS.lower()}\n",
        [
            (
                "2: targets[0].workspace: 'ws0123456789abcdef0123456789abcdef' is not a workspace SID "
                "(expected WS and 32 hex digits)"
            )
        ],
    ),
    "workspace SID with a digit that is not hexadecimal": (
        f"targets:\n  - workspace: {WS[:-1]}g\n",
        [
            (
                "2: targets[0].workspace: 'WS0123456789abcdef0123456789abcdeg' is not a workspace SID "
                "(expected WS and 32 hex digits)"
            )
        ],
    ),
    "workspace SID with a digit missing": (
        f"targets:\n  - workspace: {WS[:-1]}\n",
        [
            (
                "2: targets[0].workspace: 'WS0123456789abcdef0123456789abcde' is not a workspace SID "
                "(expected WS and 32 hex digits)"
            )
        ],
    ),
    "workspace SID with a newline": (
        f'targets:\n  - workspace: "{WS}\\n"\n',
        [f"2: targets[0].workspace: '{WS}\\n' is not a workspace SID (expected WS and 32 hex digits)"],
    ),
    "blank name": (target("name: '  '"), [f"3: targets[0].name: '  ' is not a valid name (expected {NAME})"]),
    "name with a control character": (
        target('name: "a\\tb"'),
        [f"3: targets[0].name: 'a\\tb' is not a valid name (expected {NAME})"],
    ),
    "name too long": (
        target(f"name: {'x' * 201}"),
        [
            (
                "3: targets[0].name: 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…' is "
                f"not a valid name (expected {NAME})"
            )
        ],
    ),
    "channels as a string": (
        target("channels: voice"),
        ["3: targets[0].channels: 'voice' is not a list or auto"],
    ),
    "malformed channel SIDs": (
        target(f"channels: [{TC[:-1]}, {TC.lower()}]"),
        [
            (
                "3: targets[0].channels[0]: 'TC0123456789abcdef0123456789abcde' is not a TaskChannel SID "
                "(expected TC and 32 hex digits)"
            ),
            (
                "3: targets[0].channels[1]: 'tc0123456789abcdef0123456789abcdef' is not a TaskChannel SID"
                " (expected TC and 32 hex digits)"
            ),
        ],
    ),
    "windows that are not durations": (
        target(
            "windows:", "  - 15 minutes", "  - 15", "  - 15:00", "  - 4H", "  - ''", "  - -5m", "  - [1h]"
        ),
        [
            "4: targets[0].windows[0]: '15 minutes' is not a duration (expected e.g. 15m, 4h)",
            "5: targets[0].windows[1]: 15 is not a duration (expected e.g. 15m, 4h)",
            ("6: targets[0].windows[2]: 15:00 is a number in YAML, not a duration (expected e.g. 15m, 4h)"),
            "7: targets[0].windows[3]: '4H' is not a duration (expected e.g. 15m, 4h)",
            "8: targets[0].windows[4]: '' is not a duration (expected e.g. 15m, 4h)",
            "9: targets[0].windows[5]: '-5m' is not a duration (expected e.g. 15m, 4h)",
            "10: targets[0].windows[6]: expected a duration (e.g. 15m, 4h), got a list",
        ],
    ),
    "windows out of range": (
        target("windows: [30s, 90s, 0, 31d, 999999999w]"),
        [
            "3: targets[0].windows[0]: '30s' is not between 1m and 30d",
            "3: targets[0].windows[1]: '90s' is not a whole number of minutes (expected e.g. 15m, 4h)",
            "3: targets[0].windows[2]: 0 is not a duration (expected e.g. 15m, 4h)",
            "3: targets[0].windows[3]: '31d' is not between 1m and 30d",
            "3: targets[0].windows[4]: '999999999w' is not a duration (expected e.g. 15m, 4h)",
        ],
    ),
    "unknown statistics": (
        target("statistics: [workers, queues]"),
        ["3: targets[0].statistics[1]: 'queues' is not workers, tasks or realtime"],
    ),
    "queues and workflows of other kinds": (
        target(
            "statistics: [tasks]",
            "queues: Sales",
            f"workflows: [WW{'0' * 31}, ww{'0' * 32}, WQ{'0' * 32}]",
            "include_queues: []",
        ),
        [
            "4: targets[0].queues: 'Sales' is not a list or auto",
            *(
                f"5: targets[0].workflows[{place}]: '{sid}' is not a Workflow SID "
                "(expected WW and 32 hex digits)"
                for place, sid in enumerate((f"WW{'0' * 31}", f"ww{'0' * 32}"))
            ),
            "6: targets[0].include_queues: must have at least one entry",
        ],
    ),
    "service levels out of range": (
        target("statistics: [tasks]", "service_levels: [0s, 1500ms, 2d, 20]"),
        [
            "4: targets[0].service_levels[0]: '0s' is not between 1s and 1d",
            (
                "4: targets[0].service_levels[1]: '1500ms' is not a whole number of seconds "
                "(expected e.g. 20s, 1m)"
            ),
            "4: targets[0].service_levels[2]: '2d' is not between 1s and 1d",
            "4: targets[0].service_levels[3]: 20 is not a duration (expected e.g. 5s, 500ms)",
        ],
    ),
    "unknown counters": (target("counters: month"), ["3: targets[0].counters: 'month' is not day or week"]),
    "counters as a list": (
        target("counters: [day]"),
        ["3: targets[0].counters: expected day or week, got a list"],
    ),
    "misspelled time zone": (
        target("counters: day", "timezone: Europe/Berln"),
        [
            (
                "4: targets[0].timezone: 'Europe/Berln' is not a time zone of the IANA database "
                "(did you mean Europe/Berlin?)"
            )
        ],
    ),
    "offset instead of a time zone": (
        target("counters: day", "timezone: '+02:00'"),
        [
            (
                "4: targets[0].timezone: '+02:00' is not a time zone of the IANA database "
                "(expected e.g. Europe/Berlin)"
            )
        ],
    ),
    "number instead of a time zone": (
        target("counters: day", "timezone: 2"),
        [("4: targets[0].timezone: 2 is not a time zone of the IANA database (expected e.g. Europe/Berlin)")],
    ),
    "time zone of an account, which may be a secret in the wrong place": (
        account(
            f"username: {SK}", "password: x", "workspaces: auto", "counters: week", f"timezone: {SECRET}"
        ),
        [
            (
                "9: accounts.default.timezone: the value is not a time zone of the IANA database "
                "(expected e.g. Europe/Berlin)"
            )
        ],
    ),
    "username and password swapped": (
        account(f"username: {SECRET}", f"password: {SK}"),
        [(f"5: accounts.default.username: the value is not an account SID or API key SID (expected {SID})")],
    ),
    "password with a space": (
        account(f"username: {SK}", f"password: my {SECRET}"),
        [f"6: accounts.default.password: the value is not a valid password (expected {PASSWORD})"],
    ),
    "password file with a NUL in its name": (
        account(f"username: {SK}", 'password_file: "a\\0b"'),
        [
            (
                "6: accounts.default.password_file: the value is not a valid path (expected 1 to 1024 "
                "characters, not blank, no control characters)"
            )
        ],
    ),
    "region and edge that lead to another host": (
        account(f"username: {SK}", "password: x", "region: evil.example/", "edge: a@b"),
        [
            f"7: accounts.default.region: the value is not a region (expected {LABEL}, e.g. ie1)",
            (f"8: accounts.default.edge: the value is not an edge location (expected {LABEL}, e.g. dublin)"),
        ],
    ),
    "base_url without encryption": (
        account(f"username: {SK}", "password: x", "base_url: http://taskrouter.twilio.com"),
        [
            (
                "7: accounts.default.base_url: http:// would send the credentials unencrypted; it is "
                "only allowed for 127.0.0.0/8, ::1 and localhost"
            )
        ],
    ),
    "workspaces other than auto": (
        account(f"username: {SK}", "password: x", "workspaces: all"),
        ["7: accounts.default.workspaces: the value is not auto"],
    ),
    "workspaces as a list": (
        account(f"username: {SK}", "password: x", f"workspaces: [{WS}]"),
        ["7: accounts.default.workspaces: expected auto, got a list"],
    ),
}


@pytest.mark.parametrize(("text", "problems"), PROBLEMS.values(), ids=PROBLEMS.keys())
def test_a_value_that_its_type_does_not_accept_is_reported(text: str, problems: list[str]) -> None:
    assert problems_of(text) == problems


def test_a_placeholder_is_not_a_credential() -> None:
    for placeholder in (
        "${TWILIO_AUTH_TOKEN}",
        "${TWILIO_AUTH_TOKEN:-}",
        "$TWILIO_AUTH_TOKEN",
        "$(cat token)",
        "{{ token }}",
        "{{token}}",
        "%(token)s",
        "%TOKEN%",
        "<your auth token>",
        " ${TOKEN}\\n",
    ):
        assert problems_of(account(f'username: "{placeholder}"', f'password: "{placeholder}"')) == [
            (
                "5: accounts.default.username: placeholders are not expanded; write the SID itself, or "
                "remove accounts and set TWILIO_ACCOUNT_SID or TWILIO_API_KEY in the environment"
            ),
            (
                "6: accounts.default.password: placeholders are not expanded; use password_file, or remove "
                "accounts and set TWILIO_AUTH_TOKEN or TWILIO_API_SECRET in the environment"
            ),
        ], placeholder


def test_a_password_may_contain_the_characters_of_placeholders() -> None:
    for password in ("$", "a${b}", "${", "50%", "<", "a<b>", "{", "$1"):
        config = parse(account(f"username: {SK}", f"password: '{password}'"))
        assert read_password(config.accounts["default"]) == password


def test_one_newline_at_the_end_of_a_password_is_ignored() -> None:
    for password in (f"|\n      {SECRET}", f'"{SECRET}\\n"', f'"{SECRET}\\r\\n"', f"'{SECRET}'"):
        config = parse(account(f"username: {SK}", f"password: {password}"))
        assert read_password(config.accounts["default"]) == SECRET, password


@pytest.mark.parametrize(
    ("text", "base_url"),
    [
        ("https://proxy.example:8443/twilio/", "https://proxy.example:8443/twilio"),
        ("https://proxy.example/", "https://proxy.example"),
        (f"https://a-b.c/{'x' * 300}", f"https://a-b.c/{'x' * 300}"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://127.1.2.3", "http://127.1.2.3"),
        ("http://[::1]:8080/", "http://[::1]:8080"),
        ("http://localhost:8080", "http://localhost:8080"),
    ],
)
def test_a_base_url_has_no_slash_at_its_end(text: str, base_url: str) -> None:
    config = parse(account(f"username: {SK}", "password: x", f"base_url: '{text}'"))
    assert config.accounts["default"].base_url == base_url


def test_a_base_url_consists_of_scheme_host_port_and_path() -> None:
    for url in (
        "taskrouter.twilio.com",
        "ftp://host",
        "https://",
        f"https://user:{SECRET}@host",
        "https://host?x=1",
        "https://host/#x",
        "https://host:65536",
        "https://host:0",
        "https://host:",
        "https://ho st",
        "https://host\\\\@evil",
        "https://host\\n.evil",
        "https://-host",
        "https://host//x",
        "https://host..x",
        "https://.host",
        f"https://{'x' * 64}.example",
        f"https://{'x.' * 150}example",
        "https://[::1::]",
        "https://[1.2.3.4]",
    ):
        assert problems_of(account(f"username: {SK}", "password: x", f'base_url: "{url}"')) == [
            (
                "7: accounts.default.base_url: the value is not a base URL (expected https://host or "
                "https://host:port/path, without user, query or fragment)"
            )
        ], url


def test_http_is_only_allowed_for_loopback_addresses() -> None:
    for host in ("example.com", "10.0.0.1", "0.0.0.0", "localhost.evil", "127.1", "[::2]"):  # noqa: S104 - rejected
        assert problems_of(account(f"username: {SK}", "password: x", f"base_url: http://{host}:80/")) == [
            (
                "7: accounts.default.base_url: http:// would send the credentials unencrypted; it is only "
                "allowed for 127.0.0.0/8, ::1 and localhost"
            )
        ], host


def test_sids_may_have_hex_digits_of_either_case_and_keep_their_spelling() -> None:
    workspace, channel, username = (
        f"{prefix}0123456789ABCDEF0123456789abcdef" for prefix in ("WS", "TC", "SK")
    )
    config = parse(
        f"targets: [{{workspace: {workspace}, channels: [{channel}]}}]\n"
        f"accounts: {{default: {{username: {username}, password: x}}}}\n"
    )
    assert targets_of(config) == (Target("default", workspace, workspace, channel),)
    assert config.accounts["default"].username == username
    environment = {"TWILIO_ACCOUNT_SID": f"AC{username[2:]}", "TWILIO_AUTH_TOKEN": SECRET}
    assert parse(TARGETS, environment).accounts["default"].username == f"AC{username[2:]}"


def test_names_and_channels_may_be_any_string() -> None:
    config = parse(
        f"{TARGETS}    name: 'Kundendienst \"Köln\" \\ 客服 📞'\n"
        f"    channels: ['no', Ünïque, {'TC' + '0' * 32}]\n"
    )
    assert targets_of(config)[0].workspace == 'Kundendienst "Köln" \\ 客服 📞'
    assert [target.channel for target in targets_of(config)] == ["no", "Ünïque", "TC" + "0" * 32]
