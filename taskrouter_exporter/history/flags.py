"""The flags of `taskrouter-exporter backfill`."""

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from taskrouter_exporter.command_line import CONFIG_FILE, Parser, config_files, config_path, variable_of
from taskrouter_exporter.durations import parse_duration
from taskrouter_exporter.history.endpoint import Server

_DAY: Final = timedelta(days=1)
_SECOND: Final = timedelta(seconds=1)
_HIGHEST_RATE: Final = 1000
_LABEL: Final = re.compile("([a-zA-Z_][a-zA-Z0-9_]*)=(.+)", re.DOTALL)
_TAKEN: Final = frozenset(
    (
        "activity", "activity_sid", "channel", "event", "outcome", "queue", "side", "threshold", "until",
        "window", "workflow", "workspace",
    )
)  # fmt: skip
"""Labels of the statistics themselves."""


@dataclass(frozen=True, slots=True)
class When:
    """An instant as a flag names it.

    Attributes:
        text: As given: a run that continues is recognized by it.
        moment: The instant, None if it is relative to now.
        before_now: How long before now it is, if it is relative.
    """

    text: str
    moment: datetime | None
    before_now: timedelta = timedelta()

    def resolve(self, now: datetime) -> datetime:
        """Return the instant."""
        return self.moment or now - self.before_now


def parse(arguments: Sequence[str], environ: Mapping[str, str]) -> argparse.Namespace:
    """Return the flags; the environment can name the configuration files, as for the exporter."""
    parser = _parser()
    flags = parser.parse_args(arguments)
    flags.config_files = config_files(flags.config_files, environ)
    if (flags.output is None) == (flags.remote_write is None):
        parser.error("one of --output and --remote-write is required")
    for server in ("prometheus", "remote_write"):
        setattr(flags, server, _server(parser, flags, server))
    flags.labels = dict(flags.labels)
    return flags


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="taskrouter-exporter backfill",
        description="Write the past of TaskRouter's statistics, up to 30 days, as the exporter would have "
        "exported it.",
        allow_abbrev=False,
        add_help=False,
    )
    add = parser.add_argument
    add("-h", "--help", action="help", help="Show this help message and exit.")
    add("--config.file", dest="config_files", type=config_path, action="append", metavar="PATH",
        help="Path to the configuration file, or to a directory with several; repeatable. "
        f"(default: {variable_of('--config.file')}, or {CONFIG_FILE})")  # fmt: skip
    add("--from", dest="start", type=_when, required=True, metavar="TIME",
        help="Start of the range: 2026-10-25, 2026-10-25T06:00Z or now-29d.")  # fmt: skip
    add("--to", dest="end", type=_when, default="now", metavar="TIME",
        help="End of the range. (default: %(default)s)")  # fmt: skip
    add("--step", type=_step, default="15m", metavar="DURATION",
        help="Time between two samples; it divides the day. (default: %(default)s)")  # fmt: skip
    add("--output", type=Path, metavar="FILE",
        help="File to write, in OpenMetrics form. It must not exist.")  # fmt: skip
    add("--windows", action="store_true",
        help="Also write the metrics of sliding windows; each is one more request at each step.")  # fmt: skip
    add("--workspace", dest="workspaces", action="append", default=[], metavar="NAME",
        help="Only this workspace; repeatable. (default: all)")  # fmt: skip
    add("--channel", dest="channels", action="append", default=[], metavar="NAME",
        help="Only this channel; repeatable. (default: all that are configured)")  # fmt: skip
    add("--label", dest="labels", type=_label, action="append", default=[], metavar="NAME=VALUE",
        help="Label to add to every series, such as job=taskrouter; repeatable.")  # fmt: skip
    add("--rate", type=_rate, default=2.0, metavar="REQUESTS",
        help="Most API requests per second. (default: 2)")  # fmt: skip
    add("-y", "--yes", action="store_true", help="Start without asking.")
    _add_server(parser, "prometheus", "Only fill the gaps of this Prometheus: steps without samples.")
    _add_server(parser, "remote-write", "Send the samples to this URL by remote write, instead of --output.")
    add("--journal", type=Path, metavar="FILE",
        help="File that an interrupted run continues from. (default: --output with .journal, or "
        "backfill.journal)")  # fmt: skip
    return parser


