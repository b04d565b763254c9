"""One row of the stress test: scrapes of a real process, compared with the event log of the simulator."""

import fcntl
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import psutil
from support.configurations import simulated
from support.exporter import ROOT, Exporter, Scrape

from taskrouter_exporter.simulator import ContactCentre, Simulator

FULL: Final = os.environ.get("STRESS") == "full"
REPORT: Final = ROOT / "build" / "stress.md"
HEAD: Final = (
    "| row | scrapes | answered | in time | queries up | queries down | wrong or stale "
    "| memory (MiB) | threads | fds |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n"
)
TIMEOUT: Final = 2.0
WINDOW: Final = timedelta(minutes=15)


def full_or(full: float, short: float) -> float:
    """Return a quantity for the full length of the stress test, or for its short form."""
    return full if FULL else short


@dataclass(frozen=True)
class Size:
    """A process's memory in MiB, threads and open files."""

    memory: float
    threads: int
    fds: int

    @classmethod
    def of(cls, exporter: Exporter) -> "Size":
        process = psutil.Process(exporter.process.pid)
        return cls(process.memory_info().rss / 2**20, process.num_threads(), process.num_fds())


@dataclass
class Row:
    """One row of the report: an exporter's scrapes, and how many were right."""

    name: str
    centre: ContactCentre
    kept: list[tuple[float, float, Scrape]] = field(default_factory=list)
    sent: int = 0
    answered: int = 0
    in_time: int = 0
    up: int = 0
    down: int = 0
    wrong: list[str] = field(default_factory=list)
    before: Size | None = None
    after: Size | None = None
    punctual: bool = True

    def scrape(self, exporter: Exporter, timeout: float = TIMEOUT) -> Scrape | None:
        """Scrape once; return None without an answer, which only some rows allow."""
        self.sent += 1
        begin = time.time()
        try:
            scrape = exporter.scrape(timeout)
        except OSError:
            return None
        self.count(scrape, timeout)
        self.kept.append((begin, time.time(), scrape))
        return scrape

    def count(self, scrape: Scrape, timeout: float = TIMEOUT) -> None:
        """Count an answer."""
        self.answered += 1
        self.in_time += scrape.answer.seconds < timeout
        ups = scrape.find("up").values()
        self.up += sum(map(bool, ups))
        self.down += sum(not up for up in ups)

    @contextmanager
    def scrapers(self, exporter: Exporter, number: int = 4, interval: float = 0.1) -> Iterator[None]:
        """Scrape in the background, each scraper every `interval` seconds."""
        end = threading.Event()

        def go_on() -> None:
            due = time.monotonic()
            while not end.wait(max(0.0, due - time.monotonic())):
                due += interval
                self.scrape(exporter)

        threads = [threading.Thread(target=go_on) for _ in range(number)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            end.set()
            for thread in threads:
                thread.join()

    def judge(self) -> None:
        """Compare what was published with the event log: counts exactly, and that they are fresh."""
        for begin, end, scrape in self.kept:
            for labels, up in scrape.find("up").items():
                query = dict(labels - {("statistics", "workers")})
                if not up and published(query, scrape):
                    self.wrong.append(f"{query} is down and has statistics")
                if up:
                    self.wrong += self._differences(query, begin, end, scrape)

    def _differences(
        self, query: Mapping[str, str], begin: float, end: float, scrape: Scrape
    ) -> Iterator[str]:
        sid = {each.friendly_name: each.sid for each in self.centre.workspaces}[query["workspace"]]
        channel = None if query["channel"] == "all" else query["channel"]

        def logged(start: datetime, until: float) -> int:
            return len(self.centre.reservations(sid, start, datetime.fromtimestamp(until, UTC), channel))

        target = {key: query[key] for key in ("workspace", "channel")}
        # A poll that a scrape shares started up to a timeout before it, and the API knows whole seconds.
        oldest = int(begin - TIMEOUT) - 1
        if query["window"] == "15m":
            covered = scrape.value("window_end_timestamp_seconds", **query)
            value = scrape.value("window_reservations", **query)
            if not oldest <= covered <= end:
                yield f"{query} is stale: {begin - covered:.1f} s old"
            if value != logged(datetime.fromtimestamp(covered, UTC) - WINDOW, covered):
                yield f"{query} has {value} reservations"
        elif (day := midnight(oldest)) == midnight(end):
            value = scrape.value("reservations_total", **target)
            if not logged(day, oldest) <= value <= logged(day, end):
                yield f"{query} has counted {value} reservations"

    def report(self) -> None:
        """Write the row, and the table of all rows that there are."""
        before, after = self.before, self.after
        sizes: Sequence[str] = ("", "", "")
        if before and after:
            sizes = (
                f"{before.memory:.0f} → {after.memory:.0f}",
                f"{before.threads} → {after.threads}",
                f"{before.fds} → {after.fds}",
            )
        cells = [
            self.name,
            self.sent,
            self.answered,
            self.in_time,
            self.up,
            self.down,
            len(self.wrong),
            *sizes,
        ]
        rows = REPORT.with_suffix("")
        rows.mkdir(parents=True, exist_ok=True)
        with (rows / "lock").open("w") as lock:  # pytest-xdist runs rows at once
            fcntl.flock(lock, fcntl.LOCK_EX)
            replace(rows / f"{self.name}.row", f"| {' | '.join(map(str, cells))} |\n")
            length = "full" if FULL else "short"
            table = "".join(path.read_text(encoding="utf-8") for path in sorted(rows.glob("*.row")))
            replace(REPORT, f"Stress test, {length} form.\n\n{HEAD}{table}")


def published(query: Mapping[str, str], scrape: Scrape) -> bool:
    """Return whether a query has statistics. Gauges have a window, counters have none."""
    if query["window"] == "15m":
        return bool(scrape.statistics(**query))
    target = {key: query[key] for key in ("workspace", "channel")}
    return any("window" not in dict(labels) for _, labels in scrape.statistics(**target))


def midnight(seconds: float) -> datetime:
    """Return the start of the UTC day."""
    return datetime.fromtimestamp(seconds, UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def replace(path: Path, text: str) -> None:
    """Replace a file atomically."""
    new = path.with_name(f"{path.name}.{os.getpid()}")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


def by_password_file(simulator: Simulator, directory: Path, **polling: Any) -> dict[str, Any]:
    """Return a simulator's configuration with the password in a file."""
    config = simulated(simulator, **polling)
    account = config["accounts"]["default"]
    (directory / "auth_token").write_text(account.pop("password"), encoding="utf-8")
    account["password_file"] = "auth_token"
    return config
