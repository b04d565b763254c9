"""The command `query`: flags, wiring and exit statuses."""

import asyncio
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Final

from taskrouter_exporter.api.errors import ApiError, Reason
from taskrouter_exporter.command_line import write_output
from taskrouter_exporter.config.errors import ConfigError
from taskrouter_exporter.config.files import ConfigFiles
from taskrouter_exporter.config.model import Config
from taskrouter_exporter.logs import set_up_logging
from taskrouter_exporter.one_shot.answer import Answer, ask
from taskrouter_exporter.one_shot.flags import PROGRAM, Flags, parse_flags
from taskrouter_exporter.one_shot.formats import render_exposition, render_json
from taskrouter_exporter.one_shot.question import QuestionError
from taskrouter_exporter.one_shot.table import render_table

STATUSES: Final[Mapping[Reason, int]] = {
    Reason.AUTH: 3,
    Reason.FORBIDDEN: 4,
    Reason.NOT_FOUND: 5,
    Reason.RATE_LIMITED: 6,
    Reason.SERVER_ERROR: 7,
    Reason.TIMEOUT: 8,
    Reason.CONNECTION: 9,
    Reason.BAD_RESPONSE: 10,
}
"""The exit status of each reason. They are part of the public interface."""

_CONFIGURATION: Final = 1
_FLAGS: Final = 2
_INTERRUPTED: Final = 130
_WIDTH: Final = (120, 0)
"""Columns and lines where there is no terminal."""


def main(arguments: Sequence[str]) -> int:
    """Ask one question, print the answer and return the exit status.

    Args:
        arguments: Those of the command line after the name of the command.
    """
    flags = parse_flags(arguments, datetime.now(UTC))
    set_up_logging("error", "logfmt")
    try:
        with _configured(flags) as config:
            answer = asyncio.run(ask(config, flags.question, flags.timeout))
    except ConfigError as error:
        return _fail(_CONFIGURATION, *error.problems)
    except QuestionError as error:
        return _fail(_FLAGS, f"{PROGRAM}: {error}")
    except ApiError as error:
        return _fail(STATUSES[error.reason], f"{PROGRAM}: {error.reason}: {error.message}")
    except KeyboardInterrupt:
        return _fail(_INTERRUPTED, f"{PROGRAM}: interrupted")
    return write_output(_RENDER[flags.output](answer))


@contextmanager
def _configured(flags: Flags) -> Iterator[Config]:
    """Provide the configuration, and its simulator where it is the demo's.

    Raises:
        ConfigError: the configuration cannot be used.
    """
    if flags.config_files:
        yield ConfigFiles(flags.config_files, os.environ).load()
        return
    from taskrouter_exporter.demo import start_demo  # noqa: PLC0415 -- its import takes a while, and few need it

    simulator, config = start_demo("calm")
    with closing(simulator):
        yield config


def _table(answer: Answer) -> str:
    return render_table(answer, shutil.get_terminal_size(_WIDTH).columns)


_RENDER: Final[Mapping[str, Callable[[Answer], str]]] = {
    "table": _table,
    "json": render_json,
    "prometheus": render_exposition,
}


def _fail(status: int, *problems: str) -> int:
    for problem in problems:
        print(problem, file=sys.stderr)  # noqa: T201 -- one line per error, as a compiler writes them
    return status
