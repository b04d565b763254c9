"""What every kind of statistics has in common: their table, and answers of any shape."""

import json
import math
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskrouter_exporter.statistics import KINDS
from taskrouter_exporter.statistics.answer import BadStatisticsError
from taskrouter_exporter.statistics.kind import Family, Kind, Role, Sample
from taskrouter_exporter.statistics.parsing import parse, parse_bulk

pytestmark = pytest.mark.usefixtures("uncovered")  # long calculations, which other tests cover

DATA: Final = Path(__file__).parents[2] / "data"
EXAMPLES: Final = {
    ("workers", "workspace"): "cumulative-statistics",
    ("tasks", "workspace"): "workspace-cumulative",
    ("realtime", "workspace"): "workspace-realtime",
    ("tasks", "queue"): "task-queue-cumulative",
    ("realtime", "queue"): "task-queue-realtime",
    ("tasks", "workflow"): "workflow-cumulative",
    ("realtime", "workflow"): "workflow-realtime",
}
WORKSPACE: Final = "WS" + "a" * 32
SIDS: Final = {"workspace": "", "queue": "WQ" + "a" * 32, "workflow": "WW" + "a" * 32}
OTHER: Final = {"workspace": "WS" + "b" * 32, "queue": "WQ" + "b" * 32, "workflow": "WW" + "b" * 32}
ROLES: Final = [(kind, role) for kind in KINDS for role in kind.families]
QUEUE: Final = next(kind for kind in KINDS if kind.bulk)
IDENTITY: Final = {"workspace_sid", "task_queue_sid", "workflow_sid", "url"}


def example(kind: Kind) -> dict[str, Any]:
    text = (DATA / f"{EXAMPLES[kind.name, kind.subject]}.example.json").read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text)
    return document


def path(kind: Kind) -> str:
    return kind.path(WORKSPACE, SIDS[kind.subject])


def read(kind: Kind, role: Role, document: Any) -> dict[str, tuple[Sample, ...]]:
    statistics = parse(kind, json.dumps(document).encode(), role, path(kind))
    pairs = zip(statistics.families, statistics.samples, strict=True)
    return {kind.prefix + family.name: samples for family, samples in pairs if samples}


def lines(kind: Kind, role: Role) -> list[str]:
    """The published example as sample lines, without the labels of the query."""
    families = {kind.prefix + family.name: family for family in kind.families[role]}
    return [
        f"{name}{_labels(families[name], labels)} {value:g}"
        for name, samples in read(kind, role, example(kind)).items()
        for labels, value in samples
    ]


def _labels(family: Family, values: tuple[str, ...]) -> str:
    pairs = [
        f'{name}="{value}"' for name, value in zip(family.labels, values, strict=True) if name[-4:] != "_sid"
    ]
    return f"{{{','.join(pairs)}}}" if pairs else ""


EVENTS: Final = ("completed", "canceled", "deleted", "moved")
OUTCOMES: Final = ("accepted", "rejected", "timed_out", "canceled", "rescinded")


def waits(prefix: str) -> list[str]:
    return [
        f'{prefix}window_task_wait_{part}_seconds{{until="{until}"}} 0'
        for part in ("min", "avg", "max", "total")
        for until in ("accepted", "canceled")
    ]


def splits(prefix: str) -> list[str]:
    return [
        f'{prefix}window_task_waits{{until="{until}",threshold="{threshold}",side="{side}"}} 0'
        for threshold in ("5s", "10s")
        for side in ("below", "above")
        for until in ("accepted", "canceled")
    ]


def reservations(prefix: str) -> list[str]:
    outcomes = (f'{prefix}reservation_outcomes{{outcome="{each}"}} 100' for each in OUTCOMES)
    return [f"{prefix}reservations 100", *outcomes]


def events(prefix: str, *names: str) -> list[str]:
    return [f'{prefix}task_events{{event="{name}"}} 100' for name in names]


