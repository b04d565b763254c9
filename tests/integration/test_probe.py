"""One target at a time: `/probe` and `/sd`, and the real Prometheus that spreads them over replicas."""

import base64
import gzip
import json
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from support.configurations import simulated
from support.exporter import ROOT, Answer, Exporter, Scrape
from support.faults import Fault, FaultySimulator
from support.prometheus import Prometheus, scraping

from taskrouter_exporter.simulator import Simulator

StartExporter = Callable[..., Exporter]
UNKNOWN_SID = "WS" + "0" * 32
ODD_NAMES = (
    "Kundendienst Süd 1",
    'the "best" \\ team',
    "客服 👩🏽‍💻 & co=1;x?#%2F+<b>",
)
JOB = "probes"
WAITED = r"(, waited \d\.\d{3} s)?"


@dataclass(frozen=True)
class Probing:
    """An exporter of a simulator with odd workspace names."""

    exporter: Exporter
    simulator: FaultySimulator
    names: Sequence[str]

    def path(self, workspace: str, channel: str = "voice", **more: str) -> str:
        return "/probe?" + urlencode({"workspace": workspace, "channel": channel, **more})

    def scrape(self, workspace: str, channel: str = "voice") -> Scrape:
        return self.exporter.scrape(path=self.path(workspace, channel))

    def ask(self, workspace: str, channel: str = "voice", **more: str) -> Answer:
        headers = {"X-Prometheus-Scrape-Timeout-Seconds": "2"}
        return self.exporter.request(self.path(workspace, channel, **more), headers=headers)


def oddly_named(simulator: Simulator, **polling: Any) -> str:
    """Return a configuration with odd workspace names. JSON escapes of an emoji are invalid YAML."""
    config = simulated(simulator, **polling)
    for target, name in zip(config["targets"], ODD_NAMES, strict=True):
        target["name"] = name
    return json.dumps(config, ensure_ascii=False)


@pytest.fixture
def probing(simulator: FaultySimulator, start_exporter: StartExporter) -> Probing:
    exporter = start_exporter(oddly_named(simulator, attempts=2, request_timeout="1m"))
    return Probing(exporter, simulator, ODD_NAMES)


def test_a_target_is_found_by_name_and_by_sid_whatever_its_name(probing: Probing) -> None:
    for name, workspace in zip(probing.names, probing.simulator.centre.workspaces, strict=True):
        by_name, by_sid = probing.scrape(name), probing.scrape(workspace.sid)
        assert by_name.find("up").keys() == by_sid.find("up").keys()
        assert set(by_name.find("up", workspace=name, channel="voice").values()) == {1}
        assert len(by_name.find("up")) == 2
        assert by_name.statistics() == by_name.statistics(workspace=name, channel="voice")
        assert {dict(labels)["window"] for labels in by_name.find("up")} == {"15m", "day"}


def test_only_the_queries_of_one_target_are_polled(probing: Probing) -> None:
    ill, other, _ = probing.simulator.centre.workspaces
    probing.scrape(probing.names[0])
    asked = probing.simulator.requests.latest()
    assert len(asked) == 2
    assert {request.workspace_sid for request in asked} == {ill.sid}
    assert {request.parameters["TaskChannel"] for request in asked} == {"voice"}
    assert probing.simulator.requests.count(other.sid) == 0


@pytest.mark.parametrize(
    ("workspace", "channel"),
    [
        (UNKNOWN_SID, "all"),
        (UNKNOWN_SID, "voice"),
        ("../" + UNKNOWN_SID, "all"),
        (ODD_NAMES[0], "chat"),
        (ODD_NAMES[0], "ALL"),
        (ODD_NAMES[0] + " ", "all"),
        ("*", "*"),
    ],
)
def test_an_unconfigured_target_is_not_found_and_never_requested(
    workspace: str, channel: str, probing: Probing
) -> None:
    for method in ("GET", "HEAD"):
        assert probing.exporter.request(probing.path(workspace, channel), method).status == 404
    answer = probing.ask(workspace, channel, debug="true")
    assert answer.status == 404
    assert answer.headers["content-type"].startswith("text/plain")
    assert "/sd" in answer.text
    assert probing.simulator.requests.count() == 0


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?workspace=x",
        "?channel=all",
        "?workspace=&channel=all",
        "?workspace=x&channel=",
        "?workspace=x&workspace=y&channel=all",
        "?workspace=x&workspace=x&channel=all",
        "?workspace=x&channel=all&channel=voice",
        "?Workspace=x&Channel=all",
    ],
)
def test_a_missing_empty_or_repeated_parameter_is_a_bad_request(query: str, probing: Probing) -> None:
    answer = probing.exporter.request(f"/probe{query}")
    assert answer.status == 400
    assert "/probe?workspace=…&channel=…" in answer.text
    assert probing.simulator.requests.count() == 0


