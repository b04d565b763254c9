"""What Prometheus 3 has that 2 has not; skipped where the one in PATH is older (`make test-prometheus3`)."""

import re
import subprocess
import textwrap
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.configurations import simulated
from support.exporter import PREFIX, ROOT, Exporter
from support.faults import FaultySimulator
from support.programs import bad_lines
from support.prometheus import JOB, Prometheus, scraping

StartExporter = Callable[..., Exporter]
StartServer = Callable[..., Prometheus]
FindProgram = Callable[[str, str], str]

ZERO_INGESTION = "--enable-feature=created-timestamp-zero-ingestion"
V2 = "io.prometheus.write.v2.Request"
PROTOCOLS = ("OpenMetricsText1.0.0", "OpenMetricsText0.0.1", "PrometheusText1.0.0", "PrometheusText0.0.4")
FAMILY = "reservations_total"


@pytest.fixture
def start_server(
    program: FindProgram, tmp_path: Path, start_exporter: StartExporter
) -> Iterator[StartServer]:
    """Start Prometheus 3 with a configuration and flags; each ends before its exporter."""
    del start_exporter
    path = program("prometheus", "prometheus")
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    if int(re.findall(r"version v?(\d+)\.", version)[0]) < 3:
        pytest.skip("needs Prometheus 3: make test-prometheus3")
    started: list[Prometheus] = []

    def start(config: dict[str, Any], *flags: str) -> Prometheus:
        started.append(Prometheus(path, config, tmp_path / f"prometheus-{len(started)}", flags=flags))
        return started[-1]

    yield start
    for prometheus in reversed(started):
        prometheus.stop()
        prometheus.assert_clean_log()


def since_the_hour(simulator: FaultySimulator, ago: int) -> dict[str, Any]:
    """A configuration whose counters began so many full hours ago, in a zone where it was midnight then."""
    now = datetime.now(UTC)
    if now.minute == 59:
        time.sleep(60 - now.second)  # or an hour would begin during the test
    hour = (datetime.now(UTC).hour - ago) % 24
    zone = f"Etc/GMT{hour:+}" if hour <= 12 else f"Etc/GMT-{24 - hour}"
    config = simulated(simulator)
    for target in config["targets"]:
        target["timezone"] = zone
    return config


def test_warnings_are_found_in_the_logs_of_both_versions() -> None:
    bad = [
        'ts=2026-11-25T15:00:00.000Z caller=main.go:1 level=error err="opening storage failed"',
        'time=2026-11-25T15:00:00.000Z level=WARN source=scrape.go:1 msg="Error on ingesting samples"',
        'time=2026-11-25T15:00:00.000Z level=ERROR msg="Received an OS signal, no" signal=killed',
    ]
    good = [
        'ts=2026-11-25T15:00:00.000Z level=info msg="See you next time!"',
        'ts=2026-11-25T15:00:00.000Z level=warn msg="Received SIGTERM, exiting gracefully..."',
        'time=2026-11-25T15:00:00.000Z level=INFO source=web.go:1 msg="no level=warning"',
        'time=2026-11-25T15:00:00Z level=WARN msg="Received an OS signal, exiting..." signal=terminated',
    ]
    assert list(bad_lines("\n".join([*good, *bad, *good]))) == bad


def test_counters_begin_with_0_at_their_creation_timestamp(
    simulator: FaultySimulator, start_exporter: StartExporter, start_server: StartServer
) -> None:
    exporter = start_exporter(since_the_hour(simulator, 0))
    prometheus = start_server(scraping(exporter.address), ZERO_INGESTION)
    prometheus.wait_for(
        f"count_over_time({PREFIX}{FAMILY}[2h])", lambda found: bool(found) and min(found.values()) >= 2
    )
    begun = set(exporter.scrape(accept="application/openmetrics-text").find("reservations_created").values())
    data = prometheus.api("query", query=f"{PREFIX}{FAMILY}[2h]")
    first = {(at, value) for series in data["result"] for at, value in series["values"][:1]}
    assert first == {(at, "0") for at in begun}
    (at,) = begun
    assert datetime.fromtimestamp(at, UTC) == datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    assert prometheus.query(f'{{__name__=~"{PREFIX}.+_created"}}') == {}, "the timestamp is no series"


