"""Speed and size of a scrape, measured from outside: wall time, CPU, memory, time to start.

`make bench` prints a table and writes build/bench.json. Targets are shown, never asserted in a test.
"""

import argparse
import http.client
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
import requests
from slow_api import QUEUES, WORKSPACE, start_api

ROOT: Final = Path(__file__).parent.parent
API_SECONDS: Final = 0.2
_GENTLE: Final = 64
"""Requests at a time."""
PROMETHEUS: Final = {
    "Accept": "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2",
    "Accept-Encoding": "gzip",
    "X-Prometheus-Scrape-Timeout-Seconds": "30",
}


@dataclass(frozen=True)
class Row:
    """One measured quantity beside its target."""

    what: str
    measured: float
    target: float | None
    unit: str

    def __str__(self) -> str:
        target = "" if self.target is None else f"at most {self.target:g}"
        verdict = "" if self.target is None else ("ok" if self.measured <= self.target else "MISSED")
        return f"{self.what:<66} {self.measured:>9.3f} {self.unit:<4} {target:<13} {verdict}"


class Exporter:
    """A running exporter, looked at from outside."""

    def __init__(self, process: subprocess.Popen[str], port: int, started_in: float) -> None:
        self.started_in = started_in
        self.pid, self.port = process.pid, port
        self._process = psutil.Process(process.pid)
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def scrape(self) -> float:
        """Scrape as Prometheus does; seconds until the last byte is here."""
        begin = time.perf_counter()
        self._connection.request("GET", "/metrics", headers=PROMETHEUS)
        self._connection.getresponse().read()
        return time.perf_counter() - begin

    def peak(self) -> float:
        """Largest resident memory so far in MB."""
        return peak_memory(self.pid)

    def cpu(self) -> float:
        """CPU seconds used so far."""
        times = self._process.cpu_times()
        return times.user + times.system

    def resident(self) -> float:
        """Resident memory in MB."""
        return self._process.memory_info().rss / 1e6


