import json
import os
import re
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskrouter_exporter.simulator import ContactCentre, Incident, Outcome, Scenario

pytestmark = pytest.mark.usefixtures("uncovered")  # long calculations, which other tests cover

CENTRE = ContactCentre(seed=1)
WEDNESDAY = datetime(2026, 11, 25, tzinfo=UTC)
MONTH = timedelta(days=30)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
OUTCOMES = [f"reservations_{outcome}" for outcome in Outcome]
COUNTS = ["reservations_created", *OUTCOMES]
SPIKES = {Scenario.REJECTION_SPIKE: "reservations_rejected", Scenario.TIMEOUT_SPIKE: "reservations_timed_out"}
INCIDENT = Incident(WEDNESDAY + 10 * HOUR, WEDNESDAY + 14 * HOUR)

any_time_it_takes = settings(deadline=None)  # the first question about a day generates it
workspaces = st.sampled_from(CENTRE.workspaces)
channels = st.sampled_from([None, "voice", "chat", "sms"])
any_moments = st.datetimes((WEDNESDAY - MONTH).replace(tzinfo=None), WEDNESDAY.replace(tzinfo=None)).map(
    lambda moment: moment.replace(tzinfo=UTC)
)
# What begins in one hour and ends in the next shows where an interval begins with an hour.
moments = any_moments | any_moments.map(lambda moment: moment.replace(minute=0, second=0, microsecond=0))
whole_seconds = moments.map(lambda moment: moment.replace(microsecond=0))
# A few bounds close together find more than ones that are days apart.
spans = st.integers(0, 3 * 86_400_000_000).map(lambda us: timedelta(microseconds=us)) | st.integers(
    0, 90_000_000
).map(lambda us: timedelta(microseconds=us))


def counts(statistics: dict[str, Any]) -> dict[str, int]:
    """Reservation counts and total seconds per Activity: what adds up."""
    totals = {activity["sid"]: activity["total"] for activity in statistics["activity_durations"]}
    return {name: statistics[name] for name in COUNTS} | totals


def test_the_centre_has_three_workspaces_with_four_channels_and_eight_activities() -> None:
    assert [w.friendly_name for w in CENTRE.workspaces] == ["support", "sales", "billing"]
    for workspace in CENTRE.workspaces:
        assert [channel.unique_name for channel in workspace.channels] == ["voice", "chat", "sms", "default"]
        names = [name for _, name in workspace.activities]
        assert names[:2] == ["Offline", "Available"]
        assert len(set(names)) == 8


def test_the_channel_that_twilio_creates_has_no_tasks() -> None:
    for workspace in CENTRE.workspaces:
        statistics = CENTRE.statistics(workspace.sid, WEDNESDAY - MONTH, WEDNESDAY, "default")
        assert [statistics[name] for name in COUNTS] == [0] * len(COUNTS)


def test_every_sid_has_its_prefix_and_is_unique() -> None:
    sids = [CENTRE.account_sid]
    for workspace in CENTRE.workspaces:
        sids += [workspace.sid, *(c.sid for c in workspace.channels), *(a.sid for a in workspace.activities)]
    assert len(set(sids)) == len(sids) == 1 + 3 * (1 + 4 + 8)
    assert all(re.fullmatch("(AC|WS|TC|WA)[0-9a-f]{32}", sid) for sid in sids)
    assert re.fullmatch("[0-9a-f]{32}", CENTRE.auth_token)


def test_statistics_have_the_published_attributes() -> None:
    statistics = CENTRE.statistics(CENTRE.workspaces[0].sid, WEDNESDAY, WEDNESDAY + HOUR)
    assert set(statistics) == {"workspace_sid", "activity_durations", "start_time", "end_time", *COUNTS}
    assert (statistics["start_time"], statistics["end_time"]) == (
        "2026-11-25T00:00:00Z",
        "2026-11-25T01:00:00Z",
    )
    for activity in statistics["activity_durations"]:
        assert set(activity) == {"sid", "friendly_name", "min", "avg", "max", "total"}


def test_another_process_with_the_same_seed_answers_alike() -> None:
    program = (
        "import json; from datetime import *; from taskrouter_exporter.simulator import ContactCentre;"
        "c = ContactCentre(seed=1); t = datetime(2026, 11, 25, tzinfo=UTC);"
        "s = [c.statistics(w.sid, t, t + timedelta(hours=30)) for w in c.workspaces];"
        "print(json.dumps([c.auth_token, s]))"
    )
    other = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONHASHSEED": "42", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    here = [CENTRE.statistics(w.sid, WEDNESDAY, WEDNESDAY + 30 * HOUR) for w in CENTRE.workspaces]
    assert json.loads(other.stdout) == [CENTRE.auth_token, here]