def test_a_creation_timestamp_of_hours_ago_changes_nothing(
    simulator: FaultySimulator, start_exporter: StartExporter, start_server: StartServer
) -> None:
    exporter = start_exporter(since_the_hour(simulator, 3))
    prometheus = start_server(scraping(exporter.address), ZERO_INGESTION)
    found = prometheus.wait_for(f"{PREFIX}{FAMILY} > 0", bool)
    samples = prometheus.samples(f"{PREFIX}{FAMILY}[5h]")
    assert 0 not in {values[0] for labels, values in samples.items() if labels in found}
    assert prometheus.query(f'{{__name__=~"{PREFIX}.+_created"}}') == {}


def test_nothing_is_added_where_there_are_no_creation_timestamps(
    simulator: FaultySimulator, start_exporter: StartExporter, start_server: StartServer
) -> None:
    exporter = start_exporter(since_the_hour(simulator, 0), ["--web.disable-created"])
    prometheus = start_server(scraping(exporter.address), ZERO_INGESTION)
    found = prometheus.wait_for(f"{PREFIX}{FAMILY}", bool)
    samples = prometheus.samples(f"{PREFIX}{FAMILY}[2h]")
    assert found.keys() == samples.keys()
    assert 0 not in {values[0] for labels, values in samples.items() if found[labels]}


def test_the_drop_rule_of_the_documentation_drops_created_series_and_nothing_else(
    simulator: FaultySimulator, start_exporter: StartExporter, start_server: StartServer
) -> None:
    exporter = start_exporter(simulated(simulator))
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    (text,) = re.findall(
        r"^  ```yaml\n(  metric_relabel_configs:\n.*?)^  ```$", page, re.MULTILINE | re.DOTALL
    )
    rules = yaml.safe_load(textwrap.dedent(text))
    config = scraping(exporter.address)
    (job,) = config["scrape_configs"]
    config["scrape_configs"] = [job, job | {"job_name": "dropping", **rules}]
    prometheus = start_server(config)
    names = {
        job: f'group by (__name__) ({{__name__=~"{PREFIX}.+", job="{job}"}})' for job in (JOB, "dropping")
    }
    for expression in names.values():
        prometheus.wait_for(f"count({expression})", bool)
    everything, left = (
        {series["metric"]["__name__"] for series in prometheus.api("query", query=expression)["result"]}
        for expression in names.values()
    )
    assert {PREFIX + "reservations_created", PREFIX + "api_requests_created"} <= everything
    assert left == {name for name in everything if not name.endswith("_created")}


def test_every_scrape_protocol_of_text_gets_the_same_values(
    simulator: FaultySimulator, start_exporter: StartExporter, start_server: StartServer
) -> None:
    exporter = start_exporter(simulated(simulator))
    config = scraping(exporter.address)
    (job,) = config["scrape_configs"]
    config["scrape_configs"] = [
        job | {"job_name": protocol, "scrape_protocols": [protocol]} for protocol in PROTOCOLS
    ]
    prometheus = start_server(config)
    up = f"count by (job) ({PREFIX}up == 1)"
    queries = 3 * 2 * 2
    prometheus.wait_for(
        f'count(label_replace({up}, "protocol", "$1", "job", "(.+)") == {queries})',
        lambda found: list(found.values()) == [len(PROTOCOLS)],
    )
    names = prometheus.api(
        "query", query=f'count by (job) ({{__name__=~"{PREFIX}.+", __name__!~".+_created"}})'
    )
    counts = {series["metric"]["job"]: series["value"][1] for series in names["result"]}
    assert counts.keys() == set(PROTOCOLS)
    assert len(set(counts.values())) == 1, counts


@pytest.mark.parametrize("message", [None, V2], ids=["1.0", "2.0"])
def test_remote_write_of_the_demo_arrives_complete(
    message: str | None, demo: Exporter, start_server: StartServer
) -> None:
    receiver = start_server({}, "--web.enable-remote-write-receiver")
    target = {"url": f"http://{receiver.address}/api/v1/write"} | (
        {"protobuf_message": message, "metadata_config": {"send": False}} if message else {}
    )
    sender = start_server(scraping(demo.address, remote_write=[target]))
    complete = f"count({{__name__=~'{PREFIX}.+'}}) and on () min({PREFIX}up) == 1"
    (number,) = sender.wait_for(complete, bool).values()
    receiver.wait_for(complete, lambda found: number in found.values())
    expression = f"last_over_time({PREFIX}{FAMILY}[1m])"
    sent = sender.query(expression)
    received = receiver.query(expression)
    assert received.keys() == sent.keys()
    assert len(sent) > 5
