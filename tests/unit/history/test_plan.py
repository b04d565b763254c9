from datetime import UTC, datetime, timedelta

from taskrouter_exporter.history.plan import (
    Point,
    Points,
    Range,
    earliest_start,
    interval,
    lost_points,
)
from taskrouter_exporter.periods import Anchored, Window
from taskrouter_exporter.queries import Query, Target

TARGET = Target("default", f"WS{0:032x}", "support", "all")
DAY = Query(TARGET, Anchored("day"))
WEEK = Query(TARGET, Anchored("week"))
WINDOW = Query(TARGET, Window(60))
MIDNIGHT = datetime(2026, 11, 25, tzinfo=UTC)  # a Wednesday


def seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def hours(number: float) -> timedelta:
    return timedelta(hours=number)


def test_steps_are_multiples_in_utc_after_the_start_and_up_to_the_end() -> None:
    span = Range(seconds(MIDNIGHT), seconds(MIDNIGHT + hours(2)), 3600)
    assert list(span.steps) == [seconds(MIDNIGHT + hours(1)), seconds(MIDNIGHT + hours(2))]
    span = Range(seconds(MIDNIGHT) - 1, seconds(MIDNIGHT + hours(1)) - 1, 3600)
    assert list(span.steps) == [seconds(MIDNIGHT)]


def test_a_window_is_asked_for_as_it_was_at_the_step() -> None:
    assert interval(WINDOW, seconds(MIDNIGHT)) == (MIDNIGHT - hours(1), MIDNIGHT)


def test_a_counter_is_asked_for_from_its_anchor_and_at_the_next_one_for_the_whole_period() -> None:
    assert interval(DAY, seconds(MIDNIGHT + hours(1))) == (MIDNIGHT, MIDNIGHT + hours(1))
    assert interval(DAY, seconds(MIDNIGHT)) == (MIDNIGHT - hours(24), MIDNIGHT)
    monday = MIDNIGHT - hours(48)
    assert interval(WEEK, seconds(MIDNIGHT)) == (monday, MIDNIGHT)
    assert interval(WEEK, seconds(monday)) == (monday - timedelta(weeks=1), monday)


def test_points_come_step_by_step_and_without_those_that_are_closed() -> None:
    span = Range(0, 7200, 3600)
    points = Points(2, span)
    assert points.left == 4
    points.close(Point(1, 3600))
    assert points.left == 3
    assert list(points) == [Point(0, 3600), Point(0, 7200), Point(1, 7200)]
    assert Point(1, 3600) not in points
    assert Point(0, 3600) in points
    assert Point(0, 3601) not in points
    assert Point(2, 3600) not in points


def test_only_gaps_are_asked_for() -> None:
    points = Points(2, Range(0, 14400, 3600), [[(7200, 10800)], []])
    assert list(points) == [Point(0, 7200), Point(0, 10800)]
    assert points.left == 2


def test_the_earliest_start_leaves_every_period_within_what_taskrouter_keeps() -> None:
    now = MIDNIGHT + hours(10)
    limit = now - timedelta(days=30)
    assert earliest_start([WINDOW], now) == limit + hours(1)
    assert earliest_start([DAY, WINDOW], now) == MIDNIGHT - timedelta(days=29)
    assert earliest_start([DAY], MIDNIGHT) == MIDNIGHT - timedelta(days=30)
    assert earliest_start([DAY, WEEK], now) == datetime(2026, 11, 2, tzinfo=UTC)


def test_points_are_lost_whose_period_is_forgotten_before_their_turn() -> None:
    oldest = MIDNIGHT - timedelta(days=30)
    span = Range(seconds(oldest), seconds(oldest + hours(3)), 3600)
    points = Points(1, span)
    assert lost_points([DAY], points, 1, MIDNIGHT - hours(1)) == 0
    # At one request in 40 minutes, the third is sent after 80.
    assert lost_points([DAY], points, 1 / 2400, MIDNIGHT - hours(1)) == 1
