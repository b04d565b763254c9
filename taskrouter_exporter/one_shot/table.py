"""An answer as a table for people."""

import re
import textwrap
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from taskrouter_exporter.durations import format_duration
from taskrouter_exporter.one_shot.answer import Answer
from taskrouter_exporter.statistics.kind import ACTIVITY_LABELS, Family, Sample
from taskrouter_exporter.terminal import printable, width

_INDENT: Final = "  "
_TIMESTAMP: Final = "_timestamp_seconds"
_MINUTE: Final = 60
_LONGEST_DURATION: Final = 1e9
"""Seconds; what is longer is no duration that anybody could read."""

_LARGEST_INTEGER: Final = 1e15


def render_table(answer: Answer, columns: int) -> str:
    """Return an answer as a heading and a line for each value, at most so many columns wide."""
    rows = list(_rows(answer)) or [("no values", "")]
    return "\n".join([*_heading(answer, columns), "", *_aligned(rows, columns)])


def _heading(answer: Answer, columns: int) -> Iterator[str]:
    """Yield what was asked and how it was answered; a line that is too long goes on in the next one."""
    query = answer.query
    target, row = query.target, query.row
    facts = {
        "account": target.account,
        "workspace": _named(target.workspace, target.workspace_sid),
        "channel": target.channel,
        query.kind.subject if row else "": _named(row.name, row.sid) if row else "",
        "statistics": query.kind.name,
        "window": query.period.label,
        "period": _period(answer),
        "request": _request(answer),
        "ignored": ", ".join(f"{name} (unreadable)" for name in dict.fromkeys(answer.statistics.ignored)),
    }
    shown = {name: printable(value) for name, value in facts.items() if value}
    most = max(map(len, shown))
    for name, value in shown.items():
        yield from textwrap.wrap(
            f"{name:{most}}  {value}",
            max(columns, most + len(_INDENT) * 2),
            subsequent_indent=" " * (most + len(_INDENT)),
            break_on_hyphens=False,
            break_long_words=False,  # a SID would no longer be copied as a whole
        )


def _named(name: str, sid: str) -> str:
    return sid if name == sid else f"{name} ({sid})"


def _period(answer: Answer) -> str:
    if answer.query.period.role == "current":
        return f"now, at {_time(answer.received)} UTC"
    start, end = ("unknown" if each is None else _time(each) for each in (answer.start, answer.end))
    return f"{start} to {end} UTC"


def _request(answer: Answer) -> str:
    attempts = "" if answer.attempts == 1 else f" in {answer.attempts} attempts"
    return ", ".join(filter(None, (f"{answer.duration:.3f} s{attempts}", answer.request_id)))


def _rows(answer: Answer) -> Iterator[tuple[str, str]]:
    """Yield a name and a value for each line. Samples with labels are below the name of their family."""
    statistics, prefix = answer.statistics, answer.query.kind.prefix
    for family, samples in zip(statistics.families, statistics.samples, strict=True):
        if family.name.endswith(_TIMESTAMP):  # start and end of the period, which the heading shows
            continue
        name = prefix + family.name
        if family.labels and samples:
            yield name, ""
            ambiguous = Counter(values[:1] for values, _ in samples)
            for sample in samples:
                yield _INDENT + _labels(family, sample, ambiguous), _value(family, sample[1])
        else:
            yield from ((name, _value(family, value)) for _, value in samples)


def _labels(family: Family, sample: Sample, ambiguous: Counter[tuple[str, ...]]) -> str:
    """Return what tells a sample from the others; an Activity's SID only where its name is not enough."""
    values, _ = sample
    if family.labels == ACTIVITY_LABELS:
        name_is_enough = values[0] and ambiguous[values[:1]] == 1
        values = values[:1] if name_is_enough else values
    elif len(values) > 1:
        values = tuple(f"{label}={value}" for label, value in zip(family.labels, values, strict=True))
    return printable(" ".join(filter(None, values))) or "(no name)"


def _aligned(rows: list[tuple[str, str]], columns: int) -> Iterator[str]:
    """Yield the lines; where name and value do not fit into one, the value has a line of its own."""
    values = max(width(value) for _, value in rows)
    names = max(width(name) for name, value in rows if value or len(rows) == 1)
    available = min(names, columns - values - len(_INDENT))
    for name, value in rows:
        if not value:
            yield name
        elif width(name) <= available:
            yield f"{name}{' ' * (available - width(name))}{_INDENT}{' ' * (values - width(value))}{value}"
        else:
            yield name
            yield " " * max(available + len(_INDENT) + values - width(value), 0) + value


def _value(family: Family, value: float) -> str:
    if family.unit == "seconds":
        return _duration(value)
    return str(int(value)) if value.is_integer() and value < _LARGEST_INTEGER else repr(value)


def _duration(seconds: float) -> str:
    """Return a duration as `1h 2m 3s`; below a minute with up to three decimals."""
    if round(seconds, 3) < _MINUTE or seconds > _LONGEST_DURATION:
        return f"{round(seconds, 3):g}s"
    return re.sub("(?<=[a-z])(?=[0-9])", " ", format_duration(timedelta(seconds=round(seconds))))


def _time(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):  # an offset can lead out of the years 1 to 9999
        return f"{seconds:.0f} s since 1970"