def peak_memory(pid: int) -> float:
    """Return the largest resident memory of a process so far in MB (Linux only)."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def workers_of(queries: int) -> list[dict[str, object]]:
    """Return targets with so many queries, all of them for the Workers' statistics."""
    channels = ["all", "voice", "chat", "sms"]
    return [
        {"workspace": f"WS{number:032x}", "name": f"w{number}", "channels": channels}
        for number in range(queries // len(channels))
    ]


@contextmanager
def running_exporter(
    api: str,
    targets: list[dict[str, object]],
    concurrency: int,
    environ: Mapping[str, str] | None = None,
    discovered: Mapping[str, object] | None = None,
) -> Iterator[Exporter]:
    """Start the exporter with these targets of one account, and what it discovers, against an API."""
    account = {"username": "AC" + "0" * 32, "password": "bench", "base_url": api, **(discovered or {})}
    config = {
        "accounts": {"bench": account},
        "discovery": {"interval": "10s"},
        "polling": {"concurrency": concurrency},
        "targets": [{**target, "account": "bench"} for target in targets],
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(json.dumps(config), encoding="utf-8")
        begin = time.perf_counter()
        command = [sys.executable, "exporter.py", f"--config.file={path}", "--web.listen-address=127.0.0.1:0"]
        with subprocess.Popen(
            command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env={**os.environ, **(environ or {})}
        ) as process:
            try:
                port = listening_port(process)
                # Ready once the lists that the targets ask for have been read.
                while not requests.get(f"http://127.0.0.1:{port}/-/ready", timeout=5).ok:
                    time.sleep(0.001)
                yield Exporter(process, port, time.perf_counter() - begin)
            finally:
                process.terminate()


def listening_port(process: subprocess.Popen[str]) -> int:
    """Return the port that the exporter says it listens on."""
    for line in process.stderr or ():
        if "msg=listening" in line:
            return int(line.split("address=127.0.0.1:")[1].split()[0])
    raise RuntimeError("the exporter did not start")


def bare_requests_cpu(api: str, count: int) -> float:
    """CPU milliseconds that a bare requests.get costs, in a loop."""
    url = f"{api}/v1/Workspaces/{WORKSPACE}/Workers/CumulativeStatistics"
    begin = time.process_time()
    for _ in range(count):
        requests.get(url, auth=("AC", "bench"), timeout=5).json()
    return (time.process_time() - begin) / count * 1000


def measure(queries: int, concurrency: int, factor: float, scrapes: int) -> Iterator[Row]:
    """Measure scrapes of so many queries against their ideal."""
    ideal = math.ceil(queries / concurrency) * API_SECONDS
    name = f"{queries} queries at concurrency {concurrency}"
    api, process = start_api(API_SECONDS)
    with running_exporter(api, workers_of(queries), concurrency) as exporter:
        first = exporter.scrape()
        cpu = exporter.cpu()
        times = [exporter.scrape() for _ in range(scrapes)]
        cpu = exporter.cpu() - cpu
        yield Row(f"{name}: first scrape", first, None, "s")
        yield Row(
            f"{name}: scrape, median of {scrapes} (ideal {ideal:g} s)",
            statistics.median(times),
            factor * ideal,
            "s",
        )
        yield Row(f"{name}: scrape, slowest", max(times), None, "s")
        yield Row(f"{name}: scrape as a multiple of the ideal", statistics.median(times) / ideal, factor, "x")
        yield Row(f"{name}: CPU per query and scrape", cpu / scrapes / queries * 1000, 1.6, "ms")
    process.terminate()


def measure_queues(scrapes: int) -> Iterator[Row]:
    """Measure scrapes of many queues in three channels, each with its tasks and its real-time statistics."""
    target: dict[str, object] = {
        "workspace": WORKSPACE,
        "name": "queues",
        "channels": ["all", "voice", "chat"],
        "statistics": ["tasks", "realtime"],
        "windows": ["15m"],
        "queues": "auto",
    }
    # Of the channel `all`, one request has the real-time statistics of 50 queues.
    channels, kinds, of_bulk = 3, 2, 50
    asked = channels * kinds * (len(QUEUES) + 1) - len(QUEUES) + math.ceil(len(QUEUES) / of_bulk)
    ideal = math.ceil(asked / _GENTLE) * API_SECONDS
    name = f"{len(QUEUES)} queues, {channels} channels, {asked} requests at concurrency {_GENTLE}"
    api, process = start_api(API_SECONDS)
    with running_exporter(api, [target], _GENTLE) as exporter:
        exporter.scrape()
        cpu = exporter.cpu()
        times = [exporter.scrape() for _ in range(scrapes)]
        cpu = exporter.cpu() - cpu
        yield Row(f"{name}: scrape", statistics.median(times), None, "s")
        yield Row(f"{name}: multiple of the ideal", statistics.median(times) / ideal, None, "x")
        yield Row(f"{name}: CPU per request", cpu / scrapes / asked * 1000, None, "ms")
        yield Row(f"{name}: resident memory", exporter.resident(), None, "MB")
    process.terminate()


def measure_memory(queries: int, concurrency: int, scrapes: int) -> Iterator[Row]:
    """Measure resident memory over many scrapes."""
    api, process = start_api(0.05)
    with running_exporter(api, workers_of(queries), concurrency) as exporter:
        sizes = []
        for _ in range(scrapes):
            exporter.scrape()
            sizes.append(exporter.resident())
        settled = sizes[len(sizes) // 10]
        yield Row(f"{queries} queries: resident memory, highest of {scrapes} scrapes", max(sizes), 56, "MB")
        yield Row(f"{queries} queries: growth after the first tenth of them", sizes[-1] - settled, 2, "MB")
    process.terminate()


def measure_start(times: int) -> Iterator[Row]:
    """Measure the time from the start of the process to /-/ready."""
    starts = []
    for _ in range(times):
        with running_exporter("http://127.0.0.1:1", workers_of(4), 1) as exporter:
            starts.append(exporter.started_in)
    yield Row(f"start to /-/ready, median of {times}", statistics.median(starts), 0.25, "s")


def main() -> None:
    """Run all measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="fewer repetitions")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "bench.json")
    flags = parser.parse_args()
    few = flags.short
    rows: list[Row] = []

    def show(measured: Iterator[Row]) -> None:
        for row in measured:
            rows.append(row)
            print(row, flush=True)

    show(measure_start(1 if few else 9))
    show(measure(200, 20, 1.02, 1 if few else 10))
    if not few:
        show(measure(1000, 64, 1.03, 10))
    show(measure_queues(1 if few else 10))
    show(measure_memory(1000, 64, 3 if few else 200))
    api, process = start_api(0)
    show(
        iter(
            [
                Row(
                    "for comparison: CPU of a bare requests.get",
                    bare_requests_cpu(api, 100 if few else 1000),
                    None,
                    "ms",
                )
            ]
        )
    )
    process.terminate()
    flags.json.parent.mkdir(parents=True, exist_ok=True)
    flags.json.write_text(json.dumps([vars(row) for row in rows], indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
