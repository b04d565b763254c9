"""The flags of the command."""

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, cast, get_args

from pydantic import TypeAdapter, ValidationError

from taskrouter_exporter.command_line import (
    CONFIG_FILE,
    Parser,
    config_files,
    config_path,
    timeout_seconds,
    variable_of,
)
from taskrouter_exporter.config.fields import Minutes
from taskrouter_exporter.one_shot.question import Question, QuestionError
from taskrouter_exporter.periods import Current, Window
from taskrouter_exporter.queries import ALL_CHANNELS
from taskrouter_exporter.statistics.kind import StatisticsName, SubjectName

PROGRAM: Final = "taskrouter-exporter query"
OUTPUTS: Final = ("table", "json", "prometheus")
_CONFIG_VARIABLE: Final = variable_of("--config.file")
_DEFAULT_MINUTES: Final = 15
_HISTORY: Final = timedelta(days=30)
"""How far back statistics reach. Source: https://www.twilio.com/docs/taskrouter/api/worker/statistics."""

_WORKSPACE: Final[tuple[SubjectName, None]] = ("workspace", None)
_MINUTE: Final = timedelta(minutes=1)
_NOW: Final = "now"
_DATE: Final = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")
_EXAMPLE: Final = "2026-10-25T08:00Z"


@dataclass(frozen=True, slots=True)
class Flags:
    """The flags, checked.

    Attributes:
        question: What to ask.
        config_files: The configuration files, or directories of them; none for the demo.
        output: One of OUTPUTS.
        timeout: Seconds until the command gives up.
    """

    question: Question
    config_files: Sequence[Path]
    output: str
    timeout: float


def parse_flags(arguments: Sequence[str], now: datetime, environ: Mapping[str, str] = os.environ) -> Flags:
    """Return the flags. Exit with status 2 and one line where they cannot be used.

    Args:
        arguments: Those of the command line after the name of the command.
        now: The wall clock.
        environ: Can name the configuration files, as for the exporter.
    """
    parser = _parser()
    flags = parser.parse_args(arguments)
    try:
        question = _question(flags, now)
    except QuestionError as error:
        parser.error(str(error))
    return Flags(
        question,
        () if flags.demo else config_files(flags.config_files, environ),
        flags.output,
        flags.timeout,
    )


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog=PROGRAM,
        description="Ask TaskRouter once and print the answer. The exit status is the reason of a failure.",
        allow_abbrev=False,
        add_help=False,
    )
    add = parser.add_argument
    add("-h", "--help", action="help", help="Show this help message and exit.")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--config.file", dest="config_files", type=config_path, action="append",
        metavar="PATH", help="Path to the configuration file, or to a directory with several; repeatable. "
        f"(default: {_CONFIG_VARIABLE}, or {CONFIG_FILE})")  # fmt: skip
    source.add_argument("--demo", action="store_true",
        help="Ask an embedded TaskRouter simulator; needs no Twilio account.")  # fmt: skip
    add(
        "--workspace",
        metavar="WORKSPACE",
        help="Name or SID of a workspace that the configuration names or discovers. (default: the only one)",
    )
    add("--channel", default=ALL_CHANNELS, metavar="CHANNEL",
        help="Unique name or SID of a TaskChannel, or all. (default: %(default)s)")  # fmt: skip
    row = parser.add_mutually_exclusive_group()
    row.add_argument("--queue", metavar="QUEUE",
        help="Friendly name or SID of a TaskQueue to ask about, instead of the workspace.")  # fmt: skip
    row.add_argument("--workflow", metavar="WORKFLOW",
        help="Friendly name or SID of a Workflow to ask about, instead of the workspace.")  # fmt: skip
    add("--statistics", choices=get_args(StatisticsName), metavar="|".join(get_args(StatisticsName)),
        help="Kind of statistics. (default: workers, or tasks of a queue or workflow)")  # fmt: skip
    add("--window", dest="minutes", type=_minutes, metavar="DURATION",
        help=f"Period that ends now, from 1m to 30d. (default: {_DEFAULT_MINUTES}m)")  # fmt: skip
    add("--from", dest="start", metavar="TIME",
        help=f"Start of a period instead of --window, in whole minutes, such as {_EXAMPLE}.")  # fmt: skip
    add(
        "--to",
        dest="end",
        metavar="TIME",
        help=f"End of the period that starts at --from. (default: {_NOW}, the start of this minute)",
    )
    add("--output", choices=OUTPUTS, default=OUTPUTS[0], metavar="|".join(OUTPUTS),
        help="Output format. (default: %(default)s)")  # fmt: skip
    add("--timeout", type=timeout_seconds, default="30s", metavar="DURATION",
        help="Time after which to give up, retries included. (default: %(default)s)")  # fmt: skip
    return parser


