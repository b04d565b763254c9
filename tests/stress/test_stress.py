"""Stress test, one disturbance after the other: every answer is right and in time, and resource use is flat.

The short form runs with all other tests, the full one by `make stress`; either writes build/stress.md.
"""

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import replace as replaced
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest
from integration.test_faults import FAULTS
from integration.test_prometheus import SUNDAY
from stress.stress import TIMEOUT, Row, Size, by_password_file, full_or, midnight, replace
from support.configurations import simulated
from support.exporter import ROOT, Exporter, Scrape
from support.faked_clock import FakedClock
from support.faults import Fault, FaultySimulator
from support.waiting import wait_until

from taskrouter_exporter.simulator import ContactCentre, Simulator

StartExporter = Callable[..., Exporter]
BeginRow = Callable[[str], Row]

POLLING: Mapping[str, Any] = {"attempts": 2, "request_timeout": "500ms"}
QUERIES = 12


@pytest.fixture
def begin_row(centre: ContactCentre) -> Iterator[BeginRow]:
    """Start rows; at the end of the test each is checked and reported."""
    rows: list[Row] = []

    def begin(name: str) -> Row:
        rows.append(Row(name, centre))
        return rows[-1]

    yield begin
    for row in rows:
        row.judge()
        row.report()
        assert row.wrong == []
        assert row.in_time == row.answered or not row.punctual


def warm_up(row: Row, exporter: Exporter) -> None:
    """Let the exporter open the connections and threads that it keeps, and measure it."""
    with row.scrapers(exporter, interval=0.05):
        wait_until("12 scrapes", lambda: len(row.kept) >= 12)
    row.before = Size.of(exporter)


def assert_flat(row: Row, exporter: Exporter) -> None:
    """Assert that the exporter has its former size again, except for spare threads and connections."""
    before = row.before
    assert before is not None
    wait_until("closed connections", lambda: Size.of(exporter).fds <= before.fds + 24)
    row.after = Size.of(exporter)
    assert row.after.threads <= before.threads + 24
    assert row.after.memory <= before.memory + 48


def assert_all_up(row: Row, exporter: Exporter) -> None:
    scrape = row.scrape(exporter)
    assert scrape is not None
    assert list(scrape.find("up").values()) == [1] * QUERIES


def for_seconds(seconds: float, interval: float = 0.25) -> Iterator[int]:
    """Count for this many seconds, with an interval in between."""
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        yield number
        number += 1
        time.sleep(interval)


def test_the_api_goes_down_and_comes_back(
    centre: ContactCentre, start_exporter: StartExporter, begin_row: BeginRow
) -> None:
    row = begin_row("01 API down and back")
    with Simulator(centre, rate_limit=500) as simulator:
        port = int(simulator.base_url.rpartition(":")[2])
        exporter = start_exporter(simulated(simulator, **POLLING))
        warm_up(row, exporter)
    for _ in for_seconds(full_or(60, 3)):
        scrape = row.scrape(exporter)
        assert scrape is not None
        assert list(scrape.find("up").values()) == [0] * QUERIES
    with Simulator(centre, port=port, rate_limit=500):
        assert_all_up(row, exporter)
        assert_flat(row, exporter)


def test_half_of_the_targets_fail(
    simulator: FaultySimulator, start_exporter: StartExporter, begin_row: BeginRow
) -> None:
    row = begin_row("02 half of the targets fail")
    config = simulated(simulator, **POLLING)
    del config["targets"][2]
    exporter = start_exporter(config)
    warm_up(row, exporter)
    ill, well = (workspace.friendly_name for workspace in simulator.centre.workspaces[:2])
    simulator.faults.set(simulator.centre.workspaces[0].sid, Fault.status(503))
    for _ in range(int(full_or(100, 5))):
        scrape = row.scrape(exporter)
        assert scrape is not None
        assert list(scrape.find("up", workspace=ill).values()) == [0] * 4
        assert list(scrape.find("up", workspace=well).values()) == [1] * 4
    assert_flat(row, exporter)


