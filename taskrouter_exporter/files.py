"""Files that change while the exporter runs: stamps that tell when, and reads of a bounded size."""

import os
import stat
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


def read_regular_file(path: Path, max_bytes: int) -> bytes:
    """Return the content of a file. A pipe or device would block the exporter, which rereads its files.

    Raises:
        MissingFileError: there is no such file.
        FileError: it cannot be read, is not a regular file, or is larger than `max_bytes`.
    """
    try:
        with open(path, "rb", opener=_open_without_blocking) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise FileError("is not a regular file")
            content = file.read(max_bytes + 1)
    except FileNotFoundError as error:
        raise MissingFileError(f"cannot be read: {error.strerror}") from None
    except OSError as error:
        raise FileError(f"cannot be read: {error.strerror}") from None
    if len(content) > max_bytes:
        raise FileError(f"is larger than {_size(max_bytes)}")
    return content


def _open_without_blocking(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _size(number: int) -> str:
    return f"{number // _KIB**2} MiB" if number >= _KIB**2 else f"{number // _KIB} KiB"
