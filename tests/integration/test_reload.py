"""The real process gets another configuration while it runs."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.configurations import simulated
from support.exporter import ROOT, Exporter, Scrape
from support.faults import Fault, FaultySimulator

from taskrouter_exporter.simulator import Simulator
from taskrouter_exporter.simulator.wire import Answer, Connection

StartExporter = Callable[..., Exporter]
SUCCESSFUL = "exporter_config_last_reload_successful"
SUCCESS_TIME = "exporter_config_last_reload_success_timestamp_seconds"
BROKEN = """
polling: {concurrency: many}
targets:
- workspace: WS0
  windows: [15 minutes]
  color: red
"""


@pytest.fixture
def write_config(tmp_path: Path) -> Callable[[object], None]:
    """Exchange the file that `start_exporter` started with."""

    def write(config: object) -> None:
        text = config if isinstance(config, str) else json.dumps(config)
        new = tmp_path / "config.new"
        new.write_text(text, encoding="utf-8")
        new.replace(tmp_path / "config.yaml")

    return write


WriteConfig = Callable[[object], None]


class InFlight:
    """A fault that delays answers and records the maximum number of concurrent requests."""

    def __init__(self, seconds: float) -> None:
        self.most = 0
        self._seconds = seconds
        self._now = 0
        self._lock = threading.Lock()

    def fault(self) -> Fault:
        return Fault("in_flight", deliver=self._deliver)

    def _deliver(self, connection: Connection, answer: Answer) -> None:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        gone = connection.gone_within(self._seconds)
        with self._lock:
            self._now -= 1
        if not gone:
            connection.send_answer(answer)


class Scraping:
    """A scrape in flight, in a thread."""

    def __init__(self, exporter: Exporter) -> None:
        self._scrapes: list[Scrape] = []
        self._thread = threading.Thread(target=lambda: self._scrapes.append(exporter.scrape()))
        self._thread.start()

    @property
    def under_way(self) -> bool:
        return self._thread.is_alive()

    def result(self) -> Scrape:
        self._thread.join(20)
        (scrape,) = self._scrapes
        return scrape


def created(count: int) -> Fault:
    """Answer right, but with this number of reservations created."""

    def rewrite(answer: Answer) -> Answer:
        content = {**json.loads(answer.body), "reservations_created": count}
        return replace(answer, body=json.dumps(content).encode())

    return Fault("created", rewrite=rewrite)


def until(condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"in vain: {what}"
        time.sleep(0.01)


def reload_by_request(exporter: Exporter) -> None:
    answer = exporter.request("/-/reload", "POST")
    assert (answer.status, answer.text) == (200, "OK\n")


def reload_by_put(exporter: Exporter) -> None:
    assert exporter.request("/-/reload", "PUT").status == 200


def reload_by_signal(exporter: Exporter) -> None:
    before = exporter.log.count('msg="configuration reloaded"')
    exporter.process.send_signal(signal.SIGHUP)
    until(lambda: exporter.log.count('msg="configuration reloaded"') > before, "reload by SIGHUP")


def entry(config: dict[str, Any], workspace: str) -> dict[str, Any]:
    """The entry of a workspace in a configuration."""
    (found,) = [each for each in config["targets"] if each["name"] == workspace]
    assert isinstance(found, dict)
    return found


def workspaces(scrape: Scrape) -> set[str]:
    return {dict(labels)["workspace"] for labels in scrape.find("up")}


@pytest.mark.parametrize("reload", [reload_by_request, reload_by_put, reload_by_signal])
def test_removed_targets_leave_no_series(
    reload: Callable[[Exporter], None],
    simulator: FaultySimulator,
    start_exporter: StartExporter,
    write_config: WriteConfig,
) -> None:
    config = simulated(simulator, attempts=1)
    *first_targets, new = config["targets"]
    gone, stays = (target["name"] for target in first_targets)
    simulator.faults.set(simulator.centre.workspaces[0].sid, Fault.status(500))
    exporter = start_exporter({**config, "targets": first_targets})
    before = exporter.scrape()
    assert workspaces(before) == {gone, stays}
    assert before.value(
        "poll_errors_total", workspace=gone, channel="all", window="15m", reason="server_error"
    )

    write_config({**config, "targets": [*first_targets[1:], new]})
    assert workspaces(exporter.scrape()) == {gone, stays}, "reloaded unasked"
    reload(exporter)
    after = exporter.scrape()
    assert workspaces(after) == {stays, new["name"]}
    assert after.names(workspace=gone) == set()
    assert after.statistics(workspace=new["name"])
    assert gone not in after.answer.text
    assert gone not in exporter.request("/").text
    assert gone not in exporter.request("/sd").text


def test_a_target_that_is_added_again_starts_over(
    simulator: FaultySimulator, start_exporter: StartExporter, write_config: WriteConfig
) -> None:
    config = simulated(simulator, attempts=1)
    ill = simulator.centre.workspaces[0]
    simulator.faults.set(ill.sid, Fault.status(500, times=4))
    exporter = start_exporter(config)
    errors = {"workspace": ill.friendly_name, "channel": "all", "window": "15m", "reason": "server_error"}
    assert exporter.scrape().value("poll_errors_total", **errors) == 1
    write_config({**config, "targets": config["targets"][1:]})
    reload_by_request(exporter)
    write_config(config)
    reload_by_request(exporter)
    assert exporter.scrape().value("poll_errors_total", **errors) == 0


def test_error_counters_of_a_remaining_target_continue(
    simulator: FaultySimulator, start_exporter: StartExporter, write_config: WriteConfig
) -> None:
    config = simulated(simulator, attempts=1)
    ill = simulator.centre.workspaces[0]
    simulator.faults.set(ill.sid, Fault.status(503))
    exporter = start_exporter(config)
    errors = {"workspace": ill.friendly_name, "channel": "voice", "window": "day", "reason": "server_error"}
    requests = {"account": "default", "code": "503"}
    first = exporter.scrape()
    assert first.value("poll_errors_total", **errors) == 1
    entry(config, ill.friendly_name)["windows"] = ["4h"]
    write_config(config)
    reload_by_request(exporter)
    second = exporter.scrape()
    assert second.value("poll_errors_total", **errors) == 2
    assert second.value("api_requests_total", **requests) == 2 * first.value("api_requests_total", **requests)
    assert second.find("up", workspace=ill.friendly_name, window="15m") == {}


def test_an_anchored_counter_does_not_go_down_after_a_reload(
    simulator: FaultySimulator, start_exporter: StartExporter
) -> None:
    workspace = simulator.centre.workspaces[0]
    exporter = start_exporter(simulated(simulator))
    labels = {"workspace": workspace.friendly_name, "channel": "all"}
    simulator.faults.set(workspace.sid, created(1000))
    assert exporter.scrape().value("reservations_total", **labels) == 1000
    simulator.faults.set(workspace.sid, created(10))
    reload_by_request(exporter)
    scrape = exporter.scrape()
    assert scrape.value("window_reservations", **labels, window="15m") == 10
    assert scrape.value("reservations_total", **labels) == 1000


def test_changed_credentials_apply(
    simulator: Simulator, start_exporter: StartExporter, write_config: WriteConfig
) -> None:
    config = simulated(simulator)
    account = config["accounts"]["default"]
    right, account["password"] = account["password"], "an-old-secret"
    exporter = start_exporter(config)
    before = exporter.scrape()
    assert set(before.find("up").values()) == {0}
    assert sum(before.find("poll_errors_total", reason="auth").values()) == len(before.find("up"))
    account["password"] = right
    write_config(config)
    reload_by_request(exporter)
    assert set(exporter.scrape().find("up").values()) == {1}
    exporter.assert_clean_log(["an-old-secret"])


def test_a_removed_account_leaves_no_series(
    simulator: Simulator, start_exporter: StartExporter, write_config: WriteConfig
) -> None:
    config = simulated(simulator)
    exporter = start_exporter(config)
    assert exporter.scrape().names(account="default") > {"api_requests_total", "workspace_info"}
    config["accounts"]["other"] = config["accounts"].pop("default")
    for target in config["targets"]:
        target["account"] = "other"
    write_config(config)
    reload_by_request(exporter)
    after = exporter.scrape()
    assert after.names(account="default") == set()
    assert set(after.find("up").values()) == {1}


def test_a_changed_concurrency_applies_to_requests_in_flight(
    simulator: FaultySimulator, start_exporter: StartExporter, write_config: WriteConfig
) -> None:
    config = simulated(simulator, concurrency=2)
    exporter = start_exporter(config)
    for concurrency in (2, 5, 1):
        config["polling"]["concurrency"] = concurrency
        write_config(config)
        reload_by_request(exporter)
        in_flight = InFlight(0.1)
        for workspace in simulator.centre.workspaces:
            simulator.faults.set(workspace.sid, in_flight.fault())
        assert set(exporter.scrape().find("up").values()) == {1}
        assert in_flight.most == concurrency


def test_a_scrape_in_flight_finishes_with_the_configuration_it_started_with(
    simulator: Simulator, start_exporter: StartExporter, write_config: WriteConfig
) -> None:
    config = simulated(simulator, concurrency=4)
    exporter = start_exporter(config)
    everything = workspaces(exporter.scrape())
    simulator.requests.clear()
    simulator.latency = 0.4
    scraping = Scraping(exporter)
    until(lambda: simulator.requests.count() >= 4, "a scrape in the middle")

    config["targets"].pop()
    config["accounts"]["default"]["password"] = "a-wrong-secret"
    write_config(config)
    reload_by_request(exporter)
    assert scraping.under_way
    assert simulator.requests.count() < 12, "some requests of the scrape are still to begin"

    before = scraping.result()
    assert workspaces(before) == everything
    assert set(before.find("up").values()) == {1}
    assert all(before.statistics(workspace=workspace) for workspace in everything)
    after = exporter.scrape()
    assert workspaces(after) < everything
    assert set(after.find("up").values()) == {0}
    exporter.assert_clean_log(["a-wrong-secret"])


def test_an_invalid_file_is_refused_with_the_errors_of_startup_and_the_previous_one_is_kept(
    simulator: Simulator, start_exporter: StartExporter, write_config: WriteConfig, tmp_path: Path
) -> None:
    config = simulated(simulator)
    begin = time.time()
    exporter = start_exporter(config)
    started = exporter.scrape()
    assert started.value(SUCCESSFUL) == 1
    assert begin < started.value(SUCCESS_TIME) < time.time()

    write_config(BROKEN)
    refused = exporter.request("/-/reload", "POST")
    assert refused.status == 500
    check = subprocess.run(
        [
            sys.executable,
            str(ROOT / "exporter.py"),
            "--config.check",
            f"--config.file={tmp_path}/config.yaml",
        ],
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if not key.startswith("TWILIO_")},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    head, *problems = refused.text.splitlines()
    assert check.returncode == 1
    assert problems == check.stderr.splitlines()
    assert len(problems) >= 4
    assert head == "Invalid configuration; keeping the previous one:"
    for problem in problems:
        assert problem in exporter.log.replace('\\"', '"')

    kept = exporter.scrape()
    assert kept.value(SUCCESSFUL) == 0
    assert kept.value(SUCCESS_TIME) == started.value(SUCCESS_TIME)
    assert set(kept.find("up").values()) == {1}
    assert kept.find("up").keys() == started.find("up").keys()

    write_config(config)
    reload_by_request(exporter)
    recovered = exporter.scrape()
    assert recovered.value(SUCCESSFUL) == 1
    assert started.value(SUCCESS_TIME) < recovered.value(SUCCESS_TIME) < time.time()


def test_an_invalid_file_does_not_end_the_process_on_sighup(
    simulator: Simulator, start_exporter: StartExporter, write_config: WriteConfig
) -> None:
    exporter = start_exporter(simulated(simulator))
    write_config("targets: [")
    exporter.process.send_signal(signal.SIGHUP)
    exporter.wait_for_log('msg="invalid configuration; keeping the previous one" problem=.*config.yaml:')
    scrape = exporter.scrape()
    assert scrape.value(SUCCESSFUL) == 0
    assert set(scrape.find("up").values()) == {1}


def test_a_missing_file_or_password_file_keeps_the_previous_configuration(
    simulator: Simulator, start_exporter: StartExporter, tmp_path: Path, write_config: WriteConfig
) -> None:
    config = simulated(simulator)
    account = config["accounts"]["default"]
    token = tmp_path / "auth_token"
    token.write_text(account.pop("password"), encoding="utf-8")
    account["password_file"] = "auth_token"
    exporter = start_exporter(config)
    token.unlink()
    refused = exporter.request("/-/reload", "POST")
    assert refused.status == 500
    assert "auth_token" in refused.text
    (tmp_path / "config.yaml").unlink()
    refused = exporter.request("/-/reload", "POST")
    assert refused.status == 500
    assert "config.yaml: no such file" in refused.text
    assert set(exporter.scrape().find("up").values()) == {1}
    token.write_text(simulator.centre.auth_token, encoding="utf-8")
    write_config(config)
    reload_by_request(exporter)


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_a_reload_needs_post_or_put(method: str, simulator: Simulator, start_exporter: StartExporter) -> None:
    exporter = start_exporter(simulated(simulator))
    answer = exporter.request("/-/reload", method)
    assert answer.status == 405
    assert {"POST", "PUT"} <= set(answer.headers["allow"].split(", "))
    assert "configuration reloaded" not in exporter.log


def test_reloads_during_scrapes_leak_neither_threads_nor_file_descriptors(
    simulator: Simulator, start_exporter: StartExporter
) -> None:
    exporter = start_exporter(simulated(simulator))
    proc = Path("/proc") / str(exporter.process.pid)

    def threads() -> int:
        return len(list((proc / "task").iterdir()))

    def descriptors() -> int:
        return len(list((proc / "fd").iterdir()))

    simulator.latency = 0.05
    reload_by_request(exporter)
    exporter.scrape()
    threads_before, descriptors_before = threads(), descriptors()
    for _ in range(20):
        simulator.requests.clear()
        scraping = Scraping(exporter)
        until(lambda: simulator.requests.count() > 0, "a scrape in the middle")
        reload_by_request(exporter)
        assert set(scraping.result().find("up").values()) == {1}
    assert set(exporter.scrape().find("up").values()) == {1}
    until(lambda: threads() <= threads_before + 3, f"{threads_before} threads again")
    until(lambda: descriptors() <= descriptors_before + 3, f"{descriptors_before} descriptors again")
