import os
from pathlib import Path

import pytest

from taskrouter_exporter.files import (
    FileError,
    MissingFileError,
    read_regular_file,
    stamp,
    stamps,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    return path


def test_a_file_that_stays_the_same_keeps_its_stamp(file: Path) -> None:
    assert stamp(file) == stamp(file) is not None


def test_a_file_of_another_size_has_another_stamp(file: Path) -> None:
    before = stamp(file)
    file.write_bytes(b"other content")
    assert stamp(file) != before


def test_a_file_replaced_by_one_of_the_same_size_and_time_has_another_stamp(file: Path) -> None:
    before, status = stamp(file), file.stat()
    replacement = file.with_name("new")
    replacement.write_bytes(b"CONTENT")
    os.utime(replacement, ns=(status.st_atime_ns, status.st_mtime_ns))
    replacement.replace(file)
    assert stamp(file) != before


def test_a_symbolic_link_moved_to_another_directory_has_another_stamp(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "token").write_bytes(b"same")
    link = tmp_path / "..data"
    link.symlink_to("old")
    before = stamp(link / "token")
    (tmp_path / "..tmp").symlink_to("new")
    (tmp_path / "..tmp").rename(link)
    assert stamp(link / "token") != before


def test_a_missing_file_has_no_stamp_beside_those_of_others(file: Path) -> None:
    assert stamps([file, file.with_name("missing")]) == (stamp(file), None)


def test_the_whole_content_is_read(file: Path) -> None:
    assert read_regular_file(file, 7) == b"content"


def test_a_larger_file_is_refused_with_the_limit(tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(4097))
    with pytest.raises(FileError, match=r"^is larger than 4 KiB$"):
        read_regular_file(large, 4096)
    with large.open("ab") as file:
        file.truncate(1024**2 + 1)
    with pytest.raises(FileError, match=r"^is larger than 1 MiB$"):
        read_regular_file(large, 1024**2)


def test_a_missing_file_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"^cannot be read: No such file or directory$"):
        read_regular_file(tmp_path / "missing", 1)


def test_an_error_of_the_system_is_passed_on_in_its_words(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"^cannot be read: File name too long$"):
        read_regular_file(tmp_path / ("x" * 300), 1)


@pytest.mark.timeout(20)
def test_only_regular_files_are_read(tmp_path: Path) -> None:
    """A pipe without a writer would block whoever opens it, and one with a writer whoever reads it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader, writer = os.pipe()
    for path in (pipe, Path(f"/dev/fd/{reader}"), Path("/dev/zero")):
        with pytest.raises(FileError, match=r"^is not a regular file$"):
            read_regular_file(path, 10)
    with pytest.raises(FileError, match=r"^cannot be read: Is a directory$"):
        read_regular_file(tmp_path, 10)
    os.close(reader)
    os.close(writer)
