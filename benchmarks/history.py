"""Speed and memory of a backfill, and its API requests: the real command against an API that answers at once.

`make bench` prints a table and writes build/bench-history.json. Targets are shown, never asserted in a test.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import requests
from scrape import ROOT, Row, workers_of
from slow_api import start_api

from taskrouter_exporter.api.call import HttpAnswer
from taskrouter_exporter.config.loader import parse_config
from taskrouter_exporter.expansion import static_queries
from taskrouter_exporter.history.journal import Header, Journal
from taskrouter_exporter.history.openmetrics import write
from taskrouter_exporter.history.plan import Point, Range
from taskrouter_exporter.statistics.parsing import parse

STEP: Final = timedelta(minutes=15)
MOST_MB: Final = 64


def configuration(api: str) -> str:
    """Return a configuration with a window and counters in four channels of a workspace."""
    account = {"username": "AC" + "0" * 32, "password": "0" * 32, "base_url": api}
    targets = [{**each, "windows": ["15m"], "counters": "day"} for each in workers_of(4)]
    return json.dumps({"accounts": {"default": account}, "targets": targets})


def measure_run(api: str, days: int) -> Iterator[Row]:
    """Run the command over some days, and measure it from outside."""
    end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "config.yaml").write_text(configuration(api), encoding="utf-8")
        begin = time.perf_counter()
        with (directory / "printed").open("w+", encoding="utf-8") as printed:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "taskrouter_exporter", "backfill", "--windows", "--yes"),
                    *("--rate=1000", f"--from={(end - timedelta(days=days)).isoformat()}"),
                    *(f"--to={end.isoformat()}", "--output=history.om"),
                ],
                cwd=directory,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=printed,
                stderr=subprocess.STDOUT,
            )
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            seconds = time.perf_counter() - begin
            printed.seek(0)
            text = printed.read()
    found = re.search(r"(\d+) samples, (\d+) API requests", text)
    if process.returncode or found is None:
        raise RuntimeError(text)
    least = 8 * days * (timedelta(days=1) // STEP)
    yield Row(f"{days} days, 8 queries: peak memory", usage.ru_maxrss / 1024, MOST_MB, "MB")
    yield Row(f"{days} days, 8 queries: requests to the least possible", int(found[2]) / least, 1, "")
    yield Row(
        f"{days} days, 8 queries: points per second, if the API has no limit", least / seconds, None, "/s"
    )


def measure_writing(days: int) -> Iterator[Row]:
    """Write the output of a journal with the answers of some days."""
    queries = static_queries(parse_config(configuration("http://127.0.0.1:9"), "bench", Path.cwd(), {}))
    api, process = start_api(0)
    body = requests.get(f"{api}{queries[0].path}", timeout=20).content
    process.terminate()
    span = Range(0, days * 86_400, int(STEP.total_seconds()))
    answer = HttpAnswer(200, {}, body)
    statistics = [parse(query.kind, answer.body, query.period.role, query.path) for query in queries]
    with tempfile.TemporaryDirectory() as name:
        header = Header({}, span, queries)
        with Journal(Path(name) / "journal") as journal:
            journal.begin(header)
            for step in span.steps:
                for query in range(len(queries)):
                    journal.record(Point(query, step), statistics[query])
            begin = time.perf_counter()
            samples = write(Path(name) / "history.om", header, journal.answers(header), {})
            seconds = time.perf_counter() - begin
    yield Row(f"{days} days, 8 queries: samples written per second", samples / seconds, None, "/s")


def main() -> None:
    """Run all measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="fewer days")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "bench-history.json")
    flags = parser.parse_args()
    rows: list[Row] = []
    api, process = start_api(0)
    for days in (1,) if flags.short else (1, 7, 29):
        for row in measure_run(api, days):
            rows.append(row)
            print(row, flush=True)
    process.terminate()
    for row in measure_writing(1 if flags.short else 29):
        rows.append(row)
        print(row, flush=True)
    flags.json.parent.mkdir(parents=True, exist_ok=True)
    flags.json.write_text(json.dumps([vars(row) for row in rows], indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
