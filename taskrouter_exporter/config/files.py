"""The configuration files: where they are, what they contain, and whether that has changed."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from taskrouter_exporter.config.errors import ConfigError, read_text
from taskrouter_exporter.config.loader import SourceText, parse_configs
from taskrouter_exporter.config.model import Config

MAX_FILE_BYTES: Final = 4 * 1024 * 1024

_SUFFIXES: Final = (".yaml", ".yml")
_HINT: Final = (
    "create it (config.example.yaml is an example), or start with --demo, which needs no configuration"
)


class ConfigFiles:
    """The configuration files that the flags name.

    Args:
        paths: Files, and directories whose files ending in `.yaml` or `.yml` belong to the configuration.
        environ: Environment variables, the credentials if no file has `accounts`.
    """

    def __init__(self, paths: Sequence[Path], environ: Mapping[str, str]) -> None:
        self._paths = tuple(paths)
        self._environ = environ
        self._loaded = b""
        self._problems: tuple[str, ...] = ()

    def load(self) -> Config:
        """Read and check the files, and the password files that they name.

        Raises:
            ConfigError: the files cannot be read or used.
        """
        texts, problems = self._read()
        self._loaded, self._problems = _digest(texts, problems), ()
        try:
            return self._parse(texts, problems)
        except ConfigError as error:
            self._problems = error.problems
            raise

    def changed(self) -> bool:
        """Return whether to load the files again: they differ from those last loaded, be it in vain.

        A file that cannot be read differs once from one that can. Files that could not be used also differ
        once they have other problems, or none: a password file may be written after the file that names it.
        """
        texts, problems = self._read()
        if _digest(texts, problems) != self._loaded:
            return True
        if not self._problems:
            return False
        try:
            self._parse(texts, problems)
        except ConfigError as error:
            return error.problems != self._problems
        return True

    def _parse(self, texts: Sequence[SourceText], problems: Sequence[str]) -> Config:
        if problems:
            raise ConfigError(problems)
        return parse_configs(texts, self._environ)

    def names(self) -> str:
        """Return the names of the files that are there, separated by commas."""
        return ", ".join(str(path) for path in self._found()[0])

    def _read(self) -> tuple[list[SourceText], list[str]]:
        """Return the files that can be read, and why the others cannot."""
        files, problems = self._found()
        texts = []
        for path in files:
            try:
                texts.append(SourceText(read_text(path, MAX_FILE_BYTES, _HINT), str(path), path.parent))
            except ConfigError as error:
                problems += error.problems
        return texts, problems

    def _found(self) -> tuple[list[Path], list[str]]:
        """Return the files, those of a directory by name, and what is wrong with the paths."""
        files: dict[str, Path] = {}
        problems: list[str] = []
        for path in self._paths:
            try:
                for file in _files_at(path):
                    other = files.setdefault(os.path.realpath(file), file)
                    if other is not file:
                        problems.append(f"{file}: the same file as {other}; name it once")
            except OSError as error:
                problems.append(f"{path}: cannot be read: {error.strerror}")
            except ConfigError as error:
                problems += error.problems
        return list(files.values()), problems


def _files_at(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    # Kubernetes mounts the files of a ConfigMap beside hidden directories, and editors leave hidden files.
    found = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES and file.name[0] != ".")
    if not found:
        raise ConfigError([f"{path}: no file in this directory ends in {' or '.join(_SUFFIXES)}"])
    yield from found


def _digest(texts: Sequence[SourceText], problems: Sequence[str]) -> bytes:
    content = repr(([(each.source, each.text) for each in texts], problems))
    return hashlib.sha256(content.encode(errors="backslashreplace")).digest()
