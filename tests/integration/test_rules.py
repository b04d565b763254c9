"""The rules by promtool: what each alert does, that none is without tests, and that the tests can fail."""

import re
import subprocess
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from support.blocks import Rule, read_rules
from support.exporter import ROOT

MONITORING = ROOT / "monitoring"
RULES = MONITORING / "rules" / "taskrouter.yaml"
TESTS = sorted((MONITORING / "tests").glob("*.yaml"))
ALERTS = [rule for rule in read_rules(RULES) if "alert" in rule]
CASES = ("fires", "resolves", "calm", "low volume", "midnight", "target down")

FindProgram = Callable[[str, str], str]


@pytest.fixture
def promtool(program: FindProgram) -> str:
    return program("promtool", "prometheus")


class Checked(NamedTuple):
    """An alert that a promtool test asks for."""

    alert: str
    case: str
    expected: bool


def checked() -> Iterator[Checked]:
    """What the promtool tests ask for. A test's name begins with its cases."""
    for file in TESTS:
        for test in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]:
            cases = test["name"].split(":")[0].split(", ")
            assert set(cases) <= set(CASES), test["name"]
            for each in test["alert_rule_test"]:
                for case in cases:
                    yield Checked(each["alertname"], case, bool(each.get("exp_alerts")))


def run(promtool: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([promtool, *map(str, arguments)], capture_output=True, text=True, check=False)


def test_promtool_finds_nothing_to_say(promtool: str) -> None:
    done = run(promtool, "check", "rules", "--lint=all", "--lint-fatal", RULES)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_alerts_fire_and_stay_silent_where_they_should(file: Path, promtool: str) -> None:
    done = run(promtool, "test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", sorted({rule["alert"] for rule in ALERTS}))
def test_every_alert_is_tested_in_every_case(alert: str) -> None:
    found = {case: [each.expected for each in checked() if each[:2] == (alert, case)] for case in CASES}
    # That it is told of a target that is down is what this one is for.
    silent = [case for case in CASES[2:] if (alert, case) != ("TaskRouterTargetDown", "target down")]
    assert any(found["fires"])
    assert not all(found["resolves"])
    for case in silent:
        assert found[case], f"no test of {alert}: {case}"
        assert not any(found[case])


@pytest.mark.parametrize("severity", ["warning", "critical"])
def test_every_severity_of_an_alert_is_seen_to_fire(severity: str) -> None:
    wanted = {rule["alert"] for rule in ALERTS if rule["labels"]["severity"] == severity}
    seen = {
        each["alertname"]
        for file in TESTS
        for test in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]
        for each in test["alert_rule_test"]
        for alert in each.get("exp_alerts", ())
        if alert["exp_labels"]["severity"] == severity
    }
    assert seen == wanted


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_an_alert_says_how_bad_what_how_much_and_what_to_do(rule: Rule) -> None:
    annotations = rule["annotations"]
    assert rule["labels"].keys() == {"severity"}
    assert annotations.keys() == {"summary", "description", "runbook_url"}
    assert "$labels." in annotations["summary"]
    assert re.search(r"\$value|\| value", annotations["description"]), "no number"
    page, _, anchor = annotations["runbook_url"].rpartition("#")
    assert page.endswith("/docs/runbooks.md")
    assert anchor == rule["alert"].lower()


def test_the_runbooks_have_a_section_for_each_alert_with_all_that_the_night_needs() -> None:
    page = (ROOT / "docs" / "runbooks.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (TaskRouter\w+)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    assert sections.keys() == {rule["alert"] for rule in ALERTS}
    for alert, text in sections.items():
        assert re.findall(r"^\*\*(.*?)\*\*", text, re.MULTILINE) == ["Meaning.", "Check.", "Do."], alert


def test_every_number_that_an_alert_compares_with_is_a_threshold() -> None:
    rules = read_rules(RULES)
    thresholds = [rule for rule in rules if rule.get("record") == "taskrouter:threshold"]
    names = [(rule["labels"]["threshold"], rule["labels"].get("severity")) for rule in thresholds]
    assert len(set(names)) == len(names)
    used = {name for rule in rules for name in re.findall(r'threshold="(\w+)"', str(rule["expr"]))} | {
        rule["labels"]["threshold"] for rule in thresholds if "outcome" in rule["labels"]
    }
    assert used == {name for name, _ in names}
    for rule in rules:
        if rule not in thresholds:
            assert set(re.findall(r"[<>=]=? *(?:bool )?([\d.]+)", rule["expr"])) <= {"0", "1"}


MUTANTS = [
    ("rejection_ratio", "warning", 0.15, "rejection_spike"),
    ("rejection_ratio", "warning", 0.5, "rejection_spike"),
    ("rejection_ratio", "critical", 0.3, "rejection_spike"),
    ("rejection_ratio", "critical", 0.5, "rejection_spike"),
    ("timeout_ratio", "warning", 0.15, "timeout_spike"),
    ("timeout_ratio", "warning", 0.5, "timeout_spike"),
    ("timeout_ratio", "critical", 0.3, "timeout_spike"),
    ("timeout_ratio", "critical", 0.5, "timeout_spike"),
    ("normal_multiple", None, 1.4, "rejection_spike"),
    ("normal_multiple", None, 10, "rejection_spike"),
    ("spike_reservations", None, 19, "low_volume"),
    ("spike_reservations", None, 41, "rejection_spike"),
    ("unaccepted_reservations", "critical", 9, "low_volume"),
    ("unaccepted_reservations", "critical", 31, "no_reservations_accepted"),
    ("expected_reservations", "critical", 9, "low_volume"),
    ("expected_reservations", "critical", 31, "no_reservations"),
    ("statistics_lag_seconds", "warning", -1, "calm"),
    ("statistics_lag_seconds", "warning", 3600, "statistics_stale"),
    ("rate_limit_remaining_ratio", "warning", 0.99, "calm"),
    ("rate_limit_remaining_ratio", "warning", 0.07, "rate_limit_near"),
    ("poll_deadline_ratio", "warning", 0.01, "calm"),
    ("poll_deadline_ratio", "warning", 0.95, "scrape_near_timeout"),
]


def test_every_threshold_has_mutants() -> None:
    thresholds = [
        rule["labels"] for rule in read_rules(RULES) if rule.get("record") == "taskrouter:threshold"
    ]
    mutated = {key for key, _ in groupby(MUTANTS, lambda mutant: mutant[:2])}
    assert mutated == {(labels["threshold"], labels.get("severity")) for labels in thresholds}


@pytest.mark.parametrize(("threshold", "severity", "value", "test"), MUTANTS)
def test_a_threshold_that_is_another_is_found_out(  # noqa: PLR0917 -- a parameter of the test each
    threshold: str, severity: str | None, value: float, test: str, promtool: str, tmp_path: Path
) -> None:
    document: dict[str, Any] = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    (rule,) = [
        rule
        for rule in document["groups"][0]["rules"]
        if (rule["labels"]["threshold"], rule["labels"].get("severity")) == (threshold, severity)
    ]
    rule["expr"] = f"vector({value})"
    for folder in ("rules", "tests"):
        (tmp_path / folder).mkdir()
    (tmp_path / "rules" / RULES.name).write_text(yaml.safe_dump(document), encoding="utf-8")
    mutated = tmp_path / "tests" / "mutated.yaml"
    mutated.write_text((MONITORING / "tests" / f"{test}.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    done = run(promtool, "test", "rules", mutated)
    assert "FAILED" in done.stdout + done.stderr
