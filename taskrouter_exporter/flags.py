"""The flags: their parser, the types of their values, and the environment variables that can set them."""

import argparse
import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

from taskrouter_exporter import __version__
from taskrouter_exporter.bundled_files import bundled_directory, example_configuration
from taskrouter_exporter.command_line import (
    CONFIG_FILE,
    SEPARATOR,
    VARIABLE_PREFIX,
    Parser,
    config_path,
    timeout_seconds,
    variable_of,
    write_output,
)
from taskrouter_exporter.config.fields import without_newline
from taskrouter_exporter.logs import FORMATS, LEVELS
from taskrouter_exporter.revision import revision
from taskrouter_exporter.server.listen import ListenAddress
from taskrouter_exporter.web.paths import RESERVED_PATHS, RESERVED_PREFIXES

DISABLE_CREATED: Final = "PROMETHEUS_DISABLE_CREATED_SERIES"
"""A variable of prometheus-client, which means the same as `--web.disable-created`."""

_TRUE_OF_THE_LIBRARY: Final = {"true", "1", "t"}
"""Any other value of its variable does nothing (prometheus_client.metrics)."""

HEALTH_URL: Final = "HEALTH_URL"
"""The variable of the health check, which is another program."""

_SCENARIOS: Final = (
    "calm",
    "rejection-spike",
    "timeout-spike",
    "outage",
    "no-agents",
    "queue-backlog",
    "rate-limit",
)
"""Those of `demo.SCENARIOS`; its import would take as long as a tenth of all others at each start."""

_ANSWERS: Final = {"-h", "--help", "--version", "--config.example", "--files.directory"}
"""Flags that print something and exit, whatever is in the environment."""

_BOOLEANS: Final = {"true": True, "1": True, "false": False, "0": False}
_LONGEST_OFFSET_SECONDS: Final = 3600


def parse_flags(arguments: Sequence[str], environ: Mapping[str, str]) -> argparse.Namespace:
    """Return the flags, each from the arguments or else from its environment variable.

    Exits after a flag that only prints something, and with status 2 and one line where a value cannot be used
    or flags exclude each other.
    """
    parser = _parser()
    given = {argument.partition("=")[0] for argument in arguments}
    if given & _ANSWERS:
        parser.parse_args(arguments)
    from_environment = {
        flag: parser.arguments_of(flag, environ[variable])
        for flag, variable in parser.variables.items()
        if flag not in given and without_newline(environ.get(variable, ""))
    }
    flags = parser.parse_args([*chain.from_iterable(from_environment.values()), *arguments])
    if environ.get(DISABLE_CREATED, "").lower() in _TRUE_OF_THE_LIBRARY:
        flags.disable_created = True
    if flags.systemd_socket and flags.listen_addresses:
        exclusive = ("--web.systemd-socket", "--web.listen-address")
        names = [parser.variables[flag] if flag in from_environment else flag for flag in exclusive]
        parser.error(f"{names[0]} and {names[1]} are mutually exclusive")
    return flags