def _add_server(parser: argparse.ArgumentParser, name: str, text: str) -> None:
    add = parser.add_argument
    key = name.replace("-", "_")
    add(f"--{name}", dest=key, type=_url, metavar="URL", help=text)
    add(
        f"--{name}.username",
        dest=f"{key}.username",
        metavar="NAME",
        help=f"User for basic authentication at --{name}.",
    )
    add(
        f"--{name}.password-file",
        dest=f"{key}.password_file",
        type=Path,
        metavar="FILE",
        help="File with the password of that user.",
    )
    add(
        f"--{name}.token-file",
        dest=f"{key}.token_file",
        type=Path,
        metavar="FILE",
        help=f"File with a bearer token for --{name}.",
    )
    add(f"--{name}.ca-file", dest=f"{key}.ca_file", type=Path, metavar="FILE",
        help=f"File with the certificate authorities of --{name}. (default: the system's)")  # fmt: skip


def _server(parser: argparse.ArgumentParser, flags: argparse.Namespace, name: str) -> Server | None:
    """Return the server that some flags describe."""
    values = vars(flags)
    flag = name.replace("_", "-")
    parts = {
        part: values[f"{name}.{part}"] for part in ("username", "password_file", "token_file", "ca_file")
    }
    if values[name] is None:
        for part, value in parts.items():
            if value is not None:
                parser.error(f"--{flag}.{part.replace('_', '-')} requires --{flag}")
        return None
    if (parts["username"] is None) != (parts["password_file"] is None):
        parser.error(f"--{flag}.username and --{flag}.password-file require each other")
    if parts["username"] is not None and parts["token_file"] is not None:
        parser.error(f"--{flag}.token-file excludes --{flag}.username")
    return Server(f"--{flag}", values[name], **parts)


def _when(text: str) -> When:
    relative = re.fullmatch(r"now(?:-(.+))?", text)
    try:
        if relative:
            return When(text, None, parse_duration(relative[1]) if relative[1] else timedelta())
        moment = datetime.fromisoformat(text)
        return When(text, (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC))
    except (ValueError, OverflowError):
        message = f"{text!r} is not a time (expected e.g. 2026-10-25, 2026-10-25T06:00Z, now, now-29d)"
        raise argparse.ArgumentTypeError(message) from None


def _step(text: str) -> timedelta:
    try:
        step = parse_duration(text)
    except ValueError:
        step = timedelta()
    if not _SECOND <= step <= _DAY or step % _SECOND or _DAY % step:
        message = (
            f"{text!r} is not a duration of whole seconds that divides the day (expected e.g. 5m, 15m, 1h)"
        )
        raise argparse.ArgumentTypeError(message)
    return step


def _rate(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,3})?", text) or not 0 < float(text) <= _HIGHEST_RATE:
        message = (
            f"{text!r} is not a number of requests per second up to {_HIGHEST_RATE} (expected e.g. 2, 0.5)"
        )
        raise argparse.ArgumentTypeError(message)
    return float(text)


def _label(text: str) -> tuple[str, str]:
    match = _LABEL.fullmatch(text)
    if match is None or match[1].startswith("__"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a label (expected e.g. job=taskrouter)")
    if match[1] in _TAKEN:
        raise argparse.ArgumentTypeError(f"{text!r}: {match[1]} is a label of the statistics")
    return match[1], match[2]


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or "@" in parts.netloc or not text.isprintable() or set(text) & set(" ?#"):
        # It is not quoted: it could contain a password, as could a query.
        raise argparse.ArgumentTypeError(
            "is not a URL without credentials (expected e.g. http://localhost:9090)"
        )
    return text