def test_the_rate_limit_is_exhausted(
    centre: ContactCentre, start_exporter: StartExporter, begin_row: BeginRow
) -> None:
    row = begin_row("03 rate limit exhausted")
    with Simulator(centre, rate_limit=2, retry_after=True) as simulator:
        exporter = start_exporter(simulated(simulator, **POLLING))
        warm_up(row, exporter)
        for _ in for_seconds(full_or(30, 3), 0.1):
            row.scrape(exporter)

        def errors(reason: str) -> float:
            scrape = row.scrape(exporter)
            assert scrape is not None
            return sum(scrape.find("poll_errors_total", reason=reason).values())

        wait_until("many refusals", lambda: errors("rate_limited") > QUERIES)
        assert errors("bad_response") == 0
        assert_flat(row, exporter)


def test_every_fault_at_once_leaves_the_healthy_account_up(
    centre: ContactCentre, start_exporter: StartExporter, begin_row: BeginRow
) -> None:
    row = begin_row("04 every fault at once")
    with ExitStack() as stack:
        config: dict[str, Any] = simulated(stack.enter_context(Simulator(centre, rate_limit=500)), **POLLING)
        # Long enough for healthy answers beside so many others on a busy machine.
        config["polling"] |= {"concurrency": 64, "request_timeout": "1500ms"}
        for number, (fault, _) in enumerate(FAULTS.values()):
            other = ContactCentre(seed=100 + number)
            simulator = stack.enter_context(FaultySimulator(other, rate_limit=500))
            simulator.faults.set(other.workspaces[0].sid, fault)
            name = f"fault-{number}"
            config["accounts"][name] = simulated(simulator)["accounts"]["default"]
            config["targets"].append({"workspace": other.workspaces[0].sid, "name": name, "account": name})
        exporter = start_exporter(config)
        # Until it has the threads that it keeps, at most as many as there may be requests at a time.
        for _ in range(4):
            row.scrape(exporter)
        row.before = Size.of(exporter)
        for _ in range(int(full_or(30, 2))):
            scrape = row.scrape(exporter)
            assert scrape is not None
            ups = {dict(labels)["workspace"]: up for labels, up in scrape.find("up").items()}
            assert {name for name, up in ups.items() if up} == {
                each.friendly_name for each in centre.workspaces
            }
            assert len(ups) == len(FAULTS) + len(centre.workspaces)
        assert_flat(row, exporter)


def test_four_scrapers_scrape_every_100_milliseconds(
    simulator: Simulator, start_exporter: StartExporter, begin_row: BeginRow
) -> None:
    row = begin_row("05 four scrapers every 100 ms")
    exporter = start_exporter(simulated(simulator))
    warm_up(row, exporter)
    with row.scrapers(exporter):
        for _ in for_seconds(full_or(30, 3)):
            pass
    assert len(row.kept) == row.sent
    assert row.sent >= full_or(200, 20)
    assert_flat(row, exporter)


def test_reloads_in_the_middle_of_scrapes(
    simulator: FaultySimulator, start_exporter: StartExporter, begin_row: BeginRow, tmp_path: Path
) -> None:
    row = begin_row("06 reloads in mid-scrape")
    configs = [simulated(simulator, concurrency=number) for number in (16, 5)]
    del configs[1]["targets"][2]
    exporter = start_exporter(configs[0])
    warm_up(row, exporter)
    for workspace in simulator.centre.workspaces:
        simulator.faults.set(workspace.sid, Fault.latency(0.05))
    with row.scrapers(exporter):
        for number in range(int(full_or(200, 10))):
            if number % 5 == 4:
                replace(tmp_path / "config.yaml", "targets: [")
                assert exporter.request("/-/reload", "POST").status == 500
            replace(tmp_path / "config.yaml", json.dumps(configs[(number + 1) % 2]))
            assert exporter.request("/-/reload", "POST").status == 200
            wanted = QUERIES - 4 * ((number + 1) % 2)
            wait_until(f"{wanted} queries", lambda wanted=wanted: len(row.kept[-1][2].find("up")) == wanted)  # type: ignore[misc]
    assert len(row.kept) == row.sent
    assert {len(scrape.find("up")) for _, _, scrape in row.kept} == {QUERIES, QUERIES - 4}
    assert all(set(scrape.find("up").values()) == {1} for _, _, scrape in row.kept)
    assert_flat(row, exporter)


