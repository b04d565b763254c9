"""The real Prometheus: a server that scrapes one address, and its query API."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

from support.exporter import Labels
from support.programs import Program

JOB: Final = "taskrouter"
_ADDED: Final = {"__name__", "job", "instance"}
"""Labels without information if there is one job with one address."""

Series = dict[Labels, float]


class Point(NamedTuple):
    """A value at an instant in Unix seconds."""

    at: float
    value: float


def scraping(target: str, **more: Any) -> dict[str, Any]:
    """Return a configuration that scrapes `target` (host:port) every second."""
    return {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "scrape_configs": [{"job_name": JOB, "static_configs": [{"targets": [target]}]}],
        **more,
    }


class Prometheus(Program):
    """A `prometheus`, version 2 or 3, on a free port of loopback.

    Args:
        program: Its path.
        config: Its configuration.
        directory: A new one, for what it writes.
        data: Where the blocks are that it begins with.
        flags: More of its flags.
    """

    def __init__(
        self,
        program: str,
        config: Mapping[str, Any],
        directory: Path,
        data: Path | None = None,
        flags: Sequence[str] = (),
    ) -> None:
        directory.mkdir()
        (directory / "prometheus.yml").write_text(json.dumps(config), encoding="utf-8")
        super().__init__(
            [
                program,
                f"--config.file={directory / 'prometheus.yml'}",
                f"--storage.tsdb.path={data or directory / 'data'}",
                "--storage.tsdb.retention.time=100y",
                "--web.listen-address=127.0.0.1:0",
                *flags,
            ],
            directory,
        )

    def api(self, resource: str, **parameters: str) -> Any:
        """Return the `data` of the HTTP API's answer."""
        status, body = self.get(f"/api/v1/{resource}?{urlencode(parameters)}")
        answer = json.loads(body)
        assert status == 200, answer
        assert not answer.get("warnings"), answer
        return answer["data"]

    @property
    def major_version(self) -> int:
        """2 or 3."""
        return int(self.api("status/buildinfo")["version"].partition(".")[0])

    def query(self, expression: str, at: float | None = None) -> Series:
        """Return the value of each series of an instant vector, at Unix seconds `at` or now."""
        return {
            labels: float(value)
            for labels, series in self._query("vector", expression, at)
            for _, value in [series["value"]]
        }

    def samples(self, selector: str, at: float | None = None) -> dict[Labels, list[float]]:
        """Return the scraped values of each series in the range of `selector`, such as `up[1m]`."""
        return {
            labels: [float(value) for _, value in series["values"]]
            for labels, series in self._query("matrix", selector, at)
        }

    def range(self, expression: str, start: float, end: float, step: float) -> dict[Labels, list[Point]]:
        """Return the points of each series of an expression from `start` to `end` (Unix seconds)."""
        times = {"start": repr(start), "end": repr(end), "step": repr(step)}
        data = self.api("query_range", query=expression, **times)
        return {
            frozenset(each["metric"].items()): [Point(at, float(value)) for at, value in each["values"]]
            for each in data["result"]
        }

    def wait_for(self, expression: str, condition: Callable[[Series], bool], seconds: float = 20) -> Series:
        """Repeat a query until its answer is the expected one."""
        end = time.monotonic() + seconds
        while not condition(series := self.query(expression)):
            assert self.process.poll() is None, f"Prometheus ended:\n{self.log}"
            assert time.monotonic() < end, f"{expression} stays {series}\n{self.explain_target()}"
            time.sleep(0.05)
        return series

    def wait_for_series(self, expression: str, wanted: Series, seconds: float = 20) -> None:
        """Wait until an expression has these values."""
        self.wait_for(expression, lambda series: series == wanted, seconds)

    def explain_target(self) -> str:
        """Return Prometheus's information about its last scrape."""
        targets: Sequence[dict[str, Any]] = self.api("targets", state="active")["activeTargets"]
        return "\n".join(f"{each['scrapeUrl']}: {each['health']} {each['lastError']}" for each in targets)

    def _query(self, kind: str, expression: str, at: float | None) -> list[tuple[Labels, dict[str, Any]]]:
        when = {} if at is None else {"time": repr(at)}
        data = self.api("query", query=expression, **when)
        assert data["resultType"] == kind, data
        found = [
            (frozenset((name, value) for name, value in each["metric"].items() if name not in _ADDED), each)
            for each in data["result"]
        ]
        assert len({labels for labels, _ in found}) == len(found), f"{expression} mixes several metrics"
        return found


def increase(values: Sequence[float]) -> float:
    """Return a counter's increase between its first and last sample, counting resets as Prometheus does."""
    lost = sum(before for before, after in pairwise(values) if after < before)
    return values[-1] - values[0] + lost