def test_a_probe_has_none_of_the_exporters_own_metrics(probing: Probing) -> None:
    name = probing.names[0]
    probe = probing.scrape(name)
    own = probing.exporter.scrape(path="/metrics?collect[]=exporter").names()
    assert own & probe.names() == set()
    assert {"up", "poll_errors_total", "workspace_info", "api_rate_limit"} <= probe.names()
    everything = probing.exporter.scrape()
    assert probe.names() == everything.names() - own


def test_head_answers_without_polling(probing: Probing) -> None:
    answer = probing.exporter.request(probing.path(probing.names[0]), "HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-type"].startswith("text/plain")
    assert "content-length" not in answer.headers
    assert probing.simulator.requests.count() == 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
@pytest.mark.parametrize("path", ["/probe", "/sd", "/"])
def test_other_methods_are_not_allowed(method: str, path: str, probing: Probing) -> None:
    assert probing.exporter.request(path, method).status == 405


def test_openmetrics_and_gzip_follow_the_headers(probing: Probing) -> None:
    headers = {"Accept": "application/openmetrics-text;version=1.0.0", "Accept-Encoding": "gzip"}
    answer = probing.exporter.request(probing.path(probing.names[1]), headers=headers)
    assert answer.headers["content-encoding"] == "gzip"
    scrape = Scrape(Answer(answer.status, answer.headers, gzip.decompress(answer.body), answer.seconds))
    assert scrape.answer.text.endswith("# EOF\n")
    assert scrape.find("reservations_created", workspace=probing.names[1]), "the anchor of a counter"


@pytest.mark.parametrize("debug", ["false", "true"])
def test_the_deadline_of_the_header_is_honoured(debug: str, probing: Probing) -> None:
    probing.simulator.faults.set(probing.simulator.centre.workspaces[0].sid, Fault.hang())
    answer = probing.ask(probing.names[0], debug=debug)
    assert answer.status == 200
    assert 1 < answer.seconds < 8, "2 s, on a busy machine; without the header it would be more than 9"
    assert "timeout" in answer.text
    assert set(probing.scrape(probing.names[2]).find("up").values()) == {1}


