"""The landing page's table: one row for each target, with its state and numbers."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final
from urllib.parse import urlencode

from taskrouter_exporter.api.errors import Reason
from taskrouter_exporter.periods import Anchored, Period, Window
from taskrouter_exporter.poll_history import PollResult
from taskrouter_exporter.queries import Query, Target
from taskrouter_exporter.statistics.kind import Column, Kind
from taskrouter_exporter.web.trend import trend_svg

DESCRIPTIONS: Final = {
    Reason.AUTH: "authentication failed",
    Reason.FORBIDDEN: "forbidden",
    Reason.NOT_FOUND: "workspace or channel not found",
    Reason.RATE_LIMITED: "rate limited",
    Reason.SERVER_ERROR: "server error",
    Reason.TIMEOUT: "timeout",
    Reason.CONNECTION: "connection failed",
    Reason.BAD_RESPONSE: "invalid response",
}

Trend = Mapping[Column, Sequence[float | None]]


@dataclass(frozen=True, slots=True)
class TargetState:
    """A target, its queries, and their last results as far as there are any."""

    target: Target
    queries: Sequence[Query]
    results: Mapping[Query, PollResult]

    @property
    def reasons(self) -> Sequence[Reason]:
        """Why the target is down, each reason once."""
        return list(dict.fromkeys(result.error.reason for result in self.results.values() if result.error))

    @property
    def shown(self) -> Sequence[Query]:
        """The queries that the row's numbers are from: the shortest window's, or else the counters'."""
        shown: dict[Kind, Query] = {}
        for query in self.queries:
            if query.row is None and query.kind.columns:
                before = shown.get(query.kind)
                if before is None or _minutes(query.period) < _minutes(before.period):
                    shown[query.kind] = query
        return list(shown.values())


@dataclass(frozen=True, slots=True)
class _Cell:
    """A table cell; `html` is escaped already."""

    label: str
    html: str
    style: str = ""
    heading: str = ""


def target_states(
    queries: Iterable[Query], last: Callable[[Query], PollResult | None]
) -> Sequence[TargetState]:
    """Return the state of each target: those that are down, and then the others, in their order."""
    by_target: dict[Target, list[Query]] = {}
    for query in queries:
        by_target.setdefault(query.target, []).append(query)
    states = [
        TargetState(target, asked, {query: result for query in asked if (result := last(query)) is not None})
        for target, asked in by_target.items()
    ]
    return sorted(states, key=lambda state: not state.reasons)


@dataclass(frozen=True, slots=True)
class TargetTable:
    """The table.

    Attributes:
        states: Those of the targets to show.
        trends: Those of the targets, where there are any.
        failures: Where on the page the failed polls of a target are: the ID of an element.
        now: Unix seconds.
    """

    states: Sequence[TargetState]
    trends: Mapping[Target, Trend]
    failures: Mapping[Target, str]
    now: float

    def html(self) -> str:
        """Return the table as HTML."""
        shown = [state.shown for state in self.states]
        headings = _headings(shown)
        rows = [
            list(self._row(state, queries, headings))
            for state, queries in zip(self.states, shown, strict=True)
        ]
        heads = "".join(map(_head, rows[0])) if rows else ""
        body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>\n" for row in rows)
        return f'<table id="targets"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'

    def _row(
        self, state: TargetState, shown: Sequence[Query], headings: Mapping[Column, str]
    ) -> Iterator[_Cell]:
        target, results = state.target, state.results.values()
        link = escape(f"./probe?{urlencode({'workspace': target.workspace, 'channel': target.channel})}")
        yield _Cell("Workspace", escape(target.workspace), "name")
        yield _Cell("Channel", escape(target.channel), "name")
        yield _Cell("State", _state(state, self.failures.get(target, "")), "state")
        yield _Cell("Windows", _periods(state, shown), "periods")
        trend = self.trends.get(target, {})
        polled = {column: state.results.get(query) for query in shown for column in query.kind.columns}
        for column, heading in headings.items():
            yield _Cell(column.heading, _number(column, polled.get(column), trend), "number", heading)
        finished = max((result.finished for result in results), default=None)
        age = "never" if finished is None else f"{max(self.now - finished, 0):.0f} s ago"
        yield _Cell("Last poll", age, "number")
        slowest = max((result.duration for result in results), default=None)
        yield _Cell("Duration", "" if slowest is None else f"{slowest:.2f} s", "number duration")
        probes = f'<a href="{link}">probe</a> <a href="{link}&amp;debug=true">debug</a>'
        yield _Cell("Probe", probes, "links")


def _headings(shown: Iterable[Sequence[Query]]) -> Mapping[Column, str]:
    """Return the headings of the columns, with the period where it is that of all targets."""
    periods: dict[Column, set[Period]] = {}
    for query in (query for queries in shown for query in queries):
        for column in query.kind.columns:
            periods.setdefault(column, set()).add(query.period)
    common = {column: found.pop().label if len(found) == 1 else "" for column, found in periods.items()}
    return {
        column: f"{column.heading} ({label})" if label else column.heading for column, label in common.items()
    }


def state_html(reasons: Iterable[Reason], link: str = "") -> str:
    """Return that something is up, or for which reasons it is down, as a link if there is one."""
    described = ", ".join(DESCRIPTIONS[reason] for reason in reasons)
    if not described:
        return '<span class="up">up</span>'
    element, link = ("a", f' href="{link}"') if link else ("span", "")
    return f'<{element} class="down"{link}>down: {described}</{element}>'


def _state(state: TargetState, failures: str) -> str:
    if not state.results:
        return '<span class="quiet">not polled yet</span>'
    return state_html(state.reasons, f"#{failures}" if failures else "")


def _periods(state: TargetState, shown: Iterable[Query]) -> str:
    """Return the periods, those of the row's numbers emphasized."""
    labels = {period: period.label for period in dict.fromkeys(query.period for query in state.queries)}
    emphasized = {query.period for query in shown}
    texts = {period: label for period, label in labels.items() if label}
    return ", ".join(
        f"<b>{label}</b>" if period in emphasized and len(texts) > 1 else label
        for period, label in texts.items()
    )


def _number(column: Column, result: PollResult | None, trend: Trend) -> str:
    statistics = result.statistics if result else None
    value = column.value(statistics) if statistics else None
    share = column.share(statistics) if statistics else None
    number = "-" if value is None else f"{value:,.0f}{column.unit}"
    part = "" if share is None else f' <span class="share">({100 * share:.1f} %)</span>'
    return f"{number}{part}{trend_svg(trend.get(column, ()))}"


def _minutes(period: Period) -> float:
    """Return the length of a period for comparison: that of counters grows until midnight."""
    if isinstance(period, Anchored):
        return math.inf
    return period.minutes if isinstance(period, Window) else 0


def _head(cell: _Cell) -> str:
    return f'<th scope="col"{_class(cell)}>{escape(cell.heading or cell.label)}</th>'


def _cell(cell: _Cell) -> str:
    return f'<td{_class(cell)} data-label="{escape(cell.label)}">{cell.html}</td>'


def _class(cell: _Cell) -> str:
    return f' class="{cell.style}"' if cell.style else ""
