"""The landing page: links, and the state of each target at its last poll."""

import base64
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Final

from taskrouter_exporter import __version__
from taskrouter_exporter.discovered import Discovered
from taskrouter_exporter.failures import Failure
from taskrouter_exporter.poll_history import PollResult, newest_rate_limits
from taskrouter_exporter.queries import Query, Target
from taskrouter_exporter.runtime import FailedReload
from taskrouter_exporter.web.failures import failures_by_target, failures_id, failures_section
from taskrouter_exporter.web.targets import (
    DESCRIPTIONS,
    TargetState,
    TargetTable,
    Trend,
    state_html,
    target_states,
)

_STYLE: Final = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
_SCRIPT: Final = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Return the source of a Content-Security-Policy that allows an inline element with this text only."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


LANDING_HEADERS: Final = {
    "Content-Security-Policy": f"default-src 'none'; script-src {_hash(_SCRIPT)}; style-src {_hash(_STYLE)}; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

_SHOWN_TARGETS: Final = 1_000
"""With more rows the page takes seconds to write and to load."""

_SHOWN_PROBLEMS: Final = 10


@dataclass(frozen=True, slots=True)
class Overview:
    """What the landing page shows. It never polls by itself.

    Attributes:
        queries: Those that are polled.
        last: Returns the newest result of a query.
        links: Targets of the links by their text, relative: the page may be behind a path prefix.
        found: What discovery found, by account.
        failures: Returns the newest failed polls of a target, the newest first.
        trend: Returns the shares of the last hour of a target, for an instant in Unix seconds; None without
            trends.
        demo_scenario: Of the embedded simulator, "" where the statistics are Twilio's.
        failed_reload: The last reload, if it was rejected.
    """

    queries: Sequence[Query]
    last: Callable[[Query], PollResult | None]
    links: Mapping[str, str]
    found: Mapping[str, Discovered] = field(default_factory=dict)
    failures: Callable[[Target], Sequence[Failure]] = lambda _: ()
    trend: Callable[[Target, float], Trend] | None = None
    demo_scenario: str = ""
    failed_reload: FailedReload | None = None


def landing_page(overview: Overview, now: float | None = None) -> str:
    """Return the page as HTML.

    Args:
        overview: What it shows.
        now: Unix seconds, by default the system's.
    """
    moment = time.time() if now is None else now
    states = target_states(overview.queries, overview.last)
    shown = states[:_SHOWN_TARGETS]
    failures = failures_by_target((state.target for state in states), overview.failures)
    ids = {target: failures_id(number) for number, target in enumerate(failures)}
    trend = overview.trend
    trends = {state.target: trend(state.target, moment) for state in shown} if trend else {}
    table = TargetTable(shown, trends, ids, moment).html()
    links = "".join(f'<a href="{escape(href)}">{escape(text)}</a>' for text, href in overview.links.items())
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>TaskRouter exporter</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
<h1>TaskRouter exporter <span class="quiet">{escape(__version__)}</span></h1>
{_headline(states)}
{_demo(overview.demo_scenario)}{_failed_reload(overview.failed_reload, moment)}</header>
<nav aria-label="Pages">{links}</nav>
<main>
<h2 id="targets-heading">Targets</h2>
{_TOOLS}
<div class="scroll" role="region" aria-labelledby="targets-heading" tabindex="0">{table}</div>
{_omitted(len(states) - len(shown))}
<p class="quiet">The state is that of each target's last poll. Numbers are of its shortest window, or else
of its counters; trends are of the last hour. Loading this page sends no API requests.</p>
{failures_section(failures, moment)}
<h2>Rate limits</h2>
{_rate_limits(states)}
{_discovery(overview.found, moment)}
</main>
<script>{_SCRIPT}</script>
</body>
</html>
"""


_TOOLS: Final = """<div id="tools" hidden>
<label>Filter <input id="filter" type="search" autocomplete="off" aria-controls="targets"></label>
<label>Sort <select id="order"><option value="-1">failures first</option></select></label>
<output id="shown" class="quiet" for="filter"></output>
</div>"""
"""What only the script can do; it makes them visible."""


def _headline(states: Sequence[TargetState]) -> str:
    down = [state for state in states if state.reasons]
    unknown = sum(not state.results for state in states)
    if not states:
        return '<p class="headline quiet">No targets</p>'
    if down:
        reasons = Counter(reason for state in down for reason in state.reasons)
        details = [f"{DESCRIPTIONS[reason]}: {number}" for reason, number in reasons.most_common()]
        text, style = f"{len(down):,} of {_targets(len(states))} down", "down"
    else:
        details = []
        text, style = f"{len(states) - unknown:,} of {_targets(len(states))} up", "quiet" if unknown else "up"
    if unknown:
        details.append(f"not polled yet: {unknown:,}")
    small = f" <small>{', '.join(details)}</small>" if details else ""
    return f'<p class="headline"><span class="{style}">{text}</span>{small}</p>'


def _targets(number: int) -> str:
    return "1 target" if number == 1 else f"{number:,} targets"


def _demo(scenario: str) -> str:
    if not scenario:
        return ""
    return (
        f'<p class="banner"><b>DEMO</b> Simulated statistics, scenario {escape(scenario)}. '
        "Nothing here is from Twilio.</p>\n"
    )


def _failed_reload(failed: FailedReload | None, now: float) -> str:
    if failed is None:
        return ""
    problems = [f"<li>{escape(problem)}</li>" for problem in failed.problems[:_SHOWN_PROBLEMS]]
    if more := len(failed.problems) - len(problems):
        problems.append(f"<li>{more:,} more</li>")
    return (
        '<div class="banner bad"><b class="down">The last reload failed</b> '
        f"{max(now - failed.at, 0):.0f} s ago; keeping the previous configuration."
        f"<ul>{''.join(problems)}</ul></div>\n"
    )


def _omitted(number: int) -> str:
    if not number:
        return ""
    targets = "1 more target is" if number == 1 else f"{number:,} more targets are"
    return f'<p class="quiet">{targets} not shown. <a href="./sd">/sd</a> lists all targets.</p>'


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
    state = state_html(dict.fromkeys(error.reason for error in discovered.failures.values()))
    return f"last refresh {age}, found {_counts(discovered)}, {state}"


def _counts(discovered: Discovered) -> str:
    counts = Counter({"workspace": len(discovered.workspaces or ())})
    counts["channel"] = sum(map(len, discovered.channels.values()))
    for (subject, _), rows in discovered.rows.items():
        counts[subject] += len(rows)
    listed = [f"{number} {noun if number == 1 else f'{noun}s'}" for noun, number in counts.items() if number]
    return " and ".join(filter(None, [", ".join(listed[:-1]), *listed[-1:]])) or "nothing"


def _rate_limits(states: Iterable[TargetState]) -> str:
    results = [result for state in states for result in state.results.values()]
    lines = [
        f"<li>{escape(workspace)}, {escape(resource)}: {limit.remaining:g} of {limit.limit:g} requests "
        "remaining</li>"
        for (workspace, resource), limit in sorted(newest_rate_limits(results).items())
        if limit.limit is not None and limit.remaining is not None
    ]
    return f"<ul>{''.join(lines[:_SHOWN_TARGETS])}</ul>" if lines else '<p class="quiet">Unknown.</p>'
