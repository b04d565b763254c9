from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskrouter_exporter.periods import Anchored, AnchorName, Window
from taskrouter_exporter.queries import Query, Target

WS = "WS0123456789abcdef0123456789abcdef"
MOMENTS = st.datetimes(datetime(1970, 1, 5), datetime(2200, 1, 1), timezones=st.timezones())  # noqa: DTZ001 - the zones are drawn


def target(channel: str) -> Target:
    return Target("default", WS, "support", channel)


@pytest.mark.parametrize(
    ("minutes", "label"), [(1, "1m"), (15, "15m"), (240, "4h"), (90, "1h30m"), (10080, "1w")]
)
def test_a_window_has_a_canonical_label(minutes: int, label: str) -> None:
    assert Window(minutes).label == label


def test_a_window_of_a_channel_has_the_parameters_minutes_and_task_channel() -> None:
    query = Query(target("voice"), Window(240))
    assert query.path == f"/v1/Workspaces/{WS}/Workers/CumulativeStatistics"
    assert query.parameters() == {"Minutes": "240", "TaskChannel": "voice"}


def test_all_channels_have_no_task_channel_parameter() -> None:
    assert Query(target("all"), Window(15)).parameters() == {"Minutes": "15"}


def test_an_anchored_period_has_a_start_date_in_utc_and_no_minutes() -> None:
    start = datetime(2026, 11, 23, 1, tzinfo=timezone(timedelta(hours=1)))
    query = Query(target("chat"), Anchored("day"))
    assert query.parameters(start) == {"StartDate": "2026-11-23T00:00:00Z", "TaskChannel": "chat"}


@pytest.mark.parametrize("period", [Window(240), Anchored("day")])
def test_a_period_in_the_past_has_a_start_and_an_end_in_utc_and_no_minutes(
    period: Window | Anchored,
) -> None:
    start, end = datetime(2026, 11, 23, 4, tzinfo=UTC), datetime(2026, 11, 23, 8, 0, 0, 1, tzinfo=UTC)
    assert Query(target("chat"), period).parameters(start, end) == {
        "StartDate": "2026-11-23T04:00:00Z",
        "EndDate": "2026-11-23T08:00:00Z",
        "TaskChannel": "chat",
    }


def test_an_anchored_period_without_its_start_is_an_error() -> None:
    with pytest.raises(ValueError, match="needs its start"):
        Query(target("all"), Anchored("day")).parameters()


@pytest.mark.parametrize(
    ("name", "now", "anchor"),
    [
        ("day", datetime(2026, 11, 25, 13, 14, 15, 16, tzinfo=UTC), datetime(2026, 11, 25, tzinfo=UTC)),
        ("day", datetime(2026, 11, 25, tzinfo=UTC), datetime(2026, 11, 25, tzinfo=UTC)),
        ("week", datetime(2026, 11, 25, 13, tzinfo=UTC), datetime(2026, 11, 23, tzinfo=UTC)),
        ("week", datetime(2026, 11, 29, 23, 59, 59, tzinfo=UTC), datetime(2026, 11, 23, tzinfo=UTC)),
        ("week", datetime(2026, 11, 30, tzinfo=UTC), datetime(2026, 11, 30, tzinfo=UTC)),
        # Still the day before in UTC
        (
            "day",
            datetime(2026, 3, 1, 1, tzinfo=timezone(timedelta(hours=9))),
            datetime(2026, 2, 28, tzinfo=UTC),
        ),
    ],
)
def test_an_anchored_period_starts_at_midnight_utc_of_the_day_or_monday(
    name: AnchorName, now: datetime, anchor: datetime
) -> None:
    assert Anchored(name).start(now) == anchor


@given(st.sampled_from(["day", "week"]), MOMENTS)
def test_the_current_time_is_within_the_anchored_period(name: AnchorName, now: datetime) -> None:
    start = Anchored(name).start(now)
    assert timedelta() <= now - start < timedelta(days=1 if name == "day" else 7)
    assert Anchored(name).start(start) == start
    if name == "week":
        assert start.weekday() == 0


def test_queries_are_hashable_and_equal_by_value() -> None:
    queries = {
        Query(target("voice"), Window(15)),
        Query(target("voice"), Window(15)),
        Query(target("voice"), Anchored("day")),
    }
    assert len(queries) == 2
