"""The metrics that docs/metrics.md describes."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from support.exporter import ROOT

DOCS = ROOT / "docs"
HEADING = re.compile(
    r"^### `(?P<name>[a-z_]+)`\nType: (?P<type>[a-z]+)\. Labels: (?P<labels>[^\n]+)\.\n\n"
    r"(?P<rest>.*?)(?=^##|\Z)",
    re.MULTILINE | re.DOTALL,
)


class Described(NamedTuple):
    """What the page says of a metric, or a process exports."""

    type: str
    labels: frozenset[str]


def chapters() -> Iterator[re.Match[str]]:
    page = (DOCS / "metrics.md").read_text(encoding="utf-8")
    found = list(HEADING.finditer(page))
    assert [match["name"] for match in found] == re.findall("^### `(.*)`$", page, re.MULTILINE)
    yield from found


def table_rows() -> Iterator[list[str]]:
    """The cells of the tables of statistics: family, subjects, further labels, meaning, example."""
    region = (DOCS / "metrics.md").read_text(encoding="utf-8").partition("<!-- families: begin -->")[2]
    for line in region.partition("<!-- families: end -->")[0].splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def documented() -> dict[str, Described]:
    """The metrics of the page."""
    described = {
        match["name"]: Described(match["type"], frozenset(re.findall("`([a-z_]+)`", match["labels"])))
        for match in chapters()
    }
    for name, subjects, labels, *_ in table_rows():
        for subject in subjects.split(", "):
            prefix, own = ("", set()) if subject == "workspace" else (f"{subject}_", {subject})
            family = name.strip("`")
            own |= {"window"} if family.startswith("window_") else set()
            own |= {"workspace", "channel", *re.findall("`([a-z_]+)`", labels)}
            kind = "counter" if family.endswith("_total") else "gauge"
            described[f"twilio_taskrouter_{prefix}{family}"] = Described(kind, frozenset(own))
    return described
