"""The landing page: each target's state at its last poll, and where to go from here."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from types import MappingProxyType
from typing import Final
from urllib.parse import urlencode

from taskrouter_exporter import __version__
from taskrouter_exporter.api.errors import Reason
from taskrouter_exporter.discovery import Discovered
from taskrouter_exporter.documents import documents
from taskrouter_exporter.poll_history import PollResult, newest_rate_limits
from taskrouter_exporter.queries import Query, Target, Window

LANDING_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

_IN_WORDS: Final = {
    Reason.AUTH: "credentials refused",
    Reason.FORBIDDEN: "not allowed",
    Reason.NOT_FOUND: "no such workspace or channel",
    Reason.RATE_LIMITED: "rate limited",
    Reason.SERVER_ERROR: "Twilio had an error",
    Reason.TIMEOUT: "no answer in time",
    Reason.CONNECTION: "no connection",
    Reason.BAD_RESPONSE: "answer not understood",
}
_SHOWN_TARGETS: Final = 1_000
"""A page of all the targets of a very large installation would be of use to nobody."""

_SHOWN_OUTCOMES: Final = ("accepted", "rejected", "timed_out")

_STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; --good: #1a7f37; --bad: #cf222e; --quiet: #6e7781; }
@media (prefers-color-scheme: dark) { :root { --good: #3fb950; --bad: #ff7b72; --quiet: #9198a1; } }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 72rem; padding: 1rem; }
li, p { overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.1rem; margin: 1.5rem 0 .5rem; }
nav a { display: inline-block; margin: .25rem 1rem .25rem 0; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid var(--line); padding: .35rem .75rem .35rem 0; text-align: left; }
td { vertical-align: baseline; } td.state { min-width: 9rem; }
td.links, td.number { white-space: nowrap; }
th { color: var(--quiet); font-weight: 600; white-space: nowrap; } td.name { overflow-wrap: anywhere; }
.number { font-variant-numeric: tabular-nums; text-align: right; } .up { color: var(--good); }
.down { color: var(--bad); } .quiet { color: var(--quiet); }
@media (max-width: 40rem) {
  table, tbody, tr { display: block; } thead { display: none; }
  tr { border-bottom: 1px solid var(--line); padding: .5rem 0; }
  td, td.number { border: 0; display: flex; gap: 1rem; padding: .1rem 0; text-align: left; }
  td::before { color: var(--quiet); content: attr(data-label); flex: 0 0 7rem; }
}
"""


@dataclass(frozen=True, slots=True)
class _Cell:
    """A column's value; `html` is escaped already."""

    label: str
    html: str
    style: str = ""


