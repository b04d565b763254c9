"""What one configuration runs, and its replacement on reload."""

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import structlog

from taskrouter_exporter import __version__
from taskrouter_exporter.api.client import Client
from taskrouter_exporter.api.environment import network_problems
from taskrouter_exporter.api.executor import FairExecutor
from taskrouter_exporter.api.transport import RequestsTransport
from taskrouter_exporter.config.errors import ConfigError
from taskrouter_exporter.config.model import Config
from taskrouter_exporter.discovered import Discovered
from taskrouter_exporter.discovery import Discovery
from taskrouter_exporter.expansion import expand, static_queries
from taskrouter_exporter.failures import Failures
from taskrouter_exporter.metrics import ExporterMetrics
from taskrouter_exporter.poll_history import PollHistory, PollResult
from taskrouter_exporter.poller import Poller
from taskrouter_exporter.queries import Query, Target
from taskrouter_exporter.sids import sid_key
from taskrouter_exporter.standings import Standings
from taskrouter_exporter.systemd import Notifier
from taskrouter_exporter.trends import Trends

log = structlog.get_logger()

_USER_AGENT = f"taskrouter-exporter/{__version__}"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The queries and clients of one configuration. A scrape keeps the snapshot that it started with."""

    config: Config
    queries: tuple[Query, ...]
    poller: Poller
    clients: Mapping[str, Client]
    _by_target: Mapping[tuple[str, str], Sequence[Query]] = field(init=False, repr=False, compare=False)

    async def poll(self, queries: Sequence[Query], deadline: float) -> list[PollResult]:
        """Poll the queries until an instant on the monotonic clock."""
        return await self.poller.poll(queries, deadline)

    def __post_init__(self) -> None:
        by_name: dict[tuple[str, str], list[Query]] = {}
        by_sid: dict[tuple[str, str], list[Query]] = {}
        for query in self.queries:
            target = query.target
            channel = sid_key(target.channel)
            by_name.setdefault((sid_key(target.workspace), channel), []).append(query)
            by_sid.setdefault((sid_key(target.workspace_sid), channel), []).append(query)
        # A name that is another workspace's SID stays the name of its own workspace.
        object.__setattr__(self, "_by_target", by_sid | by_name)

    def find(self, workspace: str, channel: str) -> Sequence[Query]:
        """Return the queries of one configured target; the workspace is its name, or its SID in any case."""
        return self._by_target.get((sid_key(workspace), sid_key(channel)), ())

    @property
    def targets(self) -> tuple[Target, ...]:
        """The targets that are polled, each once."""
        return tuple(dict.fromkeys(query.target for query in self.queries))


@dataclass(frozen=True, slots=True)
class FailedReload:
    """A reload that was rejected.

    Attributes:
        at: When, in Unix seconds.
        problems: One line each, without secrets.
    """

    at: float
    problems: Sequence[str]


class Runtime:
    """Runs the current configuration, and replaces it on reload.

    Args:
        load: Reads the configuration; raises ConfigError.
        metrics: Of the exporter itself.
        systemd: Receives a notification of each reload, whoever requests it.
        trends: Whether to keep shares of the last hour.

    Attributes:
        history: What is known of each query.
        failures: The newest failed polls of each target.
        trends: The shares of the last hour, None without them.
        failed_reload: The last reload, if it was rejected.

    Raises:
        ConfigError: the first configuration cannot be used.
    """

    def __init__(
        self, load: Callable[[], Config], metrics: ExporterMetrics, systemd: Notifier, *, trends: bool = True
    ) -> None:
        self.metrics = metrics
        self._systemd = systemd
        self.failures = Failures()
        self.trends = Trends() if trends else None
        self.history = PollHistory(filter(None, (self.failures, self.trends)))
        self.failed_reload: FailedReload | None = None
        self._load = load
        self._reloading = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()
        config = load()
        self._executor = FairExecutor(config.polling.concurrency, len(config.accounts))
        self._standings = Standings()
        self.snapshot = self._assemble(config)
        self._cut = False
        self._ready = False
        self.discovery = self._discovery({})
        self.metrics.config_loaded(time.time())

    def start(self) -> None:
        """Start the discovery."""
        self.discovery.start()

    async def stop(self) -> None:
        """Stop the discovery, let the threads end, and close the connections."""
        self.discovery.cancel()
        await self.discovery.ended()
        self._executor.close()
        for client in self.snapshot.clients.values():
            client.close()

    @property
    def ready(self) -> bool:
        """Whether the first refresh of the discovery has ended, successful or not.

        Once ready, it stays ready: a reload would otherwise take a working replica out of its Service.
        """
        self._ready = self._ready or self.discovery.attempted
        return self._ready

    async def reload(self) -> None:
        """Load the configuration and run it, or keep the current one.

        Polls in flight end with the clients that they started with.

        Raises:
            ConfigError: the configuration cannot be used; the current one is kept.
        """
        async with self._reloading:
            self._systemd.reloading()
            try:
                self._exchange(*await self._loaded())
            finally:
                self._systemd.ready()

    async def _loaded(self) -> tuple[Config, Snapshot]:
        try:
            config = await asyncio.to_thread(self._load)
            return config, self._assemble(config)
        except ConfigError as error:
            self.metrics.config_rejected()
            self.failed_reload = FailedReload(time.time(), tuple(error.problems))
            for problem in error.problems:
                log.error("invalid configuration; keeping the previous one", problem=problem)  # noqa: TRY400 -- the problem says it all
            raise

    def _exchange(self, config: Config, snapshot: Snapshot) -> None:
        previous, self.snapshot = self.snapshot, snapshot
        self._executor.resize(config.polling.concurrency, len(config.accounts))
        discovery = self._exchange_discovery(previous.config)
        self.metrics.config_loaded(time.time())
        self.failed_reload = None
        log.info("configuration reloaded", queries=len(self.snapshot.queries))
        retiring = asyncio.create_task(self._retire(previous, discovery))
        self._retiring.add(retiring)
        retiring.add_done_callback(self._retiring.discard)

    def _exchange_discovery(self, before: Config) -> Discovery:
        """Start the discovery of the current configuration, and return the previous one."""
        self._ready = self.ready
        previous = self.discovery
        previous.cancel()
        accounts = self.snapshot.config.accounts
        known = {
            name: discovered
            for name, discovered in previous.discovered.items()
            if name in accounts and accounts[name].base_url == before.accounts[name].base_url
        }
        self.discovery = self._discovery(known)
        self._update_queries()
        for account in previous.discovered.keys() - self.discovery.discovered.keys():
            self.metrics.forget_discovery(account)
        self.discovery.start()
        return previous

    def _discovery(self, before: Mapping[str, Discovered]) -> Discovery:
        return Discovery(
            self.snapshot.config,
            self.snapshot.clients,
            observer=self.metrics,
            changed=self._update_discovered,
            before=before,
        )

    def _update_discovered(self) -> None:
        before = self.snapshot.queries
        self._update_queries()
        if self.snapshot.queries != before:
            self.snapshot.poller.resume()
            queries = len(self.snapshot.queries)
            log.info("discovered queries changed", queries=queries, previously=len(before))

    def _update_queries(self) -> None:
        """Give scrapes from now on the queries that follow from the configuration and the discovery."""
        queries, cut = expand(self.snapshot.config, self.discovery.discovered)
        if cut and not self._cut:
            log.warning("too many queries discovered; the rest is not polled", queries=len(queries))
        self._cut = cut
        self.snapshot = replace(self.snapshot, queries=queries)
        self.snapshot.poller.forget_all_but(queries)
        self._standings.forget_all_but(queries)
        self.history.forget_all_but(queries)

    def _assemble(self, config: Config) -> Snapshot:
        if problems := network_problems(
            (account.base_url for account in config.accounts.values()), os.environ
        ):
            raise ConfigError(problems)
        try:
            clients = {
                name: Client(
                    account,
                    config.polling,
                    RequestsTransport(account.base_url, config.polling.concurrency, os.environ, _USER_AGENT),
                    self._executor,
                    self.metrics.api,
                )
                for name, account in config.accounts.items()
            }
        except (OSError, ValueError) as error:  # a password file that went away since it was checked
            raise ConfigError([str(error)]) from error
        for name in clients:
            self.metrics.api.expect(name)
        poller = Poller(clients, self.history, cache=config.polling.cache, standings=self._standings)
        return Snapshot(config, static_queries(config), poller, clients)

    async def _retire(self, snapshot: Snapshot, discovery: Discovery) -> None:
        """Close the clients of a snapshot once its last poll and its discovery have ended."""
        await discovery.ended()
        await snapshot.poller.drained()
        for client in snapshot.clients.values():
            client.close()
        for account in snapshot.clients.keys() - self.snapshot.clients.keys():
            self.metrics.api.forget(account)