def test_earlier_requests_do_not_change_the_answer() -> None:
    fresh = ContactCentre(seed=1)
    late = fresh.statistics(fresh.workspaces[0].sid, WEDNESDAY, WEDNESDAY + DAY)
    assert late == CENTRE.statistics(CENTRE.workspaces[0].sid, WEDNESDAY, WEDNESDAY + DAY)


def test_another_seed_is_another_centre() -> None:
    other = ContactCentre(seed=2)
    assert other.account_sid != CENTRE.account_sid
    first, second = (
        counts(centre.statistics(centre.workspaces[0].sid, WEDNESDAY, WEDNESDAY + DAY))
        for centre in (CENTRE, other)
    )
    assert first["reservations_created"] != second["reservations_created"]


@any_time_it_takes
@given(workspaces, channels, moments, spans, spans)
def test_statistics_of_adjacent_intervals_add_up(
    workspace: Any, channel: str | None, start: datetime, first: timedelta, second: timedelta
) -> None:
    middle, end = start + first, start + first + second
    first_part = counts(CENTRE.statistics(workspace.sid, start, middle, channel))
    second_part = counts(CENTRE.statistics(workspace.sid, middle, end, channel))
    whole = counts(CENTRE.statistics(workspace.sid, start, end, channel))
    assert whole == {key: first_part[key] + second_part[key] for key in whole}


@any_time_it_takes
@given(workspaces, channels, moments, st.tuples(spans, spans, spans))
def test_overlapping_intervals_of_the_event_log_agree(
    workspace: Any, channel: str | None, start: datetime, gaps: tuple[timedelta, timedelta, timedelta]
) -> None:
    before, span, after = gaps
    inner_start, inner_end = start + before, start + before + span
    outer = CENTRE.reservations(workspace.sid, start, inner_end + after, channel)
    inner = CENTRE.reservations(workspace.sid, inner_start, inner_end, channel)
    assert inner == [r for r in outer if inner_start <= r.created < inner_end]


@any_time_it_takes
@given(workspaces, channels, moments, spans)
def test_statistics_agree_with_the_event_log(
    workspace: Any, channel: str | None, start: datetime, span: timedelta
) -> None:
    end = start + span
    log = CENTRE.reservations(workspace.sid, start - 2 * HOUR, end, channel)
    expected = Counter(f"reservations_{r.outcome}" for r in log if start <= r.ended < end)
    expected["reservations_created"] = sum(start <= r.created for r in log)
    statistics = CENTRE.statistics(workspace.sid, start, end, channel)
    assert {name: statistics[name] for name in COUNTS} == {name: expected[name] for name in COUNTS}


@any_time_it_takes
@given(workspaces, whole_seconds, st.integers(0, 200_000))
def test_every_worker_is_in_exactly_one_activity_at_a_time(
    workspace: Any, start: datetime, seconds: int
) -> None:
    workers = {"support": 40, "sales": 18, "billing": 8}[workspace.friendly_name]
    durations = CENTRE.statistics(workspace.sid, start, start + timedelta(seconds=seconds))[
        "activity_durations"
    ]
    assert [activity["sid"] for activity in durations] == [activity.sid for activity in workspace.activities]
    assert sum(activity["total"] for activity in durations) == workers * seconds
    for activity in durations:
        assert 0 <= activity["min"] <= activity["avg"] <= activity["max"] <= min(seconds, activity["total"])


def test_midnight_does_not_cut_a_stint_in_two() -> None:
    """Seven of billing's eight Workers are off duty around midnight."""
    billing = CENTRE.workspaces[2]
    offline = CENTRE.statistics(billing.sid, WEDNESDAY - HOUR, WEDNESDAY + HOUR)["activity_durations"][0]
    assert offline == {
        "sid": billing.activities[0].sid,
        "friendly_name": "Offline",
        "min": 7200,
        "avg": 7200,
        "max": 7200,
        "total": 7 * 7200,
    }


def test_no_stint_is_without_time_not_even_at_midnight() -> None:
    support = CENTRE.workspaces[0]
    for day in range(30):
        midnight = WEDNESDAY - day * DAY
        durations = CENTRE.statistics(support.sid, midnight - HOUR, midnight + HOUR)["activity_durations"]
        assert all(activity["min"] > 0 for activity in durations if activity["total"])


