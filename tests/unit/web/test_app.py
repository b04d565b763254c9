import gzip
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from support.serving import Serving

from taskrouter_exporter import __version__
from taskrouter_exporter.api.errors import ApiError, Reason
from taskrouter_exporter.config.errors import ConfigError
from taskrouter_exporter.config.loader import parse_config
from taskrouter_exporter.config.model import Config
from taskrouter_exporter.metrics import ExporterMetrics
from taskrouter_exporter.poll_history import PollResult
from taskrouter_exporter.runtime import Runtime
from taskrouter_exporter.systemd import Notifier
from taskrouter_exporter.web import app
from taskrouter_exporter.web.app import Web

SID, PASSWORD = "WS" + "0" * 32, "a-secret-of-the-account"
CONFIG = {
    "accounts": {
        "default": {
            "username": "AC" + "0" * 32,
            "password": PASSWORD,
            "base_url": "http://127.0.0.1:9",
            "workspaces": "auto",
        }
    },
    "targets": [{"workspace": SID, "name": "support", "channels": ["all", "voice"]}],
}


class File:
    """The configuration that is loaded; a test may break it."""

    def __init__(self) -> None:
        self.broken = False

    def load(self) -> Config:
        if self.broken:
            raise ConfigError(["config.yaml:1: first", "config.yaml:2: second"])
        return parse_config(json.dumps(CONFIG), "config.yaml", Path(), {})


@pytest.fixture
def file() -> File:
    return File()


@pytest.fixture
def serve(file: File) -> Iterator[Callable[..., Serving]]:
    started: list[Serving] = []

    def start(telemetry_path: str = "/metrics", external_url: str | None = None, **options: Any) -> Serving:
        runtime = Runtime(file.load, ExporterMetrics("1", "abc"), Notifier({}))
        for query in runtime.snapshot.queries:
            runtime.history.record(PollResult(query, 1.5, 1, error=ApiError(Reason.AUTH, "", 401)))
        web = Web(runtime, telemetry_path, 0.5, external_url, **options)
        started.append(Serving(web.app).__enter__())
        return started[-1]

    yield start
    for serving in started:
        serving.__exit__(None, None, None)


@pytest.mark.parametrize(
    ("method", "path", "message"),
    [
        ("GET", "/-/reload", "Method GET is not allowed: /-/reload needs POST or PUT.\n"),
        ("POST", "/metrics", "Method POST is not allowed: /metrics needs GET or HEAD.\n"),
        ("DELETE", "/config", "Method DELETE is not allowed: /config needs GET or HEAD.\n"),
    ],
)
def test_a_method_that_is_not_allowed_is_answered_with_those_that_are(
    method: str, path: str, message: str, serve: Callable[..., Serving]
) -> None:
    answer = serve().request(path, method)
    assert (answer.status, answer.text) == (405, message)
    assert answer.headers["allow"] == message.rstrip(".\n").partition(" needs ")[2].replace(" or ", ", ")


def test_an_unknown_path_is_answered_with_those_of_metrics_and_overview(
    serve: Callable[..., Serving],
) -> None:
    answer = serve(telemetry_path="/own").request("/metrics")
    assert answer.status == 404
    assert answer.text == "404 page not found. Metrics are at /own, an overview is at /.\n"


def test_a_bad_parameter_is_plain_text(serve: Callable[..., Serving]) -> None:
    answer = serve().request("/probe?workspace=<b>&channel=all")
    assert (answer.status, answer.headers["content-type"]) == (404, "text/plain; charset=utf-8")
    assert answer.text.startswith("Unknown target: workspace='<b>' channel='all'.")


def test_the_effective_configuration_is_yaml_without_the_password(serve: Callable[..., Serving]) -> None:
    answer = serve().request("/config")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert yaml.safe_load(answer.text)["targets"][0]["name"] == "support"
    assert PASSWORD not in answer.text


def test_the_schema_of_the_configuration_is_served(serve: Callable[..., Serving]) -> None:
    answer = serve().request("/config.schema.json")
    assert answer.headers["content-type"] == "application/schema+json"
    assert "targets" in json.loads(answer.text)["properties"]


