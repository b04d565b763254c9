"""The real process: how it starts, answers and ends."""

import gzip
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.configurations import simulated
from support.exporter import ROOT, Exporter, Scrape, run_exporter
from support.faults import Fault, FaultySimulator

from taskrouter_exporter import __version__
from taskrouter_exporter.simulator import Simulator

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
StartExporter = Callable[..., Exporter]


def test_the_demo_exports_plausible_statistics_of_three_workspaces(start_exporter: StartExporter) -> None:
    scrape = start_exporter(arguments=["--demo"]).scrape()
    assert set(scrape.find("up").values()) == {1}
    assert len({dict(labels)["workspace"] for labels in scrape.find("up")}) == 3
    assert {dict(labels)["window"] for labels in scrape.find("window_reservations")} == {"15m", "4h", "8h"}
    for labels, created in scrape.find("window_reservations", window="8h").items():
        ended = sum(scrape.find("window_reservation_outcomes", **dict(labels)).values())
        assert 0.5 * created <= ended <= 1.5 * created + 5
    activities = scrape.find("window_activity_total_seconds", window="8h", channel="all")
    assert len({dict(labels)["activity"] for labels in activities}) == 8


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_scrape_in_flight_finish(
    number: signal.Signals, simulator: FaultySimulator, start_exporter: StartExporter
) -> None:
    exporter = start_exporter(simulated(simulator))
    for workspace in simulator.centre.workspaces:
        simulator.faults.set(workspace.sid, Fault.latency(1))
    scrapes: list[Scrape] = []
    scraping = threading.Thread(target=lambda: scrapes.append(exporter.scrape()))
    scraping.start()
    while simulator.requests.count() == 0:
        time.sleep(0.01)
    assert exporter.stop(number) == 0
    scraping.join(10)
    assert set(scrapes[0].find("up").values()) == {1}


def test_a_signal_does_not_wait_long_for_a_hanging_api(
    simulator: FaultySimulator, start_exporter: StartExporter
) -> None:
    exporter = start_exporter(simulated(simulator, request_timeout="1m"))
    for workspace in simulator.centre.workspaces:
        simulator.faults.set(workspace.sid, Fault.hang())
    with socket.create_connection(("127.0.0.1", exporter.port)) as scraping:
        scraping.sendall(
            b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Prometheus-Scrape-Timeout-Seconds: 60\r\n\r\n"
        )
        while simulator.requests.count() == 0:
            time.sleep(0.01)
        begin = time.monotonic()
        assert exporter.stop() == 0
        assert 4 < time.monotonic() - begin < 15


def test_an_idle_connection_does_not_delay_shutdown(start_exporter: StartExporter) -> None:
    exporter = start_exporter(arguments=["--demo"])
    with socket.create_connection(("127.0.0.1", exporter.port)):
        begin = time.monotonic()
        assert exporter.stop() == 0
        assert time.monotonic() - begin < 4


def test_a_missing_configuration_is_a_one_line_error_that_mentions_the_demo(tmp_path: Path) -> None:
    ended = run_exporter(cwd=tmp_path)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert "config.yaml" in line
    assert "--demo" in line


def test_a_port_in_use_is_a_one_line_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run_exporter("--demo", f"--web.listen-address=127.0.0.1:{port}", cwd=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == f"cannot listen on 127.0.0.1:{port}: Address already in use"
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("flag", "complaint"),
    [
        (
            "--web.listen-address=10142",
            "is not an address (expected e.g. :10142, 127.0.0.1:10142 or [::1]:10142)",
        ),
        ("--web.listen-address=:65536", "the port is larger than 65535"),
        ("--web.telemetry-path=metrics", "is not a path for the metrics (expected e.g. /metrics)"),
        ("--web.max-requests=-1", "'-1' is not a whole number from 0 to 999999"),
        ("--timeout-offset=-1", "is not a number of seconds from 0 to 3600"),
        ("--log.level=loud", "invalid choice: 'loud'"),
        ("--demo.scenario=calamity", "calamity"),
        ("--unknown", "unrecognized arguments: --unknown"),
    ],
)
def test_an_invalid_flag_is_a_one_line_error(flag: str, complaint: str, tmp_path: Path) -> None:
    ended = run_exporter(flag, cwd=tmp_path)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert complaint in line


