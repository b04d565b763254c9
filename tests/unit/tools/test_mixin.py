"""The monitoring mixin: equal to the rules and dashboards, and to what a user of it changes."""

import json
import re
import subprocess
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import _gojsonnet
import pytest
import yaml
from support.exporter import ROOT

from tools.mixin import MIXIN, generated_files
from tools.thresholds import RULES, Thresholds, read_thresholds

VENDORED: Final = Path("github.com/taskrouter-exporter/twilio-taskrouter-exporter/monitoring/mixin")
"""Where jsonnet-bundler puts it."""
NAMES: Final = ("prometheusRules", "prometheusAlerts", "grafanaDashboards")
SELECTOR: Final = 'job="contact centre", cluster="eu"'


@pytest.fixture
def vendor(tmp_path: Path) -> Path:
    """A directory that has the mixin's directory and nothing beside it."""
    place = tmp_path / "vendor" / VENDORED
    place.parent.mkdir(parents=True)
    place.symlink_to(MIXIN)
    return tmp_path / "vendor"


@cache
def evaluate(config: str = "{}") -> Any:
    """Return what the mixin contains with a change of its configuration, in jsonnet."""
    fields = ", ".join(f"{name}: mixin.{name}" for name in NAMES)
    mixin = f"(import '{MIXIN / 'mixin.libsonnet'}') + {{ _config+:: {config} }}"
    return json.loads(_gojsonnet.evaluate_snippet("test", f"local mixin = {mixin}; {{ {fields} }}"))


def groups(mixin: Any) -> list[Any]:
    both = mixin["prometheusRules"]["groups"] + mixin["prometheusAlerts"]["groups"]
    return sorted(both, key=lambda group: str(group["name"]))


def thresholds(mixin: Any) -> Thresholds:
    return read_thresholds(yaml.safe_dump({"groups": groups(mixin)}))


def check_rules(promtool: str, file: Path) -> None:
    done = subprocess.run(
        [promtool, "check", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_files_are_up_to_date() -> None:
    generated = generated_files()
    assert {path: path.read_text(encoding="utf-8") for path in MIXIN.rglob("*.json")} == generated | {
        MIXIN / "jsonnetfile.json": (MIXIN / "jsonnetfile.json").read_text(encoding="utf-8")
    }, "write them again: make mixin"


def test_it_is_equal_to_the_rule_file_and_the_dashboards() -> None:
    mixin = evaluate()
    expected = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    assert groups(mixin) == sorted(expected, key=lambda group: str(group["name"]))
    assert mixin["grafanaDashboards"] == {
        file.name: json.loads(file.read_text(encoding="utf-8"))
        for file in (ROOT / "monitoring" / "dashboards").glob("*.json")
    }


def test_groups_are_where_mixins_have_them() -> None:
    mixin = evaluate()
    for name, has_alerts in (("prometheusRules", False), ("prometheusAlerts", True)):
        assert mixin[name]["groups"], name
        for group in mixin[name]["groups"]:
            assert any("alert" in rule for rule in group["rules"]) == has_alerts, group["name"]


def test_a_changed_threshold_is_in_the_rules_and_no_other_changes() -> None:
    changed = thresholds(
        evaluate("{ thresholds+: { spike_confidence: 4.2, spike_excess_15m+: { warning: 12 } } }")
    )
    expected = thresholds(evaluate())
    expected["spike_confidence"][""] = 4.2
    expected["spike_excess_15m"]["warning"] = 12
    assert changed == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("{ spike: 1 }", r"_config\.thresholds\.spike: no such threshold \(allowed: baseline_default, "),
        ("{ spike_confidence: '4' }", r'_config\.thresholds\.spike_confidence: "4" is not a number'),
        ("{ spike_share: 1 }", r"_config\.thresholds\.spike_share: needs a number for each of: critical"),
        ("{ spike_share: { info: 1 } }", r"_config\.thresholds\.spike_share\.info: no such threshold"),
    ],
)
def test_a_threshold_that_does_not_exist_is_an_error_that_names_it(change: str, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        evaluate(f"{{ thresholds+: {change} }}")


def test_a_runbook_url_is_that_of_each_alert() -> None:
    changed = evaluate("{ runbookUrl: 'https://wiki.example/alerts' }")
    alerts = [rule for group in groups(changed) for rule in group["rules"] if "alert" in rule]
    assert alerts
    for alert in alerts:
        assert alert["annotations"]["runbook_url"] == f"https://wiki.example/alerts#{alert['alert'].lower()}"


def test_a_selector_is_in_every_expression_that_reads_series_of_the_exporter(
    program: Callable[[str, str], str], tmp_path: Path
) -> None:
    changed = groups(evaluate(f"{{ selector: '{SELECTOR}' }}"))
    read = [
        rule["expr"][found.end() :]
        for group in changed
        for rule in group["rules"]
        for found in re.finditer(r"\btwilio_taskrouter_\w+", rule["expr"])
    ]
    assert len(read) > 50
    assert [rest for rest in read if not rest.startswith(f"{{{SELECTOR}")] == []
    file = tmp_path / "rules.json"
    file.write_text(json.dumps({"groups": changed}), encoding="utf-8")
    check_rules(program("promtool", "prometheus"), file)


def test_a_selector_is_in_the_queries_and_variables_of_the_dashboards() -> None:
    changed = evaluate(f"{{ selector: '{SELECTOR}' }}")["grafanaDashboards"]
    for name, dashboard in changed.items():
        for panel in dashboard["panels"]:
            for target in panel.get("targets", ()):
                for series in re.findall(r"\btwilio_taskrouter_\w+\{([^}]*)", target["expr"]):
                    assert series.startswith(SELECTOR), f"{name}: {panel['title']}"
        for variable in dashboard["templating"]["list"]:
            if variable["name"] in {"job", "instance", "workspace", "channel", "queue"}:
                assert f"{{{SELECTOR}" in variable["query"]["query"], f"{name}: {variable['name']}"


def test_tags_of_the_dashboards_and_of_their_links_change_together() -> None:
    for dashboard in evaluate("{ dashboardTags: ['telephony', 'eu'] }")["grafanaDashboards"].values():
        assert dashboard["tags"] == ["telephony", "eu"]
        assert [link["tags"] for link in dashboard["links"]] == [["telephony"]]


def test_the_example_of_its_readme_works(
    vendor: Path, program: Callable[[str, str], str], tmp_path: Path
) -> None:
    page = (MIXIN / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```jsonnet\n(.*?)```", page, re.DOTALL)
    files: Mapping[str, str] = json.loads(
        _gojsonnet.evaluate_snippet("monitoring.jsonnet", example, jpathdir=[str(vendor)])
    )
    assert {name.rpartition(".")[2] for name in files} == {"yaml", "json"}
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
        if name.endswith(".yaml"):
            check_rules(program("promtool", "prometheus"), tmp_path / name)
        else:
            assert json.loads(content)["uid"] == name.removesuffix(".json")


def test_its_readme_describes_every_setting() -> None:
    page = (MIXIN / "README.md").read_text(encoding="utf-8")
    settings = re.findall(
        r"^    (\w+): ", (MIXIN / "config.libsonnet").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == settings
