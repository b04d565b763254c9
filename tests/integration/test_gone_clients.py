"""Clients that hang up before their scrape ends, and those that ask for endless ones."""

import socket
import threading
import time
from collections.abc import Callable

import pytest
from support.configurations import simulated
from support.exporter import Exporter, Scrape
from support.faults import Fault, FaultySimulator

from taskrouter_exporter.cli import main

StartExporter = Callable[..., Exporter]
PROBE = (
    b"GET /probe?workspace=support&channel=all HTTP/1.1\r\nHost: x\r\n"
    b"X-Prometheus-Scrape-Timeout-Seconds: %d\r\n\r\n"
)


def wait_for(condition: Callable[[], object], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_clients_that_hang_up_during_a_long_wait_of_the_api_cost_nobody_a_scrape(
    simulator: FaultySimulator, start_exporter: StartExporter
) -> None:
    """40 of them, the limit of concurrent requests, with a timeout of eleven days."""
    exporter = start_exporter(simulated(simulator))
    for workspace in simulator.centre.workspaces:
        simulator.faults.set(workspace.sid, Fault.status(429, retry_after=3600))
    connections = [socket.create_connection(("127.0.0.1", exporter.port)) for _ in range(40)]
    for connection in connections:
        connection.sendall(PROBE % 1_000_000)
    wait_for(simulator.requests.count)
    simulator.faults.clear()
    for connection in connections:
        connection.close()
    wait_for(lambda: exporter.request("/").status == 200, 2)
    # The exporter takes rate limits into account for 10 s, whatever the scrape's timeout was.
    wait_for(lambda: set(exporter.scrape().find("up").values()) == {1}, 20)


def test_a_wait_for_one_client_that_hangs_up_does_not_delay_the_others(
    simulator: FaultySimulator, start_exporter: StartExporter
) -> None:
    """Both share the poll; the API's Retry-After fits into the timeout of the first one only."""
    exporter = start_exporter(simulated(simulator))
    for workspace in simulator.centre.workspaces:
        simulator.faults.set(workspace.sid, Fault.status(429, retry_after=60))
    with socket.create_connection(("127.0.0.1", exporter.port)) as patient:
        patient.sendall(PROBE % 100)
        wait_for(simulator.requests.count)
        time.sleep(0.2)
        scrapes: list[Scrape] = []
        path = "/probe?workspace=support&channel=all"
        other = threading.Thread(target=lambda: scrapes.append(exporter.scrape(timeout=30, path=path)))
        other.start()
        time.sleep(0.3)
    other.join(20)
    assert set(scrapes[0].find("up").values()) == {0}
    assert scrapes[0].answer.seconds < 20


def test_a_scrape_timeout_is_shortened_to_the_longest_one_allowed(
    simulator: FaultySimulator, start_exporter: StartExporter
) -> None:
    exporter = start_exporter(simulated(simulator), ["--web.max-scrape-timeout=1500ms"])
    for workspace in simulator.centre.workspaces:
        simulator.faults.set(workspace.sid, Fault.hang())
    scrape = exporter.scrape(timeout=1_000_000)
    assert set(scrape.find("up").values()) == {0}
    assert scrape.answer.seconds < 60
    assert scrape.value("scrape_deadline_seconds") < 1


def test_the_longest_scrape_timeout_is_two_minutes_by_default(start_exporter: StartExporter) -> None:
    deadline = start_exporter(arguments=["--demo"]).scrape(timeout=1_000_000).value("scrape_deadline_seconds")
    assert 60 < deadline < 120


@pytest.mark.parametrize("value", ["0", "0s", "2", "-1s", "2h", "soon"])
def test_a_longest_scrape_timeout_that_is_no_duration_is_refused(
    value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([f"--web.max-scrape-timeout={value}"])
    assert f"{value!r} is not a duration from 1ms to 1h (expected e.g. 30s, 2m)" in capsys.readouterr().err