def test_an_activity_without_time_in_the_interval_appears_with_zeros() -> None:
    durations = CENTRE.statistics(CENTRE.workspaces[2].sid, WEDNESDAY, WEDNESDAY + HOUR)["activity_durations"]
    lunch = next(activity for activity in durations if activity["friendly_name"] == "Lunch")
    assert {lunch[key] for key in ("min", "avg", "max", "total")} == {0}


def test_every_activity_occurs_on_a_weekday() -> None:
    for workspace in CENTRE.workspaces:
        durations = CENTRE.statistics(workspace.sid, WEDNESDAY - 7 * DAY, WEDNESDAY)["activity_durations"]
        assert all(activity["total"] for activity in durations)


def test_the_channels_add_up_to_the_workspace() -> None:
    for workspace in CENTRE.workspaces:
        whole = CENTRE.statistics(workspace.sid, WEDNESDAY, WEDNESDAY + DAY)
        parts = [
            CENTRE.statistics(workspace.sid, WEDNESDAY, WEDNESDAY + DAY, channel.sid)
            for channel in workspace.channels
        ]
        assert {name: whole[name] for name in COUNTS} == {n: sum(part[n] for part in parts) for n in COUNTS}


def test_a_channel_is_selected_by_its_sid_or_its_unique_name() -> None:
    workspace = CENTRE.workspaces[0]
    by_name, by_sid = (
        CENTRE.reservations(workspace.sid, WEDNESDAY, WEDNESDAY + DAY, channel)
        for channel in ("chat", workspace.channels[1].sid)
    )
    assert by_name == by_sid
    assert {reservation.channel for reservation in by_name} == {"chat"}


@pytest.mark.parametrize(("workspace_sid", "channel"), [("WS0", None), (CENTRE.workspaces[0].sid, "fax")])
def test_an_unknown_workspace_or_channel_is_a_key_error(workspace_sid: str, channel: str | None) -> None:
    with pytest.raises(KeyError):
        CENTRE.statistics(workspace_sid, WEDNESDAY, WEDNESDAY + HOUR, channel)
    with pytest.raises(KeyError):
        CENTRE.reservations(workspace_sid, WEDNESDAY, WEDNESDAY + HOUR, channel)


def created(
    start: datetime, span: timedelta, channel: str | None = None, centre: ContactCentre = CENTRE
) -> int:
    count = centre.statistics(centre.workspaces[0].sid, start, start + span, channel)["reservations_created"]
    assert isinstance(count, int)
    return count


def test_nights_are_quiet_and_weekends_calmer() -> None:
    night, noon = created(WEDNESDAY + HOUR, 3 * HOUR), created(WEDNESDAY + 10 * HOUR, 3 * HOUR)
    saturday_noon = created(WEDNESDAY - 4 * DAY + 10 * HOUR, 3 * HOUR)
    assert 0 < night < noon / 5
    assert noon / 3 < saturday_noon < noon * 0.7


def test_voice_of_the_largest_workspace_is_never_silent_in_daytime() -> None:
    quarters = [
        WEDNESDAY - day * DAY + 8 * HOUR + quarter * 15 * MINUTE for day in range(30) for quarter in range(40)
    ]
    assert all(created(start, 15 * MINUTE, "voice") for start in quarters)


def test_the_outcomes_have_realistic_shares_that_differ_by_channel() -> None:
    shares = []
    for workspace in CENTRE.workspaces:
        for channel in workspace.channels[:-1]:
            statistics = CENTRE.statistics(workspace.sid, WEDNESDAY - MONTH, WEDNESDAY, channel.sid)
            ended = [statistics[outcome] for outcome in OUTCOMES]
            assert all(ended)
            assert 0.8 < ended[0] / sum(ended) < 0.95
            shares.append(ended[0] / sum(ended))
    assert max(shares) - min(shares) > 0.05


