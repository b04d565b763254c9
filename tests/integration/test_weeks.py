"""The alerts over weeks that no rule's author made up: the simulator's, through the exporter's own code.

The window that the rules read, the counters, and the queues of two channels are scraped. `WEEKS=full` takes
each scenario over its whole week and the week before, with a scrape a minute. Otherwise there is a scrape
every three minutes: in the calm scenario over a day, in the others over the hours around the incident, and
in the week before likewise.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from support.blocks import Blocks, Rule, read_rules, recordings
from support.exporter import ROOT
from support.history import History
from support.prometheus import Prometheus

from taskrouter_exporter.durations import parse_duration
from taskrouter_exporter.simulator import ContactCentre, Incident, Scenario
from tools.rules import SOURCES

FULL = os.environ.get("WEEKS") == "full"
RULES = read_rules(ROOT / "monitoring" / "rules" / "taskrouter.yaml")
DAY = timedelta(days=1)
WEEK = timedelta(days=7)
MONDAY = datetime(2026, 11, 9, tzinfo=UTC)
WEDNESDAY = MONDAY + 2 * DAY
INCIDENT = Incident(WEDNESDAY + timedelta(hours=10), WEDNESDAY + timedelta(hours=11))
STEP = timedelta(minutes=1 if FULL else 3)
"""Between scrapes, and between evaluations."""

AROUND = timedelta(hours=1.5)
"""Before and after an incident. The baseline is that of the week before."""

MARGIN = timedelta(hours=2)
"""How much further "the same hour of last week" reaches."""

ACTIVITIES = frozenset(
    {"activity_seconds", *(f"window_activity_{each}_seconds" for each in ("min", "avg", "max", "total"))}
)
"""Families that no rule reads. They are three quarters of a scrape."""

ASKED_OF_LAST_WEEK = frozenset(
    {
        *(f"taskrouter:{source.name}:{part}" for source in SOURCES for part in ("whole", "part")),
        *(f"taskrouter:{source.name}:{span}" for source in SOURCES for span in ("recent", "hour")),
        *("taskrouter:ratio:numerator", "taskrouter:ratio:denominator"),
        *("taskrouter:ratio:numerator_quarter", "taskrouter:ratio:denominator_quarter"),
    }
)
"""What rules read with an offset, and what that reads."""

QUEUED: Final = {"voice", "sms"}
"""The channels of support whose queues are polled."""

QUEUES: Final = {
    "statistics": ["workers", "tasks", "realtime"],
    "queues": ["Voice", "Messaging"],
    "service_levels": ["20s"],
}

VOICE: Final = ("support", "voice")
CALLS: Final = (*VOICE, "Voice")
MESSAGES: Final = ("support", "sms", "Messaging")
Told = set[tuple[str, str, tuple[str, ...]]]
"""Alert, severity, and the workspace, channel and queue that it is about."""


def both(alert: str, *target: str) -> Told:
    """Warning and critical."""
    return {(alert, severity, target) for severity in ("warning", "critical")}


SLOW: Final = {
    *both("TaskRouterTasksWaiting", *CALLS),
    *both("TaskRouterServiceLevelLow", *CALLS),
    *both("TaskRouterAbandonedSpike", *CALLS),
}
EXPECTED: Mapping[Scenario, Told] = {
    Scenario.CALM: set(),
    Scenario.REJECTION_SPIKE: {
        *both("TaskRouterRejectionSpike", *VOICE),
        *both("TaskRouterQueueRejectionSpike", *CALLS),
    },
    Scenario.TIMEOUT_SPIKE: {
        *both("TaskRouterTimeoutSpike", *VOICE),
        *both("TaskRouterQueueTimeoutSpike", *CALLS),
    },
    # No task arrives, and none waits.
    Scenario.OUTAGE: {("TaskRouterNoReservations", "critical", VOICE)},
    Scenario.NO_AGENTS: {
        *SLOW,
        *both("TaskRouterTasksWaiting", *MESSAGES),
        ("TaskRouterNoAvailableWorkers", "critical", CALLS),
        ("TaskRouterNoAvailableWorkers", "critical", MESSAGES),
        ("TaskRouterNoReservations", "critical", VOICE),
        ("TaskRouterNoReservations", "critical", ("support", "chat")),
    },
    # Reservations fare as ever.
    Scenario.QUEUE_BACKLOG: SLOW,
}


def polled(target: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The Workers' statistics of one of the demo's targets, and of support the queues of two channels."""
    common = {key: target[key] for key in ("workspace", "name", "account", "counters")}
    queued = QUEUED if target["name"] == "support" else set()
    for channel in target["channels"]:
        more = QUEUES if channel in queued else {}
        yield {**common, "channels": [channel], "windows": ["15m"], **more}


