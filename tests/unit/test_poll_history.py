from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import structlog
from structlog.typing import EventDict
from support.statistics import statistics

from taskrouter_exporter.periods import Anchored, AnchorName, Window
from taskrouter_exporter.poll_history import PollHistory, PollResult
from taskrouter_exporter.queries import Query, Target
from taskrouter_exporter.statistics.kind import Statistics

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)  # a Wednesday
MIDNIGHT = datetime(2026, 11, 26, tzinfo=UTC)
TARGET = Target("main", "WS" + "a" * 32, "support", "all")
DAY, WEEK, WINDOW = (Query(TARGET, period) for period in (Anchored("day"), Anchored("week"), Window(15)))


class Api:
    """Answers that pass through a history, at the instants and addresses of the test."""

    def __init__(self) -> None:
        self.history = PollHistory()
        self.query = DAY
        self.base_url = "https://one.test"

    def answer(self, created: float, now: datetime = NOON) -> float | None:
        """What is published of an answer."""
        start = self.history.anchor(self.query, now, self.base_url)
        read = statistics(self.query.period.role, reservations_created=created)
        return self.history.hold(self.query, start, read, self.base_url).value("reservations")


def counted(created: float) -> Statistics:
    return statistics("anchored", reservations_created=created)


def events(lines: list[EventDict]) -> list[tuple[str, str]]:
    return [(line["log_level"], line["event"]) for line in lines]


def test_a_sliding_window_has_no_anchor_and_is_never_held() -> None:
    api = Api()
    api.query = WINDOW
    assert api.history.anchor(WINDOW, NOON) is None
    assert [api.answer(value) for value in (7, 5)] == [7, 5]


def test_a_refresh_that_lacks_the_workspace_does_not_lower_its_counters() -> None:
    api = Api()
    assert api.answer(116_584) == 116_584
    api.history.forget_all_but([])
    api.history.forget_all_but([DAY])
    assert api.answer(116_580) == 116_584


@pytest.mark.parametrize(
    "target",
    [
        replace(TARGET, workspace="renamed"),
        replace(TARGET, account="other"),
        replace(TARGET, workspace_sid="WS" + "A" * 32),
    ],
    ids=["label", "account", "case of the SID"],
)
def test_the_same_counters_under_another_name_are_held_on(target: Target) -> None:
    api = Api()
    api.answer(100)
    api.query = Query(target, Anchored("day"))
    assert api.answer(99) == 100


@pytest.mark.parametrize(
    "query",
    [
        Query(replace(TARGET, channel="voice"), Anchored("day")),
        Query(replace(TARGET, workspace_sid="WS" + "b" * 32), Anchored("day")),
        WEEK,
    ],
    ids=["channel", "workspace", "period"],
)
def test_other_counters_are_held_apart(query: Query) -> None:
    api = Api()
    api.answer(100)
    api.query = query
    assert api.answer(99) == 99


def test_an_api_at_another_address_begins_with_its_own_values() -> None:
    api = Api()
    api.answer(1e12)
    first = api.history.anchor(DAY, NOON, api.base_url)
    api.base_url = "https://two.test"
    assert [api.answer(value) for value in (101, 102)] == [101, 102]
    late = api.history.hold(DAY, first, counted(103), "https://one.test")
    assert late.value("reservations") == 1e12, (
        "an answer still on its way belongs to the address that was asked"
    )


def test_an_answer_from_before_midnight_that_arrives_after_it_is_held_at_yesterdays_value() -> None:
    api = Api()
    api.answer(501, MIDNIGHT - timedelta(seconds=9))
    yesterday = api.history.anchor(DAY, MIDNIGHT - timedelta(seconds=1), api.base_url)
    assert api.answer(2, MIDNIGHT + timedelta(seconds=1)) == 2
    assert api.history.hold(DAY, yesterday, counted(500), api.base_url).value("reservations") == 501


@pytest.mark.parametrize("period", ["day", "week"])
@pytest.mark.parametrize("ahead", [timedelta(minutes=40), timedelta(days=1), timedelta(days=9_000)])
def test_an_anchor_in_the_future_is_discarded_and_the_counters_continue(
    period: AnchorName, ahead: timedelta
) -> None:
    sunday = datetime(2026, 11, 29, 23, 30, tzinfo=UTC)
    query = Query(TARGET, Anchored(period))
    history = PollHistory()
    today = history.anchor(query, sunday)
    history.hold(query, today, counted(500))
    assert history.anchor(query, sunday + ahead) != today
    assert history.anchor(query, sunday) == today
    if ahead < timedelta(days=1):
        assert history.hold(query, today, counted(499)).value("reservations") == 500