def test_probes_and_scrapes_share_a_poll_and_its_counters(probing: Probing) -> None:
    workspace, name = probing.simulator.centre.workspaces[0], probing.names[0]
    probing.simulator.latency = 0.5
    scrapes: list[Scrape] = []
    threads = [
        threading.Thread(target=lambda: scrapes.append(probing.scrape(name, "all"))),
        threading.Thread(target=lambda: scrapes.append(probing.exporter.scrape())),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert [set(scrape.find("up", workspace=name).values()) for scrape in scrapes] == [{1}, {1}]
    assert probing.simulator.requests.count(workspace.sid) == 4
    probing.simulator.latency = 0
    probing.simulator.faults.set(workspace.sid, Fault.status(403))
    errors = {"workspace": name, "channel": "all", "window": "15m", "reason": "forbidden"}
    assert probing.scrape(name, "all").value("poll_errors_total", **errors) == 1
    assert probing.exporter.scrape().value("poll_errors_total", **errors) == 2


def test_debug_output_shows_the_request_and_the_result(probing: Probing) -> None:
    workspace, name = probing.simulator.centre.workspaces[0], probing.names[0]
    answer = probing.ask(name, debug="true")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain")
    text, _, metrics = answer.text.partition("\nMetrics:\n")
    assert f"Query: workspace {name!r}, channel 'voice', workers, 15m" in text
    assert f"Query: workspace {name!r}, channel 'voice', workers, day" in text
    url = f"{probing.simulator.base_url}/v1/Workspaces/{workspace.sid}/Workers/CumulativeStatistics"
    assert f"GET {url}?Minutes=15&TaskChannel=voice" in text
    assert f"GET {url}?StartDate=" in text
    assert len(re.findall(rf"attempt 1{WAITED}: HTTP 200 in 0\.", text)) == 2
    assert "rate limit 5000, remaining 499" in text
    assert text.count("\n  up; 0.") == 2
    with_type = {**answer.headers, "content-type": "text/plain"}
    scrape = Scrape(Answer(200, with_type, metrics.encode(), answer.seconds))
    assert set(scrape.find("up", workspace=name).values()) == {1}
    assert scrape.statistics()


def test_debug_output_of_a_failed_poll_lists_attempts_with_waits_and_reasons(probing: Probing) -> None:
    workspace = probing.simulator.centre.workspaces[0]
    probing.simulator.faults.set(workspace.sid, Fault.status(429))
    text = probing.ask(workspace.sid, debug="true").text
    assert len(re.findall(rf"attempt 1{WAITED}: HTTP 429 in 0\.", text)) == 2
    assert len(re.findall(rf"attempt 2{WAITED}: HTTP 429 in 0\.", text)) == 2
    assert text.count(" s: rate_limited, ") == 2 * 2
    assert text.count("\n  down: rate_limited, ") == 2
    assert "up to 2 attempts with a timeout of 60 s" in text
    probing.simulator.faults.set(workspace.sid, Fault.reset())
    assert ": no response in 0." in probing.ask(workspace.sid, debug="true").text


@pytest.mark.parametrize(
    "fault",
    [
        None,
        Fault.status(401),
        Fault.status(403),
        Fault.reset(),
        Fault.hang(),
        Fault.html(),
        Fault.invalid_json(),
    ],
    ids=["none", "401", "403", "reset", "hang", "HTML", "invalid JSON"],
)
def test_debug_output_contains_no_secret(fault: Fault | None, probing: Probing) -> None:
    centre = probing.simulator.centre
    if fault is not None:
        probing.simulator.faults.set(centre.workspaces[0].sid, fault)
    text = probing.ask(probing.names[0], debug="true").text
    assert "Query: " in text
    for secret in (
        centre.auth_token,
        base64.b64encode(centre.auth_token.encode()).decode().rstrip("="),
        base64.b64encode(f"{centre.account_sid}:{centre.auth_token}".encode()).decode(),
        "Authorization",
        "Basic ",
    ):
        assert secret not in text


def assert_http_sd(answer: Answer) -> list[dict[str, Any]]:
    """The document is what Prometheus documents: https://prometheus.io/docs/prometheus/latest/http_sd/."""
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    groups = json.loads(answer.body)
    assert isinstance(groups, list)
    for group in groups:
        assert group.keys() == {"targets", "labels"}
        assert all(isinstance(target, str) and "/" not in target for target in group["targets"])
        assert all(isinstance(value, str) for value in group["labels"].values())
    return groups


def probe_path(labels: Mapping[str, str]) -> str:
    """Return a target's labels after Prometheus's relabeling."""
    parameters = {
        name.removeprefix("__param_"): value for name, value in labels.items() if name.startswith("__param_")
    }
    return f"{labels['__metrics_path__']}?{urlencode(parameters)}"


def test_service_discovery_lists_every_target_once_and_each_listed_probe_is_answered(
    probing: Probing,
) -> None:
    groups = assert_http_sd(probing.exporter.request("/sd"))
    assert probing.simulator.requests.count() == 0
    assert [group["targets"] for group in groups] == [[probing.exporter.address]] * 6
    seen = set()
    for group in groups:
        labels = group["labels"]
        assert labels["__scheme__"] == "http"
        (label,) = {(dict(each)["workspace"], dict(each)["channel"])
                    for each in probing.exporter.scrape(path=probe_path(labels)).find("up")}  # fmt: skip
        assert label == (labels["__meta_taskrouter_workspace"], labels["__meta_taskrouter_channel"])
        assert labels["__meta_taskrouter_account"] == "default"
        seen.add((labels["__meta_taskrouter_workspace_sid"], label))
    assert seen == {
        (workspace.sid, (name, channel))
        for workspace, name in zip(probing.simulator.centre.workspaces, probing.names, strict=True)
        for channel in ("all", "voice")
    }


def test_discovery_puts_no_label_but_the_instance_on_the_series_by_itself(probing: Probing) -> None:
    for group in assert_http_sd(probing.exporter.request("/sd")):
        assert {name for name in group["labels"] if not name.startswith("__")} == {"instance"}


def test_service_discovery_names_the_requested_host(probing: Probing) -> None:
    answer = probing.exporter.request("/sd", headers={"Host": "exporter.example:8080"})
    assert {tuple(group["targets"]) for group in assert_http_sd(answer)} == {("exporter.example:8080",)}


@pytest.mark.parametrize(
    "host", ["[", "a b", "x/y", "@", "\u00e9".encode().decode("latin-1"), "x" * 5000, ""]
)
def test_a_malformed_host_is_no_server_error(host: str, probing: Probing) -> None:
    for path in ("/sd", "/", "/-/healthy"):
        assert probing.exporter.request(path, headers={"Host": host}).status < 500


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "https://exporter.example/taskrouter/",
            ("https", "exporter.example", "/taskrouter/probe"),
        ),
        ("http://[::1]:10142", ("http", "[::1]:10142", "/probe")),
    ],
)
def test_service_discovery_names_the_external_url_with_its_path(
    url: str, expected: tuple[str, str, str], simulator: Simulator, start_exporter: StartExporter
) -> None:
    exporter = start_exporter(oddly_named(simulator), [f"--web.external-url={url}"])
    for group in assert_http_sd(exporter.request("/sd", headers={"Host": "elsewhere:1"})):
        (address,), labels = group["targets"], group["labels"]
        assert (labels["__scheme__"], address, labels["__metrics_path__"]) == expected


