"""Anchored periods in time zones: local midnights, on days on which the clock is moved as well."""

from datetime import UTC, date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from taskrouter_exporter.periods import Anchored, AnchorName, Window
from taskrouter_exporter.queries import Query, Target

BERLIN, KOLKATA = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kolkata")
PERIODS = st.sampled_from(("day", "week"))
ZONES = st.timezones()
NOW = st.datetimes(datetime(1973, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 -- in UTC


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def days(zone: str, *dates: str) -> list[tuple[str, float]]:
    """The start of each day in UTC, found from its noon, and its hours."""
    period, found = Anchored("day", ZoneInfo(zone)), []
    for text in dates:
        noon = datetime.combine(date.fromisoformat(text), datetime.min.time(), ZoneInfo(zone)).replace(
            hour=12
        )
        start = period.start(noon)
        found.append((f"{start:%Y-%m-%dT%H:%M}", (period.end(start) - start) / timedelta(hours=1)))
    return found


def test_a_day_starts_at_local_midnight_and_has_23_or_25_hours_where_the_clock_is_moved() -> None:
    assert days("Europe/Berlin", "2026-03-28", "2026-03-29", "2026-10-24", "2026-10-25", "2026-10-26") == [
        ("2026-03-27T23:00", 24),
        ("2026-03-28T23:00", 23),
        ("2026-10-23T22:00", 24),
        ("2026-10-24T22:00", 25),
        ("2026-10-25T23:00", 24),
    ]


def test_a_midnight_that_does_not_exist_is_the_instant_at_which_the_clock_is_moved() -> None:
    assert days("Asia/Beirut", "2026-03-28", "2026-03-29", "2026-03-30") == [
        ("2026-03-27T22:00", 24),
        ("2026-03-28T22:00", 23),  # from 00:00 to 01:00
        ("2026-03-29T21:00", 24),
    ]


def test_of_two_midnights_the_first_is_the_start() -> None:
    assert days("America/Havana", "2026-10-31", "2026-11-01", "2026-11-02") == [
        ("2026-10-31T04:00", 24),
        ("2026-11-01T04:00", 25),  # 01:00 becomes 00:00
        ("2026-11-02T05:00", 24),
    ]


def test_half_hours_of_an_offset_and_of_a_clock_change_are_respected() -> None:
    assert days("Asia/Kolkata", "2026-11-25") == [("2026-11-24T18:30", 24)]
    assert days("Asia/Kathmandu", "2026-11-25") == [("2026-11-24T18:15", 24)]
    assert days("Australia/Lord_Howe", "2026-04-05", "2026-10-04") == [
        ("2026-04-04T13:00", 24.5),
        ("2026-10-03T13:30", 23.5),
    ]


def test_a_date_that_a_zone_skipped_is_no_day() -> None:
    assert days("Pacific/Apia", "2011-12-29", "2011-12-31") == [
        ("2011-12-29T10:00", 24),
        ("2011-12-30T10:00", 24),
    ]


def test_a_clock_that_is_set_back_over_midnight_does_not_bring_the_day_before_back() -> None:
    period = Anchored("day", ZoneInfo("America/Goose_Bay"))  # in 2010, from 00:01 to 23:01
    instants = [utc("2010-11-07T03:00:30") + timedelta(minutes=minutes) for minutes in (-1, 0, 30, 59, 120)]
    assert [f"{period.start(now):%dT%H:%M}" for now in instants] == ["06T03:00", *["07T03:00"] * 4]


def test_a_week_starts_on_the_local_monday() -> None:
    period = Anchored("week", BERLIN)
    assert period.start(utc("2026-03-29T21:59:59")) == utc("2026-03-22T23:00:00")
    assert period.end(utc("2026-03-22T23:00:00")) == utc("2026-03-29T22:00:00")
    assert period.start(utc("2026-03-29T22:00:00")) == utc("2026-03-29T22:00:00")
    west = Anchored("week", ZoneInfo("America/Los_Angeles"))
    assert west.start(utc("2026-11-23T07:59:59")) == utc("2026-11-16T08:00:00")


@example("day", ZoneInfo("America/Toronto"), utc("1919-03-31T04:40:00"))  # from 23:30 to 00:30
@given(PERIODS, ZONES, NOW)
def test_periods_follow_each_other_without_gap_and_contain_the_time(
    name: AnchorName, zone: tzinfo, now: datetime
) -> None:
    period = Anchored(name, zone)
    start = period.start(now)
    end = period.end(start)
    assert start <= now < end
    assert period.start(start) == start
    assert period.start(end) == end
    assert period.start(end - timedelta(seconds=1)) == start
    length = timedelta(days=1 if name == "day" else 7)
    assert abs(end - start - length) <= timedelta(days=1)


@given(ZONES, NOW, st.timedeltas(timedelta(), timedelta(days=3)))
def test_time_that_passes_never_brings_an_earlier_start(
    zone: tzinfo, now: datetime, passed: timedelta
) -> None:
    period = Anchored("day", zone)
    assert period.start(now) <= period.start(now + passed)


def test_the_local_midnight_is_sent_in_utc() -> None:
    target = Target("default", "WS" + "0" * 32, "support", "all")
    query = Query(target, Anchored("day", KOLKATA))
    start = query.period.start(utc("2026-11-25T12:00:00"))  # type: ignore[union-attr] # anchored
    assert query.parameters(start) == {"StartDate": "2026-11-24T18:30:00Z"}


def test_periods_of_other_zones_differ_and_have_the_same_label() -> None:
    periods = [Anchored("day"), Anchored("day", BERLIN), Anchored("day", ZoneInfo("Europe/Berlin"))]
    assert len(set(periods)) == 2
    assert {period.label for period in periods} == {"day"}
    assert Window(1440).label == "1d"


@pytest.mark.parametrize("name", ["day", "week"])
def test_without_a_zone_a_period_is_in_utc(name: AnchorName) -> None:
    assert Anchored(name).start(utc("2026-11-23T15:00:00")) == utc("2026-11-23T00:00:00")