def misspelled_variables(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the variables that are almost one of a flag, each with that one.

    Others with the same prefix are no mistake: Kubernetes adds some for a Service of the exporter's name.
    """
    known = [variable.removeprefix(VARIABLE_PREFIX) for variable in _parser().variables.values()]
    for variable in environ:
        name = variable.removeprefix(VARIABLE_PREFIX)
        if name != variable and name not in {*known, HEALTH_URL}:
            for near in difflib.get_close_matches(name, known, n=1, cutoff=0.8):
                yield variable, VARIABLE_PREFIX + near


class _Parser(Parser):
    """A parser that knows the environment variable of each flag.

    Attributes:
        variables: By flag.
    """

    def __init__(self) -> None:
        super().__init__(
            prog="taskrouter-exporter",
            description="Prometheus exporter for Twilio TaskRouter.",
            epilog="Commands: backfill (write the past of the statistics), query (ask TaskRouter once, and "
            "print the answer). COMMAND --help lists the flags of each. Every flag but --help, --version, "
            "--config.example and --files.directory can also be set by an environment variable, such as "
            f"{variable_of('--log.level')} for --log.level. The flag takes precedence.",
            allow_abbrev=False,
            add_help=False,
        )
        self.variables: dict[str, str] = {}
        self._switches: set[str] = set()
        self._repeatable: set[str] = set()
        self._variable = ""

    def add(self, flag: str, **properties: Any) -> None:  # noqa: ANN401 -- those of add_argument
        """Add a flag that an environment variable can set."""
        self.add_argument(flag, **properties)
        self.variables[flag] = variable_of(flag)
        if properties.get("action") == "store_true":
            self._switches.add(flag)
        if properties.get("action") == "append":
            self._repeatable.add(flag)

    def arguments_of(self, flag: str, text: str) -> list[str]:
        """Return the arguments that are equivalent to the value of a flag's variable, once they are valid."""
        text = without_newline(text)
        self._variable = self.variables[flag]
        if flag in self._switches:
            if text.lower() not in _BOOLEANS:
                self.error(f"{text!r} is not true or false")
            arguments = [flag] if _BOOLEANS[text.lower()] else []
        else:
            values = [each.strip() for each in text.split(SEPARATOR)] if flag in self._repeatable else [text]
            if not all(values):
                self.error(f"{text!r} has an empty value between commas")
            arguments = [f"{flag}={value}" for value in values]
        self.parse_args(arguments)
        self._variable = ""
        return arguments

    def error(self, message: str) -> NoReturn:
        """Exit with the message on one line, which names the variable if the value is one's."""
        if self._variable:
            message = f"{self._variable}: {re.sub('^argument [^ ]+: ', '', message)}"
        super().error(message)


class _Print(argparse.Action):
    """Prints a text and exits, without reading the other flags."""

    def __init__(self, *, text: Callable[[], str], **properties: Any) -> None:  # noqa: ANN401 -- argparse's
        super().__init__(nargs=0, **properties)
        self._text = text

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print the text; exit with status 1 and one line if its file cannot be read."""
        try:
            text = self._text()
        except OSError as error:
            parser.exit(1, f"{parser.prog}: {self.option_strings[0]}: {error.filename}: {error.strerror}\n")
        parser.exit(write_output(text))


def _parser() -> _Parser:
    parser = _Parser()
    parser.add_argument("-h", "--help", action="help", help="Show this help message and exit.")
    add = parser.add
    add("--config.file", dest="config_files", type=config_path, action="append", metavar="PATH",
        help="Path to the configuration file, or to a directory with several; repeatable. "
        f"(default: {CONFIG_FILE})")  # fmt: skip
    add("--config.check", dest="config_check", action="store_true",
        help="Validate the configuration files, print what would be polled, and exit. With --web.config.file "
        f"alone, and without a {CONFIG_FILE}, validate only that file.")  # fmt: skip
    parser.add_argument("--config.example", action=_Print, text=lambda: example_configuration().rstrip("\n"),
        help="Print an example configuration with every key, and exit.")  # fmt: skip
    add("--config.auto-reload", dest="auto_reload", action="store_true",
        help="Check every 30 s whether the configuration files have changed, and reload them.")  # fmt: skip
    add("--web.listen-address", dest="listen_addresses", type=_listen_address, action="append",
        metavar="ADDRESS", help="Address on which to expose metrics and web interface; repeatable. "
        "(default: :10142)")  # fmt: skip
    add("--web.systemd-socket", dest="systemd_socket", action="store_true",
        help="Listen on the sockets that systemd passes (socket activation), not on an address.")  # fmt: skip
    add("--web.health-address", dest="health_address", type=_listen_address, metavar="ADDRESS",
        help="Address on which to serve only /-/healthy and /-/ready, without TLS and authentication. "
        "(default: none)")  # fmt: skip
    add("--web.telemetry-path", dest="telemetry_path", type=_path, default="/metrics", metavar="PATH",
        help="Path under which to expose metrics. (default: %(default)s)")  # fmt: skip
    add("--web.external-url", dest="external_url", type=_url, metavar="URL",
        help="URL under which Prometheus reaches the exporter, for service discovery. "
        "(default: the request's Host)")  # fmt: skip
    add("--web.config.file", dest="web_config_file", type=Path, metavar="FILE",
        help="Path to the configuration file that can enable TLS or authentication, in the format of "
        "exporter-toolkit. (default: none)")  # fmt: skip
    add("--web.max-requests", dest="max_requests", type=_count, default=40, metavar="COUNT",
        help="Maximum number of parallel requests. Use 0 to disable. (default: %(default)s)")  # fmt: skip
    add("--web.max-scrape-timeout", dest="max_scrape_timeout", type=timeout_seconds, default="2m",
        metavar="DURATION", help="Longest scrape timeout; a longer one in a request is shortened to it. "
        "(default: %(default)s)")  # fmt: skip
    add("--web.disable-trends", dest="disable_trends", action="store_true",
        help="Show no trends on the landing page, and keep none in memory.")  # fmt: skip
    add("--web.disable-created", dest="disable_created", action="store_true",
        help="Expose no _created series, which OpenMetrics has for counters and histograms.")  # fmt: skip
    add("--timeout-offset", dest="timeout_offset", type=_seconds, default=0.5, metavar="SECONDS",
        help="Offset to subtract from Prometheus's scrape timeout. (default: %(default)s)")  # fmt: skip
    add("--log.level", dest="log_level", type=_log_level, choices=LEVELS, default="info",
        help="Only log messages with the given severity or above. (default: %(default)s)")  # fmt: skip
    add("--log.format", dest="log_format", choices=FORMATS, default="logfmt",
        help="Output format of log messages. (default: %(default)s)")  # fmt: skip
    add("--demo", action="store_true",
        help="Export metrics of an embedded TaskRouter simulator; needs no Twilio account.")  # fmt: skip
    add("--demo.scenario", dest="demo_scenario", choices=_SCENARIOS, default="calm",
        metavar="|".join(_SCENARIOS), help="Scenario of the simulator. (default: %(default)s)")  # fmt: skip
    parser.add_argument("--files.directory", action=_Print, text=lambda: str(bundled_directory()),
        help="Print the directory with the alert rules, dashboards, systemd units and JSON Schema, and exit."
        )  # fmt: skip
    version = f"taskrouter-exporter {__version__} (revision {revision()})"
    parser.add_argument("--version", action="version", version=version, help="Show the version and exit.")
    return parser


def _listen_address(text: str) -> ListenAddress:
    try:
        return ListenAddress.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _url(text: str) -> str:
    if not _is_url(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a URL (expected e.g. https://exporter.example:10142)"
        )
    return text


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:  # of the port, or of an address in brackets
        return False
    return (
        parts.scheme in ("http", "https")
        and bool(parts.hostname)
        and port != 0
        and not (parts.query or parts.fragment or set(text) & set("@?#\\"))
        and text.isprintable()
        and " " not in text
    )


def _path(text: str) -> str:
    if text in RESERVED_PATHS or text.startswith(RESERVED_PREFIXES):
        raise argparse.ArgumentTypeError(f"{text!r} is reserved, as are {' '.join(RESERVED_PATHS)}")
    if not re.fullmatch("(/[!-~]+)+/?", text) or "//" in text or set(text) & set("{}?#%\\"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a path for the metrics (expected e.g. /metrics)")
    return text


def _count(text: str) -> int:
    if not re.fullmatch("[0-9]{1,6}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 999999")
    return int(text)


def _log_level(text: str) -> str:
    return "warn" if text == "warning" else text


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds <= _LONGEST_OFFSET_SECONDS:
        message = f"{text!r} is not a number of seconds from 0 to {_LONGEST_OFFSET_SECONDS}"
        raise argparse.ArgumentTypeError(message)
    return seconds
