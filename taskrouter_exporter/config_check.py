"""The reports of `--config.check`: what valid configuration files would do."""

import unicodedata
from collections.abc import Iterator, Sequence
from typing import Final

from taskrouter_exporter.config.model import Config
from taskrouter_exporter.queries import Query
from taskrouter_exporter.server.web_config import WebConfig

_SECONDS_PER_HOUR: Final = 3600
_USUAL_SCRAPE_INTERVAL: Final = 60
_COLUMNS: Final = ("workspace", "channel", "window", "account", "workspace_sid")


def config_report(config: Config, source: str, *, table: bool) -> str:
    """Return what a configuration would poll, and how many API requests that takes.

    Args:
        config: The configuration.
        source: The name of its file.
        table: Whether to align the queries in columns for a terminal, instead of a line of `key=value` each.
    """
    rows = [_values(query) for query in config.queries]
    if table:
        queries = ["", *_table([tuple(column.upper() for column in _COLUMNS), *rows]), ""] if rows else []
    else:
        queries = [_pairs(dict(zip(_COLUMNS, row, strict=True))) for row in rows]
    return "\n".join([f"{source}: valid", *queries, *_discoveries(config), _cost(config)])


def web_config_report(config: WebConfig, source: str) -> str:
    """Return in one line what a web configuration would enable."""
    tls = "enabled" if config.context else "disabled"
    users = _count(len(config.users), "user") if config.users else "no authentication"
    return f"{source}: valid (TLS {tls}, {users})"


def _values(query: Query) -> tuple[str, ...]:
    target = query.target
    return target.workspace, target.channel, query.period.label, target.account, target.workspace_sid


def _pairs(values: dict[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in values.items())


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _width(text: str) -> int:
    """Return the columns that a terminal needs: Chinese characters take two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _discoveries(config: Config) -> Iterator[str]:
    for workspace in config.workspaces:
        if workspace.selection.discover_channels:
            values = {
                "workspace": workspace.name,
                "channel": "auto",
                "account": workspace.account,
                "workspace_sid": workspace.sid,
            }
            yield f"{_pairs(values)}: channels are discovered at run time"
    for discovery in config.workspace_discoveries:
        subject = "workspaces and channels" if discovery.selection.discover_channels else "workspaces"
        yield f"workspace=auto account={discovery.account}: {subject} are discovered at run time"


def _cost(config: Config) -> str:
    per_scrape = len(config.queries)
    per_hour = per_scrape * _SECONDS_PER_HOUR // _USUAL_SCRAPE_INTERVAL
    excluded = "retries and discovered targets" if config.discovering_accounts else "retries"
    return (
        f"{_count(per_scrape, 'API request')} per scrape, {per_hour} per hour at a scrape interval of "
        f"{_USUAL_SCRAPE_INTERVAL} s (excluding {excluded})"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
