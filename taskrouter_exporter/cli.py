"""The command line: flags, the parts put together, signals and exit statuses."""

import argparse
import asyncio
import io
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import structlog

from taskrouter_exporter import __version__
from taskrouter_exporter.config.loader import Config, ConfigError, load_config
from taskrouter_exporter.demo import start_demo
from taskrouter_exporter.logs import FORMATS, LEVELS, set_up_logging
from taskrouter_exporter.metrics import ExporterMetrics
from taskrouter_exporter.queries import Query
from taskrouter_exporter.revision import revision
from taskrouter_exporter.runtime import Runtime
from taskrouter_exporter.server.http import HttpServer, limit_concurrency
from taskrouter_exporter.server.listen import ListenAddress, ListenError, allow_many_connections, describe
from taskrouter_exporter.server.security import WebSecurity
from taskrouter_exporter.server.web_config import load_web_config
from taskrouter_exporter.simulator import Scenario
from taskrouter_exporter.web.app import Web

log = structlog.get_logger()

_SECONDS_PER_HOUR = 3600
_USUAL_SCRAPE_INTERVAL = 60


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line."""
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the exporter until a signal ends it.

    Returns:
        The exit status: 0 after a signal, 1 where the configuration or an address cannot be used.
    """
    flags = _parser().parse_args(arguments)
    set_up_logging(flags.log_level, flags.log_format)
    try:
        if flags.config_check:
            if flags.web_config_file:
                load_web_config(flags.web_config_file)
            return _say(_describe_config(load_config(flags.config_file, os.environ), str(flags.config_file)))
        allow_many_connections()
        if flags.demo:
            simulator, demo_config = start_demo(flags.demo_scenario)
            log.info("demo: simulated TaskRouter", address=simulator.base_url, scenario=flags.demo_scenario)
            asyncio.run(_serve(lambda: demo_config, flags))
        else:
            asyncio.run(_serve(partial(load_config, flags.config_file, os.environ), flags))
    except (ConfigError, ListenError) as error:
        print(error, file=sys.stderr)  # noqa: T201 -- one line per error, as a compiler writes them
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="taskrouter-exporter",
        description="Prometheus exporter for Twilio TaskRouter.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--config.file", dest="config_file", type=Path, default=Path("config.yaml"), metavar="FILE",
        help="configuration file (default: %(default)s)")  # fmt: skip
    add("--config.check", dest="config_check", action="store_true",
        help="check the configuration, say what it would poll, and end")  # fmt: skip
    add("--web.listen-address", dest="listen_addresses", type=_listen_address, action="append",
        metavar="ADDRESS", help="address to listen on, repeatable (default: :10142)")  # fmt: skip
    add("--web.telemetry-path", dest="telemetry_path", type=_path, default="/metrics", metavar="PATH",
        help="path of the metrics (default: %(default)s)")  # fmt: skip
    add("--web.external-url", dest="external_url", type=_url, metavar="URL",
        help="how Prometheus reaches the exporter, for /sd (default: the request's Host)")  # fmt: skip
    add("--web.config.file", dest="web_config_file", type=Path, metavar="FILE",
        help="TLS, passwords, headers: a file in the exporter-toolkit's format (default: none)")  # fmt: skip
    add("--web.max-requests", dest="max_requests", type=_count, default=40, metavar="COUNT",
        help="requests answered at once, 0 for any number (default: %(default)s)")  # fmt: skip
    add("--timeout-offset", dest="timeout_offset", type=_seconds, default=0.5, metavar="SECONDS",
        help="how long before Prometheus's time-out an answer leaves (default: %(default)s)")  # fmt: skip
    add(
        "--log.level",
        dest="log_level",
        choices=LEVELS,
        default="info",
        help="least severity that is logged (default: %(default)s)",
    )
    add(
        "--log.format",
        dest="log_format",
        choices=FORMATS,
        default="logfmt",
        help="form of the log lines (default: %(default)s)",
    )
    add(
        "--demo", action="store_true", help="export from an embedded TaskRouter simulator, without an account"
    )
    add("--demo.scenario", dest="demo_scenario", type=Scenario, choices=list(Scenario), default=Scenario.CALM,
        metavar="|".join(Scenario), help="what happens in the demo (default: %(default)s)")  # fmt: skip
    add("--version", action="version", version=f"taskrouter-exporter {__version__} (revision {revision()})")
    return parser


