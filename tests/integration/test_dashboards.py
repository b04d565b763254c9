"""Every panel of every dashboard shows something, says what it is, and fits to the rules and to the docs."""

import json
import math
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.blocks import Blocks, read_rules, recordings
from support.coverage import without_coverage
from support.documented import documented
from support.exporter import Exporter
from support.history import INSTANCE
from support.prometheus import Prometheus, scraping
from support.spike import LAST_SCRAPE, RULES, SPIKE, fill_with_spike

from tools.dashboards.__main__ import DIRECTORY, dashboards

DASHBOARDS: dict[str, dict[str, Any]] = {
    file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(DIRECTORY.glob("*.json"))
}
CURRENT_PANELS = {"timeseries", "stat", "table", "state-timeline"}
PROMETHEUS = {"type": "prometheus", "uid": "${datasource}"}

NEEDS_A_WEEK = "taskrouter:reservations:last_week"
"""The one query that has no values before a week is over. Its panel has another one."""

ALERT_LIST = "max by (severity, alertname"
"""The query of the alerts that fire, which a calm selection does not have."""

Selection = Mapping[str, str | list[str]]
"""What is chosen of each variable."""

EVERYTHING: Selection = {
    **dict.fromkeys(("job", "instance", "workspace", "channel", "queue"), "$__all"),
    "window": "15m",
}
SELECTIONS: dict[str, Selection] = {
    "everything": EVERYTHING,
    "one channel": {
        "job": ["taskrouter"],
        "instance": [INSTANCE],
        "workspace": ["support"],
        "channel": ["voice"],
        "queue": "$__all",
        "window": "4h",
    },
    "several": {
        **EVERYTHING,
        "workspace": ["sales", "support"],
        "channel": ["chat", "sms"],
        "window": "8h",
    },
    "one queue": {
        **EVERYTHING,
        "workspace": ["support"],
        "channel": ["all", "voice"],
        "queue": ["Voice"],
        "window": "4h",
    },
}
INTERVALS = {"__rate_interval": "4m", "__interval": "1m"}
"""What Grafana makes of a step of one minute; a day in a graph 1,440 pixels wide has this step."""


class Target(NamedTuple):
    """A query of a panel."""

    dashboard: str
    panel: str
    letter: str
    query: Mapping[str, Any]

    @property
    def expression(self) -> str:
        return str(self.query["expr"])

    def __str__(self) -> str:
        return f"{self.dashboard} / {self.panel} / {self.letter}"


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, dashboard in DASHBOARDS.items():
        yield from ((name, panel) for panel in dashboard["panels"] if panel["type"] != "row")


def targets() -> Iterator[Target]:
    for name, panel in panels():
        for query in panel["targets"]:
            yield Target(name, f"{panel['id']} {panel['title']}", query["refId"], query)


def variables(dashboard: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in dashboard["templating"]["list"]}


def fill(expression: str, dashboard: str, selection: Selection) -> str:
    """Put the variables in as Grafana does for Prometheus: several values as a regular expression."""

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name in INTERVALS:
            return INTERVALS[name]
        chosen, variable = selection[name], variables(DASHBOARDS[dashboard])[name]
        if chosen == "$__all":
            assert variable["includeAll"], name
            return str(variable["allValue"])
        if isinstance(chosen, str):
            return chosen
        assert variable["multi"], name
        escaped = [re.sub(r"[\\^$*+?.()|[\]{}]", r"\\\\\g<0>", each) for each in chosen]
        return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"

    filled = re.sub(r"\$(?:\{(\w+)\}|(\w+))", value, expression)
    assert "$" not in filled
    return filled


def run(prometheus: Prometheus, target: Target, expression: str, at: float) -> list[float]:
    """Ask as Grafana does, for a table or a number at once and else for a time range; the last values."""
    if target.query.get("instant"):
        answer = prometheus.api("query", query=expression, time=repr(at))
        found = [float(series["value"][1]) for series in answer["result"]]
    else:
        found = [points[-1].value for points in prometheus.range(expression, at - 1800, at, 60).values()]
    return [value for value in found if not math.isnan(value)]