def test_the_version_is_printed(tmp_path: Path) -> None:
    assert f"taskrouter-exporter {__version__} (revision " in run_exporter("--version", cwd=tmp_path).stdout


def test_the_package_runs_as_a_module(tmp_path: Path) -> None:
    program, environment = [sys.executable, "-m", "taskrouter_exporter"], {"PYTHONPATH": str(ROOT)}
    exporter = Exporter(["--demo"], tmp_path / "log", environment, program)
    assert exporter.request("/-/healthy").status == 200
    assert exporter.stop() == 0


def test_the_url_to_open_is_logged_at_startup(demo: Exporter) -> None:
    url = demo.wait_for_log(r"msg=listening .* ?url=(\S+)").group(1)
    assert url == f"http://127.0.0.1:{demo.port}/"


def test_a_check_prints_what_would_be_polled_and_sends_no_request(
    simulator: Simulator, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(json.dumps(simulated(simulator)), encoding="utf-8")
    ended = run_exporter("--config.check", cwd=tmp_path)
    assert ended.returncode == 0
    lines = ended.stdout.splitlines()
    assert lines[0] == "config.yaml: valid"
    assert lines[1].startswith("workspace=support channel=all window=15m account=default workspace_sid=WS")
    assert lines[-1].startswith("12 API requests per scrape, 720 per hour at a scrape interval of 60 s")
    assert simulator.requests.count() == 0
    assert simulator.centre.auth_token not in ended.stdout + ended.stderr


@pytest.mark.parametrize("output", ["/dev/full", "latin-1"])
def test_a_check_whose_output_cannot_be_written_fails_without_a_traceback(
    output: str, simulator: Simulator, tmp_path: Path
) -> None:
    config = simulated(simulator)
    config["targets"][0]["name"] = "支持"
    (tmp_path / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
    with open("/dev/full" if output == "/dev/full" else tmp_path / "out", "w", encoding="ascii") as stdout:  # noqa: PTH123 -- a device
        ended = subprocess.run(
            [sys.executable, str(ROOT / "exporter.py"), "--config.check"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONIOENCODING": "latin-1"},
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert ended.stderr == ""
    assert ended.returncode == (1 if output == "/dev/full" else 0)


@pytest.mark.parametrize("host", ["a..b", "x" * 70, "no-such-host.invalid"])
def test_an_invalid_host_is_an_error_on_one_line(host: str, tmp_path: Path) -> None:
    ended = run_exporter("--demo", f"--web.listen-address={host}:0", cwd=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith(f"cannot listen on {host}:0: ")
    assert "Traceback" not in ended.stderr


def test_the_exporter_listens_on_several_addresses_including_ipv6(tmp_path: Path) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    exporter = Exporter(["--demo", "--web.listen-address=[::1]:0"], tmp_path / "log")
    port = int(exporter.wait_for_log(r"\[::1\]:(\d+)").group(1))
    with socket.create_connection(("::1", port)) as connection:
        connection.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 200 OK")
    assert exporter.request("/-/healthy").status == 200
    assert exporter.stop() == 0


def test_a_check_of_a_bad_file_prints_every_problem_and_fails(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "targets:\n- workspace: 1\n  windows: [15 minutes]\n", encoding="utf-8"
    )
    ended = run_exporter(
        "--config.check", cwd=tmp_path, TWILIO_ACCOUNT_SID="AC" + "0" * 32, TWILIO_AUTH_TOKEN="x"
    )
    assert ended.returncode == 1
    assert [line.split(": ")[:2] for line in ended.stderr.splitlines()] == [
        ["config.yaml:2", "targets[0].workspace"],
        ["config.yaml:3", "targets[0].windows[0]"],
    ]


def test_a_rotated_password_file_is_used_without_a_restart(
    simulator: Simulator, start_exporter: StartExporter, tmp_path: Path
) -> None:
    config = simulated(simulator)
    token = tmp_path / "auth_token"
    token.write_text("an-old-secret\n", encoding="utf-8")
    account = config["accounts"]["default"]
    account["password_file"] = "auth_token"
    del account["password"]
    exporter = start_exporter(config)
    assert set(exporter.scrape().find("up").values()) == {0}
    token.write_text(simulator.centre.auth_token + "\n", encoding="utf-8")
    assert set(exporter.scrape().find("up").values()) == {1}
    exporter.assert_clean_log(["an-old-secret"])


def test_formats_and_compression_follow_the_headers(
    simulator: Simulator, start_exporter: StartExporter
) -> None:
    exporter = start_exporter(simulated(simulator))
    text, openmetrics = exporter.scrape(), exporter.scrape(accept=OPENMETRICS)
    assert text.answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert openmetrics.answer.text.endswith("\n# EOF\n")
    assert text.statistics() <= openmetrics.statistics()
    packed = exporter.request("/metrics", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert b"twilio_taskrouter_up{" in gzip.decompress(packed.body)


def test_a_scrape_may_have_one_of_the_two_collectors(
    simulator: Simulator, start_exporter: StartExporter
) -> None:
    exporter = start_exporter(simulated(simulator))
    own = exporter.scrape(path="/metrics?collect[]=exporter")
    assert simulator.requests.count() == 0
    assert "exporter_build_info" in own.names()
    assert "up" not in own.names()
    targets = exporter.scrape(path="/metrics?collect[]=targets")
    assert "up" in targets.names()
    assert "exporter_build_info" not in targets.names()
    assert exporter.request("/metrics?collect[]=other").status == 400


def test_head_answers_without_polling(simulator: Simulator, start_exporter: StartExporter) -> None:
    exporter = start_exporter(simulated(simulator))
    answer = exporter.request("/metrics", "HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-type"].startswith("text/plain")
    assert simulator.requests.count() == 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/metrics", "/-/healthy", "/-/ready"])
def test_other_methods_are_not_allowed(method: str, path: str, demo: Exporter) -> None:
    answer = demo.request(path, method)
    assert answer.status == 405
    assert "GET" in answer.headers["allow"]


def test_an_unknown_path_names_that_of_the_metrics(demo: Exporter) -> None:
    answer = demo.request("/metrics/")
    assert answer.status == 404
    assert "/metrics" in answer.text


def test_health_never_touches_the_api(simulator: Simulator, start_exporter: StartExporter) -> None:
    exporter = start_exporter(simulated(simulator))
    assert exporter.request("/-/healthy").status == 200
    assert exporter.request("/-/ready").status == 200
    assert simulator.requests.count() == 0


@pytest.mark.parametrize("path", ["/metrics", "/probe?workspace=support&channel=voice"])
def test_a_scrape_exports_the_deadline_of_its_polls(path: str, demo: Exporter) -> None:
    for timeout in (3, 30):
        told = demo.scrape(timeout=timeout, path=path).value("scrape_deadline_seconds")
        assert timeout / 2 - 0.5 < told < timeout - 0.5


@pytest.mark.parametrize("path", ["/metrics", "/probe?workspace=support&channel=voice"])
@pytest.mark.parametrize("timeout", ["", "10s", "10, 10", "-1", "nan"])
def test_a_malformed_scrape_timeout_is_ignored(timeout: str, path: str, demo: Exporter) -> None:
    answer = demo.request(path, headers={"X-Prometheus-Scrape-Timeout-Seconds": timeout})
    assert answer.status == 200
    (deadline,) = re.findall(r"(?m)^twilio_taskrouter_scrape_deadline_seconds (.*)$", answer.text)
    assert 4.5 < float(deadline) < 9.5, "the default of 10 s, less the offset and what answering takes"


def test_no_response_has_a_server_header(demo: Exporter) -> None:
    for path in ("/metrics", "/nowhere", "/-/healthy"):
        assert "server" not in demo.request(path).headers


@pytest.mark.parametrize(
    "head",
    [b"GET /metrics\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01", b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000],
    ids=["HTTP 0.9", "TLS", "endless header"],
)
def test_a_malformed_request_head_is_refused_and_the_server_keeps_running(
    head: bytes, demo: Exporter
) -> None:
    with socket.create_connection(("127.0.0.1", demo.port), timeout=20) as connection:
        connection.sendall(head)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(100)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400")
    assert demo.request("/-/healthy").status == 200


def test_json_logs_are_json(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run_exporter(
            "--demo", "--log.format=json", f"--web.listen-address=127.0.0.1:{port}", cwd=tmp_path
        )
    line = json.loads(ended.stderr.splitlines()[0])
    assert (line["level"], line["msg"]) == ("info", "simulator started")
    assert list(line)[:3] == ["ts", "level", "msg"]
    assert line["ts"].endswith("Z")
