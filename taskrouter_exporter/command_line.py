"""What the commands have in common: errors on one line, output that can fail, and types of flags."""

import argparse
import io
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

from taskrouter_exporter.durations import parse_duration

CONFIG_FILE: Final = Path("config.yaml")
VARIABLE_PREFIX: Final = "TASKROUTER_EXPORTER_"
SEPARATOR: Final = ","
"""Between the values of a repeatable flag in its variable."""

_LONGEST_TIMEOUT_SECONDS: Final = 3600


class Parser(argparse.ArgumentParser):
    """A parser of flags, whose errors are one line each."""

    def error(self, message: str) -> NoReturn:
        """Exit with the message on one line."""
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def write_output(text: str) -> int:
    """Write to standard output and return the exit status: 1 for a full disk or a closed pipe."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        print(text, flush=True)  # noqa: T201 -- the command's output
    except OSError:
        # Python flushes what is still buffered at exit, and would print a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def variable_of(flag: str) -> str:
    """Return the environment variable of a flag: `TASKROUTER_EXPORTER_LOG_LEVEL` of `--log.level`."""
    return VARIABLE_PREFIX + re.sub("[.-]", "_", flag.removeprefix("--")).upper()


def config_path(text: str) -> Path:
    """Return the path of a configuration file or a directory of them.

    Raises:
        argparse.ArgumentTypeError: the text is empty, which would be the current directory.
    """
    if not text.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not a path (expected e.g. {CONFIG_FILE})")
    return Path(text)


def config_files(given: Sequence[Path] | None, environ: Mapping[str, str]) -> Sequence[Path]:
    """Return the configuration files and directories of a command: as given, or as for the exporter."""
    names = environ.get(variable_of("--config.file"), "").split(SEPARATOR)
    return given or [Path(name.strip()) for name in names if name.strip()] or [CONFIG_FILE]


def timeout_seconds(text: str) -> float:
    """Return the seconds of a timeout.

    Raises:
        argparse.ArgumentTypeError: the text is not a duration from 1ms to 1h.
    """
    try:
        seconds = parse_duration(text).total_seconds()
    except ValueError:
        seconds = 0
    if not 0 < seconds <= _LONGEST_TIMEOUT_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration from 1ms to 1h (expected e.g. 30s, 2m)")
    return seconds
