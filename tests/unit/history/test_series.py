from datetime import UTC, datetime

import pytest

from taskrouter_exporter.history.plan import Range
from taskrouter_exporter.history.series import Answer, Series, series_of
from taskrouter_exporter.periods import Anchored, Window
from taskrouter_exporter.queries import Query, Target

TARGET = Target("default", f"WS{0:032x}", "support", "all")
COUNTER = Query(TARGET, Anchored("day"))
WINDOW = Query(TARGET, Window(15))
RESERVATIONS = COUNTER.kind.families["anchored"][0]
MIDNIGHT = int(datetime(2026, 11, 25, tzinfo=UTC).timestamp())
HOUR = 3600
DAY = 24 * HOUR
MS = HOUR * 1000
"""An hour in milliseconds."""


def span(start: int = MIDNIGHT, end: int = MIDNIGHT + DAY, step: int = 6 * HOUR) -> Range:
    return Range(start, end, step)


def created(*values: tuple[int, float | None]) -> list[Answer]:
    """Answers with these values of a family without labels, by their steps."""
    return [(step, () if value is None else (((), value),)) for step, value in values]


def points(series: Series) -> list[tuple[int, float]]:
    """The samples of a series, their times in milliseconds since midnight."""
    return [(at - MIDNIGHT * 1000, value) for at, value in zip(series.times, series.values, strict=True)]


def only(found: list[Series]) -> Series:
    (series,) = found
    return series


def test_a_counter_is_0_at_its_anchors_and_has_its_total_just_before_the_next_one() -> None:
    answers = created(*((MIDNIGHT + 6 * HOUR * step, 10.0 * step) for step in range(1, 5)))
    series = only(series_of(COUNTER, RESERVATIONS, span(), answers))
    assert points(series) == [
        (0, 0), (6 * MS, 10), (12 * MS, 20), (18 * MS, 30), (24 * MS - 1, 40), (24 * MS, 0),
    ]  # fmt: skip
    assert list(series.anchors) == [MIDNIGHT] * 5 + [MIDNIGHT + DAY]


def test_a_counter_does_not_fall_within_a_period_and_does_between_two() -> None:
    answers = created(
        (MIDNIGHT + 6 * HOUR, 5), (MIDNIGHT + 12 * HOUR, 3), (MIDNIGHT + 18 * HOUR, 6), (MIDNIGHT + DAY, 6),
        (MIDNIGHT + 30 * HOUR, 1),
    )  # fmt: skip
    series = only(series_of(COUNTER, RESERVATIONS, span(end=MIDNIGHT + 30 * HOUR), answers))
    assert [value for _, value in points(series)] == [0, 5, 5, 6, 6, 0, 1]


def test_a_range_that_starts_within_a_period_has_no_0_before_it() -> None:
    answers = created((MIDNIGHT + 12 * HOUR, 5))
    series = only(series_of(COUNTER, RESERVATIONS, span(start=MIDNIGHT + 7 * HOUR), answers))
    assert points(series) == [(12 * MS, 5)]


def test_a_gap_that_starts_after_the_anchor_has_no_0_at_it() -> None:
    answers = created((MIDNIGHT + 12 * HOUR, 5))
    assert points(only(series_of(COUNTER, RESERVATIONS, span(), answers))) == [(12 * MS, 5)]


def test_a_series_that_appears_later_was_0_at_the_anchor() -> None:
    answers = created((MIDNIGHT + 6 * HOUR, None), (MIDNIGHT + 12 * HOUR, 2))
    assert points(only(series_of(COUNTER, RESERVATIONS, span(), answers))) == [(0, 0), (12 * MS, 2)]


def test_what_an_answer_lacks_has_no_sample() -> None:
    answers = created((MIDNIGHT + 6 * HOUR, 1), (MIDNIGHT + 12 * HOUR, None), (MIDNIGHT + 18 * HOUR, 2))
    assert points(only(series_of(COUNTER, RESERVATIONS, span(), answers))) == [
        (0, 0),
        (6 * MS, 1),
        (18 * MS, 2),
    ]


@pytest.mark.parametrize("value", [3.0, 0.0])
def test_a_window_has_the_value_of_each_step(value: float) -> None:
    answers = created((MIDNIGHT + 6 * HOUR, 7), (MIDNIGHT + 12 * HOUR, value))
    series = only(series_of(WINDOW, WINDOW.kind.families["window"][0], span(), answers))
    assert points(series) == [(6 * MS, 7), (12 * MS, value)]
    assert not series.anchors


def test_series_are_in_the_order_in_which_they_appear() -> None:
    family = COUNTER.kind.families["anchored"][1]
    answers: list[Answer] = [
        (MIDNIGHT + 6 * HOUR, ((("rejected",), 2.0),)),
        (MIDNIGHT + 12 * HOUR, ((("accepted",), 1.0), (("rejected",), 3.0))),
    ]
    found = series_of(COUNTER, family, span(), answers)
    assert [(series.labels, points(series)) for series in found] == [
        (("rejected",), [(0, 0), (6 * MS, 2), (12 * MS, 3)]),
        (("accepted",), [(0, 0), (12 * MS, 1)]),
    ]
