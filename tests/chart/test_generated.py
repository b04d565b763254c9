"""What the chart has from elsewhere is what stands there, and versions agree."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.chart import CHART, DEMO, KUBERNETES, TARGETS, VALUES_FILES, render, validate

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


def test_the_metadata_describes_the_chart() -> None:
    metadata = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    repository = metadata["home"]
    assert metadata["sources"] == [repository]
    assert metadata["maintainers"]
    icon = re.fullmatch(
        rf"https://raw\.githubusercontent\.com/{repository.partition('.com/')[2]}/v(.+?)/(docs/.+\.svg)",
        metadata["icon"],
    )
    assert icon
    assert icon[1] == __version__
    assert (ROOT / icon[2]).read_text(encoding="utf-8").startswith('<svg xmlns="http://www.w3.org/2000/svg" ')


def _annotation(name: str) -> Any:
    metadata = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    return yaml.safe_load(metadata["annotations"][f"artifacthub.io/{name}"])


def test_artifact_hub_links_to_files_of_the_version() -> None:
    for link in _annotation("links"):
        _, blob, path = link["url"].partition(f"/blob/v{__version__}/")
        assert (ROOT / path).is_file() if blob else link["url"].endswith("/issues")


def test_artifact_hub_lists_the_image_that_the_chart_runs() -> None:
    assert [image["image"] for image in _annotation("images")] == [render(DEMO).container["image"]]


def test_artifact_hub_lists_the_custom_resources_that_the_chart_can_create() -> None:
    listed = {
        (f"{each['name'].partition('.')[2]}/{each['version']}", each["kind"]) for each in _annotation("crds")
    }
    assert all(each["name"].startswith(f"{each['kind'].lower()}s.") for each in _annotation("crds"))
    rendered = {
        (each["apiVersion"], each["kind"])
        for file in VALUES_FILES
        for each in render(yaml.safe_load(file.read_text(encoding="utf-8")))
    }
    built_in = ("v1", "apps/", "batch/", "policy/", "networking.k8s.io/", "autoscaling/")
    assert listed == {each for each in rendered if not each[0].startswith(built_in)}


def test_artifact_hub_lists_changes_of_the_chart() -> None:
    kinds = {"added", "changed", "deprecated", "removed", "fixed", "security"}
    changes = _annotation("changes")
    assert changes
    assert {change["kind"] for change in changes} <= kinds


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


def _examples() -> list[str]:
    readme = (CHART / "README.md").read_text(encoding="utf-8")
    return re.findall(r"```yaml\n(.+?)```", readme, re.DOTALL)


def test_the_first_example_in_the_readme_is_complete() -> None:
    assert render(yaml.safe_load(_examples()[0])).find("PrometheusRule")


def test_the_other_examples_in_the_readme_render() -> None:
    gateway, google = (render({**TARGETS, **yaml.safe_load(example)}) for example in _examples()[1:])
    (target,) = gateway.one("BackendTLSPolicy")["spec"]["targetRefs"]
    assert target["name"] == gateway.one("Service")["metadata"]["name"]
    for each in google:
        validate(each, KUBERNETES[-1])
    (rule,) = google.one("Role")["rules"]
    (endpoint,) = google.one("PodMonitoring")["spec"]["endpoints"]
    assert rule["resourceNames"] == [endpoint["basicAuth"]["password"]["secret"]["name"]]
    assert google.one("RoleBinding")["roleRef"]["name"] == google.one("Role")["metadata"]["name"]
