"""Files that change while the exporter runs: stamps that tell when, and reads of a bounded size."""

from collections.abc import Iterable
from pathlib import Path

_KIB = 1024

Stamp = tuple[int, int, int] | None


class FileError(Exception):
    """A file that cannot be read. The message says why, to be put behind the file's name."""


class MissingFileError(FileError):
    """A file that does not exist."""


def stamp(path: Path) -> Stamp:
    """Return a value that changes when the file does, and None while there is no file.

    The inode changes when Kubernetes moves the symbolic link to a Secret, although size and time may not.
    """
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def stamps(paths: Iterable[Path]) -> tuple[Stamp, ...]:
    """Return the files' stamps."""
    return tuple(map(stamp, paths))


def read_file(path: Path, max_bytes: int) -> bytes:
    """Return the content of a file, which may be a pipe.

    Raises:
        MissingFileError: there is no such file.
        FileError: it cannot be read, or is larger than `max_bytes`.
    """
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except FileNotFoundError as error:
        raise MissingFileError(f"cannot be read: {error.strerror}") from None
    except OSError as error:
        raise FileError(f"cannot be read: {error.strerror}") from None
    if len(content) > max_bytes:
        raise FileError(f"is larger than {_size(max_bytes)}")
    return content


def read_regular_file(path: Path, max_bytes: int) -> bytes:
    """Return the content of a file that is reread while the exporter runs: a pipe would block it.

    Raises:
        FileError: see `read_file`; or it is not a regular file.
    """
    try:
        if path.exists() and not path.is_file():
            raise FileError("is not a regular file")
    except OSError as error:  # a directory above it must not be searched
        raise FileError(f"cannot be read: {error.strerror}") from None
    return read_file(path, max_bytes)


def _size(number: int) -> str:
    return f"{number // _KIB**2} MiB" if number >= _KIB**2 else f"{number // _KIB} KiB"
