"""The command line: flags, wiring, signals and exit statuses."""

import argparse
import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial

import structlog
from prometheus_client import disable_created_metrics

from taskrouter_exporter import __version__
from taskrouter_exporter.api.environment import network_problems
from taskrouter_exporter.auto_reload import reload_on_change
from taskrouter_exporter.command_line import CONFIG_FILE, write_output
from taskrouter_exporter.config.errors import ConfigError
from taskrouter_exporter.config.files import ConfigFiles
from taskrouter_exporter.config.model import Config
from taskrouter_exporter.config_check import config_report, web_config_report
from taskrouter_exporter.early_signals import release_signals
from taskrouter_exporter.flags import misspelled_variables, parse_flags
from taskrouter_exporter.logs import flush_logs, set_up_logging
from taskrouter_exporter.metrics import ExporterMetrics
from taskrouter_exporter.revision import revision
from taskrouter_exporter.runtime import Runtime
from taskrouter_exporter.server.http import HttpServer, limit_concurrency, serving
from taskrouter_exporter.server.listen import (
    ListenAddress,
    ListenError,
    allow_many_connections,
    describe,
    inherited_sockets,
    url_to_open,
)
from taskrouter_exporter.server.security import WebSecurity
from taskrouter_exporter.server.web_config import load_web_config
from taskrouter_exporter.systemd import Notifier
from taskrouter_exporter.web.app import Web
from taskrouter_exporter.web.health import health_app

log = structlog.get_logger()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the exporter until a signal ends it.

    Returns:
        The exit status: 0 after a signal, 1 if the configuration or an address cannot be used.
    """
    flags = parse_flags(sys.argv[1:] if arguments is None else arguments, os.environ)
    set_up_logging(flags.log_level, flags.log_format)
    for variable, meant in misspelled_variables(os.environ):
        log.warning("unknown environment variable ignored", variable=variable, similar=meant)
    files = ConfigFiles(flags.config_files or [CONFIG_FILE], os.environ)
    try:
        if flags.config_check:
            return write_output(_check(flags, files))
        allow_many_connections()
        if flags.demo:
            from taskrouter_exporter.demo import start_demo  # noqa: PLC0415 -- see flags.py

            simulator, demo_config = start_demo(flags.demo_scenario)
            log.info("simulator started", address=simulator.base_url, scenario=flags.demo_scenario)
            asyncio.run(_serve(lambda: demo_config, None, flags))
        else:
            asyncio.run(_serve(files.load, files.changed if flags.auto_reload else None, flags))
    except (ConfigError, ListenError) as error:
        flush_logs()
        print(error, file=sys.stderr)  # noqa: T201 -- one line per error, as a compiler writes them
        return 1
    return 0


def _check(flags: argparse.Namespace, files: ConfigFiles) -> str:
    """Return the reports of the configuration files, with which the network settings must be valid.

    A web configuration can be checked where there is no configuration beside it, in CI for example. A
    configuration that is named, or that is there, is always checked.

    Raises:
        ConfigError: with the problems of all files.
    """
    reports: list[str] = []
    problems: list[str] = []
    if flags.web_config_file:
        try:
            web_config = load_web_config(flags.web_config_file)
            reports.append(web_config_report(web_config, str(flags.web_config_file)))
        except ConfigError as error:
            problems += error.problems
    if flags.config_files or not flags.web_config_file or CONFIG_FILE.exists():
        try:
            config = files.load()
            reports.append(config_report(config, files.names(), table=sys.stdout.isatty()))
            problems += network_problems(
                (account.base_url for account in config.accounts.values()), os.environ
            )
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return "\n".join(reports)


async def _serve(
    load: Callable[[], Config], changed: Callable[[], bool] | None, flags: argparse.Namespace
) -> None:
    """Serve until SIGTERM or SIGINT; after a second signal, scrapes in flight are not waited for.

    Args:
        load: Reads the configuration; raises ConfigError.
        changed: Returns whether it differs from the one last loaded, None without `--config.auto-reload`.
        flags: The flags.
    """
    systemd = Notifier(os.environ)
    if flags.disable_created:
        disable_created_metrics()  # type: ignore[no-untyped-call] # the library's function has no types
    runtime = Runtime(
        load,
        ExporterMetrics(__version__, revision()),
        systemd,
        trends=not flags.disable_trends,
        created=not flags.disable_created,
    )
    web = Web(
        runtime,
        flags.telemetry_path,
        flags.timeout_offset,
        flags.external_url,
        max_scrape_timeout=flags.max_scrape_timeout,
        demo_scenario=flags.demo_scenario if flags.demo else "",
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
    sockets = _sockets(flags)
    health_sockets = flags.health_address.bind() if flags.health_address else []
    log.info(
        "listening",
        address=", ".join(describe(sockets)),
        url=flags.external_url or url_to_open(sockets[0], tls=tls is not None),
        version=__version__,
        queries=len(runtime.snapshot.queries),
    )
    runtime.start()
    async with AsyncExitStack() as stack:
        if health_sockets:
            await stack.enter_async_context(serving(HttpServer(health_app(runtime)), health_sockets))
            log.info("listening for health checks", address=", ".join(describe(health_sockets)))
        if changed is not None:
            watch = loop.create_task(reload_on_change(changed, partial(_reload, runtime)))
            stack.callback(watch.cancel)
        systemd.ready()  # the sockets listen already
        await server.serve(sockets)
        await runtime.stop()
    log.info("stopped")
    systemd.close()


def _sockets(flags: argparse.Namespace) -> list[socket.socket]:
    """Return the sockets to serve on, which listen already.

    Raises:
        ListenError: with the address, or the reason for which there are none from systemd.
    """
    if flags.systemd_socket:
        return inherited_sockets(os.environ)
    addresses = flags.listen_addresses or [ListenAddress("", 10142)]
    return [bound for address in addresses for bound in address.bind()]


async def _reload(runtime: Runtime) -> None:
    with suppress(ConfigError):  # the runtime logs it and sets a metric
        await runtime.reload()
