"""The recipe for the OpenTelemetry Collector (monitoring/otel), with Prometheus and with a real Collector."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from support.configurations import simulated
from support.exporter import PREFIX, ROOT, Exporter
from support.faults import FaultySimulator
from support.prometheus import Prometheus
from support.waiting import wait_until

StartExporter = Callable[..., Exporter]
FindProgram = Callable[[str, str], str]

OTEL = ROOT / "monitoring" / "otel"
FILES = ("collector.yaml", "targets.yaml")


def read(file: str, exporter: Exporter | None = None) -> dict[str, Any]:
    """Return a file of the recipe, with the address of an exporter, which is scraped every second."""
    text = (OTEL / file).read_text(encoding="utf-8")
    if exporter:
        text = text.replace("exporter:10142", exporter.address).replace("60s", "1s").replace("30s", "1s")
    document: dict[str, Any] = yaml.safe_load(text)
    return document


def embedded(file: str, exporter: Exporter | None = None) -> dict[str, Any]:
    """Return the configuration of Prometheus in a file of the recipe."""
    config: dict[str, Any] = read(file, exporter)["receivers"]["prometheus"]["config"]
    return config


@pytest.mark.parametrize("file", FILES)
def test_the_embedded_configuration_is_valid(file: str, program: FindProgram, tmp_path: Path) -> None:
    config = tmp_path / "prometheus.yml"
    config.write_text(json.dumps(embedded(file)), encoding="utf-8")
    command = [program("promtool", "prometheus"), "check", "config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", FILES)
def test_prometheus_scrapes_with_the_embedded_configuration(
    file: str,
    program: FindProgram,
    simulator: FaultySimulator,
    start_exporter: StartExporter,
    tmp_path: Path,
) -> None:
    exporter = start_exporter(simulated(simulator))
    prometheus = Prometheus(
        program("prometheus", "prometheus"), embedded(file, exporter), tmp_path / "prometheus"
    )
    try:
        queries = 3 * 2 * 2
        prometheus.wait_for(f"count({PREFIX}up == 1)", lambda found: list(found.values()) == [queries])
        prometheus.wait_for(f"count({PREFIX}api_requests_total)", bool)
        instances = prometheus.api("query", query=f"group by (instance) ({PREFIX}up)")["result"]
        assert len(instances) == (1 if file == "collector.yaml" else 3 * 2)
    finally:
        prometheus.stop()
    prometheus.assert_clean_log()


class Point(NamedTuple):
    """A data point of a sum, as the debug exporter prints it."""

    resource: frozenset[tuple[str, str]]
    metric: str
    temporality: str
    attributes: frozenset[tuple[str, str]]
    start: datetime
    value: float


def attributes(text: str) -> frozenset[tuple[str, str]]:
    """Return the attributes in a part of the debug exporter's output."""
    return frozenset(re.findall(r"-> ([\w.]+): Str\((.*)\)", text))


def points(log: str) -> Iterator[Point]:
    """Yield the data points of every sum."""
    for of_resource in log.split("ResourceMetrics #")[1:]:
        resource, *metrics = re.split(r"^Metric #\d+$", of_resource, flags=re.MULTILINE)
        for metric in metrics:
            head, *numbers = re.split(r"^NumberDataPoints #\d+$", metric, flags=re.MULTILINE)
            if "-> DataType: Sum" not in head:
                continue
            (name,) = re.findall("-> Name: (.+)", head)
            (temporality,) = re.findall("-> AggregationTemporality: (.+)", head)
            for number in numbers:
                (start,) = re.findall(r"^StartTimestamp: (\S+ \S+) \+0000 UTC", number, re.MULTILINE)
                (value,) = re.findall(r"^Value: (\S+)", number, re.MULTILINE)
                begun = datetime.fromisoformat(start[:26]).replace(tzinfo=UTC)
                yield Point(attributes(resource), name, temporality, attributes(number), begun, float(value))


@contextmanager
def collecting(directory: Path, exporter: Exporter, *files: str) -> Iterator[Path]:
    """Run a Collector with files of the recipe that prints what it would send; its log."""
    path = shutil.which("otelcol")
    if path is None:
        pytest.skip("needs a Collector: make test-opentelemetry")
    command = [path]
    for file in files:
        document = read(file, exporter)
        if "exporters" in document:
            document["exporters"] = {"debug": {"verbosity": "detailed"}}
            document["service"]["pipelines"]["metrics"]["exporters"] = ["debug"]
            document["service"]["telemetry"] = {"metrics": {"level": "none"}}
        (directory / file).write_text(json.dumps(document), encoding="utf-8")
        command.append(f"--config={directory / file}")
    log = directory / "collector.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield log
        assert process.poll() is None, log.read_text(encoding="utf-8")
    finally:
        process.terminate()
        process.wait(20)


def collected(log: Path, names: set[str]) -> list[Point]:
    """Wait until sums of these names are printed, and return their points."""
    found: list[Point] = []

    def complete() -> bool:
        found[:] = points(log.read_text(encoding="utf-8").rpartition("\n20")[0])
        return names <= {point.metric for point in found}

    wait_until("the sums of a scrape", complete, 60)
    return [point for point in found if point.metric in names]


def test_a_collector_takes_the_start_times_from_created_series(
    simulator: FaultySimulator, start_exporter: StartExporter, tmp_path: Path
) -> None:
    exporter = start_exporter(simulated(simulator))
    name, without = PREFIX + "reservations_total", PREFIX + "poll_errors_total"
    with collecting(tmp_path, exporter, "collector.yaml") as log:
        found = collected(log, {name, without})
    text = log.read_text(encoding="utf-8")
    assert not re.search(r"\t(warn|error)\t", text), text
    assert {point.temporality for point in found} == {"Cumulative"}
    scrape = exporter.scrape(accept="application/openmetrics-text")
    begun = {datetime.fromtimestamp(at, UTC) for at in scrape.find("reservations_created").values()}
    assert {point.start for point in found if point.metric == name} == begun
    values = {point.attributes: point.value for point in found if point.metric == name}
    assert values.keys() == scrape.find("reservations_total").keys()
    unknown = {point.start for point in found if point.metric == without}
    assert all(start > datetime(2000, 1, 1, tzinfo=UTC) for start in unknown), "set by metric_start_time"
    (resource,) = {point.resource for point in found}
    assert {
        ("service.name", "taskrouter"),
        ("service.instance.id", exporter.address),
        ("service.namespace", "contact-centre"),
        ("deployment.environment.name", "production"),
    } <= resource
    assert not re.search(r"-> Name: \w+_created$", text, re.MULTILINE), "the timestamp is no metric"


def test_a_collector_has_a_resource_for_each_target_of_service_discovery(
    simulator: FaultySimulator, start_exporter: StartExporter, tmp_path: Path
) -> None:
    exporter = start_exporter(simulated(simulator))
    name, own = PREFIX + "reservations_total", PREFIX + "api_requests_total"
    wanted = {
        f"{workspace.friendly_name}/{channel}"
        for workspace in simulator.centre.workspaces
        for channel in ("all", "voice")
    }
    with collecting(tmp_path, exporter, *FILES) as log:

        def instances() -> set[str]:
            found = collected(log, {name, own})
            return {dict(each.resource)["service.instance.id"] for each in found if each.metric == name}

        wait_until("every target", lambda: instances() == wanted, 60)
        jobs = {
            dict(point.resource)["service.name"]
            for point in collected(log, {name, own})
            if point.metric == own
        }
    assert jobs == {"taskrouter-exporter"}
