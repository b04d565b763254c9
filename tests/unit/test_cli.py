import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog

from taskrouter_exporter import __version__, cli
from taskrouter_exporter.demo import SCENARIOS
from taskrouter_exporter.server.listen import ListenAddress

CONFIG = {
    "accounts": {"default": {"username": "AC" + "0" * 32, "password": "a-secret"}},
    "targets": [{"workspace": "WS" + "0" * 32}],
}
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command in an empty directory; return its exit status, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "set_up_logging", lambda *_: None)
    for name in [name for name in os.environ if name.startswith(("TWILIO_", "TASKROUTER_EXPORTER_"))]:
        monkeypatch.delenv(name)

    def run(*arguments: str) -> tuple[int, str, str]:
        try:
            status = cli.main(arguments)
        except SystemExit as exit_:
            status = int(exit_.code or 0)
        return (status, *capsys.readouterr())

    return run


def write(name: str, content: object) -> None:
    Path(name).write_text(json.dumps(content), encoding="utf-8")


def test_a_check_prints_what_would_be_polled(run: Run) -> None:
    write("config.yaml", CONFIG)
    status, output, errors = run("--config.check")
    assert (status, errors) == (0, "")
    assert output.splitlines()[0] == "config.yaml: valid"
    assert output.splitlines()[-1].startswith("1 API request per scrape")
    assert "a-secret" not in output


def test_a_check_prints_a_table_on_a_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    write("config.yaml", CONFIG)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run("--config.check")[1].splitlines()[2].startswith("WORKSPACE ")


def test_a_check_without_any_file_names_the_missing_configuration(run: Run) -> None:
    status, output, errors = run("--config.check")
    assert (status, output) == (1, "")
    assert errors.startswith("config.yaml: no such file")


def test_a_web_configuration_is_checked_alone_where_there_is_no_configuration(run: Run) -> None:
    write("web.yml", {"basic_auth_users": {}})
    assert run("--config.check", "--web.config.file=web.yml") == (
        0,
        "web.yml: valid (TLS disabled, no authentication)\n",
        "",
    )


def test_a_configuration_that_is_named_is_checked_beside_a_web_configuration(run: Run) -> None:
    write("web.yml", {})
    status, output, errors = run("--config.check", "--web.config.file=web.yml", "--config.file=other.yaml")
    assert (status, output) == (1, "")
    assert errors.startswith("other.yaml: no such file")


def test_both_configurations_are_checked_where_both_are_there(run: Run) -> None:
    write("web.yml", {})
    write("config.yaml", CONFIG)
    status, output, _ = run("--config.check", "--web.config.file=web.yml")
    assert status == 0
    assert [line for line in output.splitlines() if ": valid" in line] == [
        "web.yml: valid (TLS disabled, no authentication)",
        "config.yaml: valid",
    ]


def test_several_files_are_checked_together(run: Run) -> None:
    write("accounts.yaml", {"accounts": CONFIG["accounts"]})
    Path("teams").mkdir()
    write("teams/a.yaml", {"targets": CONFIG["targets"]})
    status, output, errors = run("--config.check", "--config.file=accounts.yaml", "--config.file=teams")
    assert (status, errors) == (0, "")
    assert output.splitlines()[0] == "accounts.yaml, teams/a.yaml: valid"


def test_a_check_reports_the_problems_of_both_files(run: Run) -> None:
    write("web.yml", {"unknown": 1})
    write("config.yaml", {"unknown": 1})
    status, output, errors = run("--config.check", "--web.config.file=web.yml")
    assert (status, output) == (1, "")
    files = [line.partition(":")[0] for line in errors.splitlines()]
    assert files[0] == "web.yml"
    assert "config.yaml" in files


