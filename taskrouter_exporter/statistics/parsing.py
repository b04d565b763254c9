"""Bodies of answers to statistics: the samples of each family of their kind."""

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import ValidationError

from taskrouter_exporter.statistics.answer import (
    BadStatisticsError,
    StatisticsModel,
    Timestamp,
    check_subject,
    parse_json,
    read_body,
    read_document,
)
from taskrouter_exporter.statistics.kind import Kind, Role, Sample, Statistics


def parse(kind: Kind, body: bytes, role: Role, path: str) -> Statistics:
    """Parse an answer.

    Args:
        kind: What was asked.
        body: JSON.
        role: What was asked about.
        path: The path that was asked. An answer that names something else belongs to another request.

    Raises:
        BadStatisticsError: see there.
    """
    answer, ignored = read_body(kind.model, body)
    return _published(kind, answer, ignored, role, path)


def parse_bulk(
    kind: Kind, body: bytes, workspace_sid: str, sids: Sequence[str]
) -> dict[str, Statistics | BadStatisticsError]:
    """Parse an answer about several subjects: the statistics of each SID, or what is wrong with them.

    Raises:
        BadStatisticsError: it is no such answer.
    """
    if kind.bulk is None:
        raise ValueError(f"no request for {kind.name} of several subjects")
    document = parse_json(body)
    items = document.get(kind.bulk.items) if isinstance(document, dict) else None
    if not isinstance(items, list):
        raise BadStatisticsError("the body: no list of statistics")
    try:
        head = StatisticsModel.model_validate(document)
    except ValidationError:
        raise BadStatisticsError("the body: workspace_sid and url are not text") from None
    check_subject(head, kind.bulk_path(workspace_sid))
    by_sid = {
        sid.lower(): item
        for item in items
        if isinstance(item, dict) and isinstance(sid := item.get(kind.bulk.sid), str)
    }
    return {sid: _parse_item(kind, by_sid.get(sid.lower()), workspace_sid, sid) for sid in sids}


class _IntervalModel(StatisticsModel):
    secondary = frozenset({"start_time", "end_time"})

    start_time: Timestamp = None
    end_time: Timestamp = None


def parse_interval(body: bytes) -> tuple[float | None, float | None]:
    """Return start and end of the period that an answer covers, in Unix seconds; None where it does not say.

    Args:
        body: JSON. Cumulative statistics of every kind can have both; real-time statistics have neither.
    """
    try:
        answer, _ = read_body(_IntervalModel, body)
    except BadStatisticsError:
        return None, None
    return answer.start_time, answer.end_time


def _parse_item(
    kind: Kind, item: dict[str, Any] | None, workspace_sid: str, sid: str
) -> Statistics | BadStatisticsError:
    if item is None:
        return BadStatisticsError(f"the answer does not have this {kind.subject}")
    try:
        answer, ignored = read_document(kind.model, item)
        return _published(kind, answer, ignored, "current", kind.path(workspace_sid, sid))
    except BadStatisticsError as error:
        return error


def _published(
    kind: Kind, answer: StatisticsModel, ignored: tuple[str, ...], role: Role, path: str
) -> Statistics:
    check_subject(answer, path)
    families = kind.families[role]
    samples = tuple(_distinct(family.samples(answer)) for family in families)
    return Statistics(families, samples, ignored)


def _distinct(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    """Return the first sample of each combination of labels: a second one would be the same series."""
    first: dict[tuple[str, ...], float] = {}
    for labels, value in samples:
        first.setdefault(labels, value)
    return tuple(first.items())
