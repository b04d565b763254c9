import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskrouter_exporter.statistics.workers import (
    OUTCOMES,
    ActivityDurations,
    BadStatisticsError,
    WorkersStatistics,
    parse_statistics,
)

EXAMPLE = Path(__file__).parents[2] / "data" / "cumulative-statistics.example.json"
WORKSPACE = "WS" + "a" * 32
OTHER = "WS" + "b" * 32
PUBLISHED: dict[str, Any] = {
    "workspace_sid": WORKSPACE,
    "url": f"https://taskrouter.twilio.com/v1/Workspaces/{WORKSPACE}/Workers/CumulativeStatistics",
    "account_sid": "AC" + "a" * 32,
    "reservations_created": 100,
    "reservations_accepted": 90,
    "reservations_rejected": 4,
    "reservations_timed_out": 3,
    "reservations_canceled": 2,
    "reservations_rescinded": 1,
    "activity_durations": [
        {
            "max": 0,
            "min": 900,
            "sid": "WA" + "a" * 32,
            "friendly_name": "Offline",
            "avg": 1080,
            "total": 5400,
        },
        {"max": 0, "min": 900, "sid": "WA" + "a" * 32, "friendly_name": "Busy", "avg": 1012, "total": 8100},
    ],
    "start_time": "2015-07-30T20:00:00Z",
    "end_time": "2015-07-30T20:15:00Z",
}

TEXT = st.text() | st.text(st.characters(categories=["Cs", "Lu"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
ATTRIBUTES = st.sampled_from([*PUBLISHED, "sid", "friendly_name", "min", "avg", "max", "total"])


def parse(document: Any) -> WorkersStatistics:
    return parse_statistics(json.dumps(document).encode(), WORKSPACE)


def test_the_published_example_is_read_whole() -> None:
    statistics = parse_statistics(EXAMPLE.read_bytes(), "WS" + "a" * 32)
    sid = "WA" + "a" * 32
    assert statistics == WorkersStatistics(
        created=100,
        outcomes=dict.fromkeys(OUTCOMES, 100),
        activities=(
            ActivityDurations("Offline", sid, 900, 1080, 0, 5400),
            ActivityDurations("Busy", sid, 900, 1012, 0, 8100),
            ActivityDurations("Idle", sid, 0, 0, 0, 0),
            ActivityDurations("Reserved", sid, 0, 0, 0, 0),
        ),
        start=1438286400,
        end=1438286400,
    )


def test_the_published_form_is_read_whole_also_where_max_is_below_min() -> None:
    statistics = parse(PUBLISHED)
    assert statistics.created == 100
    assert statistics.outcomes == dict(zip(OUTCOMES, (90, 4, 3, 2, 1), strict=True))
    assert statistics.activities[0] == ActivityDurations("Offline", "WA" + "a" * 32, 900, 1080, 0, 5400)
    assert [each.name for each in statistics.activities] == ["Offline", "Busy"]
    assert statistics.end is not None
    assert statistics.start == 1438286400
    assert statistics.end - statistics.start == 900


@pytest.mark.parametrize(
    "document",
    [dict.fromkeys(PUBLISHED), *({name: None} for name in PUBLISHED if not name.endswith(("sid", "url")))],
    ids=lambda document: "+".join(document)[:30],
)
def test_a_null_or_missing_attribute_is_absent(document: dict[str, Any]) -> None:
    assert parse(document) == WorkersStatistics()


@pytest.mark.parametrize(
    "document",
    [{}, {"error": "blocked"}, {"workspace_sid": WORKSPACE, "url": PUBLISHED["url"], "message": "moved"}],
    ids=["empty", "an error", "of the workspace"],
)
def test_an_answer_without_any_attribute_of_statistics_is_a_bad_response(document: dict[str, Any]) -> None:
    with pytest.raises(BadStatisticsError, match="no attribute of statistics"):
        parse(document)


@pytest.mark.parametrize(
    "named",
    [
        {"workspace_sid": "WS" + "b" * 32},
        {"url": f"https://x.test/v1/Workspaces/WS{'b' * 32}/Workers/CumulativeStatistics"},
    ],
    ids=["workspace_sid", "url"],
)
def test_an_answer_about_another_workspace_is_refused(named: dict[str, str]) -> None:
    with pytest.raises(BadStatisticsError, match="another workspace"):
        parse({**PUBLISHED, **named})


def test_the_workspace_of_an_answer_is_compared_without_regard_to_case() -> None:
    upper = {key: PUBLISHED[key].replace("a" * 32, "A" * 32) for key in ("workspace_sid", "url")}
    assert parse({**PUBLISHED, **upper}).created == 100


def test_null_attributes_of_an_activity_are_absent_and_its_identity_is_empty() -> None:
    nulls = dict.fromkeys(("sid", "friendly_name", "min", "avg", "max", "total"))
    assert parse({"activity_durations": [nulls]}).activities == (ActivityDurations("", ""),)


def test_the_same_activity_twice_is_one_series() -> None:
    twice = {
        "activity_durations": [{"friendly_name": "Idle", "total": 1}, {"friendly_name": "Idle", "total": 2}]
    }
    assert parse(twice).activities == (ActivityDurations("Idle", "", total=1),)


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b"", "the body"),
        (b"<html>", "the body"),
        (b"[]", "the body"),
        (b"null", "the body"),
        (b"\xff{}", "the body"),
        (b'{"reservations_created": 1}x', "the body"),
        (b'\xef\xbb\xbf\xef\xbb\xbf{"reservations_created": 1}', "the body"),
        (b"[" * 100_000, "the body"),
        (b'{"reservations_created": "1"}', "reservations_created"),
        (b'{"reservations_created": true}', "reservations_created"),
        (b'{"reservations_created": NaN}', "reservations_created"),
        (b'{"reservations_created": 1e999}', "reservations_created"),
        (b'{"reservations_created": -1}', "reservations_created"),
        (b'{"reservations_created": 1' + b"0" * 5000 + b"}", "reservations_created"),
        (b'{"reservations_rescinded": [], "activity_durations": {}}', "reservations_rescinded"),
        (b'{"reservations_created": 1, "url": 5}', "url"),
        (b'{"activity_durations": [' + b"{}," * 1000 + b"{}]}", "activity_durations"),
        (b'{"activity_durations": [' + b"null," * 1000 + b"null]}", "activity_durations"),
    ],
)
def test_another_type_is_a_bad_response_that_names_the_place(body: bytes, place: str) -> None:
    with pytest.raises(BadStatisticsError, match=f"^{place}: "):
        parse_statistics(body, WORKSPACE)


