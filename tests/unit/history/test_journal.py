import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskrouter_exporter.history.errors import BackfillError
from taskrouter_exporter.history.journal import Header, Journal, difference, resumed
from taskrouter_exporter.history.plan import Point, Range
from taskrouter_exporter.periods import Anchored, Window
from taskrouter_exporter.queries import Query, Row, Target
from taskrouter_exporter.statistics import KINDS
from taskrouter_exporter.statistics.kind import Statistics

TARGET = Target("default", f"WS{0:032x}", "support", "all")
QUERIES = tuple(
    Query(TARGET, period, kind, Row("WQ0", "Queue ä") if kind.subject == "queue" else None, (20,))
    for kind in KINDS
    for period in (Window(15), Anchored("week"))
    if period.role in kind.families
)
HEADER = Header(
    {"--from": "now-1d", "--label": {"job": "a"}}, Range(0, 7200, 3600), QUERIES, ((), ((3600, 7200),))
)
SAMPLES = ((((), 5.0),), ((("accepted",), 0.1), (("ü\n",), 1e300)), ())


def statistics() -> Statistics:
    return Statistics((), SAMPLES)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    with Journal(path) as journal:
        assert journal.header() is None
        journal.begin(HEADER)
        yield journal


def test_a_header_is_read_as_it_was_written(path: Path) -> None:
    with Journal(path) as journal:
        journal.begin(HEADER)
    with Journal(path) as journal:
        assert journal.header() == HEADER


def test_answers_are_read_in_the_order_of_their_steps(journal: Journal) -> None:
    for point in (Point(1, 7200), Point(0, 3600), Point(1, 3600)):
        journal.record(point, statistics())
    answers = journal.answers(HEADER)
    assert list(answers.of(1, 1)) == [(3600, SAMPLES[1]), (7200, SAMPLES[1])]
    assert list(answers.of(0, 0)) == [(3600, SAMPLES[0])]
    assert list(answers.of(0, 2)) == [(3600, ())]
    assert list(answers.of(2, 0)) == []


def test_the_points_left_are_those_without_an_answer(journal: Journal) -> None:
    journal.record(Point(1, 3600), statistics())
    assert list(resumed(HEADER, journal)) == [Point(1, 7200)]


@pytest.mark.parametrize("torn", [b"[1,7200,", b"[1,7200,[[]]]", b"\0" * 100, b"\0\n"])
def test_a_line_that_is_not_whole_is_cut_off(path: Path, torn: bytes) -> None:
    with Journal(path) as journal:
        journal.header()
        journal.begin(HEADER)
        journal.record(Point(1, 3600), statistics())
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    with Journal(path) as journal:
        assert journal.header() == HEADER
        assert list(journal.answered()) == [Point(1, 3600)]
        assert path.read_bytes() == whole
        journal.record(Point(1, 7200), statistics())
        assert list(journal.answered()) == [Point(1, 3600), Point(1, 7200)]


def test_a_header_that_is_not_whole_is_none(path: Path) -> None:
    path.write_bytes(b'{"journal":"taskrouter-exporter backfill","ver')
    with Journal(path) as journal:
        assert journal.header() is None
    assert not path.exists()


@pytest.mark.parametrize("content", [b"mine", b'{"journal":"mine"}\n', b"mine\n"])
def test_another_file_is_neither_read_nor_changed(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with Journal(path) as journal, pytest.raises(BackfillError, match="is not the journal of a backfill"):
        journal.header()
    assert path.read_bytes() == content


def test_the_journal_of_another_version_is_refused(journal: Journal, path: Path) -> None:
    content = path.read_bytes().replace(b'"version":"', b'"version":"9')
    path.write_bytes(content)
    with pytest.raises(BackfillError, match="was written by version 9"):
        journal.header()


def test_a_damaged_line_is_named(journal: Journal, path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"[1,360\n[1,7200,[]]\n")
    journal.header()
    with pytest.raises(BackfillError, match=f"{path}:2: is damaged"):
        resumed(HEADER, journal)


def test_a_point_that_is_not_of_the_run_is_refused(journal: Journal) -> None:
    journal.record(Point(0, 3600), statistics())
    with pytest.raises(BackfillError, match="for a point"):
        resumed(HEADER, journal)


def test_only_one_process_writes_a_journal(journal: Journal, path: Path) -> None:
    assert journal.path == path
    with pytest.raises(BackfillError, match="another backfill is writing it"):
        Journal(path)


def test_a_line_is_written_wholly_or_not_at_all(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()
    write = os.write
    left = [10]

    def full(file: int, data: bytes) -> int:
        if not left[0]:
            raise OSError(28, "No space left on device")
        written, left[0] = write(file, data[: left[0]]), 0
        return written

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(BackfillError, match="journal: cannot be written: No space left on device"):
        journal.record(Point(1, 3600), statistics())
    monkeypatch.undo()
    assert path.read_bytes() == before
    journal.record(Point(1, 3600), statistics())
    assert list(journal.answered()) == [Point(1, 3600)]


def test_the_difference_between_two_runs_is_named() -> None:
    assert difference(HEADER, {"--from": "now-1d", "--label": {"job": "a"}}) == ""
    assert difference(HEADER, {"--from": "now-2d", "--label": {"job": "a"}, "--step": 5}) == "--from, --step"