EXPECTED: Final[dict[tuple[str, str, str], list[str]]] = {
    ("tasks", "workspace", "window"): [
        *events("window_", "created", *EVENTS, "timed_out"),
        "window_task_acceptance_avg_seconds 100",
        *waits(""),
        *splits(""),
    ],
    ("tasks", "workspace", "anchored"): [
        *events("", "created", *EVENTS, "timed_out"),
        'task_wait_seconds{until="accepted"} 0',
        'task_wait_seconds{until="canceled"} 0',
    ],
    ("realtime", "workspace", "current"): [
        "longest_waiting_task_age_seconds 100",
        'workers{activity="Idle"} 0',
        'workers{activity="Busy"} 9',
        'workers{activity="Offline"} 6',
        'workers{activity="Reserved"} 0',
    ],
    ("tasks", "queue", "window"): [
        *events("queue_window_", "entered", *EVENTS),
        "queue_window_task_acceptance_avg_seconds 100",
        *waits("queue_"),
        *splits("queue_"),
        *(f"queue_window_task_queue_wait_{part}_seconds 0" for part in ("min", "avg", "max", "total")),
        *reservations("queue_window_"),
    ],
    ("tasks", "queue", "anchored"): [
        *events("queue_", "entered", *EVENTS),
        'queue_task_wait_seconds{until="accepted"} 0',
        'queue_task_wait_seconds{until="canceled"} 0',
        *reservations("queue_"),
    ],
    ("realtime", "queue", "current"): [
        'queue_tasks{status="reserved"} 0',
        'queue_tasks{status="pending"} 0',
        'queue_tasks{status="assigned"} 0',
        'queue_tasks{status="wrapping"} 0',
        "queue_longest_waiting_task_age_seconds 100",
        'queue_workers{activity="Idle"} 0',
        'queue_workers{activity="Busy"} 9',
        'queue_workers{activity="Offline"} 6',
        'queue_workers{activity="Reserved"} 0',
        "queue_available_workers 100",
        "queue_eligible_workers 100",
        "queue_longest_relative_task_age_seconds 100",
    ],
    ("tasks", "workflow", "window"): [
        *events("workflow_window_", "entered", *EVENTS, "timed_out"),
        "workflow_window_task_acceptance_avg_seconds 100",
        *waits("workflow_"),
        *splits("workflow_"),
        *reservations("workflow_window_"),
    ],
    ("tasks", "workflow", "anchored"): [
        *events("workflow_", "entered", *EVENTS, "timed_out"),
        'workflow_task_wait_seconds{until="accepted"} 0',
        'workflow_task_wait_seconds{until="canceled"} 0',
        *reservations("workflow_"),
    ],
    ("realtime", "workflow", "current"): [
        'workflow_tasks{status="reserved"} 0',
        'workflow_tasks{status="pending"} 0',
        'workflow_tasks{status="assigned"} 0',
        'workflow_tasks{status="wrapping"} 0',
        "workflow_longest_waiting_task_age_seconds 100",
    ],
}
"""What is published of each published example. That of the Workers is in test_workers.py."""

with_each_role = pytest.mark.parametrize(
    ("kind", "role"), ROLES, ids=[f"{kind.name} {kind.subject} {role}" for kind, role in ROLES]
)
with_each_kind = pytest.mark.parametrize("kind", KINDS, ids=[f"{kind.name} {kind.subject}" for kind in KINDS])


def test_every_kind_has_an_example() -> None:
    assert {(kind.name, kind.subject) for kind in KINDS} == EXAMPLES.keys()


@with_each_role
def test_the_published_example_is_read_whole(kind: Kind, role: Role) -> None:
    if kind.name != "workers":
        assert lines(kind, role) == EXPECTED[kind.name, kind.subject, role]


@with_each_role
def test_a_null_or_missing_attribute_is_absent(kind: Kind, role: Role) -> None:
    whole = {name: value for name, value in example(kind).items() if name in kind.model.model_fields}
    assert read(kind, role, dict.fromkeys(whole)) == {}
    for name in whole.keys() - IDENTITY:
        without = {key: value for key, value in whole.items() if key != name}
        assert read(kind, role, without) == read(kind, role, {**without, name: None})


@with_each_kind
def test_an_answer_without_any_attribute_of_statistics_is_a_bad_response(kind: Kind) -> None:
    role = next(iter(kind.families))
    identity = {name: value for name, value in example(kind).items() if name in IDENTITY}
    for document in ({}, {"message": "moved"}, identity):
        with pytest.raises(BadStatisticsError, match="no attribute of statistics"):
            read(kind, role, document)


@with_each_kind
def test_the_wrong_type_of_an_attribute_costs_no_more_than_that_or_is_a_bad_response(kind: Kind) -> None:
    whole = {name: value for name, value in example(kind).items() if name in kind.model.model_fields}
    for role in kind.families:
        for name in whole.keys() - IDENTITY:
            for wrong in ("1", True, -1, [1], {"min": "x"}, {"5": {"below": {"tasks_canceled": "1"}}}):
                document = {**whole, name: wrong}
                if name in kind.model.secondary:
                    others = {key: value for key, value in whole.items() if key != name}
                    assert read(kind, role, others).items() <= read(kind, role, document).items()
                else:
                    with pytest.raises(BadStatisticsError, match=f"^{name}"):
                        read(kind, role, document)


