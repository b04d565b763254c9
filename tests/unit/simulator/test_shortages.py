"""The scenarios in which Workers are short: nobody is available, or one TaskQueue backs up."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from taskrouter_exporter.simulator import ContactCentre, Incident, Scenario

WEDNESDAY = datetime(2026, 11, 25, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
INCIDENT = Incident(WEDNESDAY + 10 * HOUR, WEDNESDAY + 11 * HOUR)
CALM = ContactCentre()
NO_AGENTS = ContactCentre(1, Scenario.NO_AGENTS, INCIDENT)
BACKLOG = ContactCentre(1, Scenario.QUEUE_BACKLOG, INCIDENT)
SUPPORT = CALM.workspaces[0]
VOICE, *OTHER_QUEUES = SUPPORT.queues


def waits(centre: ContactCentre, minutes: range) -> list[int]:
    """Return the longest wait in the TaskQueue Voice at these minutes of the incident."""
    return [
        centre.real_time_statistics(SUPPORT.sid, INCIDENT.start + minute * MINUTE, None, VOICE.sid)[
            "longest_task_waiting_age"
        ]
        for minute in minutes
    ]


def hour_of_voice(centre: ContactCentre) -> dict[str, Any]:
    """Return the statistics of the TaskQueue Voice during the incident."""
    return centre.task_statistics(SUPPORT.sid, INCIDENT.start, INCIDENT.end, None, VOICE.sid, (60,))


def service_level(statistics: dict[str, Any]) -> float:
    """Return the share of Tasks that waited for less than a minute and were accepted."""
    split = statistics["split_by_wait_time"]["60"]
    accepted, ended = split["below"]["reservations_accepted"], sum(map(sum, map(dict.values, split.values())))
    return float(accepted / ended)


def answers(centre: ContactCentre, start: datetime, end: datetime) -> Iterator[dict[str, Any]]:
    """Yield all kinds of statistics of every workspace."""
    for workspace in centre.workspaces:
        yield centre.statistics(workspace.sid, start, end)
        for subject in (None, *workspace.queues, *workspace.workflows):
            sid = subject and subject.sid
            yield centre.task_statistics(workspace.sid, start, end, None, sid)
            yield centre.real_time_statistics(workspace.sid, end, None, sid)


@pytest.mark.parametrize("centre", [NO_AGENTS, BACKLOG], ids=["no-agents", "queue-backlog"])
def test_before_a_shortage_and_long_after_it_all_is_calm(centre: ContactCentre) -> None:
    for start, end in (
        (INCIDENT.start - 5 * HOUR, INCIDENT.start - timedelta(seconds=1)),
        (INCIDENT.end + 5 * HOUR, INCIDENT.end + 8 * HOUR),
    ):
        assert list(answers(centre, start, end)) == list(answers(CALM, start, end))


@pytest.mark.parametrize("centre", [NO_AGENTS, BACKLOG], ids=["no-agents", "queue-backlog"])
def test_waiting_tasks_are_accepted_within_ten_minutes_after_a_shortage(centre: ContactCentre) -> None:
    assert max(waits(centre, range(70, 100))) <= max(waits(CALM, range(70, 100))) < 300


@pytest.mark.parametrize("centre", [NO_AGENTS, BACKLOG], ids=["no-agents", "queue-backlog"])
def test_as_many_tasks_enter_in_a_shortage_and_more_are_canceled(centre: ContactCentre) -> None:
    calm, short = hour_of_voice(CALM), hour_of_voice(centre)
    assert short["tasks_entered"] == calm["tasks_entered"]
    assert short["tasks_canceled"] > 4 * calm["tasks_canceled"]
    assert service_level(calm) > 0.85
    assert service_level(short) < 0.15


def test_without_agents_nobody_is_available_and_nothing_is_reserved() -> None:
    for minute in (0, 1, 30, 59):
        moment = INCIDENT.start + minute * MINUTE
        for queue in SUPPORT.queues:
            row = NO_AGENTS.real_time_statistics(SUPPORT.sid, moment, None, queue.sid)
            assert row["total_available_workers"] == 0
            calm = CALM.real_time_statistics(SUPPORT.sid, moment, None, queue.sid)
            assert calm["total_available_workers"] > 0
            assert row["total_eligible_workers"] == calm["total_eligible_workers"]
    assert NO_AGENTS.reservations(SUPPORT.sid, INCIDENT.start, INCIDENT.end) == []


def test_without_agents_the_longest_wait_grows() -> None:
    for minute, wait in zip(range(5, 30), waits(NO_AGENTS, range(5, 30)), strict=True):
        assert 45 * minute < wait < 60 * minute + 60


def test_without_agents_tasks_time_out_in_their_workflow() -> None:
    incident = Incident(INCIDENT.start, INCIDENT.start + 3 * HOUR)
    centre = ContactCentre(1, Scenario.NO_AGENTS, incident)
    statistics = centre.task_statistics(SUPPORT.sid, incident.start, incident.end)
    assert statistics["tasks_timed_out_in_workflow"] > 10
    assert statistics["tasks_deleted"] >= statistics["tasks_timed_out_in_workflow"]


def test_without_agents_other_workspaces_are_calm() -> None:
    for workspace in CALM.workspaces[1:]:
        for centre in (NO_AGENTS, BACKLOG):
            assert centre.task_statistics(
                workspace.sid, INCIDENT.start, INCIDENT.end
            ) == CALM.task_statistics(workspace.sid, INCIDENT.start, INCIDENT.end)


def test_in_a_backlog_waits_grow_in_one_queue_while_workers_are_available() -> None:
    early, late = waits(BACKLOG, range(5)), waits(BACKLOG, range(20, 60))
    assert max(early) < 300
    assert min(late) > 600
    row = BACKLOG.real_time_statistics(SUPPORT.sid, INCIDENT.start + 30 * MINUTE, None, VOICE.sid)
    assert row["total_available_workers"] > 0
    for queue in OTHER_QUEUES[::2]:  # Messaging and Priority; fewer Tasks are escalated from Voice
        interval = INCIDENT.start, INCIDENT.end
        assert BACKLOG.task_statistics(SUPPORT.sid, *interval, None, queue.sid) == CALM.task_statistics(
            SUPPORT.sid, *interval, None, queue.sid
        )


def test_in_a_backlog_fewer_tasks_are_accepted() -> None:
    calm, short = hour_of_voice(CALM), hour_of_voice(BACKLOG)
    share = short["reservations_accepted"] / calm["reservations_accepted"]
    assert 0.25 < share < 0.45