def test_a_password_file_is_rotated_under_load(
    simulator: Simulator, start_exporter: StartExporter, begin_row: BeginRow, tmp_path: Path
) -> None:
    row = begin_row("07 password file rotated under load")
    # Time enough for a busy machine: no other reason may be seen here.
    exporter = start_exporter(by_password_file(simulator, tmp_path, **{**POLLING, "request_timeout": "2s"}))
    warm_up(row, exporter)
    token = tmp_path / "auth_token"
    with row.scrapers(exporter):
        for number in range(int(full_or(50, 6))):
            token.unlink()
            wait_for_another_scrape(row)
            replace(token, f"wrong-secret-{number}")
            wait_until("a failed query", lambda: 0.0 in row.kept[-1][2].find("up").values())
            replace(token, simulator.centre.auth_token)
            wait_until("every query up", lambda: set(row.kept[-1][2].find("up").values()) == {1})
    last = row.kept[-1][2]
    failed = {dict(labels)["reason"] for labels, count in last.find("poll_errors_total").items() if count}
    assert failed == {"auth"}
    assert len(row.kept) == row.sent
    assert_flat(row, exporter)
    exporter.assert_clean_log([f"wrong-secret-{number}" for number in range(50)])


def wait_for_another_scrape(row: Row) -> None:
    known = len(row.kept)
    wait_until("another scrape", lambda: len(row.kept) > known)


def test_file_descriptors_are_exhausted(
    simulator: Simulator, start_exporter: StartExporter, begin_row: BeginRow
) -> None:
    row = begin_row("08 64 file descriptors")
    row.punctual = False  # a scrape that is not accepted yet cannot be answered
    exporter = start_exporter(simulated(simulator, **POLLING))
    warm_up(row, exporter)
    psutil.Process(exporter.process.pid).rlimit(psutil.RLIMIT_NOFILE, (64, 64))
    for _ in range(int(full_or(10, 1))):
        with ExitStack() as stack:
            for _ in range(100):
                with suppress(OSError):
                    idle = socket.create_connection(("127.0.0.1", exporter.port), timeout=5)
                    stack.enter_context(closing(idle))
            wait_until("60 open files", lambda: Size.of(exporter).fds >= 60)
            row.scrape(exporter, timeout=TIMEOUT)
        wait_until("closed connections", lambda: Size.of(exporter).fds < 48)
        assert_all_up(row, exporter)
    for _ in for_seconds(1.5):  # asyncio tries each refused connection again after a second
        assert_all_up(row, exporter)
    assert exporter.process.poll() is None
    assert_flat(row, exporter)


class UnheardExporter(Exporter):
    """An exporter whose standard error is a full disk."""

    def __init__(self, config: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        command = [
            sys.executable, str(ROOT / "exporter.py"), f"--config.file={config}", "--log.level=debug",
            f"--web.listen-address={self.address}",
        ]  # fmt: skip
        with Path("/dev/full").open("wb") as full:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=full, stderr=full)
        wait_until("a healthy exporter", self._is_healthy)

    def _is_healthy(self) -> bool:
        assert self.process.poll() is None, "it ended"
        with suppress(OSError):
            return self.request("/-/healthy").status == 200
        return False


def test_the_disk_for_logs_is_full(simulator: FaultySimulator, begin_row: BeginRow, tmp_path: Path) -> None:
    row = begin_row("09 disk full for logs")
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps(simulated(simulator, **POLLING)), encoding="utf-8")
    exporter = UnheardExporter(config)
    try:
        warm_up(row, exporter)
        for _ in range(int(full_or(30, 3))):
            simulator.faults.set(simulator.centre.workspaces[0].sid, Fault.status(401))
            scrape = row.scrape(exporter)
            assert scrape is not None
            assert sorted(scrape.find("up").values()) == [0] * 4 + [1] * 8
            simulator.faults.clear()
            assert exporter.request("/-/reload", "POST").status == 200
            assert_all_up(row, exporter)
        assert_flat(row, exporter)
    finally:
        assert exporter.stop() == 0


