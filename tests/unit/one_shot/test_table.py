from dataclasses import replace
from datetime import UTC, datetime

import pytest

from taskrouter_exporter.one_shot.answer import Answer
from taskrouter_exporter.one_shot.table import render_table
from taskrouter_exporter.periods import Current, Window
from taskrouter_exporter.queries import Query, Row, Target
from taskrouter_exporter.statistics import KINDS
from taskrouter_exporter.statistics.kind import Family, Sample, Statistics
from taskrouter_exporter.terminal import width

TARGET = Target("default", "WS" + "0" * 32, "support", "voice")
END = datetime(2026, 11, 25, 12, tzinfo=UTC).timestamp()
REQUEST = "RQ" + "1" * 32


def family(name: str, *labels: str, unit: str = "") -> Family:
    return Family(name, "gauge", "Text.", lambda _: (), labels, unit)


def answer(*families: tuple[Family, tuple[Sample, ...]], query: Query | None = None) -> Answer:
    query = query or Query(TARGET, Window(240))
    statistics = Statistics(tuple(each for each, _ in families), tuple(samples for _, samples in families))
    return Answer(query, statistics, END - 14400, END, END + 1, 0.0434, 1, REQUEST)


def rows(rendered: str) -> list[str]:
    return rendered.partition("\n\n")[2].splitlines()


def value_of(value: float, *, unit: str = "seconds") -> str:
    (row,) = rows(render_table(answer((family("x", unit=unit), (((), value),))), 80))
    return row.removeprefix("x").strip()


CALLS = (family("calls"), (((), 1250.0),))
ENDED = (family("ended", "how"), ((("well",), 12.0), (("badly",), 0.0)))


def test_the_table_says_what_was_asked_and_aligns_the_values() -> None:
    assert render_table(answer(CALLS, ENDED), 80).splitlines() == [
        "account     default",
        "workspace   support (WS00000000000000000000000000000000)",
        "channel     voice",
        "statistics  workers",
        "window      4h",
        "period      2026-11-25 08:00:00 to 2026-11-25 12:00:00 UTC",
        "request     0.043 s, RQ11111111111111111111111111111111",
        "",
        "calls    1250",
        "ended",
        "  well     12",
        "  badly     0",
    ]


def test_the_table_of_a_queue_names_it_and_its_moment() -> None:
    kind = next(kind for kind in KINDS if (kind.name, kind.subject) == ("realtime", "queue"))
    query = Query(TARGET, Current(), kind, Row("WQ" + "2" * 32, "Calls"))
    lines = render_table(replace(answer(CALLS, query=query), start=None, end=None), 80).splitlines()
    assert lines[3:6] == [
        "queue       Calls (WQ22222222222222222222222222222222)",
        "statistics  realtime",
        "period      now, at 2026-11-25 12:00:01 UTC",
    ]
    assert lines[-1] == "queue_calls  1250"


def test_what_the_answer_does_not_say_is_unknown() -> None:
    odd = replace(answer(), start=None, request_id=None, attempts=3)
    assert "period      unknown to 2026-11-25 12:00:00 UTC\nrequest     0.043 s in 3 attempts\n" in (
        render_table(odd, 80)
    )
    assert rows(render_table(odd, 80)) == ["no values"]


def test_attributes_that_could_not_be_read_are_named_once() -> None:
    plain = answer(CALLS)
    odd = replace(plain, statistics=replace(plain.statistics, ignored=("end_time", "a[].min", "a[].min")))
    assert "ignored     end_time (unreadable), a[].min (unreadable)\n" in render_table(odd, 80)


def test_the_start_and_end_of_the_period_are_in_the_heading_only() -> None:
    shown = render_table(answer(CALLS, (family("window_end_timestamp_seconds"), (((), END),))), 80)
    assert rows(shown) == ["calls  1250"]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0s"),
        (12.5, "12.5s"),
        (59.9996, "1m"),
        (60, "1m"),
        (3723, "1h 2m 3s"),
        (3723.4, "1h 2m 3s"),
        (86400 * 7, "1w"),
        (90061, "1d 1h 1m 1s"),
        (1e300, "1e+300s"),
    ],
)
def test_durations_are_in_units_for_people(seconds: float, shown: str) -> None:
    assert value_of(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"), [(0.0, "0"), (1234567.0, "1234567"), (0.25, "0.25"), (1e300, "1e+300")]
)
def test_counts_are_whole_where_they_can_be(count: float, shown: str) -> None:
    assert value_of(count, unit="") == shown


def test_an_activity_has_its_sid_only_where_its_name_is_not_enough() -> None:
    activities = (("Busy", "WA1"), ("Busy", "WA2"), ("Idle", "WA3"), ("", "WA4"), ("", ""))
    samples = tuple((labels, 1.0) for labels in activities)
    shown = rows(render_table(answer((family("workers", "activity", "activity_sid"), samples)), 80))
    assert [row.rstrip("1").strip() for row in shown[1:]] == [
        "Busy WA1",
        "Busy WA2",
        "Idle",
        "WA4",
        "(no name)",
    ]


def test_several_labels_have_their_names() -> None:
    waits = family("waits", "until", "threshold")
    assert rows(render_table(answer((waits, ((("accepted", "20s"), 3.0),))), 80)) == [
        "waits",
        "  until=accepted threshold=20s  3",
    ]


def test_a_workspace_without_a_name_has_its_sid_once() -> None:
    unnamed = replace(TARGET, workspace=TARGET.workspace_sid)
    heading = render_table(answer(query=Query(unnamed, Window(15))), 80)
    assert heading.count(TARGET.workspace_sid) == 1


def test_names_cannot_control_the_terminal_and_wide_ones_are_aligned() -> None:
    samples = ((("支持",), 1.0), (("\x1b[2J\n",), 2.0))
    shown = rows(render_table(answer((family("ended", "how"), samples)), 80))
    assert shown[2] == r"  \x1b[2J\n  2"
    assert len({width(row) for row in shown[1:]}) == 1


@pytest.mark.parametrize("columns", [10, 30, 44, 60])
def test_a_narrow_terminal_has_names_and_values_on_lines_of_their_own(columns: int) -> None:
    samples = (((), 3723.0),)
    shown = render_table(
        answer((family("window_task_acceptance_avg_seconds", unit="seconds"), samples), CALLS), columns
    )
    heading, _, body = shown.partition("\n\n")
    longest_word = max(map(len, shown.split()))
    assert max(map(len, heading.splitlines())) <= max(columns, longest_word + len("statistics  "))
    assert max(map(len, body.splitlines())) <= max(columns, longest_word)
    assert body.split() == ["window_task_acceptance_avg_seconds", "1h", "2m", "3s", "calls", "1250"]


def test_a_time_beyond_the_calendar_is_shown_in_seconds() -> None:
    assert "to 253402300800 s since 1970 UTC" in render_table(replace(answer(), end=253402300800.0), 80)
