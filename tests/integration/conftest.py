"""Fixtures of the tests that start the exporter."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.exporter import Exporter
from support.prometheus import Prometheus, scraping

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
