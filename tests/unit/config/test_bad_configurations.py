"""A tour of bad configurations: each error is one line with its place and what is allowed, all in one go."""

from pathlib import Path

import pytest

from taskrouter_exporter.config.loader import ConfigError, load_config, read_password

WS = "WS0123456789abcdef0123456789abcdef"
WS2 = "WSfedcba9876543210fedcba9876543210"
TC = "TC0123456789abcdef0123456789abcdef"
SK = "SK0123456789abcdef0123456789abcdef"
AC = "AC0123456789abcdef0123456789abcdef"
SECRET = "hunter2-is-a-secret"
ENVIRONMENT = {"TWILIO_ACCOUNT_SID": AC, "TWILIO_AUTH_TOKEN": SECRET}

TARGETS = f"targets:\n  - workspace: {WS}\n"
TARGET_KEYS = "workspace, name, account, channels, windows, counters"
ACCOUNT_KEYS = (
    "username, password, password_file, edge, region, base_url, "
    "workspaces, include, exclude, channels, windows, counters"
)
FILE_KEYS = "accounts, polling, discovery, targets"
UNLESS = "unless an account has workspaces: auto"
POLLING_KEYS = "concurrency, attempts, request_timeout, cache"
NAME = "a name of 1 to 200 characters, not blank and without control characters"
USERNAME = "an account SID (AC…) or API key SID (SK…): AC or SK and 32 hex digits"
WORKSPACE = "a workspace SID: WS and 32 hex digits"
CHANNEL_SID = "a TaskChannel SID: TC and 32 hex digits"
PASSWORD = "1 to 512 printable ASCII characters without spaces or line breaks"
REGION = "a region such as ie1, in lower-case letters, digits and hyphens"
EDGE = "an edge such as dublin, in lower-case letters, digits and hyphens"
BRACES = "{{ … }} is a mapping in a mapping to YAML, and nothing is filled in here"
QUOTED = "quotation marks around the value, which would be part of it: leave them out"
NO_PLACEHOLDER = "a placeholder, and nothing is filled in here"
NO_PLACEHOLDER_USERNAME = (
    f"{NO_PLACEHOLDER}: write the SID, or leave out accounts and set TWILIO_ACCOUNT_SID or TWILIO_API_KEY "
    "in the environment"
)
NO_PLACEHOLDER_PASSWORD = (
    f"{NO_PLACEHOLDER}: use password_file, or leave out accounts and set TWILIO_AUTH_TOKEN or "
    "TWILIO_API_SECRET in the environment"
)
URL = "a URL such as https://host or https://host:port/path, with no user, ? or #"
ONE_PASSWORD = "password or password_file is missing, one of them is needed"
IN_CLEAR = "http:// would send the credentials in clear, it is for 127.0.0.0/8, ::1 and localhost only"
BROKEN = "this is not valid YAML. Check indentation, quotation marks and brackets"
TOO_MANY = "more than 500,000 values, those repeated by aliases (*…) included"


def target(*lines: str) -> str:
    return TARGETS + "".join(f"    {line}\n" for line in lines)


def account(*lines: str) -> str:
    """Targets on lines 1 and 2, the account's keys from line 5 on."""
    return f"{TARGETS}accounts:\n  default:\n" + "".join(f"    {line}\n" for line in lines)


def bomb() -> str:
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    return "\n".join(["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]", *levels])


