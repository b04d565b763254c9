"""The parts that one configuration puts to work, and their exchange for those of the next."""

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from taskrouter_exporter import __version__
from taskrouter_exporter.api import Client
from taskrouter_exporter.config import Config, ConfigError
from taskrouter_exporter.metrics import ExporterMetrics
from taskrouter_exporter.poller import Ledger, Outcome, Poller
from taskrouter_exporter.queries import Query, Target
from taskrouter_exporter.slots import Slots
from taskrouter_exporter.transport import RequestsTransport

log = structlog.get_logger()

_USER_AGENT = f"taskrouter-exporter/{__version__}"


@dataclass(frozen=True, slots=True)
class Setup:
    """What one configuration polls, and with what. A scrape keeps the one that it began with."""

    config: Config
    queries: tuple[Query, ...]
    poller: Poller
    clients: Mapping[str, Client]
    slots: Slots

    async def poll(self, queries: Sequence[Query], deadline: float) -> list[Outcome]:
        """Poll the queries until an instant on the monotonic clock."""
        return await self.poller.poll(queries, deadline)

    def find(self, workspace: str, channel: str) -> tuple[Query, ...]:
        """The queries of one configured target; the workspace is its name or SID."""
        return tuple(
            query
            for query in self.queries
            if workspace in (query.target.workspace, query.target.workspace_sid)
            and channel == query.target.channel
        )

    @property
    def targets(self) -> tuple[Target, ...]:
        """What is polled, each workspace and channel once."""
        return tuple(dict.fromkeys(query.target for query in self.queries))


class Engine:
    """Keeps the setup of the configuration in force.

    Args:
        load: Reads the configuration; raises ConfigError.
        metrics: The exporter's own.

    Raises:
        ConfigError: the first configuration cannot be used.
    """

    def __init__(self, load: Callable[[], Config], metrics: ExporterMetrics) -> None:
        self.metrics = metrics
        self.ledger = Ledger()
        self._load = load
        self._reloading = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()
        self.setup = self._assemble(load())
        self.metrics.config_loaded(time.time())

    async def reload(self) -> None:
        """Put the configuration as it is now in force, or keep the one that is.

        Polls in flight end with what they began with.

        Raises:
            ConfigError: the configuration cannot be used; the last good one stays.
        """
        async with self._reloading:
            try:
                config = await asyncio.to_thread(self._load)
                setup = self._assemble(config)
            except ConfigError as error:
                self.metrics.config_rejected()
                for problem in error.problems:
                    log.error("configuration not reloaded, the last good one stays", problem=problem)  # noqa: TRY400 -- the problem says it all
                raise
            previous, self.setup = self.setup, setup
            self.ledger.forget_all_but(setup.queries)
            for account in previous.clients.keys() - setup.clients.keys():
                self.metrics.api.forget(account)
            self.metrics.config_loaded(time.time())
            log.info("configuration reloaded", queries=len(setup.queries))
            retiring = asyncio.create_task(_retire(previous))
            self._retiring.add(retiring)
            retiring.add_done_callback(self._retiring.discard)

    def _assemble(self, config: Config) -> Setup:
        slots = Slots(config.polling.concurrency, len(config.accounts))
        try:
            clients = {
                name: Client(
                    account,
                    config.polling,
                    RequestsTransport(account.base_url, config.polling.concurrency, os.environ, _USER_AGENT),
                    slots,
                    self.metrics.api,
                )
                for name, account in config.accounts.items()
            }
        except (OSError, ValueError) as error:  # a password file that went away since it was checked
            raise ConfigError([str(error)]) from error
        for name in clients:
            self.metrics.api.expect(name)
        poller = Poller(clients, self.ledger, cache=config.polling.cache)
        return Setup(config, config.queries, poller, clients, slots)


async def _retire(setup: Setup) -> None:
    """Close what a setup holds, once its last poll has ended."""
    await setup.poller.drained()
    setup.slots.close()
    for client in setup.clients.values():
        client.close()
