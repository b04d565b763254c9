import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from support.configurations import simulated
from support.faults import Fault, FaultySimulator

from taskrouter_exporter.api.errors import Reason
from taskrouter_exporter.one_shot import command
from taskrouter_exporter.one_shot.answer import Answer
from taskrouter_exporter.simulator import ContactCentre

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def shared() -> Iterator[FaultySimulator]:
    with FaultySimulator(ContactCentre(seed=7), rate_limit=500) as simulator:
        yield simulator


@pytest.fixture
def simulator(shared: FaultySimulator) -> Iterator[FaultySimulator]:
    yield shared
    shared.faults.clear()


@pytest.fixture
def config(simulator: FaultySimulator) -> dict[str, Any]:
    return simulated(simulator, attempts=2)


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    config: dict[str, Any],
) -> Run:
    """Run the command on a simulator; return its exit status, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "set_up_logging", lambda *_: None)

    def run(*arguments: str) -> tuple[int, str, str]:
        Path("config.yaml").write_text(json.dumps(config), encoding="utf-8")
        try:
            status = command.main(arguments)
        except SystemExit as exit_:
            status = int(exit_.code or 0)
        return (status, *capsys.readouterr())

    return run


SUPPORT = "--workspace=support"


def test_every_reason_has_an_exit_status_of_its_own() -> None:
    assert list(command.STATUSES) == list(Reason)
    assert list(command.STATUSES.values()) == list(range(3, 11))


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault.status(401), "auth"),
        (Fault.status(403), "forbidden"),
        (Fault.status(404), "not_found"),
        (Fault.status(429), "rate_limited"),
        (Fault.status(503), "server_error"),
        (Fault.hang(), "timeout"),
        (Fault.reset(), "connection"),
        (Fault.invalid_json(), "bad_response"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_failure_is_one_line_and_the_status_of_its_reason(
    fault: Fault, reason: str, run: Run, simulator: FaultySimulator, config: dict[str, Any]
) -> None:
    config["polling"]["attempts"] = 1
    simulator.faults.set(simulator.centre.workspaces[0].sid, fault)
    status, output, errors = run(SUPPORT, *(["--timeout=300ms"] if reason == "timeout" else []))
    assert (status, output) == (command.STATUSES[Reason(reason)], "")
    assert errors.startswith(f"taskrouter-exporter query: {reason}: ")
    assert errors.count("\n") == 1
    assert f"{simulator.base_url}/v1/Workspaces/{simulator.centre.workspaces[0].sid}/Workers" in errors
    assert "account default" in errors


def test_a_failure_names_the_request_for_twilios_support(run: Run, simulator: FaultySimulator) -> None:
    simulator.faults.set(simulator.centre.workspaces[0].sid, Fault.status(HTTPStatus.FORBIDDEN))
    errors = run(SUPPORT)[2]
    assert ", HTTP 403, " in errors
    assert ", 1 attempt, " in errors
    assert ", RQ" in errors


def test_a_failure_that_passes_is_retried(run: Run, simulator: FaultySimulator) -> None:
    simulator.faults.set(simulator.centre.workspaces[0].sid, Fault.status(503, times=1))
    status, output, errors = run(SUPPORT)
    assert (status, errors) == (0, "")
    assert " s in 2 attempts, RQ" in output


def test_the_timeout_ends_retries_with_the_reason_of_the_last_attempt(
    run: Run, simulator: FaultySimulator, config: dict[str, Any]
) -> None:
    config["polling"]["attempts"] = 10
    simulator.faults.set(simulator.centre.workspaces[0].sid, Fault.status(429, retry_after=60))
    status, _, errors = run(SUPPORT, "--timeout=20s")
    assert status == command.STATUSES[Reason.RATE_LIMITED]
    assert ", 1 attempt, " in errors


def test_a_list_that_cannot_be_read_gives_its_reason(run: Run, simulator: FaultySimulator) -> None:
    simulator.faults.set(simulator.centre.workspaces[0].sid, Fault.status(403))
    status, _, errors = run(SUPPORT, "--queue=Voice")
    assert status == command.STATUSES[Reason.FORBIDDEN]
    assert "/TaskQueues)" in errors


def test_an_unknown_name_is_one_line_and_status_2(run: Run) -> None:
    status, output, errors = run("--workspace=supports")
    assert (status, output) == (2, "")
    assert errors.startswith(
        "taskrouter-exporter query: --workspace: no workspace 'supports' (expected 'support'"
    )
    assert errors.count("\n") == 1


def test_a_wrong_configuration_is_status_1_with_a_line_for_each_problem(
    run: Run, config: dict[str, Any]
) -> None:
    config["targets"][0]["windows"] = ["x", "y"]
    status, output, errors = run()
    assert (status, output) == (1, "")
    assert [line.partition(":")[0] for line in errors.splitlines()] == ["config.yaml"] * 2


def test_a_wrong_network_setting_is_status_1(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")
    status, _, errors = run(SUPPORT)
    assert (status, errors) == (
        1,
        "environment: REQUESTS_CA_BUNDLE: /nowhere: no such file or directory\n",
    )


def test_an_interruption_is_one_line_and_status_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def interrupted(*_: object) -> Answer:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "ask", interrupted)
    assert run(SUPPORT) == (130, "", "taskrouter-exporter query: interrupted\n")


@pytest.mark.parametrize("output", ["table", "json", "prometheus"])
def test_the_demo_answers_in_every_format(output: str, run: Run) -> None:
    status, text, errors = run("--demo", SUPPORT, "--channel=voice", f"--output={output}")
    assert (status, errors) == (0, "")
    assert "window_reservation_outcomes" in text


def test_the_server_and_the_simulator_are_not_imported() -> None:
    """Their imports would take longer than the question."""
    program = (
        "import sys, taskrouter_exporter.one_shot.command\n"
        "print([m for m in sys.modules if m.startswith(('uvicorn', 'starlette')) or 'simulator' in m])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
