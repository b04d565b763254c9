"""The landing page: links, and the state of each target at its last poll."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from types import MappingProxyType
from typing import Final
from urllib.parse import urlencode

from taskrouter_exporter import __version__
from taskrouter_exporter.api.errors import Reason
from taskrouter_exporter.discovered import Discovered
from taskrouter_exporter.poll_history import PollResult, newest_rate_limits
from taskrouter_exporter.queries import Query, Target
from taskrouter_exporter.statistics.kind import Column

LANDING_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

_DESCRIPTIONS: Final = {
    Reason.AUTH: "authentication failed",
    Reason.FORBIDDEN: "forbidden",
    Reason.NOT_FOUND: "workspace or channel not found",
    Reason.RATE_LIMITED: "rate limited",
    Reason.SERVER_ERROR: "server error",
    Reason.TIMEOUT: "timeout",
    Reason.CONNECTION: "connection failed",
    Reason.BAD_RESPONSE: "invalid response",
}
_SHOWN_TARGETS: Final = 1_000
"""With more rows the page takes seconds to write and to load."""

_STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; --good: #1a7f37; --bad: #cf222e; --quiet: #6e7781; }
@media (prefers-color-scheme: dark) { :root { --good: #3fb950; --bad: #ff7b72; --quiet: #9198a1; } }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 80rem; padding: 1rem; }
li, p { overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.1rem; margin: 1.5rem 0 .5rem; }
nav a { display: inline-block; margin: .25rem 1rem .25rem 0; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; width: 100%; }
th, td { border-bottom: 1px solid var(--line); padding: .35rem .6rem .35rem 0; text-align: left; }
td { vertical-align: baseline; white-space: nowrap; } td.state { min-width: 5rem; white-space: normal; }
th { color: var(--quiet); font-weight: 600; white-space: nowrap; }
td.name { overflow-wrap: anywhere; white-space: normal; }
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
    """A table cell; `html` is escaped already."""

    label: str
    html: str
    style: str = ""


def landing_page(
    queries: Sequence[Query],
    last: Callable[[Query], PollResult | None],
    links: Mapping[str, str],
    now: float | None = None,
    found: Mapping[str, Discovered] = MappingProxyType({}),
) -> str:
    """Return the page as HTML. It shows what scrapes and discovery found, and never polls by itself.

    Args:
        queries: Those that are polled.
        last: Returns the newest result of a query.
        links: Targets of the links by their text, relative: the page may be behind a path prefix.
        now: Unix seconds, by default the system's.
        found: What discovery found, by account.
    """
    moment = time.time() if now is None else now
    by_target: dict[Target, list[Query]] = {}
    for query in queries:
        by_target.setdefault(query.target, []).append(query)
    shown = _shown_targets(by_target, last)
    columns = tuple(dict.fromkeys(column for query in queries for column in query.kind.columns))
    rows = [_row(target, by_target[target], last, moment, columns) for target in shown]
    heads = "".join(map(_write_head, rows[0])) if rows else ""
    body = "".join(f"<tr>{''.join(map(_write_cell, row))}</tr>" for row in rows)
    navigation = "".join(f'<a href="{escape(href)}">{escape(text)}</a>' for text, href in links.items())
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
<p>Prometheus exporter for Twilio TaskRouter: reservations, tasks, queues and Workers.</p>
<nav>{navigation}</nav>
<h2>Targets</h2>
<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>
{_omitted(len(by_target) - len(shown))}
<h2>Rate limits</h2>
{_rate_limits(queries, last)}
{_discovery(found, moment)}
<p class="quiet">The state is that of each target's last poll. Loading this page sends no API requests.</p>
</body>
</html>
"""


def _shown_targets(
    by_target: Mapping[Target, Sequence[Query]], last: Callable[[Query], PollResult | None]
) -> list[Target]:
    """Return all targets in their order, or the first of very many, those that are down before others."""
    if len(by_target) <= _SHOWN_TARGETS:
        return list(by_target)

    def is_up(target: Target) -> bool:
        return all(result.up for query in by_target[target] if (result := last(query)) is not None)

    return sorted(by_target, key=is_up)[:_SHOWN_TARGETS]


def _omitted(number: int) -> str:
    if not number:
        return ""
    targets = "1 more target is" if number == 1 else f"{number:,} more targets are"
    return f'<p class="quiet">{targets} not shown. <a href="./sd">/sd</a> lists all targets.</p>'