# The real Prometheus.


@dataclass
class Replicated:
    """One Prometheus that discovers the targets of two exporters with the same configuration."""

    prometheus: Prometheus
    replicas: Sequence[Exporter]
    directory: Path
    reloads: int = 0

    def scrape_from(self, *addresses: str) -> None:
        """Let Prometheus spread the targets over these addresses, as docs/scaling.md shows."""
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": [
                {
                    "job_name": JOB,
                    "http_sd_configs": [
                        {"url": f"http://{self.replicas[0].address}/sd", "refresh_interval": "1s"}
                    ],
                    "relabel_configs": [
                        {
                            "source_labels": ["__param_workspace", "__param_channel"],
                            "separator": "/",
                            "target_label": "instance",
                        },
                        {
                            "source_labels": ["__param_workspace", "__param_channel"],
                            "action": "hashmod",
                            "modulus": len(addresses),
                            "target_label": "__tmp_replica",
                        },
                        *(
                            {
                                "source_labels": ["__tmp_replica"],
                                "regex": str(number),
                                "target_label": "__address__",
                                "replacement": address,
                            }
                            for number, address in enumerate(addresses)
                        ),
                    ],
                }
            ],
        }
        (self.directory / "prometheus.yml").write_text(json.dumps(config), encoding="utf-8")
        loaded = self.prometheus.log.count("Completed loading of configuration file")
        self.prometheus.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + 20
        while self.prometheus.log.count("Completed loading of configuration file") == loaded:
            assert time.monotonic() < end, self.prometheus.log
            time.sleep(0.01)

    def scraped_by(self) -> dict[str, str]:
        """The address that each target (`instance`) is scraped at."""
        active = self.prometheus.api("targets", state="active")["activeTargets"]
        found = {
            each["labels"]["instance"]: urlsplit(each["scrapeUrl"]).netloc
            for each in active
            if each["labels"]["job"] == JOB
        }
        assert len(found) == sum(each["labels"]["job"] == JOB for each in active), "a target stands twice"
        return found

    def wait_for_health(self, wanted: Mapping[str, float]) -> None:
        """Wait until Prometheus's `up` of each target is as wanted."""
        series = {frozenset({("target", instance)}): value for instance, value in wanted.items()}
        self.prometheus.wait_for_series(
            f'max by (target) (label_replace(up{{job="{JOB}"}}, "target", "$1", "instance", "(.*)"))', series
        )