@dataclass(frozen=True)
class Fired:
    """An alert that Prometheus would have sent, and from when to when."""

    alert: str
    severity: str
    target: tuple[str, ...]
    begin: datetime
    end: datetime


def fired(prometheus: Prometheus, rule: Rule, begin: datetime, end: datetime) -> Iterator[Fired]:
    """When an alert fires: where its expression holds for as long as its `for`, and for `keep_firing_for`."""
    pending, keep = (
        parse_duration(rule[key]) if key in rule else timedelta() for key in ("for", "keep_firing_for")
    )
    step = STEP.total_seconds()
    held = prometheus.range(rule["expr"], begin.timestamp(), end.timestamp() - step, step)
    for labels, points in held.items():
        runs: list[tuple[datetime, datetime]] = []
        for at in (datetime.fromtimestamp(point.at, UTC) for point in points):
            first, last = runs[-1] if runs else (at, at)
            firing = last - first >= pending
            if runs and at - last <= (max(STEP, keep) if firing else STEP):
                runs[-1] = first, at
            else:
                runs.append((at, at))
        for first, last in runs:
            if last - first >= pending:
                told = dict(labels)
                target = tuple(told[name] for name in ("workspace", "channel", "queue") if name in told)
                yield Fired(rule["alert"], rule["labels"]["severity"], target, first + pending, last + keep)


@pytest.fixture
def blocks(program: Callable[[str, str], str], tmp_path: Path) -> Blocks:
    prometheus, promtool = (program(name, "prometheus") for name in ("prometheus", "promtool"))
    lookback = f"{STEP.total_seconds() + 5:.0f}s"
    return Blocks(prometheus, promtool, tmp_path / "blocks", lookback=lookback, longest="168h")


def take_through_the_exporter(
    history: History, blocks: Blocks, file: Path, begin: datetime, end: datetime
) -> None:
    """Scrape and record from begin to end. A file a day, as promtool reads each again for every two hours."""
    day = begin
    while day < end:
        history.write(file, day, min(day + DAY, end), STEP)
        blocks.add_scrapes(file)
        day += DAY


def period(scenario: Scenario) -> tuple[datetime, datetime]:
    """What is evaluated."""
    if FULL:
        return MONDAY, MONDAY + WEEK
    if scenario is Scenario.CALM:
        return WEDNESDAY, WEDNESDAY + DAY
    return INCIDENT.start - AROUND, INCIDENT.end + AROUND


@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("uncovered")
@pytest.mark.parametrize("scenario", Scenario)
def test_in_a_simulated_week_exactly_the_right_alerts_fire(
    scenario: Scenario, blocks: Blocks, tmp_path: Path
) -> None:
    begin, end = period(scenario)
    history = History(
        ContactCentre(scenario=scenario, incident=None if scenario is Scenario.CALM else INCIDENT),
        ACTIVITIES,
        polled,
    )
    file = tmp_path / "scrapes"
    before = begin - WEEK - MARGIN, begin if FULL else end - WEEK + MARGIN
    for part in (before, (begin, end)):
        take_through_the_exporter(history, blocks, file, *part)
    history.close()
    rules = [{"interval": f"{STEP.total_seconds():.0f}s", **rule} for rule in RULES]
    blocks.add_recordings(
        [rule for rule in recordings(rules) if rule["record"] in ASKED_OF_LAST_WEEK], *before
    )
    blocks.add_recordings(recordings(rules), begin, end)
    with blocks.serve() as prometheus:
        found = [each for rule in RULES if "alert" in rule for each in fired(prometheus, rule, begin, end)]
    assert {(each.alert, each.severity, each.target) for each in found} == EXPECTED[scenario]
    for each in found:
        assert each.begin > INCIDENT.start
        assert each.begin < INCIDENT.end
        # A queue has fewer reservations than its channel, and its last hour takes longer to look usual again.
        assert each.end < INCIDENT.end + timedelta(minutes=60 if len(each.target) > len(VOICE) else 45)
        after = (each.begin - INCIDENT.start) // timedelta(minutes=1)
        over = (each.end - INCIDENT.end) // timedelta(minutes=1)
        print(f"{scenario}: {each.alert} ({each.severity}) from minute {after} to {over} min after the end")  # noqa: T201 -- a measurement, shown by `make weeks`