def _row(
    target: Target,
    queries: Sequence[Query],
    last: Callable[[Query], PollResult | None],
    now: float,
    columns: Sequence[Column],
) -> list[_Cell]:
    results = [result for query in queries if (result := last(query)) is not None]
    newest = max(results, key=lambda result: result.finished, default=None)
    link = f"./probe?{urlencode({'workspace': target.workspace, 'channel': target.channel})}"
    return [
        _Cell("Workspace", escape(target.workspace), "name"),
        _Cell("Channel", escape(target.channel), "name"),
        _Cell("Windows", escape(", ".join(_periods(queries)))),
        _Cell("Last poll", "never" if newest is None else f"{max(now - newest.finished, 0):.0f} s ago"),
        _Cell("Duration", _duration(results), "number"),
        _Cell("State", _state(results), "state"),
        *(_Cell(each.heading, _number(each, queries, last), "number") for each in columns),
        _Cell(
            "Probe",
            f'<a href="{escape(link)}">probe</a> <a href="{escape(link)}&amp;debug=true">debug</a>',
            "links",
        ),
    ]


def _duration(results: Sequence[PollResult]) -> str:
    """Return the duration of the slowest poll."""
    return f"{max(result.duration for result in results):.2f} s" if results else ""


def _state(results: Sequence[PollResult]) -> str:
    if not results:
        return '<span class="quiet">not polled yet</span>'
    reasons = dict.fromkeys(result.error.reason for result in results if result.error)
    return _down(reasons) if reasons else '<span class="up">up</span>'


def _down(reasons: Iterable[Reason]) -> str:
    return f'<span class="down">down: {escape(", ".join(_DESCRIPTIONS[reason] for reason in reasons))}</span>'


def _periods(queries: Sequence[Query]) -> list[str]:
    return list(dict.fromkeys(query.period.label for query in queries if query.period.label))


def _number(column: Column, queries: Sequence[Query], last: Callable[[Query], PollResult | None]) -> str:
    """Return a number about the workspace: of the first window, or of the counters without a window."""
    of_workspace = [query for query in queries if query.row is None and column in query.kind.columns]
    first = min(of_workspace, key=lambda query: query.period.role == "anchored", default=None)
    result = last(first) if first else None
    value = result.statistics.value(column.family, *column.labels) if result and result.statistics else None
    return "-" if value is None else f"{value:,.0f}{column.unit}"


def _write_head(cell: _Cell) -> str:
    return f"<th{_class(cell)}>{escape(cell.label)}</th>"


def _write_cell(cell: _Cell) -> str:
    return f'<td{_class(cell)} data-label="{escape(cell.label)}">{cell.html}</td>'


def _class(cell: _Cell) -> str:
    return f' class="{cell.style}"' if cell.style else ""


def _discovery(found: Mapping[str, Discovered], now: float) -> str:
    """Return a line for each account with something to discover."""
    if not found:
        return ""
    lines = [f"<li>{escape(name)}: {_refresh(discovered, now)}</li>" for name, discovered in found.items()]
    return f"<h2>Discovery</h2>\n<ul>{''.join(lines)}</ul>"


def _refresh(discovered: Discovered, now: float) -> str:
    if discovered.refreshed is None:
        return '<span class="quiet">first refresh in progress</span>'
    age = f"{max(now - discovered.refreshed, 0):.0f} s ago"
    state = (
        '<span class="up">up</span>'
        if discovered.up
        else _down(dict.fromkeys(error.reason for error in discovered.failures.values()))
    )
    return f"last refresh {age}, found {_counts(discovered)}, {state}"


def _counts(discovered: Discovered) -> str:
    counts = Counter({"workspace": len(discovered.workspaces or ())})
    counts["channel"] = sum(map(len, discovered.channels.values()))
    for (subject, _), rows in discovered.rows.items():
        counts[subject] += len(rows)
    listed = [f"{number} {noun if number == 1 else f'{noun}s'}" for noun, number in counts.items() if number]
    return " and ".join(filter(None, [", ".join(listed[:-1]), *listed[-1:]])) or "nothing"


def _rate_limits(queries: Sequence[Query], last: Callable[[Query], PollResult | None]) -> str:
    results = [result for query in queries if (result := last(query)) is not None]
    lines = [
        f"<li>{escape(workspace)}, {escape(resource)}: {limit.remaining:g} of {limit.limit:g} requests "
        "remaining</li>"
        for (workspace, resource), limit in sorted(newest_rate_limits(results).items())
        if limit.limit is not None and limit.remaining is not None
    ]
    return f"<ul>{''.join(lines[:_SHOWN_TARGETS])}</ul>" if lines else '<p class="quiet">Unknown.</p>'
