"""Rules and configurations of Prometheus and Alertmanager with every duration divided by a factor."""

import re
from typing import Any, Final

from taskrouter_exporter.durations import format_duration, parse_duration

_KEYS: Final = {
    *("for", "keep_firing_for", "interval", "query_offset"),
    *("scrape_interval", "scrape_timeout", "evaluation_interval"),
    *("group_wait", "group_interval", "repeat_interval"),
}
"""Keys whose values are durations."""

_DURATION: Final = r"[0-9]+(?:ms|[wdhms])(?:[0-9]+(?:ms|[wdhms]))*"
_TOKEN: Final = re.compile(
    r'"(?:\\.|[^"\\])*"|'
    r"'(?:\\.|[^'\\])*'|"
    r"`[^`]*`|"
    r"#[^\n]*|"
    rf"(?P<timed>\[[^\]]*\]|\boffset\s+-?{_DURATION})"
)
"""Matches everything that contains durations (ranges, subqueries, offsets), and what only looks like it."""


def faster(document: Any, factor: int) -> Any:
    """Return a file's content with durations divided by `factor`. Names and labels do not change."""
    if isinstance(document, list):
        return [faster(each, factor) for each in document]
    if not isinstance(document, dict):
        return document
    return {key: _faster_value(key, value, factor) for key, value in document.items()}


def _faster_value(key: str, value: Any, factor: int) -> Any:
    if key == "labels":
        return value
    if key == "expr":
        return _TOKEN.sub(lambda token: _divide(token[0], factor) if token["timed"] else token[0], value)
    if key in _KEYS:
        return _divide(value, factor)
    return faster(value, factor)


def _divide(text: str, factor: int) -> str:
    return re.sub(_DURATION, lambda found: format_duration(parse_duration(found[0]) / factor), text)
