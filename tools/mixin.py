"""The JSON files of the monitoring mixin: the rules, in a form that takes a selector, and the dashboards.

`make mixin` writes them. They are copies, as jsonnet-bundler vendors one directory only.
"""

import json
import re
from pathlib import Path
from typing import Final

import yaml

from taskrouter_exporter.lines import PREFIX
from tools.thresholds import ROOT, RULES

MIXIN: Final = ROOT / "monitoring" / "mixin"
_DASHBOARDS: Final = ROOT / "monitoring" / "dashboards"
_SELECTOR: Final = "@selector@"
"""In place of all label matchers of a series that has none."""
_MATCHERS: Final = "@matchers@"
"""In place of further label matchers of a series that has some."""
_SERIES: Final = re.compile(rf"\b{PREFIX}\w+(?P<brace>\{{)?")


def generated_files() -> dict[Path, str]:
    """Return what each file should contain."""
    dashboards = {
        MIXIN / "dashboards" / file.name: file.read_text(encoding="utf-8")
        for file in sorted(_DASHBOARDS.glob("*.json"))
    }
    return {MIXIN / "rules.json": _rules(RULES.read_text(encoding="utf-8")), **dashboards}


def _rules(text: str) -> str:
    """Return the rules as JSON, with places for the selector in expressions, but not in annotations."""
    groups = yaml.safe_load(text)["groups"]
    for rule in (rule for group in groups for rule in group["rules"]):
        rule["expr"] = _with_places(rule["expr"])
    return json.dumps({"groups": groups}, indent=2, ensure_ascii=False) + "\n"


def _with_places(expression: str) -> str:
    def place(series: re.Match[str]) -> str:
        return series[0] + (_MATCHERS if series["brace"] else _SELECTOR)

    return _SERIES.sub(place, expression)


if __name__ == "__main__":
    for path, content in generated_files().items():
        path.write_text(content, encoding="utf-8")
