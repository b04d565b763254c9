"""The rules by promtool: what each alert does, that none is without tests, and that the tests can fail."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from support.blocks import Rule, needed, read_rules, recordings
from support.exporter import ROOT
from support.programs import IN_BACKGROUND

from tools.rules import SOURCES, Counted, Source, Spike, rules

MONITORING = ROOT / "monitoring"
RULES = MONITORING / "rules" / "taskrouter.yaml"
TESTS = sorted((MONITORING / "tests").glob("*.yaml"))
ALERTS = [rule for rule in read_rules(RULES) if "alert" in rule]
CASES = ("fires", "resolves", "calm", "low volume", "midnight", "target down")

THRESHOLD = r'threshold=~?"([^"]+)"'
"""How a rule reads thresholds."""

FindProgram = Callable[[str, str], str]


@pytest.fixture
def promtool(program: FindProgram) -> str:
    return program("promtool", "prometheus")


class Checked(NamedTuple):
    """An alert that a promtool test asks for."""

    alert: str
    case: str
    expected: bool


@cache
def read(file: Path) -> Any:
    """Return a file's content, which the caller must not change."""
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def checked() -> Iterator[Checked]:
    """What the promtool tests ask for. A test's name begins with its cases."""
    for file in TESTS:
        for test in read(file)["tests"]:
            cases = test["name"].split(":")[0].split(", ")
            assert set(cases) <= set(CASES), test["name"]
            for each in test["alert_rule_test"]:
                for case in cases:
                    yield Checked(each["alertname"], case, bool(each.get("exp_alerts")))


