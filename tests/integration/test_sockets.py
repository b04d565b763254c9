"""The sockets of the real process: those that systemd passes, and the address of the health endpoints."""

import base64
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import bcrypt
import pytest
from support.configurations import simulated
from support.exporter import ROOT, Exporter, Scrape, request
from support.waiting import wait_for_log, wait_until

from taskrouter_exporter.simulator import Simulator

StartExporter = Callable[..., Exporter]

# Becomes the exporter with the descriptors of the arguments at the places where systemd passes them.
AS_SYSTEMD_DOES: Final = """
import os, sys
descriptors, command = sys.argv[1].split(","), sys.argv[2:]
for place, descriptor in enumerate(descriptors, 3):
    os.dup2(int(descriptor), place)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(descriptors))}
os.execv(command[0], command)
"""
COMMAND: Final = (sys.executable, str(ROOT / "exporter.py"), "--web.systemd-socket")

Start = Callable[[Sequence[str], Sequence[int]], subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start programs that log into a file; each is terminated at the end."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(command: Sequence[str], descriptors: Sequence[int]) -> subprocess.Popen[bytes]:
        with (tmp_path / "log").open("wb") as log:
            processes.append(
                subprocess.Popen(
                    command,
                    cwd=tmp_path,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=descriptors,
                )
            )
        return processes[-1]

    yield start
    for process in processes:
        process.terminate()
        process.wait(20)
    assert "Traceback" not in (tmp_path / "log").read_text(encoding="utf-8")


def above(number: int, bound: socket.socket) -> int:
    """Return another descriptor of a socket, which does not collide with the places of systemd's."""
    descriptor = os.dup(bound.fileno())
    if descriptor >= number:
        return descriptor
    try:
        return above(number, bound)
    finally:
        os.close(descriptor)


def test_the_exporter_serves_on_the_sockets_that_systemd_passes(
    simulator: Simulator, start: Start, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(json.dumps(simulated(simulator)), encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        ports = [each.getsockname()[1] for each in (first, second)]
        descriptors = [above(10, each) for each in (first, second)]
        process = start(
            [sys.executable, "-c", AS_SYSTEMD_DOES, ",".join(map(str, descriptors)), *COMMAND], descriptors
        )
        for descriptor in descriptors:
            os.close(descriptor)
        log = wait_for_log(process, tmp_path / "log", "msg=listening .*").group()
        assert all(f"127.0.0.1:{port}" in log for port in ports)
        for port in ports:
            answer = request(port, "/metrics", headers={"X-Prometheus-Scrape-Timeout-Seconds": "10"})
            assert set(Scrape(answer).find("up").values()) == {1}
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        # systemd holds its sockets open: a client waits for the next start instead of being refused.
        socket.create_connection(("127.0.0.1", ports[0]), timeout=20).close()


def test_systemd_s_own_program_starts_the_exporter_at_the_first_connection(
    program: Callable[[str, str], str], start: Start, tmp_path: Path
) -> None:
    activate = program("systemd-socket-activate", "systemd")
    host = f"127.77.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"  # the port is free at this address
    process = start([activate, f"--listen={host}:10142", *COMMAND, "--demo"], [])
    wait_for_log(process, tmp_path / "log", f"Listening on {host}:10142")
    connection = http.client.HTTPConnection(host, 10142, timeout=60)
    connection.request("GET", "/-/healthy")
    assert connection.getresponse().read() == b"OK\n"
    connection.close()
    assert f"msg=listening address={host}:10142" in (tmp_path / "log").read_text(encoding="utf-8")


def test_health_endpoints_have_an_address_without_password_and_nothing_else(
    simulator: Simulator, start_exporter: StartExporter, tmp_path: Path
) -> None:
    password_hash = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    web = tmp_path / "web.json"
    web.write_text(json.dumps({"basic_auth_users": {"alice": password_hash}}), encoding="utf-8")
    arguments = [f"--web.config.file={web}", "--web.health-address=127.0.0.1:0"]
    exporter = start_exporter(simulated(simulator), arguments)
    port = int(exporter.wait_for_log(r'msg="listening for health checks" address=127\.0\.0\.1:(\d+)')[1])

    def statuses(port: int, headers: Mapping[str, str] | None = None) -> list[int]:
        paths = ("/-/healthy", "/-/ready", "/metrics", "/config", "/")
        return [request(port, path, headers=headers).status for path in paths]

    login = {"Authorization": f"Basic {base64.b64encode(b'alice:secret').decode()}"}
    wait_until("readiness", lambda: request(port, "/-/ready").status == 200)
    assert statuses(port) == [200, 200, 404, 404, 404]
    assert statuses(port, login) == [200, 200, 404, 404, 404]
    assert statuses(exporter.port) == [401] * 5
    assert statuses(exporter.port, login) == [200] * 5
    assert request(port, "/-/reload", "POST").status == 404
    assert exporter.stop() == 0


def test_a_health_address_in_use_is_an_error_on_one_line(start: Start, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [*COMMAND[:2], "--demo", "--web.listen-address=127.0.0.1:0"]
        process = start([*command, f"--web.health-address=127.0.0.1:{port}"], [])
        assert process.wait(60) == 1
    last = (tmp_path / "log").read_text(encoding="utf-8").splitlines()[-1]
    assert last == f"cannot listen on 127.0.0.1:{port}: Address already in use"


def test_a_file_that_is_added_to_the_directory_is_reloaded(simulator: Simulator, tmp_path: Path) -> None:
    """With the interval of the checks shortened, in the real process."""
    teams = tmp_path / "teams"
    teams.mkdir()
    config = simulated(simulator)
    first, *rest = config.pop("targets")
    (teams / "a.yaml").write_text(json.dumps({**config, "targets": [first]}), encoding="utf-8")
    program = (
        "import functools, sys; from taskrouter_exporter import cli\n"
        "cli.reload_on_change = functools.partial(cli.reload_on_change, seconds=0.05)\n"
        "sys.exit(cli.main())"
    )
    environment = {
        "PYTHONPATH": str(ROOT),
        "TASKROUTER_EXPORTER_CONFIG_FILE": str(teams),
        "TASKROUTER_EXPORTER_CONFIG_AUTO_RELOAD": "true",
    }
    exporter = Exporter([], tmp_path / "exporter.log", environment, (sys.executable, "-c", program))
    try:
        assert set(exporter.scrape().find("up")) == set(exporter.scrape().find("up", workspace=first["name"]))
        new = teams / "b.new"
        new.write_text(json.dumps({"targets": rest}), encoding="utf-8")
        new.rename(teams / "b.yaml")
        exporter.wait_for_log('msg="configuration reloaded"')
        workspaces = {dict(labels)["workspace"] for labels in exporter.scrape().find("up")}
        assert workspaces == {target["name"] for target in (first, *rest)}
        assert len(re.findall('msg="configuration reloaded"', exporter.log)) == 1
    finally:
        exporter.stop()
    exporter.assert_clean_log([simulator.centre.auth_token])
