"""The command line: flags, wiring, signals and exit statuses."""

import argparse
import asyncio
import io
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, NoReturn
from urllib.parse import urlsplit

import structlog

from taskrouter_exporter import __version__
from taskrouter_exporter.api.environment import network_problems
from taskrouter_exporter.config.errors import ConfigError
from taskrouter_exporter.config.loader import load_config
from taskrouter_exporter.config.model import Config
from taskrouter_exporter.config_check import config_report, web_config_report
from taskrouter_exporter.durations import parse_duration
from taskrouter_exporter.early_signals import release_signals
from taskrouter_exporter.logs import FORMATS, LEVELS, flush_logs, set_up_logging
from taskrouter_exporter.metrics import ExporterMetrics
from taskrouter_exporter.revision import revision
from taskrouter_exporter.runtime import Runtime
from taskrouter_exporter.server.http import HttpServer, limit_concurrency
from taskrouter_exporter.server.listen import (
    ListenAddress,
    ListenError,
    allow_many_connections,
    describe,
    url_to_open,
)
from taskrouter_exporter.server.security import WebSecurity
from taskrouter_exporter.server.web_config import load_web_config
from taskrouter_exporter.systemd import Notifier
from taskrouter_exporter.web.app import RESERVED_PATHS, Web

log = structlog.get_logger()

_CONFIG_FILE: Final = Path("config.yaml")
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

_LONGEST_OFFSET_SECONDS: Final = 3600
_LONGEST_TIMEOUT_SECONDS: Final = 3600


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Exit with the message on one line."""
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the exporter until a signal ends it.

    Returns:
        The exit status: 0 after a signal, 1 if the configuration or an address cannot be used.
    """
    flags = _parser().parse_args(arguments)
    set_up_logging(flags.log_level, flags.log_format)
    load = partial(load_config, flags.config_file or _CONFIG_FILE, os.environ)
    try:
        if flags.config_check:
            return _print(_check(flags))
        allow_many_connections()
        if flags.demo:
            from taskrouter_exporter.demo import start_demo  # noqa: PLC0415 -- see _SCENARIOS

            simulator, demo_config = start_demo(flags.demo_scenario)
            log.info("simulator started", address=simulator.base_url, scenario=flags.demo_scenario)
            asyncio.run(_serve(lambda: demo_config, flags))
        else:
            asyncio.run(_serve(load, flags))
    except (ConfigError, ListenError) as error:
        flush_logs()
        print(error, file=sys.stderr)  # noqa: T201 -- one line per error, as a compiler writes them
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="taskrouter-exporter",
        description="Prometheus exporter for Twilio TaskRouter.",
        epilog="Commands: backfill writes the past of the statistics (taskrouter-exporter backfill --help).",
        allow_abbrev=False,
        add_help=False,
    )
    add = parser.add_argument
    add("-h", "--help", action="help", help="Show this help message and exit.")
    add("--config.file", dest="config_file", type=Path, metavar="FILE",
        help=f"Path to the configuration file. (default: {_CONFIG_FILE})")  # fmt: skip
    add("--config.check", dest="config_check", action="store_true",
        help="Validate the configuration files, print what would be polled, and exit. With --web.config.file "
        f"alone, and without a {_CONFIG_FILE}, validate only that file.")  # fmt: skip
    add("--web.listen-address", dest="listen_addresses", type=_listen_address, action="append",
        metavar="ADDRESS", help="Address on which to expose metrics and web interface; repeatable. "
        "(default: :10142)")  # fmt: skip
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
    add("--web.max-scrape-timeout", dest="max_scrape_timeout", type=_timeout, default="2m",
        metavar="DURATION", help="Longest scrape timeout; a longer one in a request is shortened to it. "
        "(default: %(default)s)")  # fmt: skip
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
    add("--version", action="version", version=f"taskrouter-exporter {__version__} (revision {revision()})",
        help="Show the version and exit.")  # fmt: skip
    return parser


def _check(flags: argparse.Namespace) -> str:
    """Return the reports of the configuration files, with which the network settings must be valid.

    A web configuration can be checked where there is no configuration beside it, in CI for example. A
    configuration that is named, or that is there, is always checked.

    Raises:
        ConfigError: with the problems of all files.
    """
    config_file = flags.config_file or _CONFIG_FILE
    reports: list[str] = []
    problems: list[str] = []
    if flags.web_config_file:
        try:
            web_config = load_web_config(flags.web_config_file)
            reports.append(web_config_report(web_config, str(flags.web_config_file)))
        except ConfigError as error:
            problems += error.problems
    if flags.config_file or not flags.web_config_file or config_file.exists():
        try:
            config = load_config(config_file, os.environ)
            reports.append(config_report(config, str(config_file), table=sys.stdout.isatty()))
            problems += network_problems(
                (account.base_url for account in config.accounts.values()), os.environ
            )
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return "\n".join(reports)


async def _serve(load: Callable[[], Config], flags: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT; after a second signal, scrapes in flight are not waited for."""
    systemd = Notifier(os.environ)
    runtime = Runtime(load, ExporterMetrics(__version__, revision()), systemd)
    web = Web(
        runtime,
        flags.telemetry_path,
        flags.timeout_offset,
        flags.external_url,
        max_scrape_timeout=flags.max_scrape_timeout,
    )
    app = limit_concurrency(web.app, flags.max_requests)
    security = WebSecurity(flags.web_config_file) if flags.web_config_file else None
    tls = security.tls if security else None
    server = HttpServer(security.protect(app) if security else app, tls)

    def stop() -> None:
        systemd.stopping()
        server.force_exit = server.should_exit
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = loop.create_task(_reload(runtime))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    release_signals()
    addresses = flags.listen_addresses or [ListenAddress("", 10142)]
    sockets = [bound for address in addresses for bound in address.bind()]
    log.info(
        "listening",
        address=", ".join(describe(sockets)),
        url=flags.external_url or url_to_open(sockets[0], tls=tls is not None),
        version=__version__,
        queries=len(runtime.snapshot.queries),
    )
    runtime.start()
    systemd.ready()  # the sockets listen already
    await server.serve(sockets)
    await runtime.stop()
    log.info("stopped")
    systemd.close()


async def _reload(runtime: Runtime) -> None:
    with suppress(ConfigError):  # the runtime logs it and sets a metric
        await runtime.reload()


def _print(text: str) -> int:
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
    if text in RESERVED_PATHS or text.startswith("/-/"):
        raise argparse.ArgumentTypeError(f"{text!r} is reserved, as are {' '.join(RESERVED_PATHS)}")
    if not re.fullmatch("(/[!-~]+)+/?", text) or "//" in text or set(text) & set("{}?#%\\"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a path for the metrics (expected e.g. /metrics)")
    return text


def _count(text: str) -> int:
    if not re.fullmatch("[0-9]{1,6}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 999999")
    return int(text)


def _timeout(text: str) -> float:
    try:
        seconds = parse_duration(text).total_seconds()
    except ValueError:
        seconds = 0
    if not 0 < seconds <= _LONGEST_TIMEOUT_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration from 1ms to 1h (expected e.g. 30s, 2m)")
    return seconds


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
