"""The failed polls of targets: a section of the landing page, and JSON."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Final

from taskrouter_exporter.failures import Failure
from taskrouter_exporter.queries import Target
from taskrouter_exporter.web.targets import DESCRIPTIONS

_SHOWN_TARGETS: Final = 50
"""With 20 failed polls each, more of them would be most of the page."""

_HEADINGS: Final = ("Time", "Query", "Reason", "Status", "Twilio code", "Request ID")

FailuresOf = Callable[[Target], Sequence[Failure]]


def failures_json(targets: Iterable[Target], failures_of: FailuresOf) -> str:
    """Return the failed polls of targets: target by target, the newest of each first."""
    # One by one: the encoder would hold the interpreter, and so every scrape, for all of them.
    items = (json.dumps(_item(failure)) for target in targets for failure in failures_of(target))
    return f'{{"failures": [{", ".join(items)}]}}\n'


def _item(failure: Failure) -> dict[str, object]:
    finished = datetime.fromtimestamp(failure.finished, UTC).isoformat(timespec="milliseconds")
    return {
        **failure.query.labels,
        "time": finished.replace("+00:00", "Z"),
        "reason": failure.reason,
        "status": failure.status,
        "code": failure.code,
        "request_id": failure.request_id,
    }


def failures_by_target(
    targets: Iterable[Target], failures_of: FailuresOf
) -> Mapping[Target, Sequence[Failure]]:
    """Return the failed polls of the targets that have any: of the first ones, where there are many."""
    known: dict[Target, Sequence[Failure]] = {}
    for target in targets:
        if failures := failures_of(target):
            known[target] = failures
            if len(known) == _SHOWN_TARGETS:
                break
    return known


def failures_id(number: int) -> str:
    """Return the ID of the element with the failed polls of a target, by its position."""
    return f"failures-{number}"


def failures_section(known: Mapping[Target, Sequence[Failure]], now: float) -> str:
    """Return the section as HTML, "" without failed polls: one collapsed element for each target."""
    if not known:
        return ""
    items = "\n".join(
        _details(failures_id(number), target, failures, now)
        for number, (target, failures) in enumerate(known.items())
    )
    many = f"Those of the first {_SHOWN_TARGETS} targets; all are" if len(known) == _SHOWN_TARGETS else "Also"
    note = f'<p class="quiet">{many} at <a href="./api/v1/failures">/api/v1/failures</a> as JSON.</p>'
    return f"<h2>Failed polls</h2>\n{items}\n{note}"


def _details(element_id: str, target: Target, failures: Sequence[Failure], now: float) -> str:
    newest = failures[0]
    polls = "1 failed poll" if len(failures) == 1 else f"{len(failures)} failed polls"
    summary = (
        f"<b>{escape(target.workspace)}, {escape(target.channel)}</b>: {polls}, "
        f"last {max(now - newest.finished, 0):.0f} s ago ({DESCRIPTIONS[newest.reason]})"
    )
    rows = "".join(f"<tr>{''.join(_cells(failure))}</tr>" for failure in failures)
    heads = "".join(f'<th scope="col">{heading}</th>' for heading in _HEADINGS)
    return (
        f'<details id="{element_id}"><summary>{summary}</summary>'
        f'<div class="scroll" tabindex="0"><table><thead><tr>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></details>"
    )


def _cells(failure: Failure) -> Iterator[str]:
    query = failure.query
    row = f"{query.kind.subject} {query.row.name}" if query.row else ""
    asked = ", ".join(filter(None, (query.kind.name, query.period.label, row)))
    time = f"{datetime.fromtimestamp(failure.finished, UTC):%Y-%m-%d %H:%M:%S} UTC"
    for value in (time, asked, failure.reason, failure.status, failure.code, failure.request_id):
        yield f"<td>{'-' if value is None else escape(str(value))}</td>"
