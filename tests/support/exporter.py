"""The real exporter process: its answers, its log and its exit status."""

import http.client
import os
import re
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from support.waiting import wait_for_log

ROOT: Final = Path(__file__).parent.parent.parent
PREFIX: Final = "twilio_taskrouter_"
Labels = frozenset[tuple[str, str]]


def labelled(**labels: str) -> Labels:
    """Return labels as a scrape and Prometheus's answers have them."""
    return frozenset(labels.items())


@dataclass(frozen=True)
class Answer:
    """An HTTP answer and its duration in seconds."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    @property
    def text(self) -> str:
        return self.body.decode()


def request(
    port: int,
    path: str = "/",
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
) -> Answer:
    """Send one request to loopback on a connection of its own, over HTTPS if there is a TLS context."""
    connection: http.client.HTTPConnection
    if tls:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=60, context=tls)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    begin = time.monotonic()
    try:
        connection.request(method, path, headers=dict(headers or {}))
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    lower = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, lower, body, time.monotonic() - begin)


class Scrape:
    """The samples of one scrape; names are without the prefix."""

    def __init__(self, answer: Answer) -> None:
        assert answer.status == 200, answer.text
        self.answer = answer
        openmetrics = answer.headers["content-type"].startswith("application/openmetrics-text")
        parse = parse_openmetrics if openmetrics else parse_text
        self._values: dict[tuple[str, Labels], float] = {}
        for family in parse(answer.text):
            for sample in family.samples:
                key = sample.name.removeprefix(PREFIX), frozenset(sample.labels.items())
                assert key not in self._values, f"{key} stands twice"
                self._values[key] = sample.value

    def find(self, name: str, **labels: str) -> dict[Labels, float]:
        """Return the series of this name that have these labels."""
        return {
            theirs: value
            for (each, theirs), value in self._values.items()
            if each == name and labels.items() <= dict(theirs).items()
        }

    def value(self, name: str, **labels: str) -> float:
        """Return the value of the only series of this name that has these labels."""
        (value,) = self.find(name, **labels).values()
        return value

    def at(self, name: str, labels: Mapping[str, str]) -> float | None:
        """Return the value of the series with exactly these labels, or None."""
        return self._values.get((name, frozenset(labels.items())))

    def names(self, **labels: str) -> set[str]:
        """Return the names of all series that have these labels."""
        return {name for name, theirs in self._values if labels.items() <= dict(theirs).items()}

    def statistics(self, **labels: str) -> set[tuple[str, Labels]]:
        """Return the series of statistics that have these labels."""
        own = re.compile("window_|reservations_total|reservation_outcomes_total|activity_seconds_total")
        return {
            (name, theirs)
            for name, theirs in self._values
            if own.match(name) and labels.items() <= dict(theirs).items()
        }


class Exporter:
    """`python exporter.py`, started with the given arguments on a free port of loopback."""

    def __init__(
        self,
        arguments: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
        program: Sequence[str] = (sys.executable, str(ROOT / "exporter.py")),
    ) -> None:
        self._log = log
        with log.open("ab") as stderr:
            self.process = subprocess.Popen(
                [*program, "--web.listen-address=127.0.0.1:0", *arguments],
                cwd=log.parent,
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
            )
        self.port = int(self.wait_for_log(r'msg=listening address="?127\.0\.0\.1:(\d+)').group(1))
        self.address = f"127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def wait_for_log(self, pattern: str) -> re.Match[str]:
        """Wait until a line of the log matches."""
        return wait_for_log(self.process, self._log, pattern)

    def wait_until_ready(self) -> None:
        """Wait until the first discovery has ended."""
        end = time.monotonic() + 20
        while self.request("/-/ready").status != 200:
            assert time.monotonic() < end, self.log
            time.sleep(0.02)

    def request(self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> Answer:
        """Send one request on a connection of its own."""
        return request(self.port, path, method, headers)

    def scrape(self, timeout: float = 10, accept: str = "", path: str = "/metrics") -> Scrape:
        """Scrape as Prometheus does with this scrape timeout in seconds."""
        headers = {"X-Prometheus-Scrape-Timeout-Seconds": str(timeout), "Accept": accept}
        return Scrape(self.request(path, headers=headers))

    def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = 20) -> int:
        """Send a signal, wait for the end of the process and return its exit status."""
        self.process.send_signal(number)
        return self.process.wait(seconds)

    def assert_clean_log(self, secrets: Iterable[str] = ()) -> None:
        """Assert that the log contains no traceback and no secret."""
        assert "Traceback" not in self.log
        assert "Error in" not in self.log
        for secret in secrets:
            assert secret not in self.log


def run_exporter(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the exporter until it exits, without the credentials in this process's environment."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("TWILIO_")}
    return subprocess.run(
        [sys.executable, str(ROOT / "exporter.py"), *arguments],
        cwd=cwd,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
