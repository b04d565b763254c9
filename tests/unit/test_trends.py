import pytest
from support.statistics import statistics

from taskrouter_exporter.api.errors import ApiError, Reason
from taskrouter_exporter.periods import Anchored, Period, Window
from taskrouter_exporter.poll_history import PollResult
from taskrouter_exporter.queries import Query, Row, Target
from taskrouter_exporter.statistics.tasks import QUEUE
from taskrouter_exporter.statistics.workers import WORKERS
from taskrouter_exporter.trends import Trends

TARGET = Target("main", "WS" + "0" * 32, "support", "all")
REJECTED, TIMED_OUT = WORKERS.shares
HOUR = 3600.0
START = 1_700_000_040.0
"""The first second of a minute."""


def polled(
    at: float, rejected: float | None, created: float | None = 100, period: Period = Window(15)  # noqa: B008 -- frozen
) -> PollResult:  # fmt: skip
    answer = statistics(
        period.role, reservations_created=created, reservations_rejected=rejected, reservations_timed_out=1
    )
    return PollResult(Query(TARGET, period), at, 1, answer=answer)


def known(trends: Trends, now: float) -> dict[int, float]:
    """The known shares by how many minutes ago they were."""
    shares = trends.of(TARGET, now).get(REJECTED, ())
    assert len(shares) in (0, 60)
    return {59 - minute: share for minute, share in enumerate(shares) if share is not None}


def test_a_trend_has_the_shares_of_the_last_hour_minute_by_minute() -> None:
    trends = Trends()
    for minute in range(90):
        trends.record(polled(START + 60 * minute, minute))
    shares = trends.of(TARGET, START + 60 * 89)
    assert shares[REJECTED] == [minute / 100 for minute in range(30, 90)]
    assert shares[TIMED_OUT] == [0.01] * 60


def test_each_minute_has_its_first_share() -> None:
    trends = Trends()
    for second, rejected in ((0, 5), (30, 6), (59.9, 7), (60, 8)):
        trends.record(polled(START + second, rejected))
    assert known(trends, START + 60) == {1: 0.05, 0: 0.08}


def test_minutes_without_a_good_poll_are_unknown() -> None:
    trends = Trends()
    trends.record(polled(START, 5))
    for minute in range(1, 10):
        failed = PollResult(
            Query(TARGET, Window(15)), START + 60 * minute, 1, error=ApiError(Reason.AUTH, "")
        )
        trends.record(failed)
    trends.record(polled(START + 600, 6))
    assert known(trends, START + 660) == {11: 0.05, 1: 0.06}


@pytest.mark.parametrize(("created", "rejected"), [(0, 0), (None, 5), (100, None)])
def test_an_unknown_share_is_no_point(created: float | None, rejected: float | None) -> None:
    trends = Trends()
    trends.record(polled(START, rejected, created))
    assert known(trends, START) == {}


def test_a_share_is_at_most_the_whole() -> None:
    trends = Trends()
    trends.record(polled(START, 150))
    assert known(trends, START) == {0: 1.0}


def test_a_point_is_forgotten_after_an_hour_also_without_polls() -> None:
    trends = Trends()
    trends.record(polled(START, 5))
    assert known(trends, START + HOUR - 60) == {59: 0.05}
    assert known(trends, START + HOUR) == {}
    trends.record(polled(START + 3 * HOUR, 6))
    assert known(trends, START + 3 * HOUR) == {0: 0.06}


def test_a_clock_that_is_set_back_a_little_keeps_the_trend() -> None:
    trends = Trends()
    for minute in (0, 1, 2):
        trends.record(polled(START + 60 * minute, minute))
    trends.record(polled(START + 60, 50))
    assert known(trends, START + 120) == {2: 0, 1: 0.01, 0: 0.02}
    assert known(trends, START + 60) == {1: 0, 0: 0.01}


def test_a_clock_that_is_set_back_by_hours_starts_the_trend_again() -> None:
    trends = Trends()
    trends.record(polled(START, 5))
    trends.record(polled(START - 5 * HOUR, 6))
    assert known(trends, START - 5 * HOUR) == {0: 0.06}


def test_a_trend_is_that_of_the_shortest_window() -> None:
    trends = Trends()
    periods: tuple[Period, ...] = (Window(60), Window(15), Window(30), Anchored("day"))
    for rejected, period in enumerate(periods, 1):
        trends.record(polled(START, rejected, period=period))
    assert known(trends, START) == {0: 0.02}


@pytest.mark.parametrize("period", [Window(61), Window(480), Anchored("day")])
def test_windows_that_are_longer_than_the_trend_have_none(period: Period) -> None:
    trends = Trends()
    trends.record(polled(START, 5, period=period))
    assert known(trends, START) == {}


def test_queues_have_no_trend() -> None:
    trends = Trends()
    asked = Query(TARGET, Window(15), QUEUE, Row("WQ" + "0" * 32, "Voice"))
    trends.record(PollResult(asked, START, 1, answer=statistics(kind=QUEUE, reservations_created=1)))
    assert known(trends, START) == {}


def test_a_trend_is_kept_over_a_reload_unless_its_query_goes() -> None:
    trends = Trends()
    trends.record(polled(START, 5))
    trends.forget_all_but([Query(TARGET, Window(15)), Query(TARGET, Window(60))])
    assert known(trends, START) == {0: 0.05}
    trends.forget_all_but([Query(TARGET, Window(60))])
    assert known(trends, START) == {}
    trends.record(polled(START, 6, period=Window(60)))
    assert known(trends, START) == {0: 0.06}
