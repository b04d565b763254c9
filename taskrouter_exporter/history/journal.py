"""The journal beside the output: what a backfill asks for, and each answer as soon as it is there.

It has one JSON value per line: the header, and an array for each point. A backfill that was interrupted, in
whatever way, continues from it.
"""

import fcntl
import json
import os
from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from taskrouter_exporter import __version__
from taskrouter_exporter.config.time_zones import time_zone
from taskrouter_exporter.history.errors import BackfillError, reason_of
from taskrouter_exporter.history.plan import Point, Points, Range
from taskrouter_exporter.periods import Anchored, Window
from taskrouter_exporter.queries import Query, Row, Target
from taskrouter_exporter.statistics import KINDS
from taskrouter_exporter.statistics.kind import Sample, Statistics

_KIND: Final = "taskrouter-exporter backfill"
_BEGIN: Final = f'{{"journal":"{_KIND}",'.encode()


@dataclass(frozen=True, slots=True)
class Header:
    """What a backfill asks for. It is decided once: a run that continues takes it from the journal.

    Attributes:
        asked: What the flags and the configuration asked for, by which a run recognizes its journal.
        span: The steps.
        queries: The expanded queries.
        gaps: For each query, the first and last step of each span to ask for; None for every step.
    """

    asked: Mapping[str, Any]
    span: Range
    queries: tuple[Query, ...]
    gaps: tuple[tuple[tuple[int, int], ...], ...] | None = None

    @property
    def points(self) -> Points:
        """Every point that is to be asked."""
        return Points(len(self.queries), self.span, self.gaps)


class Journal:
    """A journal that this process has locked.

    Args:
        path: Its file, created if it does not exist.

    Raises:
        BackfillError: it cannot be opened, or another process has locked it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise BackfillError(f"{path}: cannot be written: {reason_of(error)}") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._file)
            raise BackfillError(f"{path}: another backfill is writing it") from None
        self._size = os.fstat(self._file).st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, which frees the lock. A journal without a header is removed."""
        if not self._size:
            self.path.unlink(missing_ok=True)
        os.close(self._file)

    def remove(self) -> None:
        """Remove the file: the output is complete."""
        self.path.unlink(missing_ok=True)

    def header(self) -> Header | None:
        """Return the header, None if the journal is new. A last line that is not whole is cut off.

        Raises:
            BackfillError: the file is not a journal, or that of another version.
        """
        self._cut_torn_line()
        first = next(self._lines(), None)
        if first is None:
            return None
        _, line = first
        document = _parsed(line)
        if document.get("version") != __version__:
            raise BackfillError(
                f"{self.path}: was written by version {document.get('version')} of the exporter, not "
                f"{__version__}; continue with that version, or remove the file"
            )
        return _header(document)

    def begin(self, header: Header) -> None:
        """Write the header of a new journal."""
        self._append(
            {
                "journal": _KIND,
                "version": __version__,
                "asked": header.asked,
                "range": asdict(header.span),
                "queries": [_query_document(query) for query in header.queries],
                "gaps": header.gaps,
            }
        )

    def record(self, point: Point, statistics: Statistics) -> None:
        """Append an answer, and wait until it is on the disk: a power cut must not cost a request."""
        self._append([point.query, point.step, statistics.samples])

    def answered(self) -> Iterator[Point]:
        """Yield the points that have an answer.

        Raises:
            BackfillError: a line is damaged.
        """
        for number, (_, line) in enumerate(self._lines(), 1):
            if number > 1:
                yield _point(_parsed(line), f"{self.path}:{number}")

    def answers(self, header: Header) -> "Answers":
        """Return the answers to the points of a header."""
        return Answers(self._file, header, self._places())

    def _places(self) -> Iterator[tuple[Point, int, int]]:
        for number, (offset, line) in enumerate(self._lines(), 1):
            if number > 1:
                yield _point(_parsed(line), f"{self.path}:{number}"), offset, len(line)

    def _append(self, document: object) -> None:
        """Append a line, or nothing of it.

        Raises:
            BackfillError: the disk is full, for example.
        """
        line = json.dumps(document, separators=(",", ":")).encode() + b"\n"
        written = 0
        try:
            while written < len(line):
                written += os.write(self._file, line[written:])
            os.fdatasync(self._file)
        except OSError as error:
            os.ftruncate(self._file, self._size)
            raise BackfillError(f"{self.path}: cannot be written: {reason_of(error)}") from None
        self._size += written

    def _cut_torn_line(self) -> None:
        """Cut off what a power cut or a kill has left of the last line.

        Raises:
            BackfillError: the file has never been a journal.
        """
        if os.pread(self._file, len(_BEGIN), 0) != _BEGIN[: self._size]:
            raise BackfillError(f"{self.path}: is not the journal of a backfill")
        last = deque(self._lines(), 1)
        for offset, line in last:
            if not line.endswith(b"\n") or _parsed(line) is None:
                os.ftruncate(self._file, offset)
                self._size = offset

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield each line with its offset."""
        with open(self.path, "rb") as file:  # noqa: PTH123 -- a second position in the file
            offset = 0
            for line in file:
                yield offset, line
                offset += len(line)


class Answers:
    """The answers of a journal, read in the order of the steps however they were written.

    Args:
        file: Descriptor of the journal.
        header: Of the journal.
        places: Of each answer: its point, its offset and its length in bytes.
    """

    def __init__(self, file: int, header: Header, places: Iterable[tuple[Point, int, int]]) -> None:
        self._file = file
        self._steps = header.span.steps
        points = len(header.queries) * len(self._steps)
        # 12 bytes for each point: there can be half a million.
        self._offsets = array("q", [0]) * points
        self._lengths = array("I", [0]) * points
        for point, offset, length in places:
            index = point.query * len(self._steps) + self._steps.index(point.step)
            self._offsets[index], self._lengths[index] = offset, length

    def of(self, query: int, family: int) -> Iterator[tuple[int, tuple[Sample, ...]]]:
        """Yield the samples of one family of a query's answers with their steps, the oldest first."""
        for index, step in enumerate(self._steps, query * len(self._steps)):
            if self._lengths[index]:
                line = os.pread(self._file, self._lengths[index], self._offsets[index])
                _, _, families = json.loads(line)
                yield step, tuple((tuple(labels), value) for labels, value in families[family])


