from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskrouter_exporter.durations import format_duration, parse_duration

MILLISECONDS = st.integers(min_value=0, max_value=10**12).map(lambda count: timedelta(milliseconds=count))


@pytest.mark.parametrize(
    ("text", "duration", "canonical"),
    [
        ("0", timedelta(), "0s"),
        ("0s", timedelta(), "0s"),
        ("500ms", timedelta(milliseconds=500), "500ms"),
        ("1500ms", timedelta(seconds=1.5), "1s500ms"),
        ("15m", timedelta(minutes=15), "15m"),
        ("240m", timedelta(hours=4), "4h"),
        ("90m", timedelta(minutes=90), "1h30m"),
        ("24h", timedelta(days=1), "1d"),
        ("7d", timedelta(weeks=1), "1w"),
        ("8d", timedelta(days=8), "8d"),
        (
            "1w2d3h4m5s6ms",
            timedelta(weeks=1, days=2, hours=3, minutes=4, seconds=5, milliseconds=6),
            "9d3h4m5s6ms",
        ),
    ],
)
def test_a_duration_is_read_and_written_canonically(text: str, duration: timedelta, canonical: str) -> None:
    assert parse_duration(text) == duration
    assert format_duration(duration) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "15",
        "15 m",
        "15m ",
        " 15m",
        "15M",
        "15 minutes",
        "-5m",
        "+5m",
        "1.5h",
        "m",
        "1m1h",
        "1m1m",
        "1y",
        "15m\n",
        "١m",  # noqa: RUF001 - a digit of another script is the point
        "00",
    ],
)
def test_other_text_is_not_a_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


def test_a_duration_longer_than_python_can_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="is too long a duration"):
        parse_duration("999999999w")


@given(MILLISECONDS)
def test_a_formatted_duration_parses_to_the_same_duration(duration: timedelta) -> None:
    assert parse_duration(format_duration(duration)) == duration


@given(MILLISECONDS)
def test_the_canonical_form_is_stable(duration: timedelta) -> None:
    text = format_duration(duration)
    assert format_duration(parse_duration(text)) == text


@given(st.text() | st.from_regex(r"[0-9wdhms]*", fullmatch=True))
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    try:
        assert parse_duration(text) >= timedelta()
    except ValueError as error:
        assert "duration" in str(error)  # noqa: PT017 - both outcomes are right
