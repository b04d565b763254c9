import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskrouter_exporter.statistics.answer import BadStatisticsError
from taskrouter_exporter.statistics.kind import Sample, Statistics
from taskrouter_exporter.statistics.parsing import parse as parse_answer
from taskrouter_exporter.statistics.workers import OUTCOMES, WORKERS

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
ATTRIBUTES = st.sampled_from(["sid", "friendly_name", "min", "avg", "max", "total"])


def parse(document: Any) -> Statistics:
    return parse_body(json.dumps(document).encode())


def parse_body(body: bytes) -> Statistics:
    return parse_answer(WORKERS, body, "window", WORKERS.path(WORKSPACE))


def samples(statistics: Statistics) -> dict[str, tuple[Sample, ...]]:
    """The samples by the name of their family, without families that have none."""
    pairs = zip(statistics.families, statistics.samples, strict=True)
    return {family.name.removeprefix("window_"): each for family, each in pairs if each}


def activities(statistics: Statistics, attribute: str = "total") -> dict[tuple[str, ...], float]:
    return dict(samples(statistics).get(f"activity_{attribute}_seconds", ()))


def counts(statistics: Statistics) -> dict[str, float]:
    read = samples(statistics)
    outcomes = {labels[0]: value for labels, value in read.get("reservation_outcomes", ())}
    return {"created": dict(read.get("reservations", ())).get((), -1), **outcomes}


def test_the_published_example_is_read_whole() -> None:
    read = samples(parse_body(EXAMPLE.read_bytes()))
    sid = "WA" + "a" * 32
    durations = {"Offline": (900, 1080, 0, 5400), "Busy": (900, 1012, 0, 8100)}
    durations |= dict.fromkeys(("Idle", "Reserved"), (0, 0, 0, 0))
    assert read == {
        "reservations": (((), 100),),
        "reservation_outcomes": tuple(((outcome,), 100) for outcome in OUTCOMES),
        **{
            f"activity_{attribute}_seconds": tuple(
                ((name, sid), values[place]) for name, values in durations.items()
            )
            for place, attribute in enumerate(("min", "avg", "max", "total"))
        },
        "start_timestamp_seconds": (((), 1438286400),),
        "end_timestamp_seconds": (((), 1438286400),),
    }


def test_the_published_form_is_read_whole_also_where_max_is_below_min() -> None:
    read = parse(PUBLISHED)
    assert counts(read) == {"created": 100, **dict(zip(OUTCOMES, (90, 4, 3, 2, 1), strict=True))}
    assert list(activities(read)) == [("Offline", "WA" + "a" * 32), ("Busy", "WA" + "a" * 32)]
    assert [activities(read, each)["Offline", "WA" + "a" * 32] for each in ("min", "max")] == [900, 0]
    assert read.value("start_timestamp_seconds") == 1438286400
    assert read.value("end_timestamp_seconds") == 1438286400 + 900


@pytest.mark.parametrize(
    "document",
    [dict.fromkeys(PUBLISHED), *({name: None} for name in PUBLISHED if not name.endswith(("sid", "url")))],
    ids=lambda document: "+".join(document)[:30],
)
def test_a_null_or_missing_attribute_is_absent(document: dict[str, Any]) -> None:
    assert samples(parse(document)) == {}


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
    assert counts(parse({**PUBLISHED, **upper}))["created"] == 100


def test_null_attributes_of_an_activity_are_absent_and_its_identity_is_empty() -> None:
    nulls = dict.fromkeys(("sid", "friendly_name", "min", "avg", "max", "total"))
    assert samples(parse({"activity_durations": [nulls]})) == {}
    assert activities(parse({"activity_durations": [{**nulls, "total": 3}]})) == {("", ""): 3}


def test_the_same_activity_twice_is_one_series() -> None:
    twice = {
        "activity_durations": [{"friendly_name": "Idle", "total": 1}, {"friendly_name": "Idle", "total": 2}]
    }
    assert activities(parse(twice)) == {("Idle", ""): 1}


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
        parse_body(body)


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
    statistics = parse_body(b"{" + COUNTS + b", " + attribute + b"}")
    assert counts(statistics) == {"created": 100, "accepted": 90}
    assert statistics.ignored == (ignored,)
    assert statistics.value("start_timestamp_seconds") is None
    assert statistics.value("end_timestamp_seconds") is None


@pytest.mark.parametrize(
    "attribute",
    [b'"note": "\\ud83d"', b'"\\ud83d": 1', b'"note": "\xff"', b'"note": 1' + b"0" * 5000],
    ids=["half a surrogate pair", "in a key", "not UTF-8", "a very long number"],
)
def test_errors_in_unused_attributes_are_not_counted(attribute: bytes) -> None:
    statistics = parse_body(b"{" + COUNTS + b", " + attribute + b"}")
    assert (counts(statistics)["created"], statistics.ignored) == (100, ())


def test_a_byte_order_mark_is_skipped() -> None:
    body = json.dumps(PUBLISHED).encode("utf-8-sig")
    assert parse_body(body) == parse(PUBLISHED)


def test_the_rest_of_an_activity_and_all_others_are_published() -> None:
    before, after = {"friendly_name": "Busy", "total": 1}, {"friendly_name": "Idle", "total": 3}
    odd = {"sid": "WA1", "friendly_name": "a\ud83db", "min": "1", "avg": 2, "max": [], "total": 4}
    statistics = parse({**PUBLISHED, "activity_durations": [before, None, odd, 7, after]})
    assert activities(statistics) == {("Busy", ""): 1, ("a\ufffdb", "WA1"): 4, ("Idle", ""): 3}
    assert activities(statistics, "avg") == {("a\ufffdb", "WA1"): 2}
    assert activities(statistics, "min") == activities(statistics, "max") == {}
    assert sorted(statistics.ignored) == [
        "activity_durations[]",
        "activity_durations[]",
        "activity_durations[].friendly_name",
        "activity_durations[].max",
        "activity_durations[].min",
    ]


def test_names_that_are_equal_after_cleaning_are_one_series() -> None:
    halves = [{"friendly_name": name, "total": 1} for name in ("\ud83d", "\udc80", "\ufffd")]
    assert activities(parse({"activity_durations": halves})) == {("\ufffd", ""): 1}


def test_a_whole_surrogate_pair_is_read_as_one_character() -> None:
    body = b'{"activity_durations": [{"friendly_name": "\\ud83d\\ude00", "total": 1}, null]}'
    assert list(activities(parse_body(body))) == [("\U0001f600", "")]


def test_the_allowed_number_of_activities_is_read() -> None:
    many = [{"friendly_name": str(number), "total": 1} for number in range(1_000)]
    assert len(activities(parse({"activity_durations": many}))) == 1_000


@given(
    st.dictionaries(st.sampled_from(["activity_durations", "start_time", "end_time", "note"]), JSON)
    | st.fixed_dictionaries(
        {"activity_durations": st.lists(JSON | st.dictionaries(ATTRIBUTES, JSON), max_size=9)}
    )
)
def test_no_other_attribute_discards_the_counts(document: dict[str, Any]) -> None:
    assert counts(parse({"reservations_created": 7, **document}))["created"] == 7