COUNTS = b'"reservations_created": 100, "reservations_accepted": 90'


@pytest.mark.parametrize(
    ("attribute", "ignored"),
    [
        (b'"activity_durations": {}', "activity_durations"),
        (b'"activity_durations": "none"', "activity_durations"),
        (b'"activity_durations": [null]', "activity_durations[]"),
        (b'"activity_durations": [5]', "activity_durations[]"),
        (b'"activity_durations": [{"avg": "9"}]', "activity_durations[].avg"),
        (b'"activity_durations": [{"min": true}]', "activity_durations[].min"),
        (b'"activity_durations": [{"min": NaN}]', "activity_durations[].min"),
        (b'"activity_durations": [{"max": -1}]', "activity_durations[].max"),
        (b'"activity_durations": [{"total": 1' + b"0" * 5000 + b"}]", "activity_durations[].total"),
        (b'"activity_durations": [{"friendly_name": 9}]', "activity_durations[].friendly_name"),
        (b'"activity_durations": [{"friendly_name": "\\ud83d"}]', "activity_durations[].friendly_name"),
        (b'"activity_durations": [{"friendly_name": "Caf\xe9"}]', "activity_durations[].friendly_name"),
        (b'"activity_durations": [{"sid": ["WA"]}]', "activity_durations[].sid"),
        (b'"start_time": 1438286400', "start_time"),
        (b'"start_time": "1438286400"', "start_time"),
        (b'"start_time": "2015-07-30T20:00:00"', "start_time"),
        (b'"start_time": "Thu, 30 Jul 2015 20:00:00 +0000"', "start_time"),
        (b'"end_time": "2016-12-31T23:59:60Z"', "end_time"),
        (b'"end_time": "\\ud83d"', "end_time"),
        (b'"end_time": {"seconds": 1}', "end_time"),
    ],
    ids=lambda value: value[:60].decode("latin-1") if isinstance(value, bytes) else "",
)
def test_unreadable_attributes_do_not_discard_the_counts(attribute: bytes, ignored: str) -> None:
    statistics = parse_statistics(b"{" + COUNTS + b", " + attribute + b"}", WORKSPACE)
    assert (statistics.created, statistics.outcomes) == (100, {"accepted": 90})
    assert statistics.ignored == (ignored,)
    assert statistics.start is None
    assert statistics.end is None