RESERVED = "/ /probe /sd /config /config.schema.json /api/v1/… /-/…"


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--web.listen-address=10142", "'10142' is not an address (expected e.g. :10142"),
        ("--web.telemetry-path=metrics", "'metrics' is not a path for the metrics (expected e.g. /metrics)"),
        ("--web.telemetry-path=//metrics", "'//metrics' is not a path for the metrics"),
        ("--web.telemetry-path=/%70robe", "'/%70robe' is not a path for the metrics"),
        ("--web.telemetry-path=/-/reload", f"'/-/reload' is reserved, as are {RESERVED}"),
        *(
            (f"--web.telemetry-path={path}", f"'{path}' is reserved, as are {RESERVED}")
            for path in ("/", "/probe", "/sd", "/config", "/config.schema.json", "/api/v1/failures")
        ),
        ("--web.external-url=exporter:10142", "'exporter:10142' is not a URL (expected e.g. https://"),
        *(
            (f"--web.external-url={url}", f"'{url}' is not a URL (expected e.g. https://")
            for url in (
                "https://user@host",
                "http://x:port",
                "http://x:70000",
                "http://x:0",
                "http://[::1",
                "http://x /",
            )
        ),
        ("--web.max-requests=1.5", "'1.5' is not a whole number from 0 to 999999"),
        ("--timeout-offset=x", "'x' is not a number of seconds from 0 to 3600"),
        ("--log.level=loud", "invalid choice: 'loud'"),
        ("--config.file=", "'' is not a path (expected e.g. config.yaml)"),
    ],
)
def test_a_bad_flag_is_an_error_on_one_line(flag: str, message: str, run: Run) -> None:
    status, output, errors = run(flag)
    assert (status, output, errors.count("\n")) == (2, "", 1)
    assert message in errors
    assert errors.endswith(" (see --help)\n")


def test_the_version_is_printed(run: Run) -> None:
    status, output, _ = run("--version")
    assert status == 0
    assert output.startswith(f"taskrouter-exporter {__version__} (revision ")


def test_an_address_in_use_is_an_error_on_one_line(run: Run) -> None:
    write("config.yaml", CONFIG)
    (address,) = ListenAddress("127.0.0.1", 0).bind()
    port = address.getsockname()[1]
    status, _, errors = run(f"--web.listen-address=127.0.0.1:{port}")
    address.close()
    assert (status, errors) == (1, f"cannot listen on 127.0.0.1:{port}: Address already in use\n")


def test_a_socket_unit_is_required_for_its_sockets(run: Run) -> None:
    write("config.yaml", CONFIG)
    status, output, errors = run("--web.systemd-socket")
    assert (status, output, errors.count("\n")) == (1, "", 1)
    assert errors.startswith("systemd passes no sockets (LISTEN_FDS and LISTEN_PID)")


def test_a_bad_variable_is_an_error_on_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKROUTER_EXPORTER_LOG_LEVEL", "loud")
    status, output, errors = run("--config.check")
    assert (status, output, errors.count("\n")) == (2, "", 1)
    assert errors.startswith("taskrouter-exporter: TASKROUTER_EXPORTER_LOG_LEVEL: invalid choice: 'loud'")


@pytest.mark.parametrize("flag", ["-h", "--help", "--version"])
def test_help_and_version_are_printed_whatever_is_in_the_environment(
    flag: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKROUTER_EXPORTER_LOG_LEVEL", "loud")
    status, output, errors = run(flag)
    assert (status, errors) == (0, "")
    assert "taskrouter-exporter" in output


def test_a_misspelled_variable_is_logged(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKROUTER_EXPORTER_LOG_LEVL", "debug")
    with structlog.testing.capture_logs() as lines:
        run("--config.check")
    assert [(line["variable"], line["similar"]) for line in lines] == [
        ("TASKROUTER_EXPORTER_LOG_LEVL", "TASKROUTER_EXPORTER_LOG_LEVEL")
    ]


def test_every_scenario_of_the_demo_can_be_chosen(run: Run) -> None:
    status, _, errors = run("--demo.scenario=unknown")
    assert status == 2
    assert all(repr(scenario) in errors for scenario in SCENARIOS)
    assert errors.count("'") == 2 * (len(SCENARIOS) + 1)


def test_the_simulator_is_not_imported_without_the_demo() -> None:
    """It would take a tenth of the time that all imports take."""
    program = "import sys, taskrouter_exporter.cli; print([m for m in sys.modules if 'simulator' in m])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_garbage_collector_runs_after_the_imports() -> None:
    program = (
        "import gc, sys; from taskrouter_exporter.__main__ import main; sys.argv = ['x', '--version']\n"
        "try:\n    main()\nfinally:\n    print(gc.isenabled())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("True\n")
