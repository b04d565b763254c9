"""The real process, told to find workspaces and TaskChannels by itself."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.exporter import ROOT, Exporter
from support.waiting import wait_until

from taskrouter_exporter.simulator import Simulator

StartExporter = Callable[..., Exporter]


def discovering(simulator: Simulator, targets: Any = (), password: str = "", **keys: Any) -> dict[str, Any]:
    """Return a configuration with one account, `main`, that discovers workspaces."""
    return {
        "accounts": {
            "main": {
                "username": simulator.centre.account_sid,
                "password": password or simulator.centre.auth_token,
                "base_url": simulator.base_url,
                "workspaces": "auto",
                **keys,
            }
        },
        "polling": {"attempts": 1},
        "discovery": {"interval": "10s"},
        "targets": [*targets],
    }


def wait_until_ready(exporter: Exporter) -> None:
    wait_until("readiness", lambda: exporter.request("/-/ready").status == 200)


def discovered(exporter: Exporter) -> set[tuple[str, str]]:
    """Workspace and channel of each target in /sd."""
    return {
        (each["labels"]["__param_workspace"], each["labels"]["__param_channel"])
        for each in json.loads(exporter.request("/sd").body)
    }


def everything(simulator: Simulator) -> set[tuple[str, str]]:
    """Return every workspace with `all` and with each of its channels."""
    return {
        (workspace.friendly_name, channel)
        for workspace in simulator.centre.workspaces
        for channel in ("all", *(each.unique_name for each in workspace.channels))
    }


def test_every_workspace_and_channel_is_found_polled_and_listed(
    simulator: Simulator, start_exporter: StartExporter
) -> None:
    exporter = start_exporter(discovering(simulator, channels=["all", "auto"], counters="day"))
    wait_until_ready(exporter)
    wanted = everything(simulator)
    assert len(wanted) > 6
    assert discovered(exporter) == wanted
    scrape = exporter.scrape()
    up = scrape.find("up")
    assert {(dict(labels)["workspace"], dict(labels)["channel"]) for labels in up} == wanted
    assert {dict(labels)["window"] for labels in up} == {"15m", "day"}
    assert {*up.values()} == {1}
    assert scrape.value("discovery_up", account="main") == 1
    workspace, channel = min(wanted)
    assert exporter.scrape(path=f"/probe?workspace={workspace}&channel={channel}").find("up")
    page = exporter.request("/").text
    channels = sum(len(workspace.channels) for workspace in simulator.centre.workspaces)
    assert f"found {len(simulator.centre.workspaces)} workspaces and {channels} channels" in page
    assert '<span class="up">up</span></li>' in page


def test_a_configured_workspace_keeps_its_configuration(
    simulator: Simulator, start_exporter: StartExporter
) -> None:
    first, second, _ = simulator.centre.workspaces
    target = {"workspace": first.sid, "name": "mine", "account": "main", "channels": "auto"}
    exporter = start_exporter(discovering(simulator, [target], include=[second.friendly_name, "nothing*"]))
    wait_until_ready(exporter)
    assert discovered(exporter) == {
        *(("mine", channel.unique_name) for channel in first.channels),
        (second.friendly_name, "all"),
    }


def test_a_workspace_configured_in_upper_case_is_polled_once(
    simulator: Simulator, start_exporter: StartExporter
) -> None:
    first, second, _ = simulator.centre.workspaces
    sid = f"WS{first.sid[2:].upper()}"
    channel = f"TC{first.channels[0].sid[2:].upper()}"
    target = {"workspace": sid, "account": "main", "channels": [channel]}
    names = [first.friendly_name, second.friendly_name]
    exporter = start_exporter(discovering(simulator, [target], include=names))
    wait_until_ready(exporter)
    assert discovered(exporter) == {(sid, channel), (second.friendly_name, "all")}
    assert {*exporter.scrape().find("up").values()} == {1}
    probe = exporter.scrape(path=f"/probe?workspace={first.sid}&channel={first.channels[0].sid}")
    assert [dict(labels)["workspace"] for labels in probe.find("up")] == [sid]


def test_the_exporter_answers_but_is_not_ready_before_the_first_refresh_ends(
    simulator: Simulator, start_exporter: StartExporter
) -> None:
    simulator.latency = 1.5
    exporter = start_exporter(discovering(simulator))
    answer = exporter.request("/-/ready")
    assert (answer.status, answer.text) == (503, "Not ready: discovering workspaces and channels.\n")
    assert exporter.request("/-/healthy").status == 200
    assert exporter.scrape().find("up") == {}
    assert exporter.scrape().find("discovery_up") == {}
    assert "first refresh in progress" in exporter.request("/").text
    wait_until_ready(exporter)
    assert exporter.scrape(30).find("up")


def test_without_discovery_the_exporter_is_ready_at_once(
    simulator: Simulator, start_exporter: StartExporter
) -> None:
    config = discovering(simulator, [{"workspace": simulator.centre.workspaces[0].sid, "account": "main"}])
    del config["accounts"]["main"]["workspaces"]
    exporter = start_exporter(config)
    assert exporter.request("/-/ready").status == 200
    assert exporter.scrape().find("discovery_up") == {}
    assert "Discovery</h2>" not in exporter.request("/").text
    assert all(request.path.endswith("CumulativeStatistics") for request in simulator.requests.latest())


def test_wrong_credentials_are_logged_and_configured_targets_are_still_polled(
    simulator: Simulator, start_exporter: StartExporter
) -> None:
    target = {"workspace": simulator.centre.workspaces[0].sid, "name": "mine", "account": "main"}
    exporter = start_exporter(discovering(simulator, [target], password="wrong-password"))
    wait_until_ready(exporter)
    scrape = exporter.scrape()
    assert scrape.value("discovery_up", account="main") == 0
    assert scrape.value("up") == 0
    assert "down: authentication failed" in exporter.request("/").text
    line = exporter.wait_for_log("discovery failed.*").group()
    assert "reason=auth" in line
    assert "status=401" in line
    exporter.assert_clean_log(["wrong-password"])


def test_discovered_targets_are_kept_while_the_api_is_down(
    simulator: Simulator, start_exporter: StartExporter
) -> None:
    exporter = start_exporter(discovering(simulator, channels=["auto"]))
    wait_until_ready(exporter)
    before = discovered(exporter)
    simulator.close()
    wait_until("failed discovery", lambda: exporter.scrape(2).value("discovery_up", account="main") == 0)
    assert discovered(exporter) == before
    up = exporter.scrape(2).find("up")
    assert len(up) == len(before)
    assert {*up.values()} == {0}


def test_a_reload_answers_at_once_and_keeps_discovered_targets(
    tmp_path: Path, simulator: Simulator, start_exporter: StartExporter
) -> None:
    config = discovering(simulator, channels=["all", "auto"])
    exporter = start_exporter(config)
    wait_until_ready(exporter)
    before = discovered(exporter)
    lists = len(simulator.requests.latest())
    simulator.latency = 2
    config["accounts"]["main"]["windows"] = ["4h"]
    (tmp_path / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
    answer = exporter.request("/-/reload", "POST")
    assert answer.status == 200
    assert answer.seconds < 1.5
    assert discovered(exporter) == before
    assert exporter.request("/-/ready").status == 200
    simulator.latency = 0
    up = exporter.scrape().find("up")
    assert {dict(labels)["window"] for labels in up} == {"4h"}
    assert len(up) == len(before)
    wait_until("requests for lists", lambda: len(simulator.requests.latest()) > lists + len(before))


def test_a_reload_that_ends_discovery_removes_its_series(
    tmp_path: Path, simulator: Simulator, start_exporter: StartExporter
) -> None:
    config = discovering(simulator)
    exporter = start_exporter(config)
    wait_until_ready(exporter)
    del config["accounts"]["main"]["workspaces"]
    config["targets"] = [{"workspace": simulator.centre.workspaces[0].sid, "name": "mine", "account": "main"}]
    (tmp_path / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
    assert exporter.request("/-/reload", "POST").status == 200
    assert discovered(exporter) == {("mine", "all")}
    assert exporter.scrape().find("discovery_up") == {}


def test_the_check_stays_offline_and_names_what_is_discovered_at_run_time(
    tmp_path: Path, simulator: Simulator
) -> None:
    workspace = simulator.centre.workspaces[0]
    target = {"workspace": workspace.sid, "name": "mine", "account": "main", "channels": ["all", "auto"]}
    (tmp_path / "config.yaml").write_text(json.dumps(discovering(simulator, [target])), encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, str(ROOT / "exporter.py"), "--config.check"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert ended.stdout.splitlines() == [
        "config.yaml: valid",
        f"workspace=mine channel=all window=15m account=main workspace_sid={workspace.sid}",
        (
            f"workspace=mine channel=auto account=main workspace_sid={workspace.sid}: "
            "channels are discovered at run time"
        ),
        "workspace=auto account=main: workspaces are discovered at run time",
        (
            "1 API request per scrape, 60 per hour at a scrape interval of 60 s "
            "(excluding retries and discovered targets)"
        ),
        "1 list to refresh every 10s, one API request for each 250 entries",
    ]
    assert simulator.requests.count() == 0