def test_a_scrape_in_flight_survives_sigterm(
    simulator: FaultySimulator, start_exporter: StartExporter, begin_row: BeginRow
) -> None:
    row = begin_row("10 SIGTERM in mid-scrape")
    for _ in range(int(full_or(10, 1))):
        exporter = start_exporter(simulated(simulator))
        assert_all_up(row, exporter)
        simulator.requests.clear()
        for workspace in simulator.centre.workspaces:
            simulator.faults.set(workspace.sid, Fault.latency(0.5))
        scraping = threading.Thread(target=row.scrape, args=(exporter,))
        scraping.start()
        wait_until("a request", lambda: simulator.requests.count() > 0)
        assert exporter.stop() == 0
        scraping.join()
        simulator.faults.clear()
        assert set(row.kept[-1][2].find("up").values()) == {1}
    assert len(row.kept) == row.sent


def test_counters_continue_after_a_kill_and_a_restart(
    simulator: Simulator, start_exporter: StartExporter, begin_row: BeginRow
) -> None:
    row = begin_row("11 kill -9 and start")
    values: list[dict[Any, float]] = []
    days = set()
    for _ in range(int(full_or(10, 2))):
        exporter = start_exporter(simulated(simulator))
        assert_all_up(row, exporter)
        values.append(row.kept[-1][2].find("reservations_total"))
        days.add(midnight(time.time()))
        with row.scrapers(exporter):
            wait_for_another_scrape(row)
            assert exporter.stop(signal.SIGKILL) == -signal.SIGKILL
    for earlier, later in pairwise(values):
        assert earlier.keys() == later.keys()
        assert len(days) > 1 or all(later[labels] >= count for labels, count in earlier.items())


def test_the_clock_is_set_back(
    program: Callable[[str, str], str],
    centre: ContactCentre,
    start_exporter: StartExporter,
    begin_row: BeginRow,
    tmp_path: Path,
) -> None:
    row = begin_row("12 clock set back")
    clock = FakedClock(SUNDAY, program("faketime", "faketime"), tmp_path)
    noon = SUNDAY + timedelta(hours=12)
    with Simulator(centre, clock, rate_limit=500) as simulator:
        exporter = start_exporter(simulated(simulator), environment=clock.environment)
        highest: dict[Any, float] = {}
        for step in range(int(full_or(20, 4))):
            for back in (timedelta(0), timedelta(minutes=1), timedelta(minutes=59)):
                moment = noon + timedelta(minutes=step) - back
                clock.set(moment)
                scrape = exporter.scrape()
                row.sent += 1
                row.count(scrape, 10)
                assert list(scrape.find("up").values()) == [1] * QUERIES
                counted = scrape.find("reservations_total")
                assert all(counted[labels] >= count for labels, count in highest.items())
                highest = counted
                for workspace in centre.workspaces:
                    labels = {"workspace": workspace.friendly_name, "channel": "all"}
                    window = centre.reservations(workspace.sid, moment - timedelta(minutes=15), moment)
                    assert scrape.value("window_reservations", **labels) == len(window)
                    day = centre.reservations(workspace.sid, SUNDAY, noon + timedelta(minutes=step))
                    assert scrape.value("reservations_total", **labels) == len(day)
        clock.set(noon - timedelta(days=1))
        assert list(exporter.scrape().find("up").values()) == [1] * QUERIES


def test_the_checks_find_wrong_and_stale_values(
    simulator: Simulator, start_exporter: StartExporter, centre: ContactCentre
) -> None:
    row = Row("none", centre)
    scrape = row.scrape(start_exporter(simulated(simulator)))
    assert scrape is not None
    begin, end, _ = row.kept[0]
    row.judge()
    assert row.wrong == []
    text = scrape.answer.text
    falsified = {
        "has 987654 reservations": re.sub(r"(window_reservations\{.*\}) .*", r"\1 987654", text),
        "has counted 987654 reservations": re.sub(r"(r_reservations_total\{.*\}) .*", r"\1 987654", text),
        "is down and has statistics": re.sub(r"(r_up\{.*\}) 1.*", r"\1 0", text),
    }
    for complaint, body in falsified.items():
        false = Row("none", centre, [(begin, end, Scrape(replaced(scrape.answer, body=body.encode())))])
        false.judge()
        assert complaint in false.wrong[0]
    late = Row("none", centre, [(begin + 60, end + 60, scrape)])
    late.judge()
    assert "is stale" in late.wrong[0]