def run(promtool: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [*IN_BACKGROUND, promtool, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def run_tests(
    promtool: str, directory: Path, document: Mapping[str, Any], whole: Mapping[str, Any]
) -> subprocess.CompletedProcess[str]:
    """Run promtool's tests with the rules that they need: promtool evaluates all of a file at each step."""
    rules = [rule for group in document["groups"] for rule in group["rules"]]
    names = {each["alertname"] for test in whole["tests"] for each in test["alert_rule_test"]}
    alerts = [rule for rule in rules if rule.get("alert") in names]
    series = " ".join(each["series"] for test in whole["tests"] for each in test["input_series"])
    wanted = alerts + [
        rule
        for rule in needed(alerts, recordings(rules))
        if "twilio_taskrouter_queue_" in series or not rule["record"].startswith("taskrouter:queue_")
    ]
    read = [re.compile(name) for rule in wanted for name in re.findall(THRESHOLD, str(rule["expr"]))]
    groups = [
        group
        | {
            "rules": [
                rule
                for rule in group["rules"]
                if rule in wanted
                and (
                    rule.get("record") != "taskrouter:threshold"
                    or any(name.fullmatch(rule["labels"]["threshold"]) for name in read)
                )
            ]
        }
        for group in document["groups"]
    ]
    (directory / RULES.name).write_text(json.dumps({"groups": groups}), encoding="utf-8")
    tests = directory / "tests.yaml"
    tests.write_text(json.dumps({**whole, "rule_files": [RULES.name]}), encoding="utf-8")
    return run(promtool, "test", "rules", tests)


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


@pytest.mark.parametrize("severity", ["info", "warning", "critical"])
def test_every_severity_of_an_alert_is_seen_to_fire(severity: str) -> None:
    wanted = {rule["alert"] for rule in ALERTS if rule["labels"]["severity"] == severity}
    seen = {
        each["alertname"]
        for file in TESTS
        for test in read(file)["tests"]
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


def read_thresholds(known: Sequence[Rule]) -> list[Rule]:
    return [rule for rule in known if rule.get("record") == "taskrouter:threshold"]


def test_every_number_that_an_alert_compares_with_is_a_threshold() -> None:
    known = read_rules(RULES)
    names = {rule["labels"]["threshold"] for rule in read_thresholds(known)}
    keys = [(rule["labels"]["threshold"], rule["labels"].get("severity")) for rule in read_thresholds(known)]
    assert len(set(keys)) == len(keys)
    read = [rule for rule in known if rule.get("alert") != "TaskRouterRulesBroken"]
    patterns = {name for rule in read for name in re.findall(THRESHOLD, str(rule["expr"]))}
    assert names == {name for name in names for pattern in patterns if re.fullmatch(pattern, name)}
    for rule in known:
        if rule.get("record") != "taskrouter:threshold":
            # 1 and 2 are severities, and the count that a threshold must have.
            assert set(re.findall(r"[<>=]=? *(?:bool )?([\d.]+)", rule["expr"])) <= {"0", "1", "2"}


def test_the_rule_file_is_what_the_description_makes() -> None:
    assert RULES.read_text(encoding="utf-8") == rules(), "write it again: make rules"


def test_no_recording_feeds_nothing() -> None:
    readers = [
        *(rule["expr"] for rule in read_rules(RULES)),
        *(str(rule.get("annotations")) for rule in ALERTS),
        *(file.read_text(encoding="utf-8") for file in (MONITORING / "dashboards").glob("*.json")),
    ]
    for name in {rule["record"] for rule in read_rules(RULES) if "record" in rule}:
        assert any(re.search(rf"\b{name}\b", reader) for reader in readers), name


def test_what_reads_a_week_is_evaluated_rarely() -> None:
    for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]:
        for rule in group["rules"]:
            if re.search(r"\[1w\]", rule["expr"]):
                assert group["interval"] == "15m"


WORKFLOW = "twilio_taskrouter_workflow_window"
WORKFLOWS = (
    Source(
        name="workflow_reservations",
        title="Reservations of workflows",
        noun="reservations",
        keys=("workspace", "channel", "workflow"),
        denominator=Counted(f"{WORKFLOW}_reservations"),
        numerator=Counted(f"{WORKFLOW}_reservation_outcomes"),
        label="outcome",
        ratios={"rejected": Spike("TaskRouterWorkflowSpike", "Workers reject many", "were rejected")},
        ratio="workflow_$1",
        counters=(
            Counted("twilio_taskrouter_workflow_reservations_total"),
            Counted("twilio_taskrouter_workflow_reservation_outcomes_total"),
        ),
        end=f"{WORKFLOW}_end_timestamp_seconds",
    ),
    Source(
        name="workflow_tasks",
        title="Tasks of workflows",
        noun="tasks",
        keys=("workspace", "channel", "workflow"),
        denominator=Counted(f"{WORKFLOW}_task_events", 'event="entered"', ("event",)),
        numerator=Counted(f"{WORKFLOW}_task_events"),
        label="event",
        ratios={
            "canceled": Spike("TaskRouterWorkflowAbandonedSpike", "Many tasks are abandoned", "were canceled")
        },
        ratio="workflow_tasks_$1",
        end=f"{WORKFLOW}_end_timestamp_seconds",
    ),
    Source(
        name="workflow_waits",
        title="Service levels of workflows",
        noun="tasks",
        keys=("workspace", "channel", "workflow", "threshold"),
        denominator=Counted(f"{WORKFLOW}_task_waits", summed=("until", "side")),
        numerator=Counted(f"{WORKFLOW}_task_waits", 'side="above"', ("until", "side")),
        label=None,
        ratios={
            "workflow_late": Spike(
                "TaskRouterWorkflowServiceLevelLow", "Service levels are missed", "waited too long"
            )
        },
    ),
)
"""Ratios of workflows as another description might have them."""


def test_another_ratio_goes_through_the_same_rules(promtool: str, tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(rules((*SOURCES, *WORKFLOWS)), encoding="utf-8")
    checked = run(promtool, "check", "rules", "--lint=all", "--lint-fatal", file)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    values: dict[str, str] = {}
    for channel in ("voice", "all"):
        labels = f'workspace="support", channel="{channel}", workflow="first", window="15m"'
        values |= {
            f"{WORKFLOW}_end_timestamp_seconds{{{labels}}}": "0+60x80",
            f"{WORKFLOW}_reservations{{{labels}}}": "200x80",
            f'{WORKFLOW}_reservation_outcomes{{{labels}, outcome="rejected"}}': "20x80",
            f'{WORKFLOW}_task_events{{{labels}, event="entered"}}': "200x80",
            f'{WORKFLOW}_task_events{{{labels}, event="canceled"}}': "90x80",
            f'{WORKFLOW}_task_waits{{{labels}, until="accepted", threshold="20s", side="below"}}': "110x80",
            f'{WORKFLOW}_task_waits{{{labels}, until="accepted", threshold="20s", side="above"}}': "60x80",
            f'{WORKFLOW}_task_waits{{{labels}, until="canceled", threshold="20s", side="above"}}': "30x80",
        }
    fires = {
        "TaskRouterWorkflowSpike": [],
        "TaskRouterWorkflowAbandonedSpike": [{"ratio": "workflow_tasks_canceled"}],
        "TaskRouterWorkflowServiceLevelLow": [{"ratio": "workflow_late", "threshold": "20s"}],
    }
    # In the channel, and not in its workspace's channel "all" as well.
    who = {"workspace": "support", "channel": "voice", "workflow": "first"}
    shares = {"workflow_rejected": 0.1, "workflow_tasks_canceled": 0.45, "workflow_late": 0.45}
    test = {
        "interval": "1m",
        "input_series": [{"series": series, "values": value} for series, value in values.items()],
        "promql_expr_test": [
            {
                "expr": f'ALERTS{{alertname="{alert}", alertstate="firing"}} * 0',
                "eval_time": "70m",
                "exp_samples": [
                    {
                        "labels": labels_of(
                            {"alertname": alert, "alertstate": "firing", "severity": severity} | who | more
                        ),
                        "value": 0,
                    }
                    for more in expected
                    for severity in ("critical", "warning")
                ],
            }
            for alert, expected in fires.items()
        ]
        + [
            {
                "expr": f'min by (ratio) (taskrouter:ratio:share{{ratio="{name}", span="{span}"}})',
                "eval_time": "70m",
                "exp_samples": [{"labels": labels_of({"ratio": name}), "value": share}],
            }
            for name, share in shares.items()
            for span in ("15m", "1h")
        ],
    }
    groups = [group["name"] for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]]
    tests = {"rule_files": [str(file)], "group_eval_order": groups, "tests": [test]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(tests), encoding="utf-8")
    done = run(promtool, "test", "rules", tmp_path / "test.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def labels_of(labels: Mapping[str, str]) -> str:
    return "{" + ", ".join(f'{name}="{value}"' for name, value in labels.items()) + "}"


@pytest.mark.parametrize("name", ["spike_share", "spike_excess_1h"])
@pytest.mark.parametrize("change", ["missing", "renamed"])
def test_a_threshold_that_is_not_there_is_told(change: str, name: str, promtool: str, tmp_path: Path) -> None:
    document = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    thresholds = document["groups"][0]["rules"]
    if change == "missing":
        thresholds[:] = [rule for rule in thresholds if rule["labels"]["threshold"] != name]
    else:
        for rule in thresholds:
            if rule["labels"]["threshold"] == name:
                rule["labels"]["threshold"] = "share"
    (tmp_path / RULES.name).write_text(yaml.safe_dump(document), encoding="utf-8")
    broken = 'ALERTS{alertname="TaskRouterRulesBroken", alertstate="firing"} * 0'
    labels = 'alertname="TaskRouterRulesBroken", alertstate="firing", severity="warning"'
    sample = f'{{{labels}, threshold="{name}"}}'
    test = {
        "interval": "1m",
        "input_series": [{"series": "up", "values": "1x10"}],
        "promql_expr_test": [
            {"expr": broken, "eval_time": "10m", "exp_samples": [{"labels": sample, "value": 0}]}
        ],
    }
    file = tmp_path / "test.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [RULES.name], "tests": [test]}), encoding="utf-8")
    done = run(promtool, "test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


MUTANTS = [
    ("spike_confidence", None, 3, "rejection_spike", "calm: a share"),
    ("spike_confidence", None, 8, "rejection_spike", "fires: in the channel all where no"),
    ("spike_multiple_15m", None, 1.4, "timeout_spike", "calm: a share"),
    ("spike_multiple_15m", None, 2.5, "rejection_spike", "fires: not"),
    ("spike_multiple_1h", None, 1.2, "rejection_spike", "calm: a share"),
    ("spike_multiple_1h", None, 1.7, "timeout_spike", "fires: over"),
    ("spike_excess_15m", "warning", 8, "rejection_spike", "low volume:"),
    ("spike_excess_15m", "warning", 100, "timeout_spike", "fires: not"),
    ("spike_excess_15m", "critical", 19, "baseline", "fires: above"),
    ("spike_excess_15m", "critical", 40, "baseline", "fires: above"),
    ("spike_excess_1h", "warning", 9, "rejection_spike", "low volume:"),
    ("spike_excess_1h", "warning", 40, "rejection_spike", "fires: over"),
    ("spike_excess_1h", "critical", 30, "rejection_spike", "fires: over"),
    ("spike_excess_1h", "critical", 200, "baseline", "fires: above"),
    ("spike_share", "critical", 0.3, "rejection_spike", "fires: over"),
    ("spike_share", "critical", 0.9, "timeout_spike", "fires: critical"),
    ("spike_share_excess", "critical", 10, "rejection_spike", "fires: in the channel all where no"),
    ("spike_share_excess", "critical", 17, "timeout_spike", "fires: critical"),
    ("baseline_least", None, 0.01, "baseline", "calm: nearly"),
    ("baseline_least", None, 0.2, "baseline", "fires: above"),
    ("baseline_default", None, 0.05, "rejection_spike", "fires: in the channel all where no"),
    ("baseline_default", None, 0.5, "rejection_spike", "fires: in the channel all where no"),
    ("baseline_weight", None, 0, "baseline", "fires: few"),
    ("baseline_weight", None, 100_000, "baseline", "fires: few"),
    ("unaccepted_reservations", "critical", 9, "low_volume", "low volume:"),
    ("unaccepted_reservations", "critical", 31, "no_reservations_accepted", "fires: of"),
    ("expected_reservations", "critical", 9, "low_volume", "low volume:"),
    ("expected_reservations", "critical", 31, "no_reservations", "fires: of"),
    ("calls_waiting_seconds", "warning", 299, "tasks_waiting", "calm, low"),
    ("calls_waiting_seconds", "warning", 480, "tasks_waiting", "fires: a call,"),
    ("calls_waiting_seconds", "critical", 839, "tasks_waiting", "fires: a call,"),
    ("calls_waiting_seconds", "critical", 961, "tasks_waiting", "fires: a call,"),
    ("tasks_waiting_seconds", "warning", 899, "tasks_waiting", "fires: a call,"),
    ("tasks_waiting_seconds", "warning", 960, "tasks_waiting", "fires: a message,"),
    ("tasks_waiting_seconds", "critical", 1799, "tasks_waiting", "fires: a message,"),
    ("tasks_waiting_seconds", "critical", 1860, "tasks_waiting", "fires: a message,"),
    ("statistics_lag_seconds", "warning", -1, "calm", "calm: no"),
    ("statistics_lag_seconds", "warning", 3600, "statistics_stale", "fires: the"),
    ("rate_limit_remaining_ratio", "warning", 0.99, "calm", "calm: no"),
    ("rate_limit_remaining_ratio", "warning", 0.07, "rate_limit_near", "fires: less"),
    ("poll_deadline_ratio", "warning", 0.01, "calm", "calm: no"),
    ("poll_deadline_ratio", "warning", 0.95, "scrape_near_timeout", "fires: the"),
]
"""Threshold, severity, another value, and the test that notices it: its file, and how its name begins."""


def test_every_threshold_has_mutants() -> None:
    thresholds = [rule["labels"] for rule in read_thresholds(read_rules(RULES))]
    mutated = {key for key, _ in groupby(MUTANTS, lambda mutant: mutant[:2])}
    assert mutated == {(labels["threshold"], labels.get("severity")) for labels in thresholds}


@pytest.mark.parametrize(("threshold", "severity", "value", "file", "test"), MUTANTS)
def test_a_threshold_that_is_another_is_found_out(  # noqa: PLR0917 -- a parameter of the test each
    threshold: str, severity: str | None, value: float, file: str, test: str, promtool: str, tmp_path: Path
) -> None:
    document: dict[str, Any] = deepcopy(read(RULES))
    (rule,) = [
        rule
        for rule in document["groups"][0]["rules"]
        if (rule["labels"]["threshold"], rule["labels"].get("severity")) == (threshold, severity)
    ]
    rule["expr"] = f"vector({value})"
    whole = read(MONITORING / "tests" / f"{file}.yaml")
    (noticing,) = [each for each in whole["tests"] if each["name"].startswith(test)]
    done = run_tests(promtool, tmp_path, document, whole | {"tests": [noticing]})
    assert "FAILED" in done.stdout + done.stderr, "the test passes"
