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

from support.programs import IN_BACKGROUND
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
        longest: How long a block may be, as a Prometheus duration. Weeks in blocks of two hours take long
        to open.
    """

    def __init__(
        self, prometheus: str, promtool: str, directory: Path, lookback: str = "5m", longest: str = "2h"
    ) -> None:
        self._prometheus = prometheus
        self._promtool = promtool
        self._directory = directory
        self._longest = longest
        self._flags = [f"--query.lookback-delta={lookback}"]
        self._number = count()
        self.data = directory / "data"
        self.data.mkdir(parents=True)

    def add_scrapes(self, file: Path) -> None:
        """Make blocks of scrapes in OpenMetrics form."""
        self._run("openmetrics", "--quiet", str(file), str(self.data))

    def add_recordings(self, rules: Sequence[Rule], begin: datetime, end: datetime) -> None:
        """Make blocks of what recording rules say; those that read others' results come after them."""
        # Prometheus evaluates a group at a time of the interval that its name and its file's decide. With the
        # same ones for all, a rule reads what those before it recorded at the same instant, as in one group.
        file = self._directory / "rules.yaml"
        for group in (group for layer in layers(rules) for group in _groups(layer)):
            file.write_text(json.dumps({"groups": [group]}), encoding="utf-8")
            new = self._directory / f"new-{next(self._number)}"
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
        length = f"--max-block-duration={self._longest}"
        command = [*IN_BACKGROUND, self._promtool, "tsdb", "create-blocks-from", length, source, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def read_rules(file: Path) -> list[Rule]:
    """All rules of a rule file. Those of a group with an interval of its own have it as `interval`."""
    groups = yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
    interval = [{"interval": group["interval"]} if "interval" in group else {} for group in groups]
    return [rule | more for group, more in zip(groups, interval, strict=True) for rule in group["rules"]]


def recordings(rules: Sequence[Rule]) -> list[Rule]:
    """Only the recording rules."""
    return [rule for rule in rules if "record" in rule]


def needed(alerts: Sequence[Rule], recorded: Sequence[Rule]) -> list[Rule]:
    """The recording rules that some alerts read, directly, through others or in their annotations."""
    found: set[str] = set()
    waiting = [f"{alert['expr']} {alert.get('annotations')}" for alert in alerts]
    while waiting:
        names = {rule["record"] for rule in recorded} & _names(waiting.pop())
        waiting += [rule["expr"] for rule in recorded if rule["record"] in names - found]
        found |= names
    return [rule for rule in recorded if rule["record"] in found]


def layers(rules: Sequence[Rule]) -> list[list[Rule]]:
    """The rules in layers, each of which reads only what the layers before it record.

    A rule may read what another one records under the same name, with other labels.
    """
    waiting = list(rules)
    found: list[list[Rule]] = []
    while waiting:
        ready = [
            rule
            for rule in waiting
            if _names(rule["expr"]).isdisjoint(other["record"] for other in waiting if other is not rule)
        ]
        assert ready, f"{[rule['record'] for rule in waiting]} read each other"
        found.append(ready)
        waiting = [rule for rule in waiting if rule not in ready]
    return found


def _groups(rules: Sequence[Rule]) -> Iterator[dict[str, Any]]:
    """The rules as groups of one name, one for each interval."""
    for interval in {rule.get("interval") for rule in rules}:
        members = [
            {key: value for key, value in rule.items() if key != "interval"}
            for rule in rules
            if rule.get("interval") == interval
        ]
        yield {"name": "rules", "rules": members} | ({"interval": interval} if interval else {})


def _names(expression: str) -> set[str]:
    """The metrics that stand in an expression, and other words."""
    return set(re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*", expression))