def _parsed(line: bytes) -> Any:  # noqa: ANN401 -- any JSON value, None for what is not JSON
    try:
        return json.loads(line)
    except ValueError:
        return None


def _point(document: Any, place: str) -> Point:  # noqa: ANN401 -- any JSON value
    match document:
        case [int(query), int(step), list()]:
            return Point(query, step)
    raise BackfillError(f"{place}: is damaged; remove the line, and its point is asked for again")


def _query_document(query: Query) -> dict[str, Any]:
    period = query.period.minutes if isinstance(query.period, Window) else query.period.label
    return {
        "target": asdict(query.target),
        "period": period,
        "zone": str(query.period.zone) if isinstance(query.period, Anchored) else None,
        "statistics": query.kind.name,
        "subject": query.kind.subject,
        "row": asdict(query.row) if query.row else None,
        "service_levels": query.service_levels,
    }


def _header(document: Mapping[str, Any]) -> Header:
    gaps = document["gaps"]
    return Header(
        document["asked"],
        Range(**document["range"]),
        tuple(map(_query, document["queries"])),
        None if gaps is None else tuple(tuple((first, last) for first, last in spans) for spans in gaps),
    )


def _query(document: Mapping[str, Any]) -> Query:
    period = document["period"]
    row = document["row"]
    return Query(
        Target(**document["target"]),
        Window(period) if isinstance(period, int) else Anchored(period, time_zone(document["zone"])),
        next(
            kind
            for kind in KINDS
            if (kind.name, kind.subject) == (document["statistics"], document["subject"])
        ),
        Row(**row) if row else None,
        tuple(document["service_levels"]),
    )


def difference(header: Header, asked: Mapping[str, Any]) -> str:
    """Return how a journal's run differs from the one that is asked for, an empty text if it does not."""
    wanted = json.loads(json.dumps(asked))
    return ", ".join(key for key in {**header.asked, **wanted} if header.asked.get(key) != wanted.get(key))


def resumed(header: Header, journal: Journal) -> Points:
    """Return the points that are left after those that a journal has answers for.

    Raises:
        BackfillError: the journal has a line that is damaged, or the answer of a point that is not its own.
    """
    points = header.points
    for point in journal.answered():
        if point not in points:
            raise BackfillError(f"{journal.path}: has two answers, or one too many, for a point")
        points.close(point)
    return points
