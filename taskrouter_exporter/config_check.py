"""The reports of `--config.check`: what valid configuration files would do."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, timedelta
from typing import Final

from taskrouter_exporter.batches import Batch, Batching
from taskrouter_exporter.config.model import Config, Selection
from taskrouter_exporter.durations import format_duration
from taskrouter_exporter.expansion import selected_queries
from taskrouter_exporter.periods import Anchored, Period
from taskrouter_exporter.queries import Query, Row
from taskrouter_exporter.server.web_config import WebConfig
from taskrouter_exporter.statistics.workers import WORKERS
from taskrouter_exporter.terminal import width

_SECONDS_PER_HOUR: Final = 3600
_USUAL_SCRAPE_INTERVAL: Final = 60
_COLUMNS: Final = ("workspace", "channel", "statistics", "queue", "workflow", "window", "timezone", "account")
_LIMIT_PERIOD: Final = 10
_DOCUMENTED_LIMIT: Final = 50
"""Requests per second and workspace in the sample event of Twilio's article on monitoring API usage."""

_BULK_LIMIT: Final = 5
"""Bulk requests per second. Source: https://www.twilio.com/docs/taskrouter/api/taskqueue-statistics."""


def config_report(config: Config, source: str, *, table: bool) -> str:
    """Return what a configuration would poll, and how many API requests that takes.

    Args:
        config: The configuration.
        source: The name of its file.
        table: Whether to align the queries in columns for a terminal, instead of a line of `key=value` each.
    """
    expected = tuple(_expected_queries(config))
    rows = [_values(query) for query in expected]
    columns = [column for column in (*_COLUMNS, "workspace_sid") if any(row.get(column) for row in rows)]
    if all(query.kind is WORKERS for query in expected):
        columns = [column for column in columns if column != "statistics"]
    if table:
        cells = [[row.get(column, "") for column in columns] for row in rows]
        queries = ["", *_table([[column.upper() for column in columns], *cells]), ""] if rows else []
    else:
        queries = [_pairs({column: row[column] for column in columns if column in row}) for row in rows]
    return "\n".join([f"{source}: valid", *queries, *_discoveries(config), *_cost(config, expected)])


def web_config_report(config: WebConfig, source: str) -> str:
    """Return in one line what a web configuration would enable."""
    tls = "enabled" if config.context else "disabled"
    users = _count(len(config.users), "user") if config.users else "no authentication"
    return f"{source}: valid (TLS {tls}, {users})"


def _expected_queries(config: Config) -> Iterator[Query]:
    """Yield the queries for what the configuration names, queues and workflows included."""
    for workspace in config.workspaces:
        selection = workspace.selection
        rows = {
            subject: [Row(name, name) for name in wanted.named] for subject, wanted in selection.rows.items()
        }
        yield from selected_queries(workspace, selection.channels, rows)


def _values(query: Query) -> dict[str, str]:
    target = query.target
    names = {"account": target.account, "workspace_sid": target.workspace_sid}
    return {**query.labels, **_time_zone([query.period]), **names}


def _time_zone(periods: Iterable[Period]) -> dict[str, str]:
    """Return the time zone of counters under its key, nothing where it is UTC."""
    for period in periods:
        if isinstance(period, Anchored) and period.zone is not UTC:
            return {"timezone": str(period.zone)}
    return {}


def _pairs(values: dict[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in values.items())


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell + " " * (most - width(cell)) for cell, most in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _discoveries(config: Config) -> Iterator[str]:
    for workspace in config.workspaces:
        values = {"workspace": workspace.name, "account": workspace.account, "workspace_sid": workspace.sid}
        zone = _time_zone(workspace.selection.periods)
        for subject in _discovered_subjects(workspace.selection):
            auto = {"workspace": workspace.name, subject: "auto", **zone, **values}
            yield f"{_pairs(auto)}: {subject}s are discovered at run time"
    for discovery in config.workspace_discoveries:
        nouns = ["workspaces", *(f"{subject}s" for subject in _discovered_subjects(discovery.selection))]
        subjects = " and ".join(filter(None, [", ".join(nouns[:-1]), nouns[-1]]))
        zone = _time_zone(discovery.selection.periods)
        values = {"workspace": "auto", **zone, "account": discovery.account}
        yield f"{_pairs(values)}: {subjects} are discovered at run time"


def _discovered_subjects(selection: Selection) -> Iterator[str]:
    if selection.discover_channels:
        yield "channel"
    yield from (subject for subject, rows in selection.rows.items() if rows.discover)


def _cost(config: Config, expected: Sequence[Query]) -> Iterator[str]:
    batches = list(Batching().batches(expected, 0.0))
    excluded = "retries and discovered targets" if config.discovering_accounts else "retries"
    yield (
        f"{_count(len(batches), 'API request')} per scrape, {_per_hour(len(batches))} per hour at a scrape "
        f"interval of {_USUAL_SCRAPE_INTERVAL} s (excluding {excluded})"
    )
    by_statistics = Counter(batch.queries[0].kind.name for batch in batches)
    if len(by_statistics) > 1:
        for name, number in by_statistics.items():
            yield f"statistics={name}: {number} per scrape, {_per_hour(number)} per hour"
    lists = sum(
        selection.discover_channels + sum(map(bool, selection.rows.values()))
        for selection in (workspace.selection for workspace in config.workspaces)
    )
    if lists:
        interval = format_duration(timedelta(seconds=config.discovery_interval))
        yield f"{_count(lists, 'list')} to refresh every {interval}, one API request for each 250 entries"
    yield from _warnings(batches)


def _warnings(batches: Sequence[Batch]) -> Iterator[str]:
    """Yield a line for each workspace and resource for which documented limits are too low."""
    requests: Counter[tuple[str, str, int]] = Counter()
    for batch in batches:
        first = batch.queries[0]
        limit = _BULK_LIMIT if batch.bulk else _DOCUMENTED_LIMIT
        requests[first.target.workspace, batch.rate_limited_as, limit] += 1
    for (workspace, resource, limit), number in requests.items():
        allowed = limit * _LIMIT_PERIOD
        if number > allowed:
            yield (
                f"warning: workspace={workspace}: {number} requests for {resource} per scrape exceed the "
                f"documented limit of {limit} per second, averaged over {_LIMIT_PERIOD} s ({allowed})"
            )


def _per_hour(per_scrape: int) -> int:
    return per_scrape * _SECONDS_PER_HOUR // _USUAL_SCRAPE_INTERVAL


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
