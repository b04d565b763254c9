"""A thousand targets, and clients that wear out the exporter: what it takes, and who still gets an answer."""

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
from scrape import workers_of
from slow_api import start_api
from stress.stress import full_or
from support.exporter import Exporter

StartExporter = Callable[..., Exporter]
TARGETS: Final = 1000
CLIENTS: Final = 40
"""At a time: as many as there may be requests in flight."""

MEMORY: Final = 256
"""The chart's limit in MiB."""


@pytest.fixture
def api() -> Iterator[str]:
    address, process = start_api(0)
    yield address
    process.terminate()
    process.join()


def configuration(**accounts: tuple[str, int]) -> dict[str, Any]:
    """A configuration of so many targets of each account, by its API's address."""
    targets: list[dict[str, Any]] = []
    for account, (_, count) in accounts.items():
        for target in workers_of(count):
            prefix = str(len(targets)).rjust(8, "0")
            workspace = f"WS{prefix}{'0' * 24}"
            targets.append({**target, "workspace": workspace, "name": prefix, "account": account})
    return {
        "accounts": {
            name: {"username": "AC" + "0" * 32, "password": "bench", "base_url": address}
            for name, (address, _) in accounts.items()
        },
        "polling": {"concurrency": 64},
        "targets": targets,
    }


def highest_memory(exporter: Exporter) -> float:
    """The most resident memory that the process has had, in MiB."""
    status = Path(f"/proc/{exporter.process.pid}/status").read_text(encoding="ascii")
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


@pytest.mark.timeout(600)
def test_clients_that_read_nothing_fit_into_the_chart_s_memory(
    api: str, start_exporter: StartExporter
) -> None:
    """Each asks for an answer of 7 MiB, and more of them come before the first are given up."""
    exporter = start_exporter(configuration(bench=(api, TARGETS)))
    assert len(exporter.scrape().answer.body) > 6 * 2**20
    connections: list[socket.socket] = []
    try:
        for _ in range(int(full_or(20, 5))):
            for _ in range(CLIENTS):
                connection = socket.socket()
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                connection.connect(("127.0.0.1", exporter.port))
                connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                connections.append(connection)
            time.sleep(2.8)
        assert highest_memory(exporter) < MEMORY
    finally:
        for connection in connections:
            connection.close()
    assert set(exporter.scrape(timeout=60).find("up").values()) == {1}


@pytest.mark.timeout(600)
def test_a_scrape_is_in_time_while_clients_load_the_landing_page_and_a_target_hangs(
    api: str, start_exporter: StartExporter
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        hanging = f"http://127.0.0.1:{silent.getsockname()[1]}"
        # More than by default, for a machine that has other things to do.
        offset = ["--timeout-offset=3"]
        targets = int(full_or(TARGETS, TARGETS // 4))
        exporter = start_exporter(configuration(bench=(api, targets), silent=(hanging, 4)), offset)
        stopped = threading.Event()

        def load() -> None:
            while not stopped.is_set():
                exporter.request("/")

        clients = [threading.Thread(target=load) for _ in range(CLIENTS - 2)]
        for client in clients:
            client.start()
        try:
            scrapes = [exporter.scrape(timeout=10) for _ in range(int(full_or(20, 1)))]
        finally:
            stopped.set()
            for client in clients:
                client.join()
    for scrape in scrapes:
        assert scrape.answer.seconds < 10
        assert sum(value == 0 for value in scrape.find("up").values()) == 4
