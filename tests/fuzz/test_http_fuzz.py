"""Mutated HTTP requests to the real process: it answers or closes the connection, and keeps running."""

import json
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import psutil
import pytest
from fuzz.mutations import PARTS, mutate, seeds
from support.configurations import simulated
from support.exporter import Exporter

from taskrouter_exporter.simulator import ContactCentre, Simulator

HEAD = b" HTTP/1.1\r\nHost: exporter:10142\r\n"
ASKS = (
    b"User-Agent: Prometheus/2.42.0\r\nAccept: application/openmetrics-text;q=0.75,*/*;q=0.1\r\n"
    b"Accept-Encoding: gzip\r\nX-Prometheus-Scrape-Timeout-Seconds: 10\r\n\r\n"
)
CORPUS = (
    b"GET /metrics" + HEAD + ASKS,
    b"GET /metrics?collect[]=exporter&collect[]=targets" + HEAD + ASKS,
    b"HEAD /metrics" + HEAD + ASKS,
    b"GET /probe?workspace=support&channel=all&debug=true" + HEAD + ASKS,
    b"GET /probe?workspace=support&channel=voice" + HEAD + ASKS,
    b"GET /sd" + HEAD + b"\r\n",
    b"GET /" + HEAD + b"Connection: close\r\n\r\n",
    b"GET /-/ready" + HEAD + b"\r\n",
    b"POST /-/reload" + HEAD + b"Content-Length: 3\r\n\r\na=b",
    b"POST /-/reload" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\na=b\r\n0\r\n\r\n",
    b"GET /-/healthy" + HEAD + b"\r\nGET /sd" + HEAD + b"\r\nGET /nowhere" + HEAD + b"\r\n",
)
WORDS = (
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\0", b" ", b"\t", b":", b"/", b"//", b"/../",
    b"..%2f..%2fetc%2fpasswd", b"%00", b"%0d%0aX: y", b"%", b"%ff%fe", b"?", b"#", b"&", b"=", b"*",
    b"http://elsewhere/", b"HTTP/1.0", b"HTTP/9.9", b"HTTP/2.0", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"CONNECT", b"TRACE", b"\x16\x03\x01\x02\x00", b"Content-Length: -1\r\n",
    b"Content-Length: 99999999999999999999\r\n", b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Expect: 100-continue\r\n",
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\n", b"Host: [::1\r\n",
    b"Host: a:b\r\n", b"Host: \r\n", b"Host: \xff\r\n", b"Accept: */*;q=nan\r\n",
    b"Accept-Encoding: gzip;q=1e999\r\n", b"X-Prometheus-Scrape-Timeout-Seconds: 1e308\r\n",
    b"X-Prometheus-Scrape-Timeout-Seconds: 1e-308\r\n",
    b"X-Prometheus-Scrape-Timeout-Seconds: \xd9\xa3\r\n", b"Authorization: Basic ====\r\n",
    b"Range: bytes=0-\r\n", b"Cookie: a\r\n", b" folded: x\r\n", b"workspace=support&", b"&channel=all",
    b"\xf0\x9f\x8e\xa7", b"\xed\xa0\x80", b"A" * 5_000, b"X: y\r\n" * 200, b"0\r\n\r\n",
    b"ffffffffffffffff\r\n", b"<script>", b"'\"><img src=x>",
)  # fmt: skip

ALLOWED = {b"100", b"200", b"400", b"404", b"405", b"413", b"414", b"417", b"431", b"501", b"503"}


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    """Start an exporter with cheap answers: one workspace, served from the cache."""
    directory = tmp_path_factory.mktemp("fuzzed")
    with Simulator(ContactCentre(seed=7), rate_limit=500) as simulator:
        config = simulated(simulator, cache="1h")
        config["targets"] = config["targets"][:1]
        (directory / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
        exporter = Exporter(["--config.file=config.yaml"], directory / "log")
        yield exporter
        assert exporter.stop() == 0


def send(exporter: Exporter, request: bytes, patience: float = 0.1) -> bytes:
    """Send a request and return the whole answer. After `patience` seconds, close the sending side."""
    answer = bytearray()
    with (
        suppress(ConnectionResetError, BrokenPipeError),
        socket.create_connection(("127.0.0.1", exporter.port), timeout=20) as connection,
    ):
        connection.sendall(request)
        connection.settimeout(patience)
        with suppress(TimeoutError):
            answer += connection.recv(65_536)
        connection.settimeout(20)
        with suppress(OSError):  # it is closed already
            connection.shutdown(socket.SHUT_WR)
        while data := connection.recv(65_536):
            answer += data
    return bytes(answer)


@pytest.mark.parametrize("part", range(PARTS))
def test_no_request_makes_the_server_fail(part: int, exporter: Exporter) -> None:
    threads = psutil.Process(exporter.process.pid).num_threads()

    def check(seed: int) -> str:
        request = mutate(seed, CORPUS, WORDS)
        answer = send(exporter, request)
        statuses = re.findall(rb"^HTTP/1\.1 (\d{3})", answer, re.MULTILINE)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 "), (seed, request, answer)
        bad = {status for status in statuses if status not in ALLOWED}
        assert not bad, (seed, request, answer)
        assert b"Traceback" not in answer, (seed, request, answer)
        return statuses[0].decode() if statuses else "none"

    with ThreadPoolExecutor(8) as pool:
        outcomes = set(pool.map(check, seeds(part)))
    assert {"200", "400", "404", "405"} <= outcomes
    assert exporter.process.poll() is None
    assert set(exporter.scrape().find("up").values()) == {1}
    assert psutil.Process(exporter.process.pid).num_threads() <= threads + 64
    assert psutil.Process(exporter.process.pid).num_fds() < 100
    exporter.assert_clean_log()
    assert "level=error" not in exporter.log


def test_a_valid_request_is_answered(exporter: Exporter) -> None:
    for request in CORPUS:
        assert send(exporter, request, patience=20).startswith(b"HTTP/1.1 200"), request


def test_the_same_seed_gives_the_same_request() -> None:
    requests = [mutate(seed, CORPUS, WORDS) for seed in seeds(0)]
    assert requests == [mutate(seed, CORPUS, WORDS) for seed in seeds(0)]
    assert len(set(requests)) > 0.95 * len(requests)
