from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.statistics import statistics

from taskrouter_exporter.counters import HeldCounters
from taskrouter_exporter.statistics.kind import Statistics

NOTHING = statistics("anchored")


def answer(created: float | None, accepted: float, total: float | None, held: int = 0) -> Statistics:
    idle = {"friendly_name": "Idle", "sid": "WA1", "total": total}
    read = statistics(
        "anchored", reservations_created=created, reservations_accepted=accepted, activity_durations=[idle]
    )
    return replace(read, held=held)


def created(value: float) -> Statistics:
    return statistics("anchored", reservations_created=value)


def published(*values: float) -> list[float | None]:
    """Return the published values for a sequence of answers with these values."""
    counters = HeldCounters()
    return [counters.publish(created(value)).statistics.value("reservations") for value in values]


def test_a_lower_later_answer_is_held_at_the_highest_seen() -> None:
    counters = HeldCounters()
    for earlier in (answer(10, 8, 100), answer(9, 9, 80)):
        counters.publish(earlier)
    later = counters.publish(answer(7, 9, 70))
    assert later.statistics == answer(10, 9, 100, held=2)
    assert (later.held, later.released) == (("reservations", "activity_seconds Idle WA1"), ())


def test_an_attribute_missing_from_a_later_answer_is_absent_and_returns_held() -> None:
    counters = HeldCounters()
    counters.publish(answer(10, 8, 100))
    assert counters.publish(NOTHING).statistics == NOTHING
    assert counters.publish(answer(None, 1, None)).statistics == answer(None, 8, None, held=1)
    assert counters.publish(answer(1, 1, 1)).statistics == answer(10, 8, 100, held=3)


def test_three_answers_that_agree_outvote_an_absurd_one() -> None:
    assert published(100, 1e12, 101, 102, 150, 151) == [100, 1e12, 1e12, 1e12, 150, 151]


@pytest.mark.parametrize(
    "lower",
    [(101, 102, 1e12, 103, 104), (103, 102, 101, 100, 99), (101, 102, 0.96e12, 103, 104)],
    ids=["interrupted", "falling", "interrupted by one that is not far below"],
)
def test_answers_that_do_not_agree_outvote_nothing(lower: tuple[float, ...]) -> None:
    assert published(1e12, *lower) == [1e12] * 6


def test_three_answers_that_are_lower_than_a_server_may_be_behind_reset_the_counter() -> None:
    assert published(500, 400, 410, 420, 430) == [500, 500, 500, 420, 430]


def test_answers_that_are_a_little_behind_are_no_reset_however_many_they_are() -> None:
    assert published(116_584, *[116_583] * 10, 116_585) == [116_584] * 11 + [116_585]


def test_only_the_counter_that_was_wrong_is_reset() -> None:
    counters = HeldCounters()
    counters.publish(answer(1e12, 50, 10))
    for accepted in (49, 49):
        assert counters.publish(answer(60, accepted, 10)).statistics == answer(1e12, 50, 10, held=2)
    reset = counters.publish(answer(60, 49, 10))
    assert reset.statistics == answer(60, 50, 10, held=1)
    assert (reset.held, reset.released) == (("reservation_outcomes accepted",), ("reservations",))


def test_answers_with_ever_new_activities_do_not_fill_the_memory() -> None:
    counters = HeldCounters()
    for number in range(100):
        activities = [{"friendly_name": f"{number} {each}", "total": 1} for each in range(100)]
        read = statistics("anchored", activity_durations=activities)
        assert counters.publish(read).statistics == read
    assert len(counters._counters) == 2_000


NUMBERS = st.none() | st.integers(0, 50).map(float)


@given(st.lists(st.tuples(NUMBERS, st.integers(0, 50).map(float), NUMBERS)))
def test_a_counter_falls_only_where_three_answers_in_a_row_were_below_it(
    answers: list[tuple[float | None, float, float | None]],
) -> None:
    counters = HeldCounters()
    seen: tuple[list[float], ...] = ([], [], [])
    highest = [0.0, 0.0, 0.0]
    for values in answers:
        read = counters.publish(answer(*values)).statistics
        shown = (
            read.value("reservations"),
            read.value("reservation_outcomes", "accepted"),
            read.value("activity_seconds", "Idle", "WA1"),
        )
        for place, (value, told) in enumerate(zip(values, shown, strict=True)):
            assert (value is None) == (told is None)
            if value is None or told is None:
                continue
            seen[place].append(value)
            last = seen[place][-3:]
            if told < highest[place]:
                assert told == value
                assert len(last) == 3
                assert last == sorted(last)
                assert max(last) < highest[place] * 0.95
            highest[place] = told
