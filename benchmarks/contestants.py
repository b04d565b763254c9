"""What is compared: each polls every query once per round, and is looked at from outside."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Protocol
from urllib.parse import urlencode

import psutil
from scrape import ROOT, Exporter, peak_memory, running_exporter, workers_of

_JSON_EXPORTER_PORT: Final = 17979
_JSON_EXPORTER_CONFIG: Final = {
    "modules": {
        "default": {
            "http_client_config": {"basic_auth": {"username": "AC" + "0" * 32, "password": "bench"}},
            "metrics": [
                {"name": "reservations", "path": "{ .reservations_created }", "help": "Reservations."},
                *(
                    {
                        "name": f"reservations_{outcome}",
                        "path": f"{{ .reservations_{outcome} }}",
                        "help": "Reservations by outcome.",
                    }
                    for outcome in ("accepted", "rejected", "timed_out", "canceled", "rescinded")
                ),
                {
                    "name": "activity",
                    "type": "object",
                    "path": "{ .activity_durations[*] }",
                    "help": "Seconds in the Activity.",
                    "labels": {"activity": "{ .friendly_name }", "activity_sid": "{ .sid }"},
                    "values": {each: f"{{ .{each} }}" for each in ("min", "avg", "max", "total")},
                },
            ],
        }
    }
}


@dataclass(frozen=True)
class Size:
    """How many queries are polled, and how many requests are under way at a time."""

    queries: int
    concurrency: int


class Contestant(Protocol):
    """A program that polls the API."""

    def round(self) -> None:
        """Poll every query once, and return when the last answer is here."""

    def cpu(self) -> float:
        """CPU seconds used so far."""

    def peak(self) -> float:
        """Largest resident memory so far, in MB."""


class _Program:
    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)

    def cpu(self) -> float:
        """See Contestant.cpu."""
        times = self._process.cpu_times()
        return times.user + times.system

    def peak(self) -> float:
        """See Contestant.peak."""
        return peak_memory(self._process.pid)


class _OurExporter(_Program):
    def __init__(self, exporter: Exporter) -> None:
        super().__init__(exporter.pid)
        self._exporter = exporter

    def round(self) -> None:
        """See Contestant.round."""
        self._exporter.scrape()


class _BareLoop(_Program):
    def __init__(self, process: subprocess.Popen[str]) -> None:
        super().__init__(process.pid)
        assert process.stdin and process.stdout  # noqa: PT018, S101 -- both are pipes
        self._input, self._output = process.stdin, process.stdout

    def round(self) -> None:
        """See Contestant.round."""
        print(file=self._input, flush=True)
        if not self._output.readline():
            raise RuntimeError("the loop has ended")


class _JsonExporter(_Program):
    """json_exporter, asked for each query by as many connections as there may be requests."""

    def __init__(self, process: subprocess.Popen[str], api: str, size: Size) -> None:
        super().__init__(process.pid)
        self._size = size
        self._requests = [
            b"GET /probe?%s HTTP/1.1\r\nHost: bench\r\n\r\n"
            % urlencode({"module": "default", "target": each}).encode()
            for each in _targets(api, size.queries)
        ]

    def round(self) -> None:
        """See Contestant.round."""
        asyncio.run(self._probe_all())

    async def _probe_all(self) -> None:
        waiting = iter(self._requests)
        await asyncio.gather(*(self._probe(waiting) for _ in range(self._size.concurrency)))

    @staticmethod
    async def _probe(waiting: Iterator[bytes]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", _JSON_EXPORTER_PORT)
        for request in waiting:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if not head.startswith(b"http/1.1 200"):
                raise RuntimeError(head.decode())
            if b"transfer-encoding: chunked" in head:
                while (length := int(await reader.readline(), 16)) > 0:
                    await reader.readexactly(length + 2)
                await reader.readline()
            else:
                await reader.readexactly(int(head.partition(b"content-length:")[2].split()[0]))
        writer.close()


def _targets(api: str, queries: int) -> Iterator[str]:
    for workspace in workers_of(queries):
        for channel in ("all", "voice", "chat", "sms"):
            parameters = {"Minutes": "15"} | ({} if channel == "all" else {"TaskChannel": channel})
            path = f"/v1/Workspaces/{workspace['workspace']}/Workers/CumulativeStatistics"
            yield f"{api}{path}?{urlencode(parameters)}"


@contextmanager
def running_contestants(
    api: str, size: Size, authorities: Path | None, json_exporter: Path | None
) -> Iterator[dict[str, Contestant]]:
    """Start them all against an API; they end with the block.

    Args:
        api: Address of the API.
        size: How much each polls per round.
        authorities: File with the certificate authority of an API that speaks TLS.
        json_exporter: The program; left out where there is none.
    """
    environ = (
        {"REQUESTS_CA_BUNDLE": str(authorities), "SSL_CERT_FILE": str(authorities)} if authorities else {}
    )
    with ExitStack() as running:
        contestants: dict[str, Contestant] = {}
        for library in ("urllib3", "requests"):
            command = [sys.executable, "benchmarks/bare.py", library, api, *map(str, vars(size).values())]
            contestants[f"bare {library}"] = _BareLoop(_started(running, command, environ))
        if json_exporter:
            folder = Path(running.enter_context(TemporaryDirectory()))
            (folder / "config.yaml").write_text(json.dumps(_JSON_EXPORTER_CONFIG), encoding="utf-8")
            command = [
                str(json_exporter),
                f"--config.file={folder / 'config.yaml'}",
                f"--web.listen-address=127.0.0.1:{_JSON_EXPORTER_PORT}",
            ]
            process = _started(running, command, environ)
            _wait_for_port(_JSON_EXPORTER_PORT, process)
            contestants["json_exporter"] = _JsonExporter(process, api, size)
        exporter = running_exporter(api, workers_of(size.queries), size.concurrency, environ)
        contestants["this exporter"] = _OurExporter(running.enter_context(exporter))
        yield contestants


def _wait_for_port(port: int, process: subprocess.Popen[str]) -> None:
    while process.poll() is None:
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), timeout=5):
            return
        time.sleep(0.01)
    raise RuntimeError(f"json_exporter ended with status {process.returncode}")


def _started(running: ExitStack, command: list[str], environ: dict[str, str]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environ},
    )
    running.callback(process.wait)
    running.callback(process.terminate)
    return process