@pytest.mark.parametrize(
    "attribute",
    [b'"note": "\\ud83d"', b'"\\ud83d": 1', b'"note": "\xff"', b'"note": 1' + b"0" * 5000],
    ids=["half a surrogate pair", "in a key", "not UTF-8", "a very long number"],
)
def test_errors_in_unused_attributes_are_not_counted(attribute: bytes) -> None:
    statistics = parse_statistics(b"{" + COUNTS + b", " + attribute + b"}", WORKSPACE)
    assert (statistics.created, statistics.ignored) == (100, ())


def test_a_byte_order_mark_is_skipped() -> None:
    body = json.dumps(PUBLISHED).encode("utf-8-sig")
    assert parse_statistics(body, WORKSPACE) == parse(PUBLISHED)


def test_the_rest_of_an_activity_and_all_others_are_published() -> None:
    before, after = {"friendly_name": "Busy", "total": 1}, {"friendly_name": "Idle", "total": 3}
    odd = {"sid": "WA1", "friendly_name": "a\ud83db", "min": "1", "avg": 2, "max": [], "total": 4}
    statistics = parse({**PUBLISHED, "activity_durations": [before, None, odd, 7, after]})
    assert statistics.activities == (
        ActivityDurations("Busy", "", total=1),
        ActivityDurations("a\ufffdb", "WA1", avg=2, total=4),
        ActivityDurations("Idle", "", total=3),
    )
    assert sorted(statistics.ignored) == [
        "activity_durations[]",
        "activity_durations[]",
        "activity_durations[].friendly_name",
        "activity_durations[].max",
        "activity_durations[].min",
    ]


def test_names_that_are_equal_after_cleaning_are_one_series() -> None:
    halves = [{"friendly_name": name, "total": 1} for name in ("\ud83d", "\udc80", "\ufffd")]
    assert parse({"activity_durations": halves}).activities == (ActivityDurations("\ufffd", "", total=1),)


def test_a_whole_surrogate_pair_is_read_as_one_character() -> None:
    body = b'{"activity_durations": [{"friendly_name": "\\ud83d\\ude00"}, null]}'
    assert [each.name for each in parse_statistics(body, WORKSPACE).activities] == ["\U0001f600"]


def test_the_allowed_number_of_activities_is_read() -> None:
    activities = [{"friendly_name": str(number), "total": 1} for number in range(1_000)]
    assert len(parse({"activity_durations": activities}).activities) == 1_000


@given(JSON | st.dictionaries(ATTRIBUTES, JSON | st.lists(st.dictionaries(ATTRIBUTES, JSON))))
def test_any_json_is_statistics_or_a_bad_response(document: Any) -> None:
    try:
        statistics = parse(document)
    except BadStatisticsError:
        return
    numbers = [statistics.created, statistics.start, statistics.end, *statistics.outcomes.values()]
    numbers += [
        value for each in statistics.activities for value in (each.min, each.avg, each.max, each.total)
    ]
    assert all(number is None or math.isfinite(number) for number in numbers)
    assert all(number is None or number >= 0 for number in numbers[3:])
    identities = [(each.name.encode(), each.sid.encode()) for each in statistics.activities]
    assert len(identities) == len(set(identities))


@given(
    st.dictionaries(st.sampled_from(["activity_durations", "start_time", "end_time", "note"]), JSON)
    | st.fixed_dictionaries(
        {"activity_durations": st.lists(JSON | st.dictionaries(ATTRIBUTES, JSON), max_size=9)}
    )
)
def test_no_other_attribute_discards_the_counts(document: dict[str, Any]) -> None:
    assert parse({"reservations_created": 7, **document}).created == 7


@given(st.binary())
def test_any_bytes_are_statistics_or_a_bad_response(body: bytes) -> None:
    try:
        parse_statistics(body, WORKSPACE)
    except BadStatisticsError:
        return
