"""The public contract: names, labels and types of the demo's metrics, and the flags.

Dashboards, rules, the chart and other people's alerts depend on them. `tests/data/contract.txt` is the list;
a change of it is a change of the contract, and belongs in the changelog.
"""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from prometheus_client.openmetrics.parser import text_string_to_metric_families
from support.exporter import ROOT, Exporter
from support.waiting import wait_until

CONTRACT: Final = Path(__file__).parent.parent / "data" / "contract.txt"


def test_metrics_and_flags_are_those_of_the_contract(start_exporter: Callable[..., Exporter]) -> None:
    exporter = start_exporter(arguments=["--demo"])
    exporter.wait_until_ready()
    # A query that is late has no series: on a busy machine the first scrape, which simulates a day, is slow.
    wait_until("all queries up", lambda: set(exporter.scrape(60).find("up").values()) == {1})
    commands = (f"query {flag}" for flag in _flags("query"))
    found = "\n".join([*_metrics(exporter), *_flags(), *commands, ""])
    assert found == CONTRACT.read_text(encoding="utf-8")


def _metrics(exporter: Exporter) -> Iterator[str]:
    text = exporter.scrape(60, accept="application/openmetrics-text").answer.text
    parsed = text_string_to_metric_families(text)  # type: ignore[no-untyped-call] # the stubs lack it
    for family in sorted(parsed, key=lambda family: family.name):
        samples = {
            f"  {sample.name}{{{', '.join(sorted(sample.labels))}}}"
            for sample in family.samples
            if not sample.name.endswith("_created")
        }
        yield f"{family.type} {family.name}"
        yield from sorted(samples)


def _flags(*command_name: str) -> Iterator[str]:
    command = [sys.executable, str(ROOT / "exporter.py"), *command_name, "--help"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    yield from sorted(set(re.findall(r"^\s+(?:-h, )?(--[a-z.-]+)", text, re.MULTILINE)))
