"""Fixtures of the tests that start the exporter."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.backfill import Backfills
from support.exporter import Exporter
from support.faults import FaultySimulator
from support.prometheus import Prometheus, scraping

from taskrouter_exporter.simulator import ContactCentre

StartExporter = Callable[..., Exporter]
StartPrometheus = Callable[[Exporter], Prometheus]
FindProgram = Callable[[str, str], str]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    exporter = Exporter(["--demo"], tmp_path_factory.mktemp("demo") / "log")
    yield exporter
    exporter.stop()
    exporter.assert_clean_log()


@pytest.fixture
def start_prometheus(
    program: FindProgram, tmp_path: Path, start_exporter: StartExporter
) -> Iterator[StartPrometheus]:
    """Start Prometheus servers; each ends before its exporter (hence start_exporter), and its log is read."""
    del start_exporter
    path = program("prometheus", "prometheus")
    started: list[Prometheus] = []

    def start(exporter: Exporter) -> Prometheus:
        started.append(Prometheus(path, scraping(exporter.address), tmp_path / f"prometheus-{len(started)}"))
        return started[-1]

    yield start
    for prometheus in started:
        prometheus.stop()
        prometheus.assert_clean_log()


@pytest.fixture(scope="module")
def asked(centre: ContactCentre) -> Iterator[FaultySimulator]:
    """A simulator that answers about its past as quickly as it can."""
    with FaultySimulator(centre, rate_limit=100_000) as simulator:
        yield simulator


@pytest.fixture
def api(asked: FaultySimulator) -> FaultySimulator:
    asked.faults.clear()
    return asked


@pytest.fixture(scope="module")
def backfills(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backfills]:
    with Backfills(tmp_path_factory.mktemp("backfills")) as backfills:
        yield backfills


@pytest.fixture(scope="module")
def today() -> datetime:
    """The last midnight, before which there are days of the simulator's past."""
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
