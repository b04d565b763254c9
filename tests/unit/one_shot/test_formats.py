import json
from datetime import UTC, datetime

from prometheus_client.parser import text_string_to_metric_families

from taskrouter_exporter.one_shot.answer import Answer
from taskrouter_exporter.one_shot.formats import render_exposition, render_json
from taskrouter_exporter.periods import Current, Window
from taskrouter_exporter.queries import Query, Row, Target
from taskrouter_exporter.statistics import KINDS
from taskrouter_exporter.statistics.parsing import parse

TARGET = Target("default", "WS" + "0" * 32, "support", "voice")
QUEUE = Row("WQ" + "2" * 32, "Calls")
RECEIVED = datetime(2026, 11, 25, 12, tzinfo=UTC).timestamp()
BODY = json.dumps(
    {"tasks_by_status": {"pending": 3, "reserved": None}, "longest_task_waiting_age": 2.5}
).encode()


def answer(subject: str = "queue") -> Answer:
    kind = next(kind for kind in KINDS if (kind.name, kind.subject) == ("realtime", subject))
    query = Query(TARGET, Current(), kind, None if subject == "workspace" else QUEUE)
    statistics = parse(kind, BODY, "current", query.path)
    return Answer(query, statistics, None, None, RECEIVED, 0.25, 2, None)


def test_json_is_one_object_with_what_was_asked_and_every_sample() -> None:
    labels = {"workspace": "support", "channel": "voice", "queue": "Calls"}
    assert json.loads(render_json(answer())) == {
        "workspace": "support",
        "workspace_sid": TARGET.workspace_sid,
        "account": "default",
        "channel": "voice",
        "statistics": "realtime",
        "queue": "Calls",
        "queue_sid": QUEUE.sid,
        "workflow": None,
        "workflow_sid": None,
        "window": None,
        "start": None,
        "end": None,
        "received": "2026-11-25T12:00:00Z",
        "duration_seconds": 0.25,
        "attempts": 2,
        "request_id": None,
        "ignored_attributes": [],
        "samples": [
            {
                "name": "twilio_taskrouter_queue_tasks",
                "labels": {**labels, "status": "pending"},
                "value": 3,
            },
            {
                "name": "twilio_taskrouter_queue_longest_waiting_task_age_seconds",
                "labels": labels,
                "value": 2.5,
            },
        ],
    }


def test_json_has_the_same_keys_whatever_was_asked() -> None:
    keys = {tuple(json.loads(render_json(answer(subject)))) for subject in ("workspace", "queue", "workflow")}
    assert len(keys) == 1


def test_json_has_the_period_and_escapes_what_a_terminal_cannot_show() -> None:
    query = Query(TARGET, Window(15))
    activity = {"friendly_name": "Busy\x1b\u202e", "sid": "WA1", "max": 1e300}
    statistics = parse(
        query.kind, json.dumps({"activity_durations": [activity]}).encode(), "window", query.path
    )
    text = render_json(Answer(query, statistics, RECEIVED - 900, 1e12, RECEIVED, 0.25, 1, None))
    assert text.isascii()
    assert text.replace("\n", "").isprintable()
    document = json.loads(text)
    assert (document["window"], document["start"], document["end"]) == ("15m", "2026-11-25T11:45:00Z", None)
    assert document["samples"][0]["labels"]["activity"] == "Busy\x1b\u202e"
    assert document["samples"][0]["value"] == 1e300


def test_the_exposition_has_the_series_without_those_of_the_exporter_itself() -> None:
    families = list(text_string_to_metric_families(render_exposition(answer())))
    samples = {(sample.name, sample.value) for family in families for sample in family.samples}
    assert samples == {
        ("twilio_taskrouter_queue_tasks", 3),
        ("twilio_taskrouter_queue_longest_waiting_task_age_seconds", 2.5),
    }
    assert all(family.type == "gauge" and family.documentation for family in families)
