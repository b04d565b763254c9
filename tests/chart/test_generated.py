"""What the chart has from elsewhere is what stands there, and versions agree."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.chart import CHART, render

from taskrouter_exporter import __version__
from tools import chart
from tools.thresholds import ROOT

COMMAND = "make chart"


@pytest.mark.parametrize("path", chart.generated_files(), ids=lambda path: path.name)
def test_generated_files_are_up_to_date(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == chart.generated_files()[path], f"out of date: {COMMAND}"


def test_no_dashboard_is_left_that_the_project_no_longer_has() -> None:
    assert set(CHART.glob("files/dashboards/*")) <= chart.generated_files().keys(), COMMAND


def test_the_versions_are_the_packages() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["appVersion"] == chart["version"] == __version__


def _leaves(values: Mapping[str, Any], place: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{place}{key}.")
        else:
            yield place + key


def test_the_readme_lists_every_value() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    rows = set(
        re.findall(r"^\| `([^`]+)` \|", (CHART / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    )
    missing = [
        leaf for leaf in _leaves(values) if not any(leaf == row or leaf.startswith(f"{row}.") for row in rows)
    ]
    assert missing == []


def test_a_value_without_a_description_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"service\.port has no description"):
        list(chart._tables("## A\nservice:\n  port: 1\n"))


def test_the_schema_knows_every_value_and_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    assert schema["properties"].keys() - {"enabled"} == values.keys()
    for key, value in values.items():
        if "properties" in schema["properties"][key]:
            assert schema["properties"][key]["properties"].keys() == value.keys()


def test_the_default_thresholds_are_those_of_the_rules() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    rules = (ROOT / "monitoring/rules/taskrouter.yaml").read_text(encoding="utf-8")
    assert values["prometheusRule"]["thresholds"] == chart.chart_thresholds(rules)
    assert "spike_share" in chart.chart_thresholds(rules)


def test_the_example_in_the_readme_renders() -> None:
    (example,) = re.findall(
        r"```yaml\n# values.yaml\n(.+?)```", (CHART / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )
    assert render(yaml.safe_load(example)).find("PrometheusRule")
