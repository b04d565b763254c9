"""An answer for programs: as JSON, and as the exposition of its series."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from taskrouter_exporter.lines import PREFIX, WrittenFamily, statistics_lines
from taskrouter_exporter.metrics import statistics_families
from taskrouter_exporter.one_shot.answer import Answer
from taskrouter_exporter.web.exposition import Exposition

_LARGEST_INTEGER: Final = 2**53
"""Programs read larger integers as floating-point numbers."""


def render_json(answer: Answer) -> str:
    """Return an answer as one JSON object. It always has the same keys; what does not apply is null."""
    query = answer.query
    target, kind = query.target, query.kind
    queue, workflow = (query.row if kind.subject == subject else None for subject in ("queue", "workflow"))
    document = {
        "workspace": target.workspace,
        "workspace_sid": target.workspace_sid,
        "account": target.account,
        "channel": target.channel,
        "statistics": kind.name,
        "queue": queue.name if queue else None,
        "queue_sid": queue.sid if queue else None,
        "workflow": workflow.name if workflow else None,
        "workflow_sid": workflow.sid if workflow else None,
        "window": query.period.label or None,
        "start": _time(answer.start),
        "end": _time(answer.end),
        "received": _time(answer.received),
        "duration_seconds": round(answer.duration, 6),
        "attempts": answer.attempts,
        "request_id": answer.request_id,
        "ignored_attributes": list(answer.statistics.ignored),
        "samples": list(_samples(answer)),
    }
    return json.dumps(document, indent=2)


def render_exposition(answer: Answer) -> str:
    """Return the series of an answer in Prometheus's text format, as the exporter publishes them."""
    return Exposition("text/plain", "").render([_Families(answer)]).decode().removesuffix("\n")


class _Families:
    """The families of one answer."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def collect(self) -> Iterator[WrittenFamily]:
        query = self._answer.query
        lines = statistics_lines(query.kind, query.statistics_label_text, self._answer.statistics, None)
        yield from statistics_families(query.kind, query.period.role, [lines])


def _samples(answer: Answer) -> Iterator[dict[str, object]]:
    query, statistics = answer.query, answer.statistics
    for family, samples in zip(statistics.families, statistics.samples, strict=True):
        for values, value in samples:
            yield {
                "name": PREFIX + query.kind.prefix + family.name,
                "labels": {**query.statistics_labels, **dict(zip(family.labels, values, strict=True))},
                "value": int(value) if value.is_integer() and value < _LARGEST_INTEGER else value,
            }


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):  # an offset can lead out of the years 1 to 9999
        return None
