"""Requests to servers of the Prometheus API: authentication, gaps and remote write."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs

import pytest
from cramjam import snappy

from taskrouter_exporter.history.endpoint import HttpClient, Server, UnreachableError
from taskrouter_exporter.history.errors import BackfillError
from taskrouter_exporter.history.gaps import find_gaps
from taskrouter_exporter.history.journal import Header, Journal
from taskrouter_exporter.history.messages import WriteRequest
from taskrouter_exporter.history.plan import Point, Range
from taskrouter_exporter.history.remote_write import send
from taskrouter_exporter.periods import Window
from taskrouter_exporter.queries import Query, Target
from taskrouter_exporter.statistics.kind import Statistics

QUERY = Query(Target("default", f"WS{0:032x}", 'sup"port', "all"), Window(15))


@dataclass
class Received:
    """What a server received, and what it answers: each of these once, and then 200."""

    answers: list[tuple[int, bytes, dict[str, str]]] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def received() -> Iterator[Received]:
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.requests.append((self.path, dict(self.headers.items()), body))
            status, content, headers = received.answers.pop(0) if received.answers else (200, b"", {})
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        received.url = f"http://127.0.0.1:{server.server_port}"
        yield received
        server.shutdown()
        thread.join()


def client(url: str, **more: Any) -> HttpClient:
    parts = {"username": None, "password_file": None, "token_file": None, "ca_file": None}
    return HttpClient(Server("--remote-write", url, **{**parts, **more}))


def matrix(*steps: int) -> tuple[int, bytes, dict[str, str]]:
    data = {"result": [{"metric": {}, "values": [[step, "5"] for step in steps]}] if steps else []}
    return 200, json.dumps({"status": "success", "data": data}).encode(), {}


def test_credentials_come_from_files_whatever_the_netrc_says(
    received: Received, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login other password other", encoding="utf-8")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n", encoding="utf-8")
    client(received.url, username="me", password_file=secret).post("/", b"", {})
    client(received.url, token_file=secret).post("/", b"", {})
    client(received.url).post("/", b"", {})
    basic = f"Basic {base64.b64encode(b'me:s3cret').decode()}"
    assert [headers.get("Authorization") for _, headers, _ in received.requests] == [
        basic,
        "Bearer s3cret",
        None,
    ]


@pytest.mark.parametrize("content", ["", "two lines\nof text", "ü"])
def test_a_token_file_without_a_token_is_one_line(content: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(content, encoding="utf-8")
    with pytest.raises(
        BackfillError, match=f"^--remote-write: {token} does not contain a token on one line$"
    ):
        client("http://127.0.0.1:9", token_file=token)
    with pytest.raises(BackfillError, match=r"missing cannot be read: No such file"):
        client("http://127.0.0.1:9", token_file=tmp_path / "missing")


def test_a_server_that_cannot_be_reached_or_used_is_named(received: Received, tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match=r"^--remote-write=http://127.0.0.1:9: Connection refused$"):
        client("http://127.0.0.1:9").post("/", b"", {})
    received.answers = [
        (503, b"starting\nmore", {"Retry-After": "7"}),
        (400, b"out of bounds\n", {}),
        (302, b"", {}),
    ]
    with pytest.raises(UnreachableError, match=r"status 503: starting$") as unreachable:
        client(received.url).post("/", b"", {})
    assert unreachable.value.retry_after == 7
    for message in ("status 400: out of bounds$", "status 302: Found$"):
        with pytest.raises(BackfillError, match=message):
            client(received.url).post("/", b"", {})
    with pytest.raises(BackfillError, match=r"ca-file: .*missing is not a file"):
        client(received.url, ca_file=tmp_path / "missing")


def test_gaps_are_the_steps_without_samples_of_the_very_series(received: Received) -> None:
    received.answers = [matrix(3600, 7200, 18000)]
    gaps = find_gaps(client(received.url), [QUERY], Range(0, 21600, 3600), {"job": "a"})
    assert gaps == (((10800, 14400), (21600, 21600)),)
    (path, _, body), *_ = received.requests
    parameters = {name: values[0] for name, values in parse_qs(body.decode()).items()}
    assert path == "/api/v1/query_range"
    assert (parameters["start"], parameters["end"], parameters["step"]) == ("3600", "21600", "3600")
    assert parameters["query"].startswith(
        'count(last_over_time({__name__=~"twilio_taskrouter_window_reservations|'
    )
    assert parameters["query"].endswith(
        ',workspace="sup\\"port",channel="all",window="15m",job="a"}[3599999ms]))'
    )


def test_a_long_range_is_asked_for_in_parts(received: Received) -> None:
    received.answers = [matrix(), matrix()]
    (gaps,) = find_gaps(client(received.url), [QUERY], Range(0, 12_000, 1), {})
    assert gaps == ((1, 12_000),)
    assert len(received.requests) == 2


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"data": {"result": [{"values": [1]}]}}'])
def test_another_answer_than_prometheus_is_one_line(received: Received, body: bytes) -> None:
    received.answers = [(200, body, {})]
    with pytest.raises(BackfillError, match=r"the answer is not that of Prometheus's query_range"):
        find_gaps(client(received.url), [QUERY], Range(0, 7200, 3600), {})


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "journal") as journal:
        yield journal


def test_series_are_sent_in_requests_of_a_bounded_size(
    received: Received, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("taskrouter_exporter.history.remote_write.time.sleep", slept.append)
    monkeypatch.setattr("taskrouter_exporter.history.remote_write._MOST_SAMPLES", 20)
    header = Header({}, Range(0, 50, 1), (QUERY,))
    journal.begin(header)
    families = len(QUERY.kind.families["window"])
    for step in header.span.steps:
        samples = ((((), float(step)),), *[()] * (families - 1))
        journal.record(Point(0, step), Statistics((), samples))
    received.answers = [(500, b"busy", {}), (429, b"slow down", {"Retry-After": "9"})]
    waits: list[str] = []
    assert (
        send(client(received.url), header, journal.answers(header), {"job": "a", "empty": ""}, waits.append)
        == 50
    )
    assert [wait.split("; ")[0].split(": ", 1)[1] for wait in waits] == [
        "status 500: busy",
        "status 429: slow down",
    ]
    assert slept[0] <= 1
    assert slept[1] == 9
    messages = [
        WriteRequest.FromString(bytes(snappy.decompress_raw(body))) for _, _, body in received.requests
    ]
    assert messages[0] == messages[1] == messages[2]
    assert [len(series.samples) for message in messages[2:] for series in message.timeseries] == [
        20,
        20,
        10,
    ]
    (series,) = messages[2].timeseries
    assert [(label.name, label.value) for label in series.labels] == [
        ("__name__", "twilio_taskrouter_window_reservations"),
        ("channel", "all"),
        ("job", "a"),
        ("window", "15m"),
        ("workspace", 'sup"port'),
    ]
    assert (series.samples[0].value, series.samples[0].timestamp) == (1, 1000)
    assert received.requests[0][1]["X-Prometheus-Remote-Write-Version"] == "0.1.0"