def test_a_clock_that_jitters_over_midnight_brings_no_earlier_anchor_back() -> None:
    history = PollHistory()
    instants = [MIDNIGHT + timedelta(seconds=seconds) for seconds in (-5, 1, -2, 2, -50, 3)]
    starts = [history.anchor(DAY, instant) for instant in instants]
    assert starts == [MIDNIGHT - timedelta(days=1)] + [MIDNIGHT] * 5


def test_a_clock_that_jitters_over_a_local_midnight_brings_no_earlier_anchor_back() -> None:
    history = PollHistory()
    query = Query(TARGET, Anchored("day", ZoneInfo("Asia/Kolkata")))
    midnight = MIDNIGHT - timedelta(hours=5, minutes=30)
    instants = [midnight + timedelta(seconds=seconds) for seconds in (-5, 1, -2, 2, -50, 3)]
    starts = [history.anchor(query, instant) for instant in instants]
    assert starts == [midnight - timedelta(days=1)] + [midnight] * 5


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Pacific/Kiritimati", "America/Los_Angeles", "UTC"])
@pytest.mark.parametrize("hour", range(0, 24, 5))
def test_counters_of_every_zone_survive_a_clock_that_is_ahead_for_a_while(zone: str, hour: int) -> None:
    history = PollHistory()
    query = Query(TARGET, Anchored("day", ZoneInfo(zone)))
    now = MIDNIGHT + timedelta(hours=hour)
    today = history.anchor(query, now)
    history.hold(query, today, counted(500))
    history.anchor(query, now + timedelta(hours=20))
    assert history.anchor(query, now) == today
    assert history.hold(query, today, counted(499)).value("reservations") == 500


@pytest.mark.parametrize(("query", "days"), [(DAY, 2), (WEEK, 8)])
def test_counters_of_anchors_that_ended_are_dropped(query: Query, days: int) -> None:
    history = PollHistory()
    for day in range(30):
        history.anchor(query, NOON + timedelta(days=day))
        gone = replace(query, target=replace(TARGET, channel=f"channel {day}"))
        history.anchor(gone, NOON + timedelta(days=day))
        history.forget_all_but([query])
    assert len(history._counters) <= 2 * days + 1


def test_a_held_counter_is_logged_when_it_begins_and_when_it_is_reset() -> None:
    api = Api()
    with structlog.testing.capture_logs() as lines:
        values = [api.answer(value) for value in (100, 1e12, 101, 102, 150, 151, 60)]
    assert values == [100, 1e12, 1e12, 1e12, 150, 151, 151]
    held = ("warning", "answer below earlier counters; keeping the earlier values")
    assert events(lines) == [held, ("warning", "counters reset after lower answers"), held]
    assert lines[0]["counters"] == "reservations"
    assert (lines[0]["workspace"], lines[0]["channel"], lines[0]["window"]) == ("support", "all", "day")


def test_counters_that_are_held_now_and_then_are_logged_once() -> None:
    api = Api()
    with structlog.testing.capture_logs() as lines:
        for value in (100, 99, 101, 99, 102, 101):
            api.answer(value)
    assert len(lines) == 1


def ignoring(*attributes: str, query: Query = WINDOW) -> PollResult:
    return PollResult(query, 0, 1, answer=replace(statistics(), ignored=attributes))


def test_ignored_attributes_are_all_counted_and_each_is_logged_once_for_a_query() -> None:
    history = PollHistory()
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            history.record(ignoring("start_time", "activity_durations[]", "activity_durations[]"))
        history.record(ignoring("end_time"))
        history.record(ignoring("start_time", query=DAY))
    assert (history.ignored(WINDOW), history.ignored(DAY), history.ignored(WEEK)) == (10, 1, 0)
    assert {(line["log_level"], line["event"]) for line in lines} == {
        ("warning", "unreadable attribute ignored")
    }
    assert [(line["window"], line["attribute"]) for line in lines] == [
        ("15m", "start_time"),
        ("15m", "activity_durations[]"),
        ("15m", "end_time"),
        ("day", "start_time"),
    ]


def test_ignored_attributes_of_a_removed_query_are_forgotten() -> None:
    history = PollHistory()
    history.record(ignoring("start_time"))
    history.forget_all_but([])
    assert history.ignored(WINDOW) == 0
