"""The alerts over weeks that no rule's author made up: the simulator's, through the exporter's own code.

`WEEKS=full` takes each scenario over its whole week, with a scrape a minute. Otherwise the calm week has one
every two minutes, and of the other scenarios only the incident's day is looked at: the rest of their week is
the calm one, which the simulator's own tests show.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path

import pytest
from support.blocks import Blocks, Rule, read_rules, recordings
from support.exporter import ROOT
from support.history import History
from support.prometheus import Prometheus

from taskrouter_exporter.durations import parse_duration
from taskrouter_exporter.simulator import ContactCentre, Incident, Scenario

FULL = os.environ.get("WEEKS") == "full"
RULES = read_rules(ROOT / "monitoring" / "rules" / "taskrouter.yaml")
DAY = timedelta(days=1)
WEEK = timedelta(days=7)
MONDAY = datetime(2026, 11, 9, tzinfo=UTC)
WEDNESDAY = MONDAY + 2 * DAY
INCIDENT = Incident(WEDNESDAY + timedelta(hours=10), WEDNESDAY + timedelta(hours=11))
STEP = timedelta(minutes=1 if FULL else 2)
COARSE = timedelta(minutes=5)
"""For the week before, which is only asked what was normal."""

ACTIVITIES = frozenset(
    {"activity_seconds", *(f"window_activity_{each}_seconds" for each in ("min", "avg", "max", "total"))}
)
"""Families that no rule reads. They are three quarters of a scrape."""

ASKED_OF_LAST_WEEK = frozenset(
    {"taskrouter:recent_window:info", "taskrouter:reservations:recent", "taskrouter:outcome:ratio_rate1h"}
)
"""What rules read with an offset, and what that reads."""

VOICE = ("support", "voice")
EXPECTED: Mapping[Scenario, set[tuple[str, str, tuple[str, str]]]] = {
    Scenario.CALM: set(),
    Scenario.REJECTION_SPIKE: {
        ("TaskRouterRejectionSpike", "warning", VOICE),
        ("TaskRouterRejectionSpike", "critical", VOICE),
    },
    Scenario.TIMEOUT_SPIKE: {
        ("TaskRouterTimeoutSpike", "warning", VOICE),
        ("TaskRouterTimeoutSpike", "critical", VOICE),
    },
    Scenario.OUTAGE: {("TaskRouterNoReservations", "critical", VOICE)},
    Scenario.NO_AGENTS: {("TaskRouterNoReservations", "critical", VOICE)},
    Scenario.QUEUE_BACKLOG: set(),
}


@dataclass(frozen=True)
class Fired:
    """An alert that Prometheus would have sent, and from when to when."""

    alert: str
    severity: str
    target: tuple[str, str]
    begin: datetime
    end: datetime


def fired(prometheus: Prometheus, rule: Rule, begin: datetime, end: datetime) -> Iterator[Fired]:
    """Where a rule's expression holds, a minute a time, for as long as its `for`."""
    needed = parse_duration(rule["for"]) if "for" in rule else timedelta()
    held = prometheus.range(rule["expr"], begin.timestamp(), end.timestamp() - 60, 60)
    for labels, points in held.items():
        # Numbers that follow each other have the same distance from their place in the list.
        for _, run in groupby(
            enumerate(int(point.at) // 60 for point in points), lambda pair: pair[1] - pair[0]
        ):
            minutes = [minute for _, minute in run]
            first, last = (datetime.fromtimestamp(each * 60, UTC) for each in (minutes[0], minutes[-1]))
            if last - first >= needed:
                told = dict(labels)
                target = told.get("workspace", ""), told.get("channel", "")
                yield Fired(rule["alert"], rule["labels"]["severity"], target, first + needed, last)


@pytest.fixture
def blocks(program: Callable[[str, str], str], tmp_path: Path) -> Blocks:
    prometheus, promtool = (program(name, "prometheus") for name in ("prometheus", "promtool"))
    return Blocks(prometheus, promtool, tmp_path / "blocks", lookback=f"{STEP.total_seconds() + 5:.0f}s")


def take_through_the_exporter(
    history: History, blocks: Blocks, file: Path, begin: datetime, end: datetime
) -> None:
    """Scrape and record from begin to end. A file a day, as promtool reads each again for every two hours."""
    day = begin
    while day < end:
        history.write(file, day, min(day + DAY, end), STEP if day >= MONDAY else COARSE)
        blocks.add_scrapes(file)
        day += DAY


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("scenario", Scenario)
def test_in_a_simulated_week_exactly_the_right_alerts_fire(
    scenario: Scenario, blocks: Blocks, tmp_path: Path
) -> None:
    whole = FULL or scenario is Scenario.CALM
    begin, end = (MONDAY, MONDAY + WEEK) if whole else (WEDNESDAY, WEDNESDAY + DAY)
    history = History(
        ContactCentre(scenario=scenario, incident=None if scenario is Scenario.CALM else INCIDENT), ACTIVITIES
    )
    file = tmp_path / "scrapes"
    # Of the week before, half an hour more on each side, as "the same hour" reaches there.
    margin = timedelta(hours=2)
    before = begin - WEEK - margin, (begin if whole else end - WEEK + margin)
    for part in (before, (begin, end)):
        take_through_the_exporter(history, blocks, file, *part)
    history.close()
    blocks.add_recordings(
        [rule for rule in recordings(RULES) if rule["record"] in ASKED_OF_LAST_WEEK], *before
    )
    blocks.add_recordings(recordings(RULES), begin, end)
    with blocks.serve() as prometheus:
        found = [each for rule in RULES if "alert" in rule for each in fired(prometheus, rule, begin, end)]
    assert {(each.alert, each.severity, each.target) for each in found} == EXPECTED[scenario]
    for each in found:
        assert each.begin > INCIDENT.start
        assert each.begin < INCIDENT.end
        assert each.end < INCIDENT.end + timedelta(minutes=30)
        after = (each.begin - INCIDENT.start) // timedelta(minutes=1)
        over = (each.end - INCIDENT.end) // timedelta(minutes=1)
        print(f"{scenario}: {each.alert} ({each.severity}) from minute {after} to {over} min after the end")  # noqa: T201 -- a measurement, shown by `make weeks`
