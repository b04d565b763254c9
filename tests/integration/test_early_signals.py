"""Signals during the startup, and the notifications that tell systemd when it has ended."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from support.exporter import ROOT, Exporter

ENTRY_POINTS: Final = {
    "script": [sys.executable, str(ROOT / "exporter.py")],
    "module": [sys.executable, "-m", "taskrouter_exporter"],
}
# PID 1 of a PID namespace, as in a container.
AS_PID_1: Final = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *ENTRY_POINTS["script"]]


@pytest.fixture
def notifications(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(20)
        yield receiver


def receive(receiver: socket.socket) -> str:
    """The next notification that is no sign of life."""
    while (text := receiver.recv(4096).decode()) == "WATCHDOG=1":
        pass
    return text


def blocks(pid: int, number: signal.Signals) -> bool:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    mask = re.search(r"^SigBlk:\s*(\S+)$", status, re.MULTILINE)
    return bool(mask and int(mask[1], 16) & 1 << number - 1)


def wait_until_held(pid: int, number: signal.Signals) -> None:
    end = time.monotonic() + 20
    while not blocks(pid, number):
        assert time.monotonic() < end, "the signal was never held"


def wait_for_child(parent: int, program: str) -> int:
    """Return the child of a process once it runs a program: unshare's own child holds SIGTERM before that."""
    children = Path(f"/proc/{parent}/task/{parent}/children")
    end = time.monotonic() + 20
    while time.monotonic() < end:
        for child in children.read_text(encoding="ascii").split():
            arguments = Path(f"/proc/{child}/cmdline").read_text(encoding="utf-8").split("\0")
            if arguments[1:2] == [f"{ROOT}/{program}"]:
                return int(child)
    raise AssertionError(f"no child runs {program}")


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_a_sighup_during_the_startup_is_a_reload_after_it(entry_point: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [*ENTRY_POINTS[entry_point], "--demo", "--web.listen-address=127.0.0.1:0"],
            cwd=ROOT,
            stderr=stderr,
        )
    wait_until_held(process.pid, signal.SIGHUP)
    process.send_signal(signal.SIGHUP)
    assert "listening" not in log.read_text(encoding="utf-8"), "too late for this test"
    end = time.monotonic() + 20
    while "configuration reloaded" not in log.read_text(encoding="utf-8"):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)
    process.terminate()
    assert process.wait(20) == 0


def test_a_sigterm_during_the_startup_ends_pid_1(tmp_path: Path) -> None:
    """The kernel discards signals for PID 1 without a handler: a container would be killed after 10 s."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "--pid", "true"], check=False).returncode:
        pytest.skip("needs the privilege to create PID namespaces")
    with (tmp_path / "log").open("wb") as stderr:
        process = subprocess.Popen(
            [*AS_PID_1, "--demo", "--web.listen-address=127.0.0.1:0"], cwd=ROOT, stderr=stderr
        )
    try:
        pid = wait_for_child(process.pid, "exporter.py")
        wait_until_held(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


def by_signal(exporter: Exporter) -> None:
    exporter.process.send_signal(signal.SIGHUP)


def by_request(exporter: Exporter) -> None:
    assert exporter.request("/-/reload", method="POST").status == 200


@pytest.mark.parametrize("reload", [by_signal, by_request])
@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told_of_startup_reload_and_end(
    abstract: bool,  # noqa: FBT001 -- a parameter of the test
    reload: Callable[[Exporter], None],
    tmp_path: Path,
) -> None:
    path = f"@taskrouter-exporter-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0{path[1:]}" if abstract else path)
        receiver.settimeout(20)
        exporter = Exporter(["--demo"], tmp_path / "log", {"NOTIFY_SOCKET": path})
        assert receive(receiver) == "READY=1"
        assert exporter.request("/-/healthy").status == 200
        before = time.monotonic()
        reload(exporter)
        reloading, instant = receive(receiver).split("\n")
        assert reloading == "RELOADING=1"
        assert re.fullmatch(r"MONOTONIC_USEC=\d+", instant)
        assert before < int(instant.partition("=")[2]) / 1e6 < time.monotonic()
        assert receive(receiver) == "READY=1"
        assert exporter.stop() == 0
        assert receive(receiver) == "STOPPING=1"


def test_the_event_loop_sends_signs_of_life(notifications: socket.socket, tmp_path: Path) -> None:
    address = str(notifications.getsockname())
    environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "400000"}
    exporter = Exporter(["--demo"], tmp_path / "log", environment)
    assert notifications.recv(4096) == b"READY=1"
    begin = time.monotonic()
    assert [notifications.recv(4096) for _ in range(6)] == [b"WATCHDOG=1"] * 6
    assert 0.9 < time.monotonic() - begin < 5, "every 0.2 s, the first at once"
    exporter.stop()


def test_the_watchdog_of_another_process_gets_none(notifications: socket.socket, tmp_path: Path) -> None:
    environment = {
        "NOTIFY_SOCKET": str(notifications.getsockname()),
        "WATCHDOG_USEC": "10000",
        "WATCHDOG_PID": "1",
    }
    exporter = Exporter(["--demo"], tmp_path / "log", environment)
    assert notifications.recv(4096) == b"READY=1"
    exporter.request("/-/healthy")
    exporter.stop()
    assert notifications.recv(4096) == b"STOPPING=1"


def test_a_socket_that_is_gone_costs_a_warning_only(tmp_path: Path) -> None:
    exporter = Exporter(["--demo"], tmp_path / "log", {"NOTIFY_SOCKET": str(tmp_path / "gone")})
    exporter.wait_for_log('msg="systemd cannot be notified" .*READY=1')
    assert exporter.request("/-/healthy").status == 200
    assert exporter.stop() == 0


def test_the_unit_waits_for_these_notifications() -> None:
    unit = (ROOT / "contrib" / "systemd" / "taskrouter-exporter.service").read_text(encoding="utf-8")
    assert re.search(r"^Type=notify\nWatchdogSec=\d+s$", unit, re.MULTILINE)