def test_reservations_pend_seconds_to_minutes_before_they_end() -> None:
    log = CENTRE.reservations(CENTRE.workspaces[0].sid, WEDNESDAY, WEDNESDAY + DAY)
    pending = sorted((r.ended - r.created).total_seconds() for r in log)
    assert pending[0] >= 0.5
    assert 5 < pending[len(pending) // 2] < 60
    assert 120 < pending[-1] <= 600
    assert log == sorted(log, key=lambda reservation: reservation.created)


def incident_centre(scenario: Scenario) -> ContactCentre:
    return ContactCentre(seed=1, scenario=scenario, incident=INCIDENT)


@pytest.mark.parametrize(("scenario", "attribute"), SPIKES.items())
def test_a_spike_takes_close_to_half_of_the_voice_reservations(scenario: Scenario, attribute: str) -> None:
    centre = incident_centre(scenario)
    voice = centre.statistics(centre.workspaces[0].sid, INCIDENT.start, INCIDENT.end, "voice")
    assert 0.4 < voice[attribute] / sum(voice[outcome] for outcome in OUTCOMES) < 0.5
    assert voice["reservations_created"] == created(INCIDENT.start, INCIDENT.end - INCIDENT.start, "voice")


def test_an_outage_creates_no_voice_reservation() -> None:
    centre = incident_centre(Scenario.OUTAGE)
    assert created(INCIDENT.start, INCIDENT.end - INCIDENT.start, "voice", centre) == 0
    assert centre.reservations(centre.workspaces[0].sid, INCIDENT.start, INCIDENT.end, "voice") == []
    assert created(INCIDENT.start - MINUTE, MINUTE, "voice", centre) > 0
    assert created(INCIDENT.end, MINUTE, "voice", centre) > 0


@pytest.mark.parametrize("scenario", [s for s in Scenario if s not in (Scenario.CALM, Scenario.NO_AGENTS)])
def test_an_incident_changes_only_its_own_channel(scenario: Scenario) -> None:
    centre = incident_centre(scenario)
    for workspace in CENTRE.workspaces:
        for channel in workspace.channels:
            calm, other = (
                c.statistics(workspace.sid, INCIDENT.start, INCIDENT.end, channel.sid)
                for c in (CENTRE, centre)
            )
            struck = workspace is CENTRE.workspaces[0] and channel.unique_name == "voice"
            assert (calm == other) is not struck
            assert calm["activity_durations"] == other["activity_durations"]


@pytest.mark.parametrize("scenario", SPIKES)
@any_time_it_takes
@given(span=spans)
def test_no_count_outside_a_spike_differs_from_the_calm_scenario(scenario: Scenario, span: timedelta) -> None:
    centre = incident_centre(scenario)
    sid = CENTRE.workspaces[0].sid
    for begin, end in ((INCIDENT.end, INCIDENT.end + span), (INCIDENT.start - span, INCIDENT.start)):
        assert centre.statistics(sid, begin, end) == CENTRE.statistics(sid, begin, end)


@pytest.mark.parametrize("scenario", SPIKES)
def test_no_outcome_after_a_spike_differs_from_the_calm_scenario(scenario: Scenario) -> None:
    sid = CENTRE.workspaces[0].sid
    for minutes in range(60, 150):
        incident = Incident(INCIDENT.start, INCIDENT.start + minutes * MINUTE)
        centre = ContactCentre(seed=1, scenario=scenario, incident=incident)
        after = incident.end, incident.end + 2 * MINUTE
        assert centre.statistics(sid, *after, "voice") == CENTRE.statistics(sid, *after, "voice")


def test_after_an_outage_the_log_equals_the_calm_one() -> None:
    centre = incident_centre(Scenario.OUTAGE)
    sid = CENTRE.workspaces[0].sid
    for start, end in ((WEDNESDAY, INCIDENT.start), (INCIDENT.end, WEDNESDAY + DAY)):
        assert centre.reservations(sid, start, end) == CENTRE.reservations(sid, start, end)
    later = INCIDENT.end + HOUR
    assert centre.statistics(sid, later, later + HOUR) == CENTRE.statistics(sid, later, later + HOUR)


@pytest.mark.parametrize("scenario", Scenario)
def test_scenario_and_incident_must_go_together(scenario: Scenario) -> None:
    with pytest.raises(ValueError, match=scenario.value):
        ContactCentre(seed=1, scenario=scenario, incident=INCIDENT if scenario is Scenario.CALM else None)


@pytest.mark.parametrize(
    ("start", "end"),
    [(WEDNESDAY, WEDNESDAY), (WEDNESDAY.replace(tzinfo=None), WEDNESDAY + HOUR)],
    ids=["empty", "naive"],
)
def test_an_incident_needs_an_aware_start_before_its_end(start: datetime, end: datetime) -> None:
    with pytest.raises(ValueError, match="incident"):
        Incident(start, end)
