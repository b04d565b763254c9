"""The real process against clients that want to tie it up: it goes on answering, and its log stays short."""

import json
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from support.certificates import Authority
from support.configurations import simulated
from support.exporter import Exporter, request
from support.faults import Fault, FaultySimulator

from taskrouter_exporter.simulator import Simulator

StartExporter = Callable[..., Exporter]
CLIENT_HELLO_BEGINS = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


@pytest.fixture
def many_files() -> Iterator[None]:
    """Let the test itself, and the exporter that it starts, have as many connections as it takes."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] != resource.RLIM_INFINITY and before[1] < 2000:
        pytest.skip("the system allows fewer than 2,000 open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], 2000), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def is_healthy(connection: socket.socket) -> bool:
    """Ask on a connection that stays open."""
    connection.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = b""
    while not answer.endswith(b"OK\n") and (part := connection.recv(1000)):
        answer += part
    return answer.startswith(b"HTTP/1.1 200")


def warnings(exporter: Exporter) -> list[str]:
    return [line for line in exporter.log.splitlines() if "level=warning" in line or "level=error" in line]


@pytest.mark.usefixtures("many_files")
def test_a_thousand_idle_connections_do_not_disturb_scrapes(
    simulator: Simulator, start_exporter: StartExporter
) -> None:
    exporter = start_exporter(simulated(simulator))
    process = psutil.Process(exporter.process.pid)
    with ExitStack() as held:
        idle = [held.enter_context(connect(exporter.port)) for _ in range(1000)]
        for connection in idle:
            assert is_healthy(connection)
        for _ in range(5):
            assert set(exporter.scrape().find("up").values()) == {1}
        assert process.num_fds() > 1000
        assert process.num_threads() < 100
        assert all(is_healthy(connection) for connection in idle[:10])
    assert warnings(exporter) == []


@pytest.mark.usefixtures("many_files")
def test_two_hundred_half_open_handshakes_do_not_disturb_scrapes(
    simulator: Simulator, start_exporter: StartExporter, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    authority.issue("server")
    web_config = {"tls_server_config": {"cert_file": "server.pem", "key_file": "server.key"}}
    (tmp_path / "web.yml").write_text(json.dumps(web_config), encoding="utf-8")
    exporter = start_exporter(simulated(simulator), [f"--web.config.file={tmp_path / 'web.yml'}"])
    with ExitStack() as held:
        half_open = [held.enter_context(connect(exporter.port)) for _ in range(200)]
        for connection in half_open:
            connection.sendall(CLIENT_HELLO_BEGINS)
        for _ in range(5):
            answer = request(exporter.port, "/metrics", tls=authority.client())
            assert answer.status == 200
            assert answer.seconds < 10
        assert half_open[0].recv(100) == b""  # cut after the handshake's timeout
    assert warnings(exporter) == []


def test_without_file_descriptors_idle_connections_are_closed_and_one_warning_is_logged(
    simulator: Simulator, start_exporter: StartExporter
) -> None:
    exporter = start_exporter(simulated(simulator))
    assert set(exporter.scrape().find("up").values()) == {1}
    resource.prlimit(exporter.process.pid, resource.RLIMIT_NOFILE, (64, 64))
    with ExitStack() as held:
        idle = [held.enter_context(connect(exporter.port)) for _ in range(100)]
        exporter.wait_for_log("no file descriptors left; closing idle connections")
        for _ in range(3):
            assert exporter.request("/metrics").status == 200
        assert len(idle) == 100
    assert set(exporter.scrape().find("up").values()) == {1}
    assert len(warnings(exporter)) < 30
    assert sum("no file descriptors left" in line for line in warnings(exporter)) == 1


def test_shutdown_works_without_file_descriptors(
    simulator: FaultySimulator, start_exporter: StartExporter
) -> None:
    exporter = start_exporter(simulated(simulator))
    exporter.scrape()
    resource.prlimit(exporter.process.pid, resource.RLIMIT_NOFILE, (64, 64))
    for workspace in simulator.centre.workspaces:
        simulator.faults.set(workspace.sid, Fault.latency(3))
    scraping, before = threading.Thread(target=exporter.scrape), simulator.requests.count()
    scraping.start()
    while simulator.requests.count() == before:
        time.sleep(0.01)
    with ExitStack() as held:
        for _ in range(300):
            held.enter_context(connect(exporter.port))
        exporter.wait_for_log("no file descriptors left")
        assert exporter.stop() == 0  # it waits for the scrape, longer than asyncio waits to accept again
    scraping.join(20)
    assert len(warnings(exporter)) < 30


def test_a_huge_body_is_neither_buffered_nor_waited_for(
    simulator: Simulator, start_exporter: StartExporter
) -> None:
    exporter = start_exporter(simulated(simulator))
    exporter.scrape()
    process = psutil.Process(exporter.process.pid)
    before = process.memory_info().rss
    with connect(exporter.port) as connection:
        connection.sendall(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 200000000\r\n\r\n")
        for _ in range(200):
            connection.sendall(bytes(1_000_000))
        assert connection.recv(100).startswith(b"HTTP/1.1 405")
    assert process.memory_info().rss - before < 50_000_000


def test_requests_above_the_limit_are_refused_and_health_checks_are_not(
    simulator: FaultySimulator, start_exporter: StartExporter
) -> None:
    exporter = start_exporter(simulated(simulator), ["--web.max-requests=1"])
    for workspace in simulator.centre.workspaces:
        simulator.faults.set(workspace.sid, Fault.latency(2))
    scraping = threading.Thread(target=exporter.scrape)
    scraping.start()
    while simulator.requests.count() == 0:
        time.sleep(0.01)
    refused = exporter.request("/metrics")
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert exporter.request("/-/healthy").status == 200
    scraping.join(20)
    assert exporter.request("/metrics").status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/../../../../etc/passwd",
        "/..%2f..%2f..%2fetc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/metrics/../../etc/passwd",
        "/-/../../etc/passwd",
        "/..\\..\\etc\\passwd",
        "/etc/passwd%00.html",
        "/static/",
        "/.git/config",
    ],
)
def test_no_path_serves_a_file(path: str, demo: Exporter) -> None:
    answer = demo.request(path)
    assert answer.status == 404
    assert "root:" not in answer.text
    assert "server" not in answer.headers


def test_a_request_line_or_head_that_is_too_long_is_refused(demo: Exporter) -> None:
    for head in (b"GET /" + b"x" * 1_000_000, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100_000):
        with connect(demo.port) as connection:
            try:
                connection.sendall(head)
                answer = connection.recv(100)
            except ConnectionError:
                answer = b""
        assert answer == b"" or answer.startswith(b"HTTP/1.1 400")
    assert demo.request("/-/healthy").status == 200