async def _serve(load: Callable[[], Config], flags: argparse.Namespace) -> None:
    """Listen and answer until SIGTERM or SIGINT; a second signal does not wait for scrapes in flight."""
    runtime = Runtime(load, ExporterMetrics(__version__, revision()))
    web = Web(runtime, flags.telemetry_path, flags.timeout_offset, flags.external_url)
    app = limit_concurrency(web.app, flags.max_requests)
    security = WebSecurity(flags.web_config_file) if flags.web_config_file else None
    server = HttpServer(security.protect(app), security.tls) if security else HttpServer(app)

    def stop() -> None:
        server.force_exit = server.should_exit
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop)
    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = loop.create_task(_reload(runtime))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    sockets = [address.bind() for address in flags.listen_addresses or [ListenAddress("", 10142)]]
    log.info(
        "listening",
        address=", ".join(describe(sockets)),
        version=__version__,
        queries=len(runtime.snapshot.queries),
    )
    runtime.start()
    await server.serve(sockets)
    await runtime.stop()
    log.info("stopped")


async def _reload(runtime: Runtime) -> None:
    with suppress(ConfigError):  # told in the log and by a metric
        await runtime.reload()


def _say(text: str) -> int:
    """Write to standard output; the exit status is 1 where nobody takes it, a full disk or a closed pipe."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        print(text, flush=True)  # noqa: T201 -- the command's output
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is buffered goes nowhere
        return 1
    return 0


def _describe_config(config: Config, source: str) -> str:
    per_scrape = len(config.queries)
    per_hour = per_scrape * _SECONDS_PER_HOUR // _USUAL_SCRAPE_INTERVAL
    more = ", and those for what is found" if config.discovering_accounts else ""
    cost = (
        f"{per_scrape} API requests per scrape, {per_hour} per hour at a scrape interval of "
        f"{_USUAL_SCRAPE_INTERVAL} s (retries not counted){more}"
    )
    return "\n".join(
        [f"{source}: valid", *map(_describe_query, config.queries), *_describe_discovery(config), cost]
    )


def _describe_query(query: Query) -> str:
    target = query.target
    return (
        f"workspace={target.workspace} channel={target.channel} window={query.period.label} "
        f"account={target.account} workspace_sid={target.workspace_sid}"
    )


def _describe_discovery(config: Config) -> Iterator[str]:
    for each in config.workspaces:
        if each.selection.discover_channels:
            yield (
                f"workspace={each.name} channel=auto account={each.account} workspace_sid={each.sid}: "
                "its TaskChannels are found at run time"
            )
    for auto in config.workspace_discoveries:
        channels = ", and their TaskChannels" if auto.selection.discover_channels else ""
        yield f"workspace=auto account={auto.account}: its workspaces{channels} are found at run time"


def _listen_address(text: str) -> ListenAddress:
    try:
        return ListenAddress.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _url(text: str) -> str:
    parts = urlsplit(text)
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or parts.query
        or parts.fragment
        or "@" in text
    ):
        raise argparse.ArgumentTypeError(f"{text!r} is not a URL (write https://exporter.example:10142)")
    return text


def _path(text: str) -> str:
    if not text.startswith("/") or text.startswith("/-/") or set(text) & set("{}?# ") or text == "/":
        raise argparse.ArgumentTypeError(f"{text!r} is not a path for the metrics (write /metrics)")
    return text


def _count(text: str) -> int:
    if not re.fullmatch("[0-9]{1,6}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 999999")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds <= _SECONDS_PER_HOUR:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to {_SECONDS_PER_HOUR}")
    return seconds