@pytest.fixture(scope="module")
def prometheus(
    tmp_path_factory: pytest.TempPathFactory, program: Callable[[str, str], str]
) -> Iterator[Prometheus]:
    """The demo's day that ends in a rejection spike."""
    directory = tmp_path_factory.mktemp("spike")
    prometheus, promtool = program("prometheus", "prometheus"), program("promtool", "prometheus")
    blocks = Blocks(prometheus, promtool, directory / "blocks")
    with without_coverage():
        fill_with_spike(blocks, directory)
    with blocks.serve() as server:
        yield server


def test_the_dashboard_files_are_up_to_date() -> None:
    committed = {file.name: file.read_text(encoding="utf-8") for file in DIRECTORY.iterdir()}
    assert committed == dashboards(), "write them again: make dashboards"


def test_each_dashboard_can_be_found_and_opens_on_the_last_day() -> None:
    assert set(DASHBOARDS) == {f"taskrouter-{name}" for name in ("overview", "channel", "queues", "exporter")}
    for name, dashboard in DASHBOARDS.items():
        assert dashboard["uid"] == name
        assert dashboard["schemaVersion"] == 42
        assert dashboard["time"] == {"from": "now-24h", "to": "now"}
        assert (dashboard["refresh"], dashboard["timezone"]) == ("1m", "browser")
        assert dashboard["title"]
        assert dashboard["description"]
        assert "id" not in dashboard
        first = ["datasource", "job", "instance", "workspace", "channel"]
        assert list(variables(dashboard))[: len(first)] == first


def test_every_panel_has_a_description_and_a_unit() -> None:
    for name, panel in panels():
        place = f"{name}: {panel.get('title')}"
        assert panel["title"], place
        assert panel["description"].endswith("."), place
        assert panel["fieldConfig"]["defaults"]["unit"], place
        assert panel["fieldConfig"]["defaults"]["noValue"], place
        assert panel["type"] in CURRENT_PANELS, place
        assert panel["datasource"] == PROMETHEUS, place
        assert panel["targets"], place
    for target in targets():
        assert target.query["datasource"] == PROMETHEUS, target
        assert target.query["legendFormat"], target
        if "$__rate_interval" in target.expression:
            assert target.query["interval"] == "1m", f"{target} would trust the data source's 15 s"


def test_panels_are_in_rows_that_have_names() -> None:
    for name, dashboard in DASHBOARDS.items():
        rows = [panel["title"] for panel in dashboard["panels"] if panel["type"] == "row"]
        assert dashboard["panels"][0]["title"] == rows[0] == "Now", name
        assert len(set(rows)) == len(rows) > 2, name
        types = [panel["type"] for panel in dashboard["panels"]]
        assert ("row", "row") not in list(pairwise(types)), f"{name} has an empty row"
        assert types[-1] != "row", name


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_list_shows_the_alerts_of_the_selection(name: str, prometheus: Prometheus) -> None:
    panel = next(panel for board, panel in panels() if (board, panel["title"]) == (name, "Alerts"))
    assert panel["fieldConfig"]["defaults"]["noValue"] == "No alert is pending or firing"
    renamed = panel["transformations"][0]["options"]["renameByName"]
    (query,) = panel["targets"]
    for selection in SELECTIONS.values():
        expression = fill(query["expr"], name, selection)
        shown = [dict(labels) for labels in prometheus.query(expression, LAST_SCRAPE.timestamp())]
        assert bool(shown) == has_the_spike(selection)
        for labels in shown:
            assert labels.keys() <= renamed.keys()
            assert labels["alertname"] in {"TaskRouterRejectionSpike", "TaskRouterQueueRejectionSpike"}
            assert labels["alertstate"] == "firing"


def test_a_panel_that_needs_counters_says_so_and_most_do_not() -> None:
    counters = r"taskrouter_(reservations|reservation_outcomes|activity_seconds)_total"
    for name in DASHBOARDS:
        shown = [panel for board, panel in panels() if board == name]
        need = [each for each in shown if re.search(counters, json.dumps(each["targets"]))]
        assert len(need) < len(shown) / 2, name
        for panel in need:
            assert "`counters: day`" in panel["description"], panel["title"]


@pytest.mark.parametrize(
    ("dashboard", "title", "text"),
    [
        ("taskrouter-queues", "Tasks waiting", "Needs statistics: [realtime], queues: auto"),
        ("taskrouter-queues", "Tasks entered", "Needs statistics: [tasks], queues: auto"),
        (
            "taskrouter-queues",
            "Service level",
            "Needs statistics: [tasks], queues: auto, service_levels: [20s]",
        ),
        ("taskrouter-queues", "Workers by Activity", "Needs statistics: [realtime]"),
        ("taskrouter-channel", "Workflows", "Needs statistics: [realtime, tasks], workflows: auto"),
        ("taskrouter-channel", "Reservations in an hour", "Needs counters: day"),
        ("taskrouter-channel", "Average time in an Activity", "Does Prometheus scrape the exporter?"),
        ("taskrouter-overview", "Rejected", "Are the recording rules loaded?"),
    ],
)
def test_a_panel_without_data_says_what_to_switch_on(dashboard: str, title: str, text: str) -> None:
    panel = next(each for name, each in panels() if (name, each["title"]) == (dashboard, title))
    assert panel["fieldConfig"]["defaults"]["noValue"] == f"No data. {text}"


def test_panels_have_unique_ids_and_do_not_overlap() -> None:
    for name, dashboard in DASHBOARDS.items():
        numbers = [panel["id"] for panel in dashboard["panels"]]
        assert sorted(set(numbers)) == numbers, name
        taken: set[tuple[int, int]] = set()
        for panel in dashboard["panels"]:
            at = panel["gridPos"]
            cells = {
                (x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
            }
            assert at["x"] + at["w"] <= 24, panel["title"]
            assert taken.isdisjoint(cells), panel["title"]
            taken |= cells


def thresholds() -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for rule in read_rules(RULES):
        if rule.get("record") == "taskrouter:threshold":
            found.setdefault(rule["labels"]["threshold"], []).append(float(rule["expr"][7:-1]))
    return found


def steps(value: object) -> Iterator[list[float]]:
    """Yield the colour thresholds of a part of a dashboard."""
    if isinstance(value, dict):
        if "steps" in value:
            yield [step["value"] for step in value["steps"] if step.get("value") is not None]
        for inner in value.values():
            yield from steps(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from steps(inner)


@pytest.mark.parametrize(
    ("dashboard", "title", "threshold"),
    [
        ("taskrouter-overview", "Channels, worst first", "spike_share"),
        ("taskrouter-overview", "Age of the statistics", "statistics_lag_seconds"),
        ("taskrouter-channel", "Rejected: now and baseline", "spike_share"),
        ("taskrouter-channel", "Timed out: now and baseline", "spike_share"),
        ("taskrouter-channel", "Windows side by side", "spike_share"),
        ("taskrouter-queues", "Longest wait, calls", "calls_waiting_seconds"),
        ("taskrouter-queues", "Longest wait, other channels", "tasks_waiting_seconds"),
        ("taskrouter-exporter", "Time used of the deadline", "poll_deadline_ratio"),
        ("taskrouter-exporter", "Rate limit left", "rate_limit_remaining_ratio"),
    ],
)
def test_colours_change_at_the_thresholds_of_the_alerts(dashboard: str, title: str, threshold: str) -> None:
    panel = next(each for name, each in panels() if (name, each["title"]) == (dashboard, title))
    assert thresholds()[threshold] in list(steps(panel["fieldConfig"]))


def test_no_other_panel_has_colour_thresholds() -> None:
    known = [*thresholds().values(), [], [1]]
    assert [
        found for _, panel in panels() for found in steps(panel["fieldConfig"]) if found not in known
    ] == []


def test_links_lead_to_these_dashboards_and_keep_the_selection() -> None:
    for dashboard in DASHBOARDS.values():
        (link,) = dashboard["links"]
        assert link["type"] == "dashboards"
        assert link["includeVars"]
        assert link["keepTime"]
        assert all(set(link["tags"]) <= set(other["tags"]) for other in DASHBOARDS.values())
        for address in re.findall(r'"url": "([^"]*)"', json.dumps(dashboard)):
            uid, _, parameters = address.removeprefix("/d/").partition("?")
            named = set(re.findall(r"var-(\w+)=", parameters)) | set(
                re.findall(r"{(\w+):queryparam}", parameters)
            )
            assert named == set(variables(DASHBOARDS[uid]))
            assert "${__url_time_range}" in parameters


def test_a_row_of_the_overview_links_to_its_channel() -> None:
    assert "/d/taskrouter-channel?" in json.dumps(DASHBOARDS["taskrouter-overview"])


LABELS = {
    *("workspace", "channel", "window", "outcome", "activity", "reason", "severity", "threshold", "account"),
    *("code", "le", "job", "instance", "ratio", "span", "version", "alertname", "alertstate"),
    *("queue", "workflow", "status", "event", "until", "side"),
}
PROMQL = {
    *("by", "on", "and", "or", "bool", "group_left", "sum", "max", "min", "count", "clamp_min", "rate"),
    *(
        "increase",
        "time",
        "vector",
        "scalar",
        "ignoring",
        "clamp_max",
        "last_over_time",
        "histogram_quantile",
        "m",
        "h",
        "d",
    ),
}


def test_every_metric_is_documented_or_recorded() -> None:
    known = {*documented(), "up", "ALERTS"}
    known |= {"twilio_taskrouter_api_request_duration_seconds_bucket"}
    known |= {rule["record"] for rule in recordings(read_rules(RULES))}
    for target in targets():
        words = re.findall(r"\b[a-zA-Z_:][\w:]*", re.sub(r'"[^"]*"|\$\w+', "", target.expression))
        assert set(words) - LABELS - PROMQL <= known, target


def has_the_spike(selection: Selection) -> bool:
    """Whether its channel is selected."""
    return selection["channel"] == "$__all" or "voice" in selection["channel"]


def is_collected(target: Target, selection: Selection) -> bool:
    """Whether the demo has it. Queues, workflows and Workers of now are polled for the channel `all`."""
    if ALERT_LIST in target.expression:
        return has_the_spike(selection)
    of_all = re.search(r"twilio_taskrouter_(queue_|workflow_|workers)", target.expression)
    return not of_all or selection["channel"] == "$__all" or "all" in selection["channel"]


@pytest.mark.parametrize("selection", SELECTIONS.values(), ids=list(SELECTIONS))
def test_every_query_has_values(prometheus: Prometheus, selection: Selection) -> None:
    empty = [
        str(target)
        for target in targets()
        if NEEDS_A_WEEK not in target.expression
        and is_collected(target, selection)
        and not run(
            prometheus, target, fill(target.expression, target.dashboard, selection), LAST_SCRAPE.timestamp()
        )
    ]
    assert empty == []


def test_another_exporter_has_no_values(prometheus: Prometheus) -> None:
    selection = {**EVERYTHING, "instance": ["elsewhere:10142"]}
    independent = re.compile(
        rf"vector\(0\)|^max by \(severity\) \(taskrouter:threshold|{re.escape(ALERT_LIST)}"
    )
    found = [
        str(target)
        for target in targets()
        if not independent.search(target.expression)
        and run(
            prometheus, target, fill(target.expression, target.dashboard, selection), LAST_SCRAPE.timestamp()
        )
    ]
    assert found == []


def test_every_variable_offers_values(prometheus: Prometheus) -> None:
    expected = {
        "job": ["taskrouter"],
        "instance": [INSTANCE],
        "queue": ["Escalations", "Messaging", "Priority", "Voice"],
        "workspace": ["billing", "sales", "support"],
        "channel": ["all", "chat", "sms", "voice"],
        "window": ["15m", "4h", "8h"],
    }
    for name, dashboard in DASHBOARDS.items():
        for variable in variables(dashboard).values():
            if variable["type"] == "query":
                assert variable["datasource"] == PROMETHEUS
                found = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
                assert found is not None
                selector = fill(found[1], name, EVERYTHING)
                values = prometheus.api(f"label/{found[2]}/values", **{"match[]": selector})
                assert values == expected[variable["name"]]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_alerts_mark_the_graphs(name: str, prometheus: Prometheus) -> None:
    (annotation,) = DASHBOARDS[name]["annotations"]["list"]
    assert annotation["enable"]
    assert annotation["datasource"] == PROMETHEUS
    assert annotation["target"]["expr"] == annotation["expr"]
    expression = fill(annotation["expr"], name, SELECTIONS["one channel"])
    begin, end = SPIKE.timestamp(), LAST_SCRAPE.timestamp()
    fired = [dict(labels) for labels in prometheus.range(expression, begin, end, 60)]
    assert {labels["alertname"] for labels in fired} == {"TaskRouterRejectionSpike"}
    assert {labels["severity"] for labels in fired} == {"warning", "critical"}
    for labels in fired:
        assert set(re.findall("{{([a-z]+)}}", annotation["titleFormat"])) <= set(labels)


def test_the_worst_channel_of_the_overview_is_the_one_that_has_the_spike(prometheus: Prometheus) -> None:
    table = next(panel for _, panel in panels() if panel["title"] == "Channels, worst first")
    (sort,) = table["options"]["sortBy"]
    assert sort["desc"]
    renamed = table["transformations"][1]["options"]["renameByName"]
    (column,) = (column for column, name in renamed.items() if name == sort["displayName"])
    query = next(each for each in table["targets"] if f"Value #{each['refId']}" == column)
    expression = fill(query["expr"], "taskrouter-overview", EVERYTHING)
    found = sorted(prometheus.query(expression, LAST_SCRAPE.timestamp()).items(), key=lambda row: -row[1])
    whole, part = (dict(labels) for labels, _ in found[:2])
    assert whole == {"workspace": "support", "channel": "all"}
    assert part == {"workspace": "support", "channel": "voice"}


def test_failed_queries_are_counted_by_reason(program: Callable[[str, str], str], tmp_path: Path) -> None:
    exporter, query = 'job="t", instance="a"', 'workspace="support", channel="voice"'
    short, long = (f'{{{exporter}, {query}, window="{window}"}}' for window in ("15m", "4h"))
    inputs = {
        f"twilio_taskrouter_up{short}": "1 1 1 0 0 0",
        f"twilio_taskrouter_up{long}": "1x5",
        f'twilio_taskrouter_poll_errors_total{short[:-1]}, reason="auth"}}': "0 0 0 1 2 3",
        f'twilio_taskrouter_poll_errors_total{short[:-1]}, reason="timeout"}}': "0x5",
        f'twilio_taskrouter_poll_errors_total{long[:-1]}, reason="auth"}}': "0x5",
        f"up{{{exporter}}}": "1 1 1 1 1 0",
        f'twilio_taskrouter_exporter_build_info{{{exporter}, version="1"}}': "1 1 1 1 1 stale",
    }
    expected: dict[tuple[str, str], dict[str, float]] = {
        ("Queries up, and down by reason", "A"): {"{}": 1},
        ("Queries up, and down by reason", "B"): {
            '{reason="auth"}': 1,
            '{reason="timeout"}': 0,
        },
        ("Queries down", "A"): {"{}": 1},
        ("Exporters down", "A"): {"{}": 1},
        ("Up", "A"): {f"{{{query}}}": 0},
    }
    checks = [
        {
            "expr": fill(target.expression, target.dashboard, EVERYTHING),
            "eval_time": "5m",
            "exp_samples": [{"labels": labels, "value": value} for labels, value in samples.items()],
        }
        for target in targets()
        for (title, letter), samples in expected.items()
        if target.dashboard == "taskrouter-exporter"
        and (target.panel.partition(" ")[2], target.letter) == (title, letter)
    ]
    assert len(checks) == len(expected)
    series = [{"series": name, "values": values} for name, values in inputs.items()]
    test = {"interval": "1m", "input_series": series, "promql_expr_test": checks}
    file = tmp_path / "test.json"
    file.write_text(json.dumps({"rule_files": [str(RULES)], "tests": [test]}), encoding="utf-8")
    command = [program("promtool", "prometheus"), "test", "rules", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_panel_is_empty_on_a_demo_that_was_just_started(
    program: Callable[[str, str], str], start_exporter: Callable[..., Exporter], tmp_path: Path
) -> None:
    exporter = start_exporter(arguments=["--demo"])
    config = scraping(f"127.0.0.1:{exporter.port}", rule_files=[str(RULES)])
    # A second, as in other tests, is too short for all statistics on a busy machine.
    config["global"] |= {"scrape_interval": "4s", "scrape_timeout": "4s"}
    prometheus = Prometheus(program("prometheus", "prometheus"), config, tmp_path / "prometheus")
    try:
        shown = 'taskrouter:ratio:share{ratio="accepted"} and on () count_over_time(up[1m]) > 4'
        prometheus.wait_for(shown, bool, 60)
        now = time.time()
        shows: dict[str, bool] = {}
        for target in targets():
            if ALERT_LIST in target.expression:
                continue
            expression = fill(target.expression, target.dashboard, EVERYTHING)
            panel = f"{target.dashboard} / {target.panel}"
            shows[panel] = bool(run(prometheus, target, expression, now)) or shows.get(panel, False)
    finally:
        prometheus.stop()
    assert [panel for panel, has_values in shows.items() if not has_values] == []
