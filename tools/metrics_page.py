"""Generator of the tables of statistics in docs/metrics.md (`make docs`)."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from taskrouter_exporter.statistics import KINDS
from taskrouter_exporter.statistics.kind import ANCHORED, CURRENT, SLIDING, Family, Role, StatisticsName

PAGE: Final = Path(__file__).parent.parent / "docs" / "metrics.md"
PREFIX: Final = "twilio_taskrouter_"
_REGION: Final = re.compile("(<!-- families: begin -->\n).*?(<!-- families: end -->\n)", re.DOTALL)

_TITLES: Final[dict[StatisticsName, str]] = {
    "workers": "Workers",
    "tasks": "Tasks",
    "realtime": "Real time",
}
_INTRODUCTIONS: Final[dict[StatisticsName, str]] = {
    "workers": (
        "Reservations and the time that Workers spent in each Activity: `statistics: [workers]`, the default."
    ),
    "tasks": "What became of tasks and how long they waited: `statistics: [tasks]`.",
    "realtime": "The tasks and Workers of this moment: `statistics: [realtime]`.",
}
_ROLES: Final[dict[Role, str]] = {
    "window": "Sliding windows. They have the label `window`. Do not use `rate()` or `increase()`.",
    "anchored": "Counters since midnight of the day, or of Monday, with `counters: day` or `week`.",
    "current": "",
}
_EXAMPLES: Final = {
    "window_reservations": '{window="15m", channel="all"}',
    "window_reservation_outcomes": (
        '{outcome="rejected", window="15m"} / ignoring (outcome) #window_reservations{window="15m"} > 0.2'
    ),
    "window_activity_min_seconds": '{channel="all", window="4h"}',
    "window_activity_avg_seconds": '{activity="Break", channel="all", window="4h"} / 60',
    "window_activity_max_seconds": 'topk(5, #{channel="all", window="4h"})',
    "window_activity_total_seconds": 'sum by (workspace, activity) (#{channel="all", window="4h"}) / 3600',
    "window_start_timestamp_seconds": "#window_end_timestamp_seconds - #",
    "window_end_timestamp_seconds": "time() - # > 300",
    "window_task_events": '{event="canceled", window="15m"}',
    "window_task_acceptance_avg_seconds": '{window="15m"} > 60',
    "window_task_wait_min_seconds": '{until="accepted", window="1h"}',
    "window_task_wait_avg_seconds": '{until="accepted", window="15m"}',
    "window_task_wait_max_seconds": '{until="canceled", window="15m"} > 600',
    "window_task_wait_total_seconds": '{until="accepted", window="1h"} / 3600',
    "window_task_waits": (
        'sum without (until, side) (#{threshold="20s", side="below"})'
        ' / sum without (until, side) (#{threshold="20s"})'
    ),
    "window_task_queue_wait_min_seconds": '{window="1h"}',
    "window_task_queue_wait_avg_seconds": '{window="15m"}',
    "window_task_queue_wait_max_seconds": '{window="15m"} > 600',
    "window_task_queue_wait_total_seconds": '{window="1h"} / 3600',
    "reservations_total": 'sum by (workspace) (rate(#{channel="all"}[15m])) * 3600',
    "reservation_outcomes_total": 'increase(#{outcome="timed_out", channel="all"}[1h])',
    "activity_seconds_total": 'sum by (workspace, activity) (rate(#{channel="all"}[30m]))',
    "task_events_total": 'sum by (workspace, event) (increase(#{channel="all"}[1h]))',
    "task_wait_seconds_total": 'rate(#{until="accepted"}[15m])',
    "tasks": '{status="pending", channel="all"}',
    "longest_waiting_task_age_seconds": '{channel="all"} > 300',
    "workers": 'sum by (workspace, activity) (#{channel="all"})',
    "available_workers": '{channel="all"} == 0',
    "eligible_workers": '{channel="all"}',
    "longest_relative_task_age_seconds": '{channel="all"} > 300',
}
"""An example query for each family; `#` stands for its name, which comes first where there is none."""


def page(text: str) -> str:
    """Return the page with its tables as the families are."""
    tables = "\n".join(_sections())
    return _REGION.sub(lambda match: f"{match[1]}\n{tables}\n{match[2]}", text)


def _sections() -> Iterator[str]:
    for statistics, title in _TITLES.items():
        kinds = [kind for kind in KINDS if kind.name == statistics]
        yield f"### {title}\n\n{_INTRODUCTIONS[statistics]}\n"
        for role, introduction in _ROLES.items():
            rows: dict[str, tuple[Family, list[str]]] = {}
            for kind in kinds:
                for family in kind.families.get(role, ()):
                    rows.setdefault(_name(family), (family, []))[1].append(kind.subject)
            if rows:
                if introduction:
                    yield f"{introduction}\n"
                yield "| family | of | further labels | meaning | example |\n|---|---|---|---|---|"
                yield from (_row(name, *row) for name, row in rows.items())
                yield ""


def _row(name: str, family: Family, subjects: list[str]) -> str:
    labels = ", ".join(f"`{label}`" for label in family.labels) or "none"
    meaning = family.text
    for ending in (SLIDING, CURRENT, ANCHORED):
        meaning = meaning.replace(f" {ending}", "")
    meaning = meaning.rstrip(",.") + "."
    return f"| `{name}` | {', '.join(subjects)} | {labels} | {meaning} | `{_example(name, subjects[0])}` |"


def _name(family: Family) -> str:
    return family.name + ("_total" if family.type == "counter" else "")


def _example(name: str, subject: str) -> str:
    query = _EXAMPLES[name]
    full = PREFIX + ("" if subject == "workspace" else f"{subject}_") + name
    if query.startswith("{"):
        query = "#" + query
    query = re.sub(r"#(window_[a-z_]+)", rf"{PREFIX}\1", query)
    return query.replace("#", full)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"{PAGE.name}\n")