TOUR: dict[str, tuple[str, list[str]]] = {
    # The document
    "empty file": ("", ["1: the file is empty"]),
    "comments only": ("# nothing\n# here\n", ["1: the file is empty"]),
    "only a document mark": (
        "---\n",
        [f"2: empty, must be a mapping with the keys {FILE_KEYS}"],
    ),
    "list": (
        "- targets\n",
        [f"1: a list, must be a mapping with the keys {FILE_KEYS}"],
    ),
    "password file given as the configuration": (
        f"{SECRET}\n",
        [f"1: this is not a mapping with the keys {FILE_KEYS}"],
    ),
    "two documents": (
        f"{TARGETS}---\n{TARGETS}",
        ["3: a second document begins here: only one is read"],
    ),
    "tab": ("targets:\n\t- workspace: x\n", ["2: a tab cannot stand here: indent with spaces"]),
    "wrong indentation": (
        f"targets:\n  - workspace: {WS}\n   name: support\n",
        ["3: the indentation does not fit the lines above"],
    ),
    "no space after a colon": (
        f"targets:\n  - workspace:{WS}\n    name: x\n",
        ["3: a second ': ' here. Check the indentation, quote text with ': ' in it"],
    ),
    "a line that is no key": (
        f"{TARGETS}polling\n",
        ["4: this is no 'key: value'. Check the indentation above and here"],
    ),
    "open quotation mark": (
        account(f"username: {SK}", f"password: '{SECRET}"),
        ["6: a quotation mark opens here that nothing closes"],
    ),
    "open bracket": (
        target("channels: [voice, chat", "windows: [15m]"),
        ["3: a bracket opens here that nothing closes, or a comma is missing after it"],
    ),
    "password that begins with @": (
        account(f"password: @{SECRET}"),
        ["5: text that begins with @, % or a backtick must be quoted"],
    ),
    "password that begins with *": (
        account(f"password: *{SECRET}"),
        ["5: there is no anchor (&…) for this alias (*…). Quote text that begins with *"],
    ),
    "password that begins with !": (
        account(f"password: !{SECRET}"),
        ["5: tags (!…) are not supported. Quote text that begins with !"],
    ),
    "password that begins with a tag handle": (account(f"password: !a!{SECRET}"), [f"5: {BROKEN}"]),
    "Python object": (
        "targets: !!python/object/apply:os.system [id]\n",
        ["1: tags (!…) are not supported. Quote text that begins with !"],
    ),
    "unknown escape": (target('name: "\\q"'), [f"3: {BROKEN}"]),
    "control character": (target("name: a\x07"), ["3: control characters cannot stand in YAML"]),
    "half a surrogate pair": (
        target('name: "\\ud83d"'),
        ["3: half a character (\\ud800 to \\udfff): write the character itself"],
    ),
    "anchor bomb": (bomb(), [f"1: {TOO_MANY}"]),
    "cyclic anchor": ("targets: &a\n  - *a\n", ["1: an alias (*…) stands within its own anchor (&…)"]),
    "deep nesting": ("targets: " + "[" * 100_000, ["1: this is nested more than 20 levels deep"]),
    "deep nesting by aliases": (
        "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 30)),
        ["1: this is nested more than 20 levels deep by aliases (*…)"],
    ),
    "merge key": (
        f"targets:\n  - &a\n    workspace: {WS}\n  - <<: *a\n    workspace: {WS2}\n",
        ["4: targets[1]: merge keys (<<) are not supported. Repeat the keys"],
    ),
    "duplicate keys": (
        f"polling:\n  cache: 1s\n{TARGETS}polling:\n  cache: 2s\n",
        ["5: polling: this key is given twice, first on line 1"],
    ),
    "duplicate key in a target": (
        target("name: a", "name: b"),
        ["4: targets[0].name: this key is given twice, first on line 3"],
    ),
    "keys that are not text": (
        target("no: x", "1: x", "[a]: x", "{{ b }}: x"),
        [
            f"{line}: targets[0]: a key must be text, and here it is {kind} in YAML: quote it"
            for line, kind in ((3, "a boolean"), (4, "a number"), (5, "a list"), (6, "a mapping"))
        ],
    ),
    "impossible date": (
        target("name: 2026-02-31"),
        ["3: this is a date in YAML, but no valid one: quote it to make it text"],
    ),
    "impossible number": (
        f"{TARGETS}polling:\n  attempts: {'9' * 5000}\n",
        ["4: this is a number in YAML, but no valid one: quote it to make it text"],
    ),
    # Keys
    "no targets": ("polling: {}\n", [f"1: targets: missing, must be a list, {UNLESS}"]),
    "empty targets": ("targets: []\n", [f"1: targets: empty, must have at least one entry, {UNLESS}"]),
    "targets without a value": ("targets:\n", ["1: targets: empty, must be a list"]),
    "targets as a mapping": (f"targets:\n  workspace: {WS}\n", ["1: targets: a mapping, must be a list"]),
    "target as text": (
        f"targets:\n  - {WS}\n",
        [f"2: targets[0]: '{WS}' is not a mapping with the keys {TARGET_KEYS}"],
    ),
    "unknown key at the top": (
        f"target: []\n{TARGETS}",
        [f"1: target: unknown key, did you mean targets? allowed: {FILE_KEYS}"],
    ),
    "unknown keys in a target": (
        target("window: [15m]", "chanels: [voice]", "zzz: 1"),
        [
            f"3: targets[0].window: unknown key, did you mean windows? allowed: {TARGET_KEYS}",
            f"4: targets[0].chanels: unknown key, did you mean channels? allowed: {TARGET_KEYS}",
            f"5: targets[0].zzz: unknown key, allowed: {TARGET_KEYS}",
        ],
    ),
    "unknown key with an unspeakable name": (
        target('"a\\nb": 1'),
        [f"3: targets[0]['a\\nb']: unknown key, allowed: {TARGET_KEYS}"],
    ),
    "unknown key with a secret": (
        account(f"username: {SK}", f"pasword: {SECRET}"),
        [
            f"4: accounts.default: {ONE_PASSWORD}",
            f"6: accounts.default.pasword: unknown key, did you mean password? allowed: {ACCOUNT_KEYS}",
        ],
    ),
    "keys without values": (
        target("name:", "account: ~", "channels:", "windows:", "counters: null"),
        [
            f"3: targets[0].name: empty, must be {NAME}",
            f"4: targets[0].account: empty, must be {NAME}",
            "5: targets[0].channels: empty, must be a list or auto",
            "6: targets[0].windows: empty, must be a list",
            "7: targets[0].counters: empty, must be day or week",
        ],
    ),
    # Targets
    "workspace missing": (
        "targets:\n  - name: support\n",
        [f"2: targets[0].workspace: missing, must be {WORKSPACE}"],
    ),
    "workspace that begins in lower case": (
        f"targets:\n  - workspace: {WS.lower()}\n",
        [f"2: targets[0].workspace: '{WS.lower()}' is not {WORKSPACE}"],
    ),
    "workspace with a digit that is not hexadecimal": (
        f"targets:\n  - workspace: {WS[:-1]}g\n",
        [f"2: targets[0].workspace: '{WS[:-1]}g' is not {WORKSPACE}"],
    ),
    "workspace too short": (
        f"targets:\n  - workspace: {WS[:-1]}\n",
        [f"2: targets[0].workspace: '{WS[:-1]}' is not {WORKSPACE}"],
    ),
    "workspace with a newline": (
        f'targets:\n  - workspace: "{WS}\\n"\n',
        [f"2: targets[0].workspace: '{WS}\\n' is not {WORKSPACE}"],
    ),
    "workspace that YAML takes for a number": (
        "targets:\n  - workspace: 12\n",
        [f"2: targets[0].workspace: 12 is not {WORKSPACE}"],
    ),
    "name that YAML takes for a boolean": (
        target("name: no"),
        ["3: targets[0].name: no is a boolean in YAML, not text: quote it"],
    ),
    "name that YAML takes for a number": (
        target("name: 15:00"),
        ["3: targets[0].name: 15:00 is a number in YAML, not text: quote it"],
    ),
    "name that YAML takes for a date": (
        target("name: 2026-11-23"),
        ["3: targets[0].name: 2026-11-23 is a date in YAML, not text: quote it"],
    ),
    "blank name": (target("name: '  '"), [f"3: targets[0].name: '  ' is not {NAME}"]),
    "name with a control character": (
        target('name: "a\\tb"'),
        [f"3: targets[0].name: 'a\\tb' is not {NAME}"],
    ),
    "name too long": (target(f"name: {'x' * 201}"), [f"3: targets[0].name: '{'x' * 60}…' is not {NAME}"]),
    "unknown account": (
        target("account: eu"),
        ["3: targets[0].account: there is no account 'eu', only 'default'"],
    ),
    "no account of the default name": (
        f"{TARGETS}accounts:\n  eu: {{username: {SK}, password: x}}\n  us: {{username: {SK}, password: x}}\n",
        ["2: targets[0].account: there is no account 'default', only 'eu', 'us'"],
    ),
    "no channels": (target("channels: []"), ["3: targets[0].channels: empty, must have at least one entry"]),
    "channels as text": (
        target("channels: voice"),
        ["3: targets[0].channels: 'voice' is not a list or auto"],
    ),
    "channel twice": (
        target("channels: [all, voice, all]"),
        ["3: targets[0].channels[2]: 'all' is given twice"],
    ),
    "channel SIDs that are none": (
        target(f"channels: [{TC[:-1]}, {TC.lower()}]"),
        [
            f"3: targets[0].channels[0]: '{TC[:-1]}' is not {CHANNEL_SID}",
            f"3: targets[0].channels[1]: '{TC.lower()}' is not {CHANNEL_SID}",
        ],
    ),
    "one channel SID in two cases": (
        target(f"channels: [{TC}, TC{TC[2:].upper()}]"),
        [f"3: targets[0].channels[1]: 'TC{TC[2:].upper()}' is the same as '{TC}'"],
    ),
    "windows that are no durations": (
        target(
            "windows:", "  - 15 minutes", "  - 15", "  - 15:00", "  - 4H", "  - ''", "  - -5m", "  - [1h]"
        ),
        [
            "4: targets[0].windows[0]: '15 minutes' is not a duration (write 15m, 4h)",
            "5: targets[0].windows[1]: 15 is not a duration (write 15m, 4h)",
            "6: targets[0].windows[2]: 15:00 is a number in YAML, not a duration (write 15m, 4h)",
            "7: targets[0].windows[3]: '4H' is not a duration (write 15m, 4h)",
            "8: targets[0].windows[4]: '' is not a duration (write 15m, 4h)",
            "9: targets[0].windows[5]: '-5m' is not a duration (write 15m, 4h)",
            "10: targets[0].windows[6]: a list, must be a duration (write 15m, 4h)",
        ],
    ),
    "windows out of bounds": (
        target("windows: [30s, 90s, 0, 31d, 999999999w]"),
        [
            "3: targets[0].windows[0]: '30s' is not a duration from 1m to 30d",
            "3: targets[0].windows[1]: '90s' is not a duration in whole minutes (write 15m, 4h)",
            "3: targets[0].windows[2]: 0 is not a duration (write 15m, 4h)",
            "3: targets[0].windows[3]: '31d' is not a duration from 1m to 30d",
            "3: targets[0].windows[4]: '999999999w' is not a duration (write 15m, 4h)",
        ],
    ),
    "one window written in two ways": (
        target("windows: [240m, 4h]"),
        ["3: targets[0].windows[1]: '4h' is the same as '240m'"],
    ),
    "nothing to ask": (
        target("windows: []"),
        ["3: targets[0].windows: empty, must have at least one entry where there are no counters"],
    ),
    "unknown counters": (target("counters: month"), ["3: targets[0].counters: 'month' is not day or week"]),
    "counters as a list": (
        target("counters: [day]"),
        ["3: targets[0].counters: a list, must be day or week"],
    ),
    "duplicate target": (
        target("channels: [voice]")
        + f"  - workspace: {WS}\n    channels: [chat, voice]\n    windows: [4h]\n",
        ["4: targets[1]: channel 'voice' of this workspace is a target on line 2 already"],
    ),
    "duplicate target in another case": (
        target(f"channels: [{TC}]")
        + f"  - workspace: WS{WS[2:].upper()}\n    channels: [TC{TC[2:].upper()}]\n    windows: [4h]\n",
        [f"4: targets[1]: channel 'TC{TC[2:].upper()}' of this workspace is a target on line 2 already"],
    ),
    "equal labels": (
        target("name: a") + f"  - workspace: {WS2}\n    name: a\n    channels: [voice]\n",
        ["5: targets[1].name: 'a' names another workspace on line 3: their series would be equal"],
    ),
    "name that is another workspace's SID": (
        target(f"name: {WS2}") + f"  - workspace: {WS2}\n",
        [f"4: targets[1].name: '{WS2}' names another workspace on line 3: their series would be equal"],
    ),
    "name that is another workspace's SID in another case": (
        target(f"name: WS{WS2[2:].upper()}") + f"  - workspace: {WS2}\n",
        [f"4: targets[1].name: '{WS2}' names another workspace on line 3: their series would be equal"],
    ),
    "workspace in two cases with two names": (
        target("name: a") + f"  - workspace: WS{WS[2:].upper()}\n    name: b\n    channels: [voice]\n",
        [
            (
                f"4: targets[1].workspace: {WS} has the name 'a' and the account 'default' on line 2: "
                "a workspace has one name and one account"
            )
        ],
    ),
    "workspace with two names": (
        target("name: a") + f"  - workspace: {WS}\n    channels: [voice]\n",
        [
            (
                f"4: targets[1].workspace: {WS} has the name 'a' and the account 'default' on line 2: "
                "a workspace has one name and one account"
            )
        ],
    ),
    "too many queries": (
        target(
            f"channels: [{', '.join(f'c{n}' for n in range(1000))}]",
            f"windows: [{', '.join(f'{n}m' for n in range(1, 102))}]",
        ),
        ["1: targets: 101,000 queries in all, at most 100,000 are possible"],
    ),
    # Polling
    "polling as text": (
        f"{TARGETS}polling: fast\n",
        [f"3: polling: 'fast' is not a mapping with the keys {POLLING_KEYS}"],
    ),
    "polling out of bounds": (
        f"{TARGETS}polling:\n  concurrency: 0\n  attempts: 11\n  request_timeout: 6m\n  cache: 1h1s\n",
        [
            "4: polling.concurrency: 0 is not a whole number from 1 to 1000",
            "5: polling.attempts: 11 is not a whole number from 1 to 10",
            "6: polling.request_timeout: '6m' is not a duration from 100ms to 5m",
            "7: polling.cache: '1h1s' is not a duration from 0s to 1h",
        ],
    ),
    "polling of wrong types": (
        f"{TARGETS}polling:\n  concurrency: '16'\n  attempts: 4.0\n  request_timeout: 5\n  cache: yes\n",
        [
            "4: polling.concurrency: '16' is not a whole number from 1 to 1000",
            "5: polling.attempts: 4.0 is a number in YAML, not a whole number from 1 to 10",
            "6: polling.request_timeout: 5 is not a duration (write 5s, 500ms)",
            "7: polling.cache: yes is a boolean in YAML, not a duration (write 5s, 500ms)",
        ],
    ),
    # Discovery
    "discovery as text": (
        f"{TARGETS}discovery: auto\n",
        ["3: discovery: 'auto' is not a mapping with the keys interval"],
    ),
    "discovery out of bounds, and a word that is nearly a key": (
        f"{TARGETS}discovery:\n  interval: 5s\n  intervall: 1m\n",
        [
            "4: discovery.interval: '5s' is not a duration from 10s to 1d",
            "5: discovery.intervall: unknown key, did you mean interval? allowed: interval",
        ],
    ),
    "auto twice": (
        target("channels: [auto, voice, auto]"),
        ["3: targets[0].channels[2]: 'auto' is given twice"],
    ),
    "auto in two entries of a workspace": (
        target("channels: auto") + f"  - workspace: {WS}\n    channels: [auto]\n    windows: [4h]\n",
        ["4: targets[1]: channel 'auto' of this workspace is a target on line 2 already"],
    ),
    "workspaces that are not auto": (
        account(f"username: {SK}", "password: x", "workspaces: all"),
        ["7: accounts.default.workspaces: this is not auto"],
    ),
    "workspaces as a list": (
        account(f"username: {SK}", "password: x", f"workspaces: [{WS}]"),
        ["7: accounts.default.workspaces: a list, must be auto"],
    ),
    "keys of workspaces: auto without it": (
        account(
            f"username: {SK}",
            "password: x",
            "include: ['*']",
            "exclude: [x]",
            "channels: auto",
            "windows: [4h]",
            "counters: day",
        ),
        [
            f"{line}: accounts.default.{key}: needs workspaces: auto as well"
            for line, key in enumerate(("include", "exclude", "channels", "windows", "counters"), 7)
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
            "8: accounts.default.include: empty, must have at least one entry",
            "9: accounts.default.exclude[0]: this is a boolean in YAML, not text: quote it",
            f"12: accounts.default.chanels: unknown key, did you mean channels? allowed: {ACCOUNT_KEYS}",
        ],
    ),
    "workspaces: auto with repetitions": (
        account(
            f"username: {SK}",
            "password: x",
            "workspaces: auto",
            f"channels: [{SECRET}, {SECRET}]",
            "windows: [4h, 240m]",
        ),
        [
            "8: accounts.default.channels[1]: this is given twice",
            "9: accounts.default.windows[1]: this is given twice",
        ],
    ),
    "workspaces: auto and nothing to ask": (
        account(f"username: {SK}", "password: x", "workspaces: auto", "windows: []"),
        ["8: accounts.default.windows: empty, must have at least one entry where there are no counters"],
    ),
    # Accounts
    "accounts empty": (f"{TARGETS}accounts: {{}}\n", ["3: accounts: empty, must have at least one entry"]),
    "accounts without a value": (f"{TARGETS}accounts:\n", ["3: accounts: empty, must be a mapping"]),
    "accounts as a list": (f"{TARGETS}accounts: [{SECRET}]\n", ["3: accounts: a list, must be a mapping"]),
    "account as text": (
        f"{TARGETS}accounts:\n  default: {SECRET}\n",
        [f"4: accounts.default: this is not a mapping with the keys {ACCOUNT_KEYS}"],
    ),
    "account with a bad name": (
        f'{TARGETS}accounts:\n  default: &a {{username: {SK}, password: x}}\n  "a\\tb": *a\n',
        [f"5: accounts['a\\tb']: this key is not {NAME}"],
    ),
    "account without anything": (
        f"{TARGETS}accounts:\n  default: {{}}\n",
        [
            f"4: accounts.default.username: missing, must be {USERNAME}",
            f"4: accounts.default: {ONE_PASSWORD}",
        ],
    ),
    "username and password exchanged": (
        account(f"username: {SECRET}", f"password: {SK}"),
        [f"5: accounts.default.username: this is not {USERNAME}"],
    ),
    "password that YAML takes for a number": (
        account(f"username: {SK}", "password: 123456789"),
        ["6: accounts.default.password: this is a number in YAML, not text: quote it"],
    ),
    "password with a space": (
        account(f"username: {SK}", f"password: my {SECRET}"),
        [f"6: accounts.default.password: this is not {PASSWORD}"],
    ),
    "password in braces": (
        account(f"username: {SK}", f"password: {{{SECRET}: 1, {SECRET}: 2}}"),
        [
            "6: accounts.default.password: this key is given twice, first on line 6",
            f"6: accounts.default.password: a mapping, must be {PASSWORD}",
        ],
    ),
    "username and password in braces for a template": (
        account("username: {{ sid }}", "password: {{ token }}"),
        [
            f"5: accounts.default.username: {BRACES}",
            f"5: accounts.default.username: a mapping, must be {USERNAME}",
            f"6: accounts.default.password: {BRACES}",
            f"6: accounts.default.password: a mapping, must be {PASSWORD}",
        ],
    ),
    "password file in quotation marks": (
        account(f"username: {SK}", "password_file: quoted"),
        [f"6: accounts.default.password_file: <dir>/quoted has {QUOTED}"],
    ),
    "password file with a placeholder": (
        account(f"username: {SK}", "password_file: placeholder"),
        [
            (
                "6: accounts.default.password_file: <dir>/placeholder holds a placeholder, and nothing is "
                "filled in there"
            )
        ],
    ),
    "password and password_file": (
        account(f"username: {SK}", f"password: {SECRET}", "password_file: good"),
        ["7: accounts.default.password_file: not allowed together with password"],
    ),
    "password file missing": (
        account("username: AC12", "password_file: missing"),
        [
            f"5: accounts.default.username: this is not {USERNAME}",
            "6: accounts.default.password_file: <dir>/missing cannot be read: No such file or directory",
        ],
    ),
    "password file empty": (
        account(f"username: {SK}", "password_file: empty"),
        ["6: accounts.default.password_file: <dir>/empty is empty"],
    ),
    "password file that is a directory": (
        account(f"username: {SK}", "password_file: ."),
        ["6: accounts.default.password_file: <dir> is not a regular file"],
    ),
    "password file of two lines": (
        account(f"username: {SK}", "password_file: lines"),
        [f"6: accounts.default.password_file: <dir>/lines must hold one line of {PASSWORD}"],
    ),
    "password file not UTF-8": (
        account(f"username: {SK}", "password_file: latin1"),
        [f"6: accounts.default.password_file: <dir>/latin1 must hold one line of {PASSWORD}"],
    ),
    "password file with a NUL in its name": (
        account(f"username: {SK}", 'password_file: "a\\0b"'),
        [
            (
                "6: accounts.default.password_file: this is not a path of 1 to 1024 characters, "
                "not blank and without control characters"
            )
        ],
    ),
    "edge without region": (
        account(f"username: {SK}", "password: x", "edge: dublin"),
        ["7: accounts.default.edge: needs region as well"],
    ),
    "unknown region without edge": (
        account(f"username: {SK}", "password: x", "region: xx9"),
        [
            (
                "7: accounts.default.region: au1, br1, de1, ie1, jp1, jp2, sg1, us1, us2 have a known edge, "
                "any other needs its edge given"
            )
        ],
    ),
    "region and edge that would name another host": (
        account(f"username: {SK}", "password: x", "region: evil.example/", "edge: a@b"),
        [
            f"7: accounts.default.region: this is not {REGION}",
            f"8: accounts.default.edge: this is not {EDGE}",
        ],
    ),
    "base_url and region": (
        account(f"username: {SK}", "password: x", "region: ie1", "base_url: https://taskrouter.twilio.com"),
        ["8: accounts.default.base_url: not allowed together with region or edge"],
    ),
    "base_url in clear": (
        account(f"username: {SK}", "password: x", "base_url: http://taskrouter.twilio.com"),
        [f"7: accounts.default.base_url: {IN_CLEAR}"],
    ),
    "targets, polling and accounts wrong at once, in file order": (
        "polling: {cache: 5}\naccounts: {default: {username: x, password: 1}}\ntargets: [{workspace: x}]\n",
        [
            "1: polling.cache: 5 is not a duration (write 5s, 500ms)",
            f"2: accounts.default.username: this is not {USERNAME}",
            "2: accounts.default.password: this is a number in YAML, not text: quote it",
            f"3: targets[0].workspace: 'x' is not {WORKSPACE}",
        ],
    ),
    "rules between targets hold beside a bad target": (
        target("account: eu", "windows: [1h, 60m]") + "  - workspace: WS12\n  - nonsense\n",
        [
            "3: targets[0].account: there is no account 'eu', only 'default'",
            "4: targets[0].windows[1]: '60m' is the same as '1h'",
            f"5: targets[1].workspace: 'WS12' is not {WORKSPACE}",
            f"6: targets[2]: 'nonsense' is not a mapping with the keys {TARGET_KEYS}",
        ],
    ),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good").write_text(SECRET)
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "quoted").write_text(f'"{SECRET}"\n')
    (tmp_path / "placeholder").write_text("${TWILIO_AUTH_TOKEN}\n")
    (tmp_path / "lines").write_text(f"{SECRET}\nmore\n")
    (tmp_path / "latin1").write_bytes(b"gr\xfc\xdfe\n")
    return tmp_path