@pytest.fixture
def replicated(
    program: Callable[[str, str], str], tmp_path: Path, simulator: Simulator, start_exporter: StartExporter
) -> Iterator[Replicated]:
    path = program("prometheus", "prometheus")
    config = oddly_named(simulator)
    replicas = [start_exporter(config), start_exporter(config)]
    directory = tmp_path / "prometheus"
    prometheus = Prometheus(path, scraping(replicas[0].address), directory)
    yield Replicated(prometheus, replicas, directory)
    prometheus.stop()
    prometheus.assert_clean_log()


def test_prometheus_distributes_targets_over_replicas_and_every_replica_answers_every_probe(
    replicated: Replicated, simulator: Simulator
) -> None:
    prometheus, (first, second) = replicated.prometheus, replicated.replicas
    targets = {f"{name}/{channel}": (name, channel) for name in ODD_NAMES for channel in ("all", "voice")}
    replicated.scrape_from(first.address, second.address)
    replicated.wait_for_health(dict.fromkeys(targets, 1))
    spread = replicated.scraped_by()
    assert spread.keys() == targets.keys()
    assert set(spread.values()) == {first.address, second.address}

    # Every query stands in Prometheus once, with the labels that the exporter gave it.
    for each in ("15m", "day"):
        once = {
            frozenset({("workspace", name), ("channel", channel)}): 1.0 for name, channel in targets.values()
        }
        counted = f'count by (workspace, channel) (twilio_taskrouter_up{{job="{JOB}", window="{each}"}} == 1)'
        prometheus.wait_for_series(counted, once)
    renamed = '{__name__=~"twilio_taskrouter_.*", exported_workspace!=""}'
    assert prometheus.query(f"count({renamed})") == {}

    # One replica dies without a word: its targets are down, those of the other are not.
    second.process.kill()
    second.process.wait(20)
    health = {instance: float(address == first.address) for instance, address in spread.items()}
    replicated.wait_for_health(health)
    assert set(health.values()) == {0.0, 1.0}

    # The survivor answers for all as soon as it is asked to: nothing was kept in the other.
    replicated.scrape_from(first.address)
    replicated.wait_for_health(dict.fromkeys(targets, 1))
    assert set(replicated.scraped_by().values()) == {first.address}
    prometheus.wait_for_series(
        f'count(twilio_taskrouter_up{{job="{JOB}"}} == 1)', {frozenset(): 2.0 * len(targets)}
    )
    asked = {(each.workspace_sid, each.parameters.get("TaskChannel")) for each in simulator.requests.latest()}
    assert asked == {
        (each.sid, channel) for each in simulator.centre.workspaces for channel in (None, "voice")
    }


def test_prometheus_requests_names_with_spaces_quotes_and_emoji_unchanged(replicated: Replicated) -> None:
    replicated.scrape_from(replicated.replicas[0].address)
    replicated.wait_for_health({f"{name}/{channel}": 1 for name in ODD_NAMES for channel in ("all", "voice")})
    active = replicated.prometheus.api("targets", state="active")["activeTargets"]
    urls = [urlsplit(each["scrapeUrl"]) for each in active if each["labels"]["job"] == JOB]
    assert {parse_qs(url.query)["workspace"][0] for url in urls} == set(ODD_NAMES)


def test_promtool_accepts_every_configuration_in_the_documentation(
    program: Callable[[str, str], str], tmp_path: Path
) -> None:
    promtool = program("promtool", "prometheus")
    text = (ROOT / "docs" / "scaling.md").read_text("utf-8")
    blocks = re.findall(r"```yaml\n(scrape_configs:.*?)```", text, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        file = tmp_path / "prometheus.yml"
        file.write_text(block, encoding="utf-8")
        command = [promtool, "check", "config", str(file)]
        checked = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr
