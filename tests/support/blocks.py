"""Prometheus blocks of a past: what was scraped, and what the recording rules make of it."""

import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from support.prometheus import Prometheus

Rule = Mapping[str, Any]


class Blocks:
    """A data directory of Prometheus that is filled by promtool.

    Args:
        prometheus: The program's path.
        promtool: The program's path.
        directory: A new one.
        lookback: How old a sample may be that a query still takes, as a Prometheus duration. Blocks made by
            promtool have no staleness markers, which tell elsewhere that a series has ended.
    """

    def __init__(self, prometheus: str, promtool: str, directory: Path, lookback: str = "5m") -> None:
        self._prometheus = prometheus
        self._promtool = promtool
        self._directory = directory
        self._flags = [f"--query.lookback-delta={lookback}"]
        self._number = count()
        self.data = directory / "data"
        self.data.mkdir(parents=True)

    def add_scrapes(self, file: Path) -> None:
        """Make blocks of scrapes in OpenMetrics form."""
        self._run("openmetrics", "--quiet", str(file), str(self.data))

    def add_recordings(self, rules: Sequence[Rule], begin: datetime, end: datetime) -> None:
        """Make blocks of what recording rules say; those that read others' results come after them."""
        for layer in layers(rules):
            number = next(self._number)
            file = self._directory / f"layer-{number}.yaml"
            file.write_text(json.dumps({"groups": [{"name": "layer", "rules": layer}]}), encoding="utf-8")
            new = self._directory / f"new-{number}"
            with self.serve() as prometheus:
                self._run(
                    "rules",
                    "--quiet",
                    f"--url=http://127.0.0.1:{prometheus.port}",
                    f"--start={begin.timestamp():.0f}",
                    f"--end={end.timestamp():.0f}",
                    f"--output-dir={new}",
                    str(file),
                )
            for block in new.iterdir():
                block.rename(self.data / block.name)

    @contextmanager
    def serve(self) -> Iterator[Prometheus]:
        """A Prometheus with these blocks that scrapes nothing."""
        directory = self._directory / f"prometheus-{next(self._number)}"
        prometheus = Prometheus(self._prometheus, {}, directory, self.data, self._flags)
        try:
            yield prometheus
        finally:
            prometheus.stop()

    def _run(self, source: str, *arguments: str) -> None:
        command = [self._promtool, "tsdb", "create-blocks-from", source, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def read_rules(file: Path) -> list[Rule]:
    """All rules of a rule file."""
    groups = yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def recordings(rules: Sequence[Rule]) -> list[Rule]:
    """Only the recording rules."""
    return [rule for rule in rules if "record" in rule]


def layers(rules: Sequence[Rule]) -> list[list[Rule]]:
    """The rules in layers, each of which reads only what the layers before it record."""
    waiting = list(rules)
    found: list[list[Rule]] = []
    while waiting:
        missing = {rule["record"] for rule in waiting}
        ready = [rule for rule in waiting if missing.isdisjoint(_names(rule["expr"]))]
        assert ready, f"{missing} read each other"
        found.append(ready)
        waiting = [rule for rule in waiting if rule not in ready]
    return found


def _names(expression: str) -> set[str]:
    """The metrics that stand in an expression, and other words."""
    return set(re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*", expression))
