"""The history of a simulated contact centre, as Prometheus would have scraped it from the exporter.

The exporter's own code polls and writes the metrics; only the clock and the network are replaced.
"""

import asyncio
import base64
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, TextIO
from urllib.parse import urlsplit

from prometheus_client import Metric

from taskrouter_exporter.api.call import HttpAnswer
from taskrouter_exporter.api.client import Client
from taskrouter_exporter.api.executor import FairExecutor
from taskrouter_exporter.api.listed import DiscoveredRow
from taskrouter_exporter.config.loader import parse_config
from taskrouter_exporter.demo import demo_configuration
from taskrouter_exporter.discovered import Discovered
from taskrouter_exporter.expansion import expand
from taskrouter_exporter.lines import PREFIX, WrittenFamily
from taskrouter_exporter.metrics import ExporterMetrics, TargetsCollector
from taskrouter_exporter.poll_history import PollHistory
from taskrouter_exporter.poller import Poller
from taskrouter_exporter.simulator import ContactCentre, Simulator
from taskrouter_exporter.simulator.limits import RateLimiter
from taskrouter_exporter.simulator.wire import Request
from taskrouter_exporter.statistics.kind import SubjectName
from taskrouter_exporter.web.exposition import Collector, Exposition

JOB: Final = "taskrouter"
INSTANCE: Final = "localhost:10142"
_TIMEOUT_SECONDS: Final = 10.0
_STAMP: Final = f'job="{JOB}",instance="{INSTANCE}"'


class History:
    """Scrapes of the demo's configuration at any time in the past.

    Args:
        centre: The contact centre.
        leave_out: Families to leave out, without the prefix. Activities are most of a scrape.
        targets: Makes of each of the demo's targets those that are polled instead.
    """

    def __init__(
        self,
        centre: ContactCentre,
        leave_out: AbstractSet[str] = frozenset(),
        targets: Callable[[dict[str, Any]], Iterable[dict[str, Any]]] | None = None,
    ) -> None:
        self._now = 0.0
        # Never started, as it is asked without a socket.
        self._simulator = Simulator(centre, lambda: self._now)
        self._simulator._limiter = RateLimiter(500, lambda: self._now)
        self._leave_out = {PREFIX + name for name in leave_out}
        document = json.loads(demo_configuration(self._simulator))
        if targets:
            document["targets"] = [made for each in document["targets"] for made in targets(each)]
        self._configuration = json.dumps(document)
        self._listed = Discovered(rows=_rows(centre), refreshed=0)

    def write(self, file: Path, begin: datetime, end: datetime, step: timedelta) -> None:
        """Write the scrapes of `[begin, end)`, one every `step`, in the form that promtool takes."""
        with file.open("w", encoding="utf-8") as output:
            asyncio.run(self._scrape(output, begin.timestamp(), end.timestamp(), step.total_seconds()))
            output.write("# EOF\n")

    def close(self) -> None:
        """Free the simulator's port."""
        self._simulator.close()

    async def _scrape(self, output: TextIO, begin: float, end: float, step: float) -> None:
        config = parse_config(self._configuration, "the demo", Path.cwd(), {})
        metrics, history, executor = ExporterMetrics("0", "history"), PollHistory(), FairExecutor(1, 1)
        ((name, account),) = config.accounts.items()
        client = Client(account, config.polling, _Direct(self._simulator), executor, metrics.api)
        poller = Poller({name: client}, history, clock=lambda: self._now)
        exposition = Exposition("", "")
        queries, _ = expand(config, {name: self._listed})
        self._now = begin
        metrics.config_loaded(begin)
        metrics.api.expect(name)
        while self._now < end:
            started = time.monotonic()
            outcomes = await poller.poll(queries, started + _TIMEOUT_SECONDS)
            assert all(each.up for each in outcomes)
            collectors: list[Collector] = [
                TargetsCollector(outcomes, history, _TIMEOUT_SECONDS),
                metrics.registry,
            ]
            text = exposition.render([self._wanted(each) for each in collectors]).decode()
            stamp = f" {self._now:.3f}\n"
            output.writelines(stamped(line) + stamp for line in text.splitlines() if line[0] != "#")
            output.write(f"up{{{_STAMP}}} 1{stamp}")
            output.write(f"scrape_duration_seconds{{{_STAMP}}} {time.monotonic() - started}{stamp}")
            self._now += step
        executor.close()

    def _wanted(self, collector: Collector) -> Collector:
        return _Without(collector, self._leave_out)


def stamped(line: str) -> str:
    """Return a line of the text format with the labels that Prometheus adds."""
    series, value = line.rsplit(" ", 1)
    if series.endswith("}"):
        return f"{series[:-1]},{_STAMP}}} {value}"
    return f"{series}{{{_STAMP}}} {value}"


class _Without:
    """A collector without some of its families."""

    def __init__(self, collector: Collector, names: AbstractSet[str]) -> None:
        self._collector = collector
        self._names = names

    def collect(self) -> Iterator[Metric | WrittenFamily]:
        return (family for family in self._collector.collect() if family.name not in self._names)


class _Direct:
    """A transport that calls the simulator without a socket."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    def get(
        self, url: str, parameters: Mapping[str, str], auth: tuple[str, str], deadline: Callable[[], float]
    ) -> HttpAnswer:
        """See transport.Transport."""
        return self._ask(Request("GET", urlsplit(url).path, parameters, _headers(auth)), deadline)

    def post(self, url: str, body: bytes, auth: tuple[str, str], deadline: Callable[[], float]) -> HttpAnswer:
        """See transport.Transport."""
        return self._ask(Request("POST", urlsplit(url).path, {}, _headers(auth), body=body), deadline)

    def close(self) -> None:
        """See transport.Transport."""

    def _ask(self, request: Request, deadline: Callable[[], float]) -> HttpAnswer:
        assert deadline() > time.monotonic()
        answer = self._simulator.answer(request)
        return HttpAnswer(answer.status, dict(answer.headers), answer.body)


def _headers(auth: tuple[str, str]) -> dict[str, str]:
    credentials = base64.b64encode(":".join(auth).encode()).decode()
    return {"authorization": f"Basic {credentials}", "content-type": "application/json"}


def _rows(centre: ContactCentre) -> dict[tuple[SubjectName, str], tuple[DiscoveredRow, ...]]:
    """Return the queues and workflows as discovery would list them."""
    subjects: tuple[SubjectName, ...] = ("queue", "workflow")
    return {
        (subject, workspace.sid): tuple(
            DiscoveredRow(sid=row.sid, friendly_name=row.friendly_name)
            for row in (workspace.queues if subject == "queue" else workspace.workflows)
        )
        for subject in subjects
        for workspace in centre.workspaces
    }
