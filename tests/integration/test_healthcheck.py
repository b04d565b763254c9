"""The image's health check against exporters that are protected, hang, or are not there."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import bcrypt
import pytest
from support.certificates import Authority
from support.exporter import ROOT, Exporter
from support.peer import Behaviour, Peer, reset

from taskrouter_exporter.healthcheck import check

StartExporter = Callable[..., Exporter]
TLS = {"cert_file": "server.pem", "key_file": "server.key"}
CLIENT_CERTIFICATES = {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "ca.pem"}
BASIC_AUTH = {"alice": bcrypt.hashpw(b"a-password", bcrypt.gensalt(4)).decode()}


def url(port: int) -> str:
    return f"http://127.0.0.1:{port}/-/healthy"


@pytest.mark.parametrize(
    "web_config",
    [
        {},
        {"basic_auth_users": BASIC_AUTH},
        {"tls_server_config": TLS, "basic_auth_users": BASIC_AUTH},
        {"tls_server_config": {**TLS, **CLIENT_CERTIFICATES}},
        {"tls_server_config": {**TLS, **CLIENT_CERTIFICATES, "max_version": "TLS12"}},
        {"rate_limit": {"interval": "1h", "burst": 1}},
    ],
    ids=["plain", "password", "TLS and password", "client certificate", "the same in TLS 1.2", "rate limit"],
)
def test_a_protected_exporter_is_healthy(
    web_config: dict[str, object], start_exporter: StartExporter, tmp_path: Path
) -> None:
    Authority(tmp_path).issue("server")
    (tmp_path / "web.yml").write_text(json.dumps(web_config), encoding="utf-8")
    exporter = start_exporter(arguments=["--demo", f"--web.config.file={tmp_path / 'web.yml'}"])
    assert [check(url(exporter.port)) for _ in range(3)] == [""] * 3


def test_the_environment_names_the_url_and_an_argument_replaces_it(start_exporter: StartExporter) -> None:
    def run(variable: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", "-m", "taskrouter_exporter.healthcheck", *arguments],
            env={**os.environ, "TASKROUTER_EXPORTER_HEALTH_URL": variable, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    exporter = start_exporter(arguments=["--demo"])
    closed = url(9)
    assert run(url(exporter.port)).returncode == 0
    assert run(closed).stderr.startswith(closed)
    assert run(closed, url(exporter.port)).returncode == 0
    assert "http://127.0.0.1:10142/-/healthy" in run("").stderr


def test_an_exporter_that_hangs_is_unhealthy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        assert check(url(hanging.getsockname()[1])).endswith(": timed out")


def dripping(head: bytes) -> Behaviour:
    def drip(connection: socket.socket, _head: bytes) -> None:
        for byte in head + b"x" * 100_000:
            connection.sendall(bytes([byte]))
            time.sleep(0.1)

    return drip


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nX: "])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_server_that_drips_is_unhealthy_after_two_seconds(head: bytes, scheme: str) -> None:
    peer = Peer(dripping(head))
    begin = time.monotonic()
    outcome = check(f"{scheme}://127.0.0.1:{peer.port}/-/healthy")
    assert time.monotonic() - begin < 3
    assert outcome != ""
    peer.close()


def test_a_server_that_never_ends_its_head_times_out() -> None:
    peer = Peer(dripping(b"HTTP/1.1 200 OK\r\nX: "))
    assert check(url(peer.port)).endswith(": timed out")
    peer.close()


@pytest.mark.parametrize("end", [reset, lambda connection, _head: connection.close()])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_server_that_accepts_and_closes_is_unhealthy(end: Behaviour, scheme: str) -> None:
    peer = Peer(end)
    assert check(f"{scheme}://127.0.0.1:{peer.port}/-/healthy") != ""
    peer.close()


def test_a_server_that_closes_before_it_reads_is_unhealthy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def close() -> None:
            with suppress(OSError):
                while True:
                    listener.accept()[0].close()

        threading.Thread(target=close, daemon=True).start()
        assert check(url(listener.getsockname()[1])) != ""
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("answer", [b"220 smtp.example ESMTP\r\n", b"SSH-2.0-x\r\n", b"\0" * 100])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_server_of_another_protocol_is_unhealthy(answer: bytes, scheme: str) -> None:
    def behave(connection: socket.socket, _head: bytes) -> None:
        connection.sendall(answer)
        connection.close()

    peer = Peer(behave)
    assert check(f"{scheme}://127.0.0.1:{peer.port}/-/healthy") != ""
    peer.close()


def test_an_invalid_url_is_unhealthy() -> None:
    assert check("http://127.0.0.1:port/-/healthy") != ""


def test_a_closed_port_is_unhealthy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert "Connection refused" in check(url(port))