@with_each_kind
def test_an_answer_about_something_else_is_refused(kind: Kind) -> None:
    role, whole = next(iter(kind.families)), example(kind)
    own = whole["url"]
    others = [{"workspace_sid": OTHER["workspace"]}, {"url": own.replace(WORKSPACE, OTHER["workspace"])}]
    if kind.subject == "workspace":
        others += [{"task_queue_sid": OTHER["queue"]}, {"workflow_sid": OTHER["workflow"]}]
    else:
        named = {"queue": "task_queue_sid", "workflow": "workflow_sid"}[kind.subject]
        others += [{named: OTHER[kind.subject]}]
        others += [{"url": own.replace(SIDS[kind.subject], OTHER[kind.subject])}]
    for other in others:
        with pytest.raises(BadStatisticsError, match="about another"):
            read(kind, role, {**whole, **other})
    for different in KINDS:
        if different.subject == kind.subject and different is not kind:
            with pytest.raises(BadStatisticsError, match="other statistics"):
                read(kind, role, {**whole, "url": f"https://x.test{path(different)}?Minutes=15"})


@with_each_kind
def test_sids_are_compared_without_regard_to_case_and_other_urls_are_accepted(kind: Kind) -> None:
    role, whole = next(iter(kind.families)), example(kind)
    upper = {name: whole[name].upper() for name in IDENTITY & whole.keys()}
    assert read(kind, role, {**whole, **upper}) == read(kind, role, whole)
    proxied = {**whole, "url": f"https://proxy.test/x{path(kind)}/Old?Minutes=15"}
    assert read(kind, role, proxied) == read(kind, role, whole)


TEXT = st.text() | st.text(st.characters(categories=["Cs", "Lu"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(
    sorted(
        {name for kind in KINDS for name in kind.model.model_fields}
        | {"sid", "friendly_name", "min", "avg", "max", "total", "workers", "below", "above", "5", "pending"}
    )
)


@given(st.sampled_from(ROLES), JSON | st.dictionaries(NAMES, JSON | st.lists(st.dictionaries(NAMES, JSON))))
def test_any_json_is_statistics_or_a_bad_response(asked: tuple[Kind, Role], document: Any) -> None:
    kind, role = asked
    try:
        families = read(kind, role, document)
    except BadStatisticsError:
        return
    for samples in families.values():
        identities = [tuple(label.encode() for label in labels) for labels, _ in samples]
        assert len(identities) == len(set(identities))
        assert all(math.isfinite(value) for _, value in samples)


@given(st.sampled_from(ROLES), st.binary())
def test_any_bytes_are_statistics_or_a_bad_response(asked: tuple[Kind, Role], body: bytes) -> None:
    kind, role = asked
    try:
        parse(kind, body, role, path(kind))
    except BadStatisticsError:
        return


@given(JSON | st.fixed_dictionaries({"task_queue_data": st.lists(st.dictionaries(NAMES, JSON))}))
def test_any_json_about_several_queues_is_statistics_or_a_bad_response(document: Any) -> None:
    try:
        answers = parse_bulk(QUEUE, json.dumps(document).encode(), WORKSPACE, [SIDS["queue"]])
    except BadStatisticsError:
        return
    assert answers.keys() == {SIDS["queue"]}


def test_an_answer_about_several_queues_has_the_statistics_of_each() -> None:
    first, missing, broken = SIDS["queue"], "WQ" + "c" * 32, "WQ" + "d" * 32
    item = {name: value for name, value in example(QUEUE).items() if name not in ("url", "workspace_sid")}
    document = {
        "workspace_sid": WORKSPACE,
        "url": f"https://taskrouter.twilio.com{QUEUE.bulk_path(WORKSPACE)}",
        "task_queue_response_count": 2,
        "task_queue_data": [
            {**item, "task_queue_sid": first.upper()},
            {**item, "task_queue_sid": broken, "total_tasks": "7"},
        ],
    }
    answers = parse_bulk(QUEUE, json.dumps(document).encode(), WORKSPACE, [missing, first, broken])
    single = parse(QUEUE, json.dumps(item).encode(), "current", path(QUEUE))
    assert answers[first] == single
    assert str(answers[missing]) == "the answer does not have this queue"
    assert str(answers[broken]) == "total_tasks: float type"


@pytest.mark.parametrize(
    "document",
    [{"task_queue_data": None}, [], {"task_queue_data": [], "workspace_sid": OTHER["workspace"]}],
    ids=["no list", "no object", "another workspace"],
)
def test_an_answer_that_is_not_about_these_queues_is_refused(document: Any) -> None:
    with pytest.raises(BadStatisticsError):
        parse_bulk(QUEUE, json.dumps(document).encode(), WORKSPACE, [SIDS["queue"]])


def test_names_of_families_are_unique_and_units_are_their_endings() -> None:
    named = [(kind.prefix + family.name, family) for kind, role in ROLES for family in kind.families[role]]
    assert len({name for name, _ in named}) == len(named)
    assert all(name.endswith(family.unit) and family.text.endswith(".") for name, family in named)
    assert {family.unit for _, family in named} == {"", "seconds"}