def problems(path: Path, environ: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(path, environ)
    assert str(caught.value) == "\n".join(caught.value.problems)
    assert SECRET not in str(caught.value)
    assert all(problem.isprintable() for problem in caught.value.problems)
    return [problem.replace(str(path.parent), "<dir>") for problem in caught.value.problems]


@pytest.mark.parametrize(("text", "expected"), TOUR.values(), ids=TOUR.keys())
def test_each_error_is_one_line_with_its_place_and_what_is_allowed(
    folder: Path, text: str, expected: list[str]
) -> None:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    assert problems(path, ENVIRONMENT) == [f"<dir>/config.yaml:{line}" for line in expected]


@pytest.mark.parametrize(
    "placeholder",
    [
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
    ],
)
def test_a_placeholder_is_no_credential(folder: Path, placeholder: str) -> None:
    path = folder / "config.yaml"
    path.write_text(account(f'username: "{placeholder}"', f'password: "{placeholder}"'))
    assert problems(path, {}) == [
        f"<dir>/config.yaml:5: accounts.default.username: {NO_PLACEHOLDER_USERNAME}",
        f"<dir>/config.yaml:6: accounts.default.password: {NO_PLACEHOLDER_PASSWORD}",
    ]


@pytest.mark.parametrize("password", ["$", "a${b}", "${", "50%", "<", "a<b>", "{", "$1"])
def test_a_password_may_have_the_characters_of_placeholders(folder: Path, password: str) -> None:
    path = folder / "config.yaml"
    path.write_text(account(f"username: {SK}", f"password: '{password}'"))
    assert read_password(load_config(path, {}).accounts["default"]) == password


@pytest.mark.parametrize(
    "url",
    [
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
    ],
)
def test_a_base_url_is_an_address_and_nothing_else(folder: Path, url: str) -> None:
    path = folder / "config.yaml"
    path.write_text(account(f"username: {SK}", "password: x", f'base_url: "{url}"'))
    assert problems(path, {}) == [f"<dir>/config.yaml:7: accounts.default.base_url: this is not {URL}"]


@pytest.mark.parametrize("host", ["example.com", "10.0.0.1", "0.0.0.0", "localhost.evil", "127.1", "[::2]"])  # noqa: S104 - an address that is refused
def test_credentials_leave_the_host_only_by_https(folder: Path, host: str) -> None:
    path = folder / "config.yaml"
    path.write_text(account(f"username: {SK}", "password: x", f"base_url: http://{host}:80/"))
    assert problems(path, {}) == [f"<dir>/config.yaml:7: accounts.default.base_url: {IN_CLEAR}"]


def test_a_missing_file_says_that_there_is_a_demo(tmp_path: Path) -> None:
    assert problems(tmp_path / "config.yaml", ENVIRONMENT) == [
        (
            "<dir>/config.yaml: no such file: write one (config.example.yaml shows how), or start with "
            "--demo, which needs none"
        )
    ]


def test_a_directory_is_not_a_configuration(tmp_path: Path) -> None:
    assert problems(tmp_path, ENVIRONMENT) == [f"<dir>/{tmp_path.name}: cannot be read: Is a directory"]


def test_a_file_that_is_not_utf_8_is_refused_with_its_first_wrong_byte(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(target("name: Größe").encode("latin-1"))
    assert problems(path, ENVIRONMENT) == [
        "<dir>/config.yaml:3: byte 0xf6 is not UTF-8: save the file as UTF-8"
    ]


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"#" * (4 * 1024 * 1024 + 1))
    assert problems(path, ENVIRONMENT) == ["<dir>/config.yaml: is larger than 4 MiB"]


BAD_ENVIRONMENTS: dict[str, tuple[dict[str, str], list[str]]] = {
    "nothing set": (
        {},
        [
            (
                "neither TWILIO_ACCOUNT_SID with TWILIO_AUTH_TOKEN nor TWILIO_API_KEY with TWILIO_API_SECRET "
                "is set, and the file has no accounts"
            )
        ],
    ),
    "an empty token is none": (
        {"TWILIO_ACCOUNT_SID": AC, "TWILIO_AUTH_TOKEN": ""},
        ["TWILIO_AUTH_TOKEN: not set, but TWILIO_ACCOUNT_SID is"],
    ),
    "token without account": (
        {"TWILIO_AUTH_TOKEN": SECRET},
        ["TWILIO_ACCOUNT_SID: not set, but TWILIO_AUTH_TOKEN is"],
    ),
    "key without secret": (
        {"TWILIO_API_KEY": SK, "TWILIO_ACCOUNT_SID": AC},
        ["TWILIO_API_SECRET: not set, but TWILIO_API_KEY is"],
    ),
    "an account for a key": (
        {"TWILIO_API_KEY": AC, "TWILIO_API_SECRET": SECRET},
        ["TWILIO_API_KEY: must be an API key SID (SK…)"],
    ),
    "a key for an account": (
        {"TWILIO_ACCOUNT_SID": SK, "TWILIO_AUTH_TOKEN": SECRET},
        ["TWILIO_ACCOUNT_SID: must be an account SID (AC…)"],
    ),
    "secret without key": (
        {"TWILIO_API_SECRET": SECRET},
        ["TWILIO_API_KEY: not set, but TWILIO_API_SECRET is"],
    ),
    "both pairs": (
        {**ENVIRONMENT, "TWILIO_API_KEY": SK, "TWILIO_API_SECRET": SECRET},
        ["TWILIO_AUTH_TOKEN: set together with TWILIO_API_KEY, unset one of them"],
    ),
    "malformed": (
        {"TWILIO_ACCOUNT_SID": SECRET, "TWILIO_AUTH_TOKEN": f"{SECRET} ", "TWILIO_REGION": "ie1/"},
        [
            f"TWILIO_ACCOUNT_SID: must be {USERNAME}",
            f"TWILIO_AUTH_TOKEN: must be {PASSWORD}",
            f"TWILIO_REGION: must be {REGION}",
        ],
    ),
    "placeholders": (
        {"TWILIO_ACCOUNT_SID": "${SID}", "TWILIO_AUTH_TOKEN": "<token>"},
        [
            f"TWILIO_ACCOUNT_SID: {NO_PLACEHOLDER}: set the value itself",
            f"TWILIO_AUTH_TOKEN: {NO_PLACEHOLDER}: set the value itself",
        ],
    ),
    "quotation marks of an env file": (
        {"TWILIO_ACCOUNT_SID": f'"{AC}"', "TWILIO_AUTH_TOKEN": f"'{SECRET}'", "TWILIO_REGION": '"ie1"'},
        [f"{name}: {QUOTED}" for name in ("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN", "TWILIO_REGION")],
    ),
    "more than one newline at the end": (
        {"TWILIO_API_KEY": f"{SK}\n\n", "TWILIO_API_SECRET": f"{SECRET}\n\n", "TWILIO_REGION": "ie1 "},
        [
            f"TWILIO_API_KEY: must be {USERNAME}",
            f"TWILIO_API_SECRET: must be {PASSWORD}",
            f"TWILIO_REGION: must be {REGION}",
        ],
    ),
    "a newline alone is none": (
        {"TWILIO_ACCOUNT_SID": AC, "TWILIO_AUTH_TOKEN": "\n"},
        ["TWILIO_AUTH_TOKEN: not set, but TWILIO_ACCOUNT_SID is"],
    ),
    "edge without region": (
        {**ENVIRONMENT, "TWILIO_EDGE": "dublin"},
        ["TWILIO_REGION: not set, but TWILIO_EDGE is"],
    ),
    "unknown region": (
        {**ENVIRONMENT, "TWILIO_REGION": "xx9"},
        [
            (
                "TWILIO_REGION: au1, br1, de1, ie1, jp1, jp2, sg1, us1, us2 have a known edge, "
                "any other needs its edge given"
            )
        ],
    ),
}


@pytest.mark.parametrize(("environ", "expected"), BAD_ENVIRONMENTS.values(), ids=BAD_ENVIRONMENTS.keys())
def test_a_bad_environment_is_told_by_variable_after_the_errors_of_the_file(
    tmp_path: Path, environ: dict[str, str], expected: list[str]
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(target("counters: month"))
    assert problems(path, environ) == [
        "<dir>/config.yaml:3: targets[0].counters: 'month' is not day or week",
        *(f"environment: {line}" for line in expected),
    ]


def test_the_tour_is_long_enough() -> None:
    assert len(TOUR) >= 40