def test_service_discovery_has_a_probe_of_each_target_behind_the_external_url(
    serve: Callable[..., Serving],
) -> None:
    groups = json.loads(serve(external_url="https://exporter.example/taskrouter/").request("/sd").text)
    assert [group["labels"]["__param_channel"] for group in groups] == ["all", "voice"]
    assert groups[0]["targets"] == ["exporter.example"]
    assert groups[0]["labels"]["__metrics_path__"] == "/taskrouter/probe"
    assert groups[0]["labels"]["__scheme__"] == "https"


def test_each_discovered_target_has_an_instance_of_its_own(serve: Callable[..., Serving]) -> None:
    """Without relabelling, `up` and `scrape_*` of all targets but one would be lost."""
    groups = json.loads(serve().request("/sd").text)
    assert [group["labels"]["instance"] for group in groups] == ["support/all", "support/voice"]


def test_service_discovery_uses_the_request_s_host_by_default(serve: Callable[..., Serving]) -> None:
    serving = serve()
    (group, _) = json.loads(serving.request("/sd").text)
    assert group["targets"] == [f"127.0.0.1:{serving.port}"]


def test_a_failed_reload_answers_with_every_problem(serve: Callable[..., Serving], file: File) -> None:
    serving = serve()
    file.broken = True
    answer = serving.request("/-/reload", "POST")
    assert answer.status == 500
    assert answer.text == (
        "Invalid configuration; keeping the previous one:\nconfig.yaml:1: first\nconfig.yaml:2: second\n"
    )


def test_the_landing_page_shows_a_failed_reload_at_once_and_until_one_succeeds(
    serve: Callable[..., Serving], file: File
) -> None:
    serving = serve()
    assert "reload failed" not in serving.request("/").text
    file.broken = True
    serving.request("/-/reload", "POST")
    page = serving.request("/").text
    assert "<li>config.yaml:1: first</li><li>config.yaml:2: second</li>" in page
    file.broken = False
    serving.request("/-/reload", "POST")
    assert "reload failed" not in serving.request("/").text


def test_the_landing_page_names_the_demo(serve: Callable[..., Serving]) -> None:
    assert "DEMO" not in serve().request("/").text
    assert (
        "<b>DEMO</b> Simulated statistics, scenario outage."
        in serve(demo_scenario="outage").request("/").text
    )


@pytest.mark.parametrize("path", ["/", "/api/v1/failures", "/api/v1/failures?workspace=support&channel=all"])
def test_pages_are_compressed_for_clients_that_accept_it(
    path: str, serve: Callable[..., Serving], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "landing_page", lambda *_: "no ages in seconds " * 9)
    serving = serve()
    plain = serving.request(path)
    answer = serving.request(path, headers={"Accept-Encoding": "gzip, br"})
    assert "content-encoding" not in plain.headers
    assert answer.headers["content-encoding"] == "gzip"
    assert plain.headers["vary"] == answer.headers["vary"] == "Accept-Encoding"
    assert plain.headers["content-type"] == answer.headers["content-type"]
    assert gzip.decompress(answer.body) == plain.body
    assert len(answer.body) < len(plain.body)


def test_failed_polls_are_json_of_all_targets_or_of_one(serve: Callable[..., Serving]) -> None:
    serving = serve()
    answer = serving.request("/api/v1/failures")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    failures = json.loads(answer.text)["failures"]
    assert [failure["channel"] for failure in failures] == ["all", "voice"]
    assert failures[0] == {
        "workspace": "support",
        "channel": "all",
        "window": "15m",
        "statistics": "workers",
        "time": "1970-01-01T00:00:01.500Z",
        "reason": "auth",
        "status": 401,
        "code": None,
        "request_id": None,
    }
    one = serving.request(f"/api/v1/failures?workspace={SID}&channel=voice").text
    assert [failure["channel"] for failure in json.loads(one)["failures"]] == ["voice"]


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        (
            "workspace=support",
            400,
            "Parameter channel is missing: /api/v1/failures?workspace=…&channel=… needs one.",
        ),
        ("workspace=support&channel=x", 404, "Unknown target: workspace='support' channel='x'."),
    ],
)
def test_failed_polls_of_an_unknown_target_are_an_error(
    query: str, status: int, message: str, serve: Callable[..., Serving]
) -> None:
    answer = serve().request(f"/api/v1/failures?{query}")
    assert answer.status == status
    assert answer.text.startswith(message)


