import pytest
from support.config_files import (
    SECRET,
    SK,
    TARGET_KEYS,
    TARGETS,
    TC,
    WS,
    WS2,
    Expectations,
    account,
    problems_of,
    target,
)

SID = "AC or SK and 32 hex digits"
TARGETS_REQUIRED = "required unless an account has workspaces: auto"

PROBLEMS: Expectations = {
    "no targets": ("polling: {}\n", [f"1: targets: missing; {TARGETS_REQUIRED}"]),
    "empty targets": (
        "targets: []\n",
        ["1: targets: must have at least one entry unless an account has workspaces: auto"],
    ),
    "unknown account": (
        target("account: eu"),
        ["3: targets[0].account: unknown account 'eu'; known accounts: 'default'"],
    ),
    "no account named default": (
        f"{TARGETS}accounts:\n  eu: {{username: {SK}, password: x}}\n  us: {{username: {SK}, password: x}}\n",
        ["2: targets[0].account: unknown account 'default'; known accounts: 'eu', 'us'"],
    ),
    "duplicate channel": (
        target("channels: [all, voice, all]"),
        ["3: targets[0].channels[2]: duplicate entry 'all'"],
    ),
    "one channel SID in two spellings": (
        target(f"channels: [{TC}, TC{TC[2:].upper()}]"),
        [
            (
                "3: targets[0].channels[1]: duplicate entry 'TC0123456789ABCDEF0123456789ABCDEF' (same as"
                f" '{TC}')"
            )
        ],
    ),
    "one window in two spellings": (
        target("windows: [240m, 4h]"),
        ["3: targets[0].windows[1]: duplicate entry '4h' (same as '240m')"],
    ),
    "neither windows nor counters": (
        target("windows: []"),
        ["3: targets[0].windows: must have at least one entry unless counters is set"],
    ),
    "duplicate target": (
        target("channels: [voice]")
        + f"  - workspace: {WS}\n    channels: [chat, voice]\n    windows: [4h]\n",
        ["4: targets[1]: channel 'voice' of this workspace is already a target on line 2"],
    ),
    "duplicate target in another spelling": (
        target(f"channels: [{TC}]")
        + f"  - workspace: WS{WS[2:].upper()}\n    channels: [TC{TC[2:].upper()}]\n    windows: [4h]\n",
        [
            (
                "4: targets[1]: channel 'TC0123456789ABCDEF0123456789ABCDEF' of this workspace is already"
                " a target on line 2"
            )
        ],
    ),
    "one name for two workspaces": (
        target("name: a") + f"  - workspace: {WS2}\n    name: a\n    channels: [voice]\n",
        [
            (
                "5: targets[1].name: 'a' is already the name of another workspace on line 3; their series"
                " would have the same labels"
            )
        ],
    ),
    "name that is another workspace's SID": (
        target(f"name: {WS2}") + f"  - workspace: {WS2}\n",
        [
            (
                f"4: targets[1].name: '{WS2}' is already the name of another workspace on line 3; their "
                "series would have the same labels"
            )
        ],
    ),
    "name that is another workspace's SID in another spelling": (
        target(f"name: WS{WS2[2:].upper()}") + f"  - workspace: {WS2}\n",
        [
            (
                f"4: targets[1].name: '{WS2}' is already the name of another workspace on line 3; their "
                "series would have the same labels"
            )
        ],
    ),
    "workspace in two spellings with two names": (
        target("name: a") + f"  - workspace: WS{WS[2:].upper()}\n    name: b\n    channels: [voice]\n",
        [
            (
                f"4: targets[1].workspace: workspace {WS} must have the same name and account in every "
                "target (line 2: name 'a', account 'default')"
            )
        ],
    ),
    "workspace with two names": (
        target("name: a") + f"  - workspace: {WS}\n    channels: [voice]\n",
        [
            (
                f"4: targets[1].workspace: workspace {WS} must have the same name and account in every "
                "target (line 2: name 'a', account 'default')"
            )
        ],
    ),
    "too many queries": (
        target(
            f"channels: [{', '.join(f'c{n}' for n in range(1000))}]",
            f"windows: [{', '.join(f'{n}m' for n in range(1, 102))}]",
        ),
        ["1: targets: too many queries: 101,000 (maximum 100,000)"],
    ),
    "rows and service levels without their statistics": (
        target(
            "statistics: [workers]",
            "queues: auto",
            "workflows: [Assign]",
            "service_levels: [20s]",
        ),
        [
            "4: targets[0].queues: requires tasks or realtime in statistics",
            "5: targets[0].workflows: requires tasks or realtime in statistics",
            "6: targets[0].service_levels: requires tasks in statistics",
        ],
    ),
    "counters of real-time statistics": (
        target("statistics: [realtime]", "windows: []", "counters: day"),
        ["5: targets[0].counters: requires workers or tasks in statistics"],
    ),
    "time zone without counters": (
        target("timezone: Europe/Berlin"),
        ["3: targets[0].timezone: requires counters"],
    ),
    "patterns without auto": (
        target("statistics: [tasks]", "queues: [Sales]", "include_queues: [x]", "exclude_workflows: [x]"),
        [
            "5: targets[0].include_queues: requires queues: auto",
            "6: targets[0].exclude_workflows: requires workflows: auto",
        ],
    ),
    "repetitions in the lists of a target": (
        target(
            "statistics: [tasks, workers, tasks]",
            "queues: [Sales, Support, Sales]",
            "workflows: auto",
            "service_levels: [60s, 1m]",
        ),
        [
            "3: targets[0].statistics[2]: duplicate entry 'tasks'",
            "4: targets[0].queues[2]: duplicate entry 'Sales'",
            "6: targets[0].service_levels[1]: duplicate entry '1m' (same as '60s')",
        ],
    ),
    "auto twice in a list": (
        target("channels: [auto, voice, auto]"),
        ["3: targets[0].channels[2]: duplicate entry 'auto'"],
    ),
    "auto in two targets of a workspace": (
        target("channels: auto") + f"  - workspace: {WS}\n    channels: [auto]\n    windows: [4h]\n",
        ["4: targets[1]: channel 'auto' of this workspace is already a target on line 2"],
    ),
    "keys that require workspaces: auto": (
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
            "7: accounts.default.include: requires workspaces: auto",
            "8: accounts.default.exclude: requires workspaces: auto",
            "9: accounts.default.channels: requires workspaces: auto",
            "10: accounts.default.windows: requires workspaces: auto",
            "11: accounts.default.counters: requires workspaces: auto",
        ],
    ),
    "workspaces: auto with duplicates": (
        account(
            f"username: {SK}",
            "password: x",
            "workspaces: auto",
            f"channels: [{SECRET}, {SECRET}]",
            "windows: [4h, 240m]",
        ),
        [
            "8: accounts.default.channels[1]: duplicate entry",
            "9: accounts.default.windows[1]: duplicate entry",
        ],
    ),
    "workspaces: auto with neither windows nor counters": (
        account(f"username: {SK}", "password: x", "workspaces: auto", "windows: []"),
        ["8: accounts.default.windows: must have at least one entry unless counters is set"],
    ),
    "edge without region": (
        account(f"username: {SK}", "password: x", "edge: dublin"),
        ["7: accounts.default.edge: requires region"],
    ),
    "base_url and region": (
        account(f"username: {SK}", "password: x", "region: ie1", "base_url: https://taskrouter.twilio.com"),
        ["8: accounts.default.base_url: mutually exclusive with region and edge"],
    ),
    "valid targets are checked even if another one is invalid": (
        target("account: eu", "windows: [1h, 60m]") + "  - workspace: WS12\n  - nonsense\n",
        [
            "3: targets[0].account: unknown account 'eu'; known accounts: 'default'",
            "4: targets[0].windows[1]: duplicate entry '60m' (same as '1h')",
            "5: targets[1].workspace: 'WS12' is not a workspace SID (expected WS and 32 hex digits)",
            f"6: targets[2]: expected a mapping (keys: {TARGET_KEYS}), got 'nonsense'",
        ],
    ),
}


@pytest.mark.parametrize(("text", "problems"), PROBLEMS.values(), ids=PROBLEMS.keys())
def test_keys_that_contradict_each_other_are_reported(text: str, problems: list[str]) -> None:
    assert problems_of(text) == problems
