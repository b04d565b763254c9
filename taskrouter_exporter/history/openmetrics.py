"""The output: OpenMetrics with timestamps, family by family and series by series."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Final

from taskrouter_exporter.history.errors import BackfillError, reason_of
from taskrouter_exporter.history.journal import Answers, Header
from taskrouter_exporter.history.series import Series, series_of
from taskrouter_exporter.lines import CREATED, family_name, label_text, number, own_labels
from taskrouter_exporter.queries import Query
from taskrouter_exporter.statistics import KINDS
from taskrouter_exporter.statistics.kind import Family, Kind, Role

_ROLES: Final[tuple[Role, ...]] = ("window", "anchored")
_BUFFER_BYTES: Final = 128 * 1024
_MILLISECONDS: Final = 1000


def check_output(output: Path) -> None:
    """Check that a file can be written.

    Raises:
        BackfillError: it exists, or its directory cannot be written.
    """
    if output.exists() or output.is_symlink():
        raise BackfillError(f"{output}: exists already; remove it, or choose another --output")
    if not output.parent.is_dir():
        raise BackfillError(f"{output}: cannot be written: {output.parent} is not a directory")
    if not os.access(output.parent, os.W_OK | os.X_OK):
        raise BackfillError(f"{output}: cannot be written: no permission for {output.parent}")


def write(output: Path, header: Header, answers: Answers, labels: Mapping[str, str]) -> int:
    """Write all series of a backfill, and return the number of samples.

    The file appears under its name when it is complete. An existing one is not replaced. It has another name
    until `clean_up`, by which a run that was interrupted in between is recognized.

    Raises:
        BackfillError: it cannot be written.
    """
    partial = _partial(output)
    try:
        with partial.open("wb", _BUFFER_BYTES) as file:
            number_of_samples = _write_families(file, header, answers, labels)
            file.write(b"# EOF\n")
            file.flush()
            os.fsync(file.fileno())
        _publish(partial, output)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise BackfillError(f"{output}: cannot be written: {reason_of(error)}") from None
    return number_of_samples


def is_complete(output: Path) -> bool:
    """Return whether a file was written by a run that was interrupted before `clean_up`."""
    partial = _partial(output)
    return output.exists() and partial.exists() and output.samefile(partial)


def clean_up(output: Path) -> None:
    """Remove the other name of a complete file."""
    _partial(output).unlink(missing_ok=True)


def _partial(output: Path) -> Path:
    return output.with_name(f"{output.name}.partial")


def _publish(partial: Path, output: Path) -> None:
    """Give a complete file its name, unless that has been taken since the start."""
    try:
        output.hardlink_to(partial)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        check_output(output)
        partial.rename(output)
    directory = os.open(output.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _write_families(output: IO[bytes], header: Header, answers: Answers, labels: Mapping[str, str]) -> int:
    """Write the families of each kind and role, to which no other has series.

    One family of one query is in memory at a time: a month takes hardly more than a day. The answers are read
    once for each of its families.
    """
    samples = 0
    for kind, role in ((kind, role) for kind in KINDS for role in _ROLES):
        members = [
            (index, query)
            for index, query in enumerate(header.queries)
            if query.kind is kind and query.period.role == role
        ]
        for number_in_answer, family in enumerate(kind.families.get(role, ()) if members else ()):
            has_head = False
            for index, query in members:
                for series in series_of(query, family, header.span, answers.of(index, number_in_answer)):
                    if not has_head:
                        output.write(_head(kind, family))
                        has_head = True
                    samples += len(series)
                    output.writelines(_lines(query, series, labels))
    return samples


def _head(kind: Kind, family: Family) -> bytes:
    """Return the lines before the samples of a family. No HELP text has a character to be escaped."""
    name = family_name(kind, family)
    unit = f"# UNIT {name} {family.unit}\n" if family.unit else ""
    return f"# HELP {name} {family.text}\n# TYPE {name} {family.type}\n{unit}".encode()


def _lines(query: Query, series: Series, labels: Mapping[str, str]) -> Iterator[bytes]:
    """Yield the lines of one series; those of a counter have the time of its anchor as well."""
    family = series.family
    common = label_text({**query.statistics_labels, **labels}.items())
    text = f"{{{common}{own_labels(family, series.labels)}}}"
    name = family_name(query.kind, family)
    if family.type != "counter":
        for at, value in zip(series.times, series.values, strict=True):
            yield f"{name}{text} {number(value)} {_seconds(at)}\n".encode()
        return
    for at, value, begun in zip(series.times, series.values, series.anchors, strict=True):
        when = _seconds(at)
        yield (
            f"{name}_total{text} {number(value)} {when}\n{name}{CREATED}{text} {number(begun)} {when}\n"
        ).encode()


def _seconds(milliseconds: int) -> str:
    """Return a time as OpenMetrics writes it: Unix seconds."""
    seconds, rest = divmod(milliseconds, _MILLISECONDS)
    return f"{seconds}.{rest:03d}" if rest else str(seconds)
