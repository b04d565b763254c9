"""The command query: the real process asks the simulator once."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from integration.test_secrets import PASSWORD, Outputs, echo
from prometheus_client.parser import text_string_to_metric_families
from support.configurations import simulated
from support.exporter import PREFIX, ROOT, Exporter, Labels, run_exporter
from support.faked_clock import SetClock, day_that_lasts
from support.faults import Fault, FaultySimulator
from support.waiting import wait_until

from taskrouter_exporter.simulator import ContactCentre

StartExporter = Callable[..., Exporter]
Run = Callable[..., subprocess.CompletedProcess[str]]
Series = dict[tuple[str, Labels], float]


@pytest.fixture
def centre() -> ContactCentre:
    """A contact centre that accepts the planted password."""
    centre = ContactCentre(seed=7)
    centre.auth_token = PASSWORD
    return centre


@pytest.fixture
def clock() -> SetClock:
    return SetClock(day_that_lasts() + timedelta(hours=11))


@pytest.fixture
def simulator(centre: ContactCentre, clock: SetClock) -> Iterator[FaultySimulator]:
    with FaultySimulator(centre, clock, rate_limit=500) as simulator:
        yield simulator


@pytest.fixture
def config(simulator: FaultySimulator) -> dict[str, Any]:
    """A configuration of the workspace support: every kind of statistics, over all channels and for voice."""
    config = simulated(simulator, attempts=2)
    config["targets"] = config["targets"][:1]
    config["targets"][0] |= {
        "statistics": ["workers", "tasks", "realtime"],
        "windows": ["4h"],
        "queues": "auto",
        "workflows": "auto",
        "service_levels": ["20s", "1m"],
    }
    return config


@pytest.fixture
def query(tmp_path: Path, config: dict[str, Any]) -> Run:
    """Run the command with the configuration as it is then; assert that it shows no secret."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
        done = run_exporter("query", *arguments, cwd=tmp_path, **environment)
        outputs = Outputs(PASSWORD)
        outputs.add(" ".join(arguments), done.stdout + done.stderr)
        outputs.assert_no_secret()
        return done

    return run


def series(text: str) -> Series:
    return {
        (sample.name.removeprefix(PREFIX), frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_series_are_those_of_the_live_exporter(
    query: Run, config: dict[str, Any], start_exporter: StartExporter
) -> None:
    exporter = start_exporter(config)
    exporter.wait_until_ready()
    live = series(exporter.scrape(60).answer.text)

    def answer(arguments: str) -> Series:
        """Ask between two scrapes that agree: this moment can be another one meanwhile."""
        nonlocal live
        while True:
            done = query("--output=prometheus", *arguments.split())
            assert done.returncode == 0, done.stderr
            before, live = live, series(exporter.scrape(60).answer.text)
            answered = series(done.stdout)
            if all(before.get(each) == live.get(each) for each in answered):
                return answered

    for arguments, count in {
        "--channel=voice --window=4h": 40,
        "--channel=voice --window=4h --statistics=tasks": 23,
        "--statistics=realtime": 13,
        "--queue=Voice --window=4h": 32,
        "--workflow=Escalations --statistics=realtime --channel=voice": 5,
    }.items():
        answered = answer(arguments)
        assert answered.items() <= live.items(), arguments
        ((_, labels), *_) = answered
        names = {name for name, _ in answered}
        own = {
            label for label in labels if label[0] in {"workspace", "channel", "window", "queue", "workflow"}
        }
        assert answered.keys() == {key for key in live if key[0] in names and own <= key[1]}, arguments
        assert len(answered) >= count, arguments


def test_a_range_asks_for_its_start_and_end(query: Run, simulator: FaultySimulator, clock: SetClock) -> None:
    day = clock.moment.date() - timedelta(days=1)
    done = query(f"--from={day}T08:00Z", f"--to={day}T12:30Z", "--output=json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    (request,) = simulator.requests.latest()
    assert request.parameters == {"StartDate": f"{day}T08:00:00Z", "EndDate": f"{day}T12:30:00Z"}
    assert (answer["start"], answer["end"]) == (f"{day}T08:00:00Z", f"{day}T12:30:00Z")
    assert (answer["workspace"], answer["window"], answer["attempts"]) == ("support", "4h30m", 1)
    created = next(
        each["value"] for each in answer["samples"] if each["name"] == f"{PREFIX}window_reservations"
    )
    assert created > 0


def test_the_table_is_readable_on_a_narrow_terminal(query: Run) -> None:
    done = query("--queue=Voice", COLUMNS="50")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == ["account     default", "workspace   support"]
    assert {"channel     all", "statistics  tasks", "window      15m", "queue_window_task_events"} <= {*lines}
    assert max(map(len, lines)) <= 50
    assert any(line.startswith("  entered ") for line in lines)


def test_each_problem_is_one_line_and_an_exit_status(
    query: Run, config: dict[str, Any], simulator: FaultySimulator
) -> None:
    def failure(*arguments: str) -> tuple[int, str]:
        done = query(*arguments)
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1, done.stderr
        return done.returncode, done.stderr

    account = config["accounts"]["default"]
    assert failure("--workspace=sales") == (
        2,
        "taskrouter-exporter query: --workspace: no workspace 'sales' (expected 'support')\n",
    )
    status, message = failure("--queue=Voic")
    assert (status, "(expected 'Voice', " in message) == (2, True)
    account["password"] = "x" * 32
    status, message = failure()
    assert (status, "query: auth: " in message, "account default, HTTP 401" in message) == (3, True, True)
    account["password"] = PASSWORD
    simulator.close()
    status, message = failure()
    assert (status, "query: connection: " in message, ", 2 attempts, " in message) == (9, True, True)
    config["targets"][0]["windows"] = ["x"]
    assert failure()[0] == 1


def test_an_api_that_echoes_the_credentials_shows_them_nowhere(
    query: Run, centre: ContactCentre, simulator: FaultySimulator
) -> None:
    for status, expected in {200: 10, 401: 3}.items():
        simulator.faults.set(centre.workspaces[0].sid, echo(status))
        assert query().returncode == expected


def test_a_workspace_that_is_only_discovered_is_found_by_its_name(
    query: Run, config: dict[str, Any], centre: ContactCentre
) -> None:
    del config["targets"]
    config["accounts"]["default"]["workspaces"] = "auto"
    done = query("--workspace=sales", "--channel=chat", "--output=json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    sid = next(each.sid for each in centre.workspaces if each.friendly_name == "sales")
    assert (answer["workspace"], answer["workspace_sid"], answer["channel"]) == ("sales", sid, "chat")


def test_an_interrupted_query_ends_at_once_with_one_line(
    config: dict[str, Any], simulator: FaultySimulator, tmp_path: Path
) -> None:
    simulator.faults.set(simulator.centre.workspaces[0].sid, Fault.hang())
    (tmp_path / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
    # Who starts the tests in the background lets every process ignore it.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "exporter.py"), "query"],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ,
        )
    finally:
        signal.signal(signal.SIGINT, inherited)
    wait_until("request received", lambda: simulator.requests.count() > 0)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "taskrouter-exporter query: interrupted\n")