def landing_page(
    queries: Sequence[Query],
    last: Callable[[Query], PollResult | None],
    telemetry_path: str,
    now: float | None = None,
    found: Mapping[str, Discovered] = MappingProxyType({}),
) -> str:
    """The page as HTML. It tells what scrapes and discovery have found and never polls by itself."""
    moment = time.time() if now is None else now
    by_target: dict[Target, list[Query]] = {}
    for query in queries:
        by_target.setdefault(query.target, []).append(query)
    shown = _most_interesting(by_target, last)
    rows = [_row(target, by_target[target], last, moment) for target in shown]
    heads = "".join(map(_write_head, rows[0])) if rows else ""
    body = "".join(f"<tr>{''.join(map(_write_cell, row))}</tr>" for row in rows)
    links = "".join(
        f'<a href="{escape(href)}">{escape(text)}</a>'
        for text, href in (
            ("Metrics", telemetry_path),
            ("Service discovery", "/sd"),
            *((f"Docs: {name}", f"/docs/{name}") for name in documents()),
            ("Health", "/-/healthy"),
            ("Readiness", "/-/ready"),
        )
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>TaskRouter exporter</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>TaskRouter exporter <span class="quiet">{escape(__version__)}</span></h1>
<p>Prometheus exporter for Twilio TaskRouter: reservations, how they ended, and what Workers do.</p>
<nav>{links}</nav>
<h2>Targets</h2>
<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>
{_left_out(len(by_target) - len(shown))}
<h2>Rate limits</h2>
{_rate_limits(queries, last)}
{_discovery(found, moment)}
<p class="quiet">As of each target's last poll. This page asks Twilio nothing; a scrape does.</p>
</body>
</html>
"""


def _most_interesting(
    by_target: Mapping[Target, Sequence[Query]], last: Callable[[Query], PollResult | None]
) -> list[Target]:
    """The targets that are shown: all in their order, or of very many those first that are down."""
    if len(by_target) <= _SHOWN_TARGETS:
        return list(by_target)

    def is_up(target: Target) -> bool:
        return all(outcome.up for query in by_target[target] if (outcome := last(query)) is not None)

    return sorted(by_target, key=is_up)[:_SHOWN_TARGETS]


def _left_out(number: int) -> str:
    if not number:
        return ""
    return f'<p class="quiet">And {number:,} more that are not shown. <a href="/sd">/sd</a> lists all.</p>'


def _row(
    target: Target, queries: Sequence[Query], last: Callable[[Query], PollResult | None], now: float
) -> list[_Cell]:
    outcomes = [outcome for query in queries if (outcome := last(query)) is not None]
    newest = max(outcomes, key=lambda outcome: outcome.finished, default=None)
    link = f"/probe?{urlencode({'workspace': target.workspace, 'channel': target.channel})}"
    return [
        _Cell("Workspace", escape(target.workspace), "name"),
        _Cell("Channel", escape(target.channel), "name"),
        _Cell("Windows", escape(", ".join(query.period.label for query in queries))),
        _Cell("Last poll", "never" if newest is None else f"{max(now - newest.finished, 0):.0f} s ago"),
        _Cell("Took", "" if newest is None else f"{max(each.duration for each in outcomes):.2f} s", "number"),
        _Cell("State", _state(outcomes), "state"),
        *_reservations(queries, last),
        _Cell(
            "Probe",
            f'<a href="{escape(link)}">probe</a> <a href="{escape(link)}&amp;debug=true">debug</a>',
            "links",
        ),
    ]


def _state(outcomes: Sequence[PollResult]) -> str:
    if not outcomes:
        return '<span class="quiet">not polled yet</span>'
    errors = dict.fromkeys(each.error.reason for each in outcomes if each.error)
    if not errors:
        return '<span class="up">up</span>'
    return f'<span class="down">down: {escape(", ".join(_IN_WORDS[reason] for reason in errors))}</span>'


def _reservations(queries: Sequence[Query], last: Callable[[Query], PollResult | None]) -> list[_Cell]:
    """Counts of the first window, or of the counters where there is no window."""
    first = next((query for query in queries if isinstance(query.period, Window)), queries[0])
    outcome = last(first)
    statistics = outcome.statistics if outcome else None
    counts = {"created": statistics.created if statistics else None}
    counts |= {name: statistics.outcomes.get(name) if statistics else None for name in _SHOWN_OUTCOMES}
    return [
        _Cell(f"{name.replace('_', ' ').capitalize()}", "-" if count is None else f"{count:,.0f}", "number")
        for name, count in counts.items()
    ]


def _write_head(cell: _Cell) -> str:
    return f"<th{_class(cell)}>{escape(cell.label)}</th>"


def _write_cell(cell: _Cell) -> str:
    return f'<td{_class(cell)} data-label="{escape(cell.label)}">{cell.html}</td>'


def _class(cell: _Cell) -> str:
    return f' class="{cell.style}"' if cell.style else ""


def _discovery(found: Mapping[str, Discovered], now: float) -> str:
    """A line for each account that has something to discover."""
    if not found:
        return ""
    told = [f"<li>{escape(name)}: {_found(each, now)}</li>" for name, each in found.items()]
    return f"<h2>Discovery</h2>\n<ul>{''.join(told)}</ul>"


def _found(found: Discovered, now: float) -> str:
    if found.refreshed is None:
        return '<span class="quiet">not over yet</span>'
    told = f"looked {max(now - found.refreshed, 0):.0f} s ago, found {_list_found(found) or 'nothing'}"
    if found.up:
        return f'{told}, <span class="up">up</span>'
    reasons = dict.fromkeys(_IN_WORDS[error.reason] for error in found.failures.values())
    return f'{told}, <span class="down">down: {escape(", ".join(reasons))}</span>'


def _list_found(found: Discovered) -> str:
    workspaces = f"{len(found.workspaces)} workspaces" if found.workspaces else ""
    channels = sum(map(len, found.channels.values()))
    return " and ".join(filter(None, (workspaces, f"{channels} channels" if channels else "")))


def _rate_limits(queries: Sequence[Query], last: Callable[[Query], PollResult | None]) -> str:
    outcomes = [outcome for query in queries if (outcome := last(query)) is not None]
    told = [
        f"<li>{escape(workspace)}: {limit.remaining:g} of {limit.limit:g} requests left</li>"
        for workspace, limit in newest_rate_limits(outcomes).items()
        if limit.limit is not None and limit.remaining is not None
    ]
    return f"<ul>{''.join(told[:_SHOWN_TARGETS])}</ul>" if told else '<p class="quiet">Not known yet.</p>'
