"""The parts that one configuration puts to work: slots, clients, poller."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from taskrouter_exporter import __version__
from taskrouter_exporter.api import Client
from taskrouter_exporter.config import Config
from taskrouter_exporter.metrics import ExporterMetrics, TargetsCollector
from taskrouter_exporter.poller import Ledger, Poller
from taskrouter_exporter.queries import Query
from taskrouter_exporter.slots import Slots
from taskrouter_exporter.transport import RequestsTransport

_USER_AGENT = f"taskrouter-exporter/{__version__}"


@dataclass(frozen=True, slots=True)
class _Parts:
    config: Config
    poller: Poller


class Engine:
    """Polls what the configuration in force asks for."""

    def __init__(self, config: Config, metrics: ExporterMetrics) -> None:
        self.metrics = metrics
        self.ledger = Ledger()
        self._parts = self._assemble(config)

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._parts.config

    async def poll(self, queries: Sequence[Query], deadline: float) -> TargetsCollector:
        """Poll the queries until an instant on the monotonic clock and collect what came of them."""
        outcomes = await self._parts.poller.poll(queries, deadline)
        return TargetsCollector(outcomes, self.ledger.errors)

    def _assemble(self, config: Config) -> _Parts:
        slots = Slots(config.polling.concurrency, len(config.accounts))
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
        for name in clients:
            self.metrics.api.expect(name)
        self.ledger.forget_all_but(config.queries)
        self.metrics.config_loaded(time.time())
        return _Parts(config, Poller(clients, self.ledger, cache=config.polling.cache))
