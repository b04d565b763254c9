"""The invariants of Tasks: whatever the interval, all statistics follow from one event log."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskrouter_exporter.simulator import (
    ContactCentre,
    Incident,
    Outcome,
    Scenario,
    TaskEvent,
    TaskEventKind,
    WorkspaceModel,
)
from taskrouter_exporter.simulator.tasks import LONGEST_LIFE

pytestmark = pytest.mark.usefixtures("uncovered")  # long calculations, which other tests cover

WEDNESDAY = datetime(2026, 11, 25, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
LIFE = LONGEST_LIFE * timedelta(microseconds=1)
INCIDENT = Incident(WEDNESDAY + 10 * HOUR + timedelta(seconds=30.5), WEDNESDAY + 11 * HOUR)
CENTRES = {
    scenario: ContactCentre(1, scenario, None if scenario is Scenario.CALM else INCIDENT)
    for scenario in Scenario
}
CALM = CENTRES[Scenario.CALM]
RESERVATIONS = ["reservations_created", *(f"reservations_{outcome}" for outcome in Outcome)]
LEFT = ("tasks_completed", "tasks_canceled", "tasks_deleted")
Kind = TaskEventKind

any_time_it_takes = settings(deadline=None)  # the first question about a day generates it
# Around an incident, the start of a day, and whole seconds, where real-time statistics are asked for.
moments = st.integers(-6 * 3600, 14 * 3600).map(lambda second: WEDNESDAY + timedelta(seconds=second))
spans = st.integers(0, 8 * 3600).map(lambda second: timedelta(seconds=second)) | st.integers(0, 900).map(
    lambda second: timedelta(seconds=second)
)


class Question(NamedTuple):
    """What to ask about; TaskQueues and Workflows by kind and number."""

    scenario: Scenario
    number: int
    channel: str | None
    name: str | None

    @property
    def centre(self) -> ContactCentre:
        return CENTRES[self.scenario]

    @property
    def workspace(self) -> WorkspaceModel:
        return self.centre.workspaces[self.number]

    @property
    def subject(self) -> str | None:
        if self.name is None:
            return None
        kind, number = self.name.split()
        return (self.workspace.queues if kind == "queue" else self.workspace.workflows)[int(number)].sid

    @property
    def about_a_queue(self) -> bool:
        return self.name is not None and self.name.startswith("queue")

    def cumulative(self, start: datetime, end: datetime, thresholds: tuple[int, ...] = ()) -> dict[str, Any]:
        return self.centre.task_statistics(
            self.workspace.sid, start, end, self.channel, self.subject, thresholds
        )

    def real_time(self, moment: datetime) -> dict[str, Any]:
        return self.centre.real_time_statistics(self.workspace.sid, moment, self.channel, self.subject)

    def events(self, start: datetime, end: datetime) -> list[TaskEvent]:
        """Return the events about the subject."""
        log = self.centre.task_events(self.workspace.sid, start, end, self.channel)
        return [event for event in log if self.concerns(event)]

    def lives(self, start: datetime, end: datetime) -> dict[str, list[TaskEvent]]:
        """Return the events up to `end` of each Task that can have an event after `start`."""
        tasks: dict[str, list[TaskEvent]] = {}
        for event in self.centre.task_events(self.workspace.sid, start - LIFE, end, self.channel):
            tasks.setdefault(event.task_sid, []).append(event)
        return {sid: events for sid, events in tasks.items() if events[0].kind is Kind.CREATED}

    def concerns(self, event: TaskEvent) -> bool:
        return self.subject in (None, event.queue.sid, event.workflow.sid)


questions = st.builds(
    Question,
    st.sampled_from(Scenario),
    st.integers(0, 2),
    st.sampled_from([None, "voice", "chat", "sms", "default"]),
    st.sampled_from([None, "queue 0", "queue 1", "queue 2", "workflow 0", "workflow 1", "workflow 2"]),
)
CALM_SUPPORT = Question(Scenario.CALM, 0, None, None)


def seconds(waits: Iterable[timedelta]) -> dict[str, int]:
    whole = [wait // timedelta(seconds=1) for wait in waits]
    if not whole:
        return {"avg": 0, "min": 0, "max": 0, "total": 0}
    return {"avg": round(sum(whole) / len(whole)), "min": min(whole), "max": max(whole), "total": sum(whole)}


def ended(events: list[TaskEvent]) -> TaskEvent | None:
    kinds = (Kind.COMPLETED, Kind.CANCELED, Kind.DELETED)
    return next((event for event in events if event.kind in kinds), None)


@any_time_it_takes
@given(questions, moments, spans)
def test_cumulative_statistics_agree_with_the_event_log(
    question: Question, start: datetime, span: timedelta
) -> None:
    end = start + span
    answer = question.cumulative(start, end)
    events = question.events(start, end)
    counts = Counter(event.kind for event in events)
    outcomes = Counter(event.outcome for event in events)
    for attribute in ("completed", "canceled", "deleted"):
        assert answer[f"tasks_{attribute}"] == counts[Kind(attribute)]
    assert answer.get("tasks_timed_out_in_workflow", counts[Kind.TIMED_OUT]) == counts[Kind.TIMED_OUT]
    if question.subject is None:
        assert answer["tasks_created"] == counts[Kind.CREATED]
    if question.subject is None or question.about_a_queue:
        assert answer["tasks_moved"] == counts[Kind.MOVED]
        assert answer.get("tasks_entered", counts[Kind.ENTERED]) == counts[Kind.ENTERED]
    assert answer["reservations_created"] == counts[Kind.RESERVED]
    for outcome in Outcome:
        assert answer[f"reservations_{outcome}"] == outcomes[outcome]


@any_time_it_takes
@given(questions, moments, spans)
def test_waits_agree_with_the_event_log(question: Question, start: datetime, span: timedelta) -> None:
    end = start + span
    answer = question.cumulative(start, end)
    waits: dict[Kind, list[timedelta]] = {Kind.ACCEPTED: [], Kind.CANCELED: []}
    in_queue = []
    for events in question.lives(start, end).values():
        entered = events[0].at
        for event in events:
            if event.kind is Kind.ENTERED:
                entered = event.at
            if event.kind in waits and event.at >= start and question.concerns(event):
                waits[event.kind].append(event.at - events[0].at)
                if event.kind is Kind.ACCEPTED:
                    in_queue.append(event.at - entered)
    assert answer["wait_duration_until_accepted"] == seconds(waits[Kind.ACCEPTED])
    assert answer["wait_duration_until_canceled"] == seconds(waits[Kind.CANCELED])
    assert answer.get("wait_duration_in_queue_until_accepted", seconds(in_queue)) == seconds(in_queue)
    assert answer["avg_task_acceptance_time"] == answer["wait_duration_until_accepted"]["avg"]
    for durations in (answer["wait_duration_until_accepted"], answer["wait_duration_until_canceled"]):
        assert 0 <= durations["min"] <= durations["avg"] <= durations["max"] <= durations["total"]


@any_time_it_takes
@given(questions, moments, spans, st.lists(st.integers(0, 300), min_size=1))
def test_both_sides_of_each_threshold_add_up(
    question: Question,
    start: datetime,
    span: timedelta,
    thresholds: list[int],
) -> None:
    answer = question.cumulative(start, start + span, tuple(dict.fromkeys(thresholds)))
    splits = answer["split_by_wait_time"]
    assert set(splits) == set(map(str, thresholds))
    for attribute in ("reservations_accepted", "tasks_canceled"):
        for split in splits.values():
            assert split["below"][attribute] + split["above"][attribute] == answer[attribute]
        below = [splits[str(threshold)]["below"][attribute] for threshold in sorted(thresholds)]
        assert below == sorted(below)


def test_the_split_agrees_with_the_event_log() -> None:
    end = WEDNESDAY + 12 * HOUR
    split = CALM_SUPPORT.cumulative(end - HOUR, end, (20, 60))["split_by_wait_time"]
    for threshold in (20, 60):
        waits = {Kind.ACCEPTED: Counter[bool](), Kind.CANCELED: Counter[bool]()}
        for events in CALM_SUPPORT.lives(end - HOUR, end).values():
            for event in events:
                if event.kind in waits and event.at >= end - HOUR:
                    waits[event.kind][event.at - events[0].at < timedelta(seconds=threshold)] += 1
        for side, is_below in (("below", True), ("above", False)):
            assert split[str(threshold)][side] == {
                "reservations_accepted": waits[Kind.ACCEPTED][is_below],
                "tasks_canceled": waits[Kind.CANCELED][is_below],
            }


def test_a_split_counts_ten_thousand_tasks_at_most() -> None:
    answer = CALM_SUPPORT.cumulative(WEDNESDAY - 10 * DAY, WEDNESDAY, (20,))
    assert answer["tasks_canceled"] + answer["reservations_accepted"] > 10_000
    assert sum(sum(side.values()) for side in answer["split_by_wait_time"]["20"].values()) == 10_000


@any_time_it_takes
@given(questions, moments, spans)
def test_queue_rows_and_workflow_rows_add_up_to_the_workspace(
    question: Question, start: datetime, span: timedelta
) -> None:
    centre, workspace, channel = question.centre, question.workspace, question.channel

    def rows(subjects: Iterable[Any]) -> list[dict[str, Any]]:
        return [
            centre.task_statistics(workspace.sid, start, start + span, channel, subject.sid)
            for subject in subjects
        ]

    whole = centre.task_statistics(workspace.sid, start, start + span, channel)
    for parts in (rows(workspace.queues), rows(workspace.workflows)):
        for attribute in (*RESERVATIONS, *LEFT):
            assert sum(part[attribute] for part in parts) == whole[attribute]
        entered, moved = (sum(part[name] for part in parts) for name in ("tasks_entered", "tasks_moved"))
        assert entered - moved == whole["tasks_created"]
        for until in ("accepted", "canceled"):
            attribute = f"wait_duration_until_{until}"
            assert sum(part[attribute]["total"] for part in parts) == whole[attribute]["total"]
            assert max(part[attribute]["max"] for part in parts) == whole[attribute]["max"]
    workers = centre.statistics(workspace.sid, start, start + span, channel)
    assert {name: whole[name] for name in RESERVATIONS} == {name: workers[name] for name in RESERVATIONS}


@any_time_it_takes
@given(questions, moments)
def test_real_time_statistics_agree_with_the_event_log(question: Question, moment: datetime) -> None:
    answer = question.real_time(moment)
    statuses: Counter[str] = Counter()
    waiting, in_queue = {}, {}
    status_after = {
        Kind.CREATED: "pending", Kind.RESERVED: "reserved", Kind.RELEASED: "pending",
        Kind.ACCEPTED: "assigned", Kind.WRAPPING: "wrapping",
    }  # fmt: skip
    for sid, events in question.lives(moment, moment).items():
        if ended(events) is None and question.concerns(events[-1]):
            status = [status_after[event.kind] for event in events if event.kind in status_after][-1]
            statuses[status] += 1
            if status in ("pending", "reserved"):
                waiting[sid] = (moment - events[0].at) // timedelta(seconds=1)
                entries = [event.at for event in events if event.kind is Kind.ENTERED]
                in_queue[sid] = (moment - entries[-1]) // timedelta(seconds=1)
    assert answer["tasks_by_status"] == {
        status: statuses[status] for status in ("reserved", "pending", "assigned", "wrapping")
    }
    assert answer["total_tasks"] == sum(answer["tasks_by_status"].values())
    assert sum(answer["tasks_by_priority"].values()) == answer["total_tasks"]
    assert answer["longest_task_waiting_age"] == max(waiting.values(), default=0)
    assert answer["longest_task_waiting_sid"] in (waiting or [None])
    if question.about_a_queue:
        assert answer["longest_relative_task_age_in_queue"] == max(in_queue.values(), default=0)
        assert answer["longest_relative_task_age_in_queue"] <= answer["longest_task_waiting_age"]


@any_time_it_takes
@given(questions, moments, spans)
def test_what_entered_and_has_not_left_is_present(
    question: Question, start: datetime, span: timedelta
) -> None:
    """Between two moments, real-time statistics change by what cumulative statistics count."""
    before, after = (question.real_time(moment) for moment in (start, start + span))
    between = question.cumulative(start, start + span)
    # In a workspace, a Task that moves neither enters nor leaves.
    entered = between.get("tasks_created", between.get("tasks_entered"))
    left = sum(between[name] for name in (LEFT if question.subject is None else (*LEFT, "tasks_moved")))
    assert before["total_tasks"] + entered - left == after["total_tasks"]
    waiting = sum(
        sign * (row["tasks_by_status"]["pending"] + row["tasks_by_status"]["reserved"])
        for sign, row in ((1, after), (-1, before))
    )
    if question.subject is None:
        not_accepted = between["tasks_canceled"] + between["tasks_deleted"]
        assert waiting == entered - between["reservations_accepted"] - not_accepted


@any_time_it_takes
@given(questions, moments, spans, spans)
def test_statistics_of_adjacent_intervals_add_up(
    question: Question,
    start: datetime,
    first: timedelta,
    second: timedelta,
) -> None:
    middle = start + first

    def counts(begin: datetime, end: datetime) -> Counter[str]:
        answer = question.cumulative(begin, end)
        totals = {name: value["total"] for name, value in answer.items() if name.startswith("wait_")}
        return Counter({n: v for n, v in answer.items() if n.startswith(("tasks", "res"))} | totals)

    whole = counts(start, middle + second)
    parts = counts(start, middle)
    parts.update(counts(middle, middle + second))
    assert parts == whole


@any_time_it_takes
@given(questions, moments)
def test_activities_at_a_moment_agree_with_their_durations(question: Question, moment: datetime) -> None:
    centre, workspace = question.centre, question.workspace
    answer = centre.real_time_statistics(workspace.sid, moment)
    durations = centre.statistics(workspace.sid, moment, moment + timedelta(seconds=1))["activity_durations"]
    assert [(a["sid"], a["workers"]) for a in answer["activity_statistics"]] == [
        (duration["sid"], duration["total"]) for duration in durations
    ]
    assert sum(a["workers"] for a in answer["activity_statistics"]) == answer["total_workers"]
    for queue in workspace.queues:
        row = centre.real_time_statistics(workspace.sid, moment, None, queue.sid)
        by_name = {a["friendly_name"]: a["workers"] for a in row["activity_statistics"]}
        assert row["total_available_workers"] == by_name["Available"]
        assert row["total_eligible_workers"] == sum(by_name.values())
        assert 0 < row["total_eligible_workers"] < answer["total_workers"]


@settings(deadline=None, max_examples=10)
@given(st.permutations(range(6)))
def test_the_order_of_questions_does_not_matter(order: list[int]) -> None:
    for scenario in (Scenario.CALM, Scenario.NO_AGENTS):
        known = CENTRES[scenario]
        fresh = ContactCentre(1, scenario, known.incident)
        sid = fresh.workspaces[0].sid
        for hour in order:
            moment = WEDNESDAY + (hour + 8) * HOUR
            interval = moment - HOUR, moment
            assert fresh.real_time_statistics(sid, moment) == known.real_time_statistics(sid, moment)
            assert fresh.task_statistics(sid, *interval) == known.task_statistics(sid, *interval)


def test_every_life_follows_the_rules() -> None:
    """Created once, first; one end, last; each reservation ends before the next; nothing after acceptance."""
    for scenario in Scenario:
        for number in range(3):
            kinds: Counter[Kind] = Counter()
            question = Question(scenario, number, None, None)
            for events in question.lives(WEDNESDAY, WEDNESDAY + 20 * HOUR).values():
                names = [event.kind for event in events]
                kinds.update(names)
                assert names[:2] == [Kind.CREATED, Kind.ENTERED]
                end = ended(events)
                if end is None:
                    continue
                assert end is events[-1]
                assert end.at - events[0].at <= LIFE
                if end.kind is Kind.COMPLETED:
                    assert names[-4:] == [Kind.RESERVED, Kind.ACCEPTED, Kind.WRAPPING, Kind.COMPLETED]
                else:
                    assert Kind.ACCEPTED not in names
                reservations = [n for n in names if n in (Kind.RESERVED, Kind.RELEASED, Kind.ACCEPTED)]
                assert all(kind is Kind.RESERVED for kind in reservations[::2])
                assert all(kind is not Kind.RESERVED for kind in reservations[1::2])
            assert set(kinds) == set(Kind)


def test_each_workflow_routes_to_its_own_queues() -> None:
    for workspace in CALM.workspaces:
        targets: dict[str, set[str]] = {}
        by_channel: dict[str, set[str]] = {}
        for event in CALM.task_events(workspace.sid, WEDNESDAY - 2 * DAY, WEDNESDAY):
            targets.setdefault(event.workflow.friendly_name, set()).add(event.queue.friendly_name)
            by_channel.setdefault(event.queue.friendly_name, set()).add(event.channel)
        priority = {"Priority"} & {queue.friendly_name for queue in workspace.queues}
        assert targets == {
            "Incoming calls": {"Voice"} | priority,
            "Incoming messages": {"Messaging"} | priority,
            "Escalations": {"Escalations"},
        }
        assert by_channel["Voice"] == {"voice"}
        assert by_channel["Messaging"] == {"chat", "sms"}


def test_an_unknown_subject_is_a_key_error() -> None:
    workspace, other = CALM.workspaces[:2]
    for sid in ("WQ0", other.queues[0].sid, other.workflows[0].sid):
        with pytest.raises(KeyError):
            CALM.task_statistics(workspace.sid, WEDNESDAY, WEDNESDAY + HOUR, None, sid)
        with pytest.raises(KeyError):
            CALM.real_time_statistics(workspace.sid, WEDNESDAY, None, sid)


def test_a_centre_ahead_of_utc_has_its_day_earlier() -> None:
    """Its history is another centre's, at another time."""
    ahead = timedelta(days=3, hours=5)
    centre = ContactCentre(
        1, Scenario.NO_AGENTS, Incident(INCIDENT.start - ahead, INCIDENT.end - ahead), ahead
    )
    base = CENTRES[Scenario.NO_AGENTS]
    workspace = base.workspaces[0]
    start, end = WEDNESDAY + 9 * HOUR, WEDNESDAY + 12 * HOUR
    times = {"start_time", "end_time"}
    for ask in ("statistics", "task_statistics"):
        answer = getattr(centre, ask)(workspace.sid, start - ahead, end - ahead)
        expected = getattr(base, ask)(workspace.sid, start, end)
        assert {n: v for n, v in answer.items() if n not in times} == {
            n: v for n, v in expected.items() if n not in times
        }
        assert answer["start_time"] == "2026-11-22T04:00:00Z"
    moment = INCIDENT.start + 5 * MINUTE
    assert centre.real_time_statistics(workspace.sid, moment - ahead) == base.real_time_statistics(
        workspace.sid, moment
    )
    assert [r.created + ahead for r in centre.reservations(workspace.sid, start - ahead, end - ahead)] == [
        r.created for r in base.reservations(workspace.sid, start, end)
    ]