def _question(flags: argparse.Namespace, now: datetime) -> Question:
    rows: dict[SubjectName, str | None] = {"queue": flags.queue, "workflow": flags.workflow}
    subject, row = next(((subject, row) for subject, row in rows.items() if row is not None), _WORKSPACE)
    statistics = flags.statistics or ("workers" if row is None else "tasks")
    if statistics == "workers" and row is not None:
        raise QuestionError(
            f"--{subject}: workers has no statistics of a {subject} (expected tasks, realtime)"
        )
    period, start, end = _period(flags, now) if statistics != "realtime" else _moment(flags)
    return Question(
        statistics=cast("StatisticsName", statistics),
        period=period,
        workspace=flags.workspace,
        channel=flags.channel,
        subject=subject,
        row=row,
        start=start,
        end=end,
    )


def _moment(flags: argparse.Namespace) -> tuple[Current, None, None]:
    """Return the period of real-time statistics, which take no flag about it."""
    given = next((name for name, value in _period_flags(flags).items() if value is not None), None)
    if given:
        raise QuestionError(f"{given}: real-time statistics have no period, they are about this moment")
    return Current(), None, None


def _period_flags(flags: argparse.Namespace) -> dict[str, Any]:
    return {"--window": flags.minutes, "--from": flags.start, "--to": flags.end}


def _period(flags: argparse.Namespace, now: datetime) -> tuple[Window, datetime | None, datetime | None]:
    """Return the window; with its start and end unless it ends now."""
    if flags.start is None:
        if flags.end is not None:
            raise QuestionError("--to: needs --from, the start of the period")
        return Window(flags.minutes or _DEFAULT_MINUTES), None, None
    if flags.minutes is not None:
        raise QuestionError("--window: not allowed with --from, which sets the period")
    minute = now.astimezone(UTC).replace(second=0, microsecond=0)
    start, end = _time("--from", flags.start, minute), _time("--to", flags.end or _NOW, minute)
    if end > minute:
        raise QuestionError(f"--to: {_text(end)} is in the future (it is {_text(minute)})")
    if start < minute - _HISTORY:
        raise QuestionError(
            f"--from: {_text(start)} is more than 30 days ago (expected {_text(minute - _HISTORY)} or later)"
        )
    if start >= end:
        raise QuestionError(f"--from: {_text(start)} is not before {_text(end)}, the end of the period")
    return Window((end - start) // _MINUTE), start, end


def _time(flag: str, text: str, now: datetime) -> datetime:
    """Return a time in UTC. A date is its midnight UTC."""
    if text == _NOW:
        return now
    try:
        moment = datetime.fromisoformat(f"{text}T00:00Z" if _DATE.fullmatch(text) else text)
        time = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise QuestionError(f"{flag}: {text!r} is not a time (expected e.g. {_EXAMPLE}, or {_NOW})") from None
    if moment.tzinfo is None:
        raise QuestionError(f"{flag}: {text!r} has no time zone (expected e.g. {_EXAMPLE})")
    if time.second or time.microsecond:
        raise QuestionError(f"{flag}: {text!r} is not a whole minute (expected e.g. {_EXAMPLE})")
    return time


def _text(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%MZ")


def _minutes(text: str) -> int:
    try:
        minutes: int = TypeAdapter(Minutes).validate_python(text)
    except ValidationError as error:
        (problem,) = error.errors(include_url=False, include_input=False)
        hint = problem.get("ctx", {}).get("hint")
        expected = f" (expected {hint})" if hint else ""
        raise argparse.ArgumentTypeError(f"{text!r} is not {problem['msg']}{expected}") from None
    return minutes