@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, "Sec-Fetch-Site is 'cross-site' (expected none or same-origin)"),
        ({"Sec-Fetch-Site": "same-site"}, "Sec-Fetch-Site is 'same-site' (expected none or same-origin)"),
        (
            {"Origin": "https://other.example"},
            "Origin is 'https://other.example', not the exporter's own host",
        ),
        ({"Origin": "null"}, "Origin is 'null', not the exporter's own host"),
        (
            {"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1"},
            "Origin is 'http://127.0.0.1', not",
        ),
    ],
)
def test_a_page_of_another_site_cannot_reload(
    headers: dict[str, str], problem: str, serve: Callable[..., Serving], file: File
) -> None:
    serving = serve()
    file.broken = True  # it would be answered with status 500
    for method in ("POST", "PUT"):
        answer = serving.request("/-/reload", method, headers)
        assert answer.status == 403
        assert answer.text.startswith(f"Cross-site request refused: {problem}")
        assert answer.text.count("\n") == 1


def test_programs_and_the_exporter_s_own_pages_can_reload(serve: Callable[..., Serving]) -> None:
    serving = serve(external_url="https://Exporter.example:443/taskrouter")
    for headers in (
        {},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-origin", "Origin": f"http://127.0.0.1:{serving.port}"},
        {"Origin": "https://exporter.example"},
    ):
        assert serving.request("/-/reload", "POST", headers).status == 200


def test_the_exporter_is_not_ready_before_its_first_discovery(serve: Callable[..., Serving]) -> None:
    answer = serve().request("/-/ready")
    assert (answer.status, answer.text) == (503, "Not ready: discovering workspaces and channels.\n")


def test_the_landing_page_links_to_every_page_and_to_the_documentation(
    serve: Callable[..., Serving],
) -> None:
    page = serve(telemetry_path="/own").request("/").text
    for path in (
        "own",
        "sd",
        "api/v1/failures",
        "config",
        "config.schema.json",
        "-/healthy",
        "-/ready",
        "probe?",
    ):
        assert f'<a href="./{path}' in page
    assert 'href="/' not in page, "behind a path prefix it would be another site's"
    repository = "https://github.com/taskrouter-exporter/twilio-taskrouter-exporter"
    assert f'<a href="{repository}/tree/' in page
    assert __version__ in page


def test_many_clients_on_the_page_share_one_and_delay_no_scrape(
    serve: Callable[..., Serving], monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[float] = []

    def slow(*_: object, **__: object) -> str:
        time.sleep(0.5)
        written.append(time.monotonic())
        return "page"

    monkeypatch.setattr(app, "landing_page", slow)
    serving = serve()
    with ThreadPoolExecutor(38) as clients:
        pages = [clients.submit(serving.request, "/") for _ in range(38)]
        time.sleep(0.2)
        assert serving.request("/metrics?collect[]=exporter").seconds < 0.25, "less than the first page takes"
        assert {page.result().text for page in pages} == {"page"}
    assert len(written) == 1


def test_the_page_is_kept_for_a_second_and_until_a_reload(
    serve: Callable[..., Serving], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "landing_page", lambda *_, **__: str(time.monotonic()))
    serving = serve()
    first, second = (serving.request("/").text for _ in range(2))
    assert first == second
    serving.request("/-/reload", "POST")
    reloaded = serving.request("/").text
    assert reloaded != first
    serving.wait_until(lambda: serving.request("/").text != reloaded)
    assert float(serving.request("/").text) - float(reloaded) >= 1


def test_health_does_not_need_the_runtime() -> None:
    runtime: Any = SimpleNamespace()
    with Serving(Web(runtime, "/metrics", 0.5).app) as serving:
        assert serving.request("/-/healthy").text == "OK\n"
