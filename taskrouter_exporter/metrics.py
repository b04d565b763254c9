"""Poll results and the exporter's own numbers as metric families."""

import platform
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    Metric,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

from taskrouter_exporter.poll_history import PollHistory, PollResult, newest_rate_limits
from taskrouter_exporter.statistics.workers import ANCHORED_FAMILIES, WINDOW_FAMILIES

PREFIX: Final = "twilio_taskrouter_"

_TARGET: Final = ("workspace", "channel")
_QUERY: Final = (*_TARGET, "window")


class TargetsCollector:
    """The families of one scrape, built from its poll results and nothing older.

    Args:
        results: Of the scrape's polls.
        history: What is known of each query beyond the scrape.
        deadline: Seconds after which a poll was given up.
    """

    def __init__(self, results: Sequence[PollResult], history: PollHistory, deadline: float) -> None:
        self._results = results
        self._history = history
        self._deadline = deadline
        up = [(result, result.statistics) for result in results]
        self._windows = [
            (_query_labels(result), statistics)
            for result, statistics in up
            if statistics is not None and result.anchor is None
        ]
        self._counters = [
            (_query_labels(result)[:2], statistics, result.anchor.timestamp())
            for result, statistics in up
            if statistics is not None and result.anchor is not None
        ]

    def collect(self) -> Iterator[Metric]:
        """Yield one family after the other, so that no more than one is held in memory."""
        yield from self._health()
        yield from self._statistics()
        yield from self._workspaces()

    def _health(self) -> Iterator[Metric]:
        up = _gauge("up", "Whether the last poll of the query succeeded.", _QUERY)
        duration = _gauge(
            "poll_duration_seconds",
            "Duration of the poll, including retries and the wait for a free connection.",
            _QUERY,
            unit="seconds",
        )
        errors = _counter(
            "poll_errors", "Total number of failed polls by the reason of the last attempt.", _QUERY, "reason"
        )
        ignored = _counter(
            "ignored_attributes", "Attributes of answers that could not be read and have no series.", _QUERY
        )
        for result in self._results:
            labels = _query_labels(result)
            ignored.add_metric(labels, self._history.ignored(result.query))
            up.add_metric(labels, result.up)
            duration.add_metric(labels, result.duration)
            for reason, count in self._history.errors(result.query).items():
                errors.add_metric((*labels, reason), count)
        deadline = _gauge(
            "scrape_deadline_seconds",
            "Time after which this scrape gave up on a poll.",
            (),
            unit="seconds",
        )
        deadline.add_metric((), self._deadline)
        yield from (up, duration, deadline, errors, ignored)

    def _statistics(self) -> Iterator[Metric]:
        """Yield the families of the statistics, a window's first."""
        for definition in WINDOW_FAMILIES:
            family = _gauge(
                definition.name, definition.text, _QUERY, *definition.labels, unit=definition.unit
            )
            for labels, statistics in self._windows:
                for values, value in definition.samples(statistics):
                    family.add_metric((*labels, *values), value)
            yield family
        if not self._counters:
            return
        for definition in ANCHORED_FAMILIES:
            counter = _counter(
                definition.name, definition.text, _TARGET, *definition.labels, unit=definition.unit
            )
            for target, statistics, anchor in self._counters:
                for values, value in definition.samples(statistics):
                    counter.add_metric((*target, *values), value, created=anchor)
            yield counter
        held = _gauge(
            "counters_held",
            "Number of counters published at an earlier, higher value than that of the last answer. "
            "No series while up is 0.",
            _TARGET,
        )
        for target, statistics, _ in self._counters:
            held.add_metric(target, statistics.held)
        yield held

    def _workspaces(self) -> Iterator[Metric]:
        info = InfoMetricFamily(f"{PREFIX}workspace", "Information about a configured workspace.")
        for workspace, sid, account in dict.fromkeys(
            (target.workspace, target.workspace_sid, target.account)
            for target in (result.query.target for result in self._results)
        ):
            info.add_metric((), {"workspace": workspace, "workspace_sid": sid, "account": account})
        yield info
        limit = _gauge(
            "api_rate_limit", "Number of requests that the API allows, averaged over 10 s.", ("workspace",)
        )
        remaining = _gauge(
            "api_rate_limit_remaining",
            "Number of requests remaining in the API's rate limit.",
            ("workspace",),
        )
        for workspace, rate_limit in newest_rate_limits(self._results).items():
            if rate_limit.limit is not None:
                limit.add_metric((workspace,), rate_limit.limit)
            if rate_limit.remaining is not None:
                remaining.add_metric((workspace,), rate_limit.remaining)
        yield from (limit, remaining)


class ApiMetrics:
    """Counts API requests over all scrapes; an api.client.RequestObserver."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._lock = threading.Lock()
        self._accounts: set[str] = set()
        self._requests = Counter(
            f"{PREFIX}api_requests",
            "Total number of API requests by HTTP status code (none if there was no response).",
            ("account", "code"),
            registry=registry,
        )
        self._retries = Counter(
            f"{PREFIX}api_retries",
            "Total number of API requests that retried a failed one.",
            ("account",),
            registry=registry,
        )
        self._duration = Histogram(
            f"{PREFIX}api_request_duration_seconds",
            "Duration of API requests, including failed ones.",
            ("account",),
            buckets=(0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 3, 5, 10),
            registry=registry,
        )

    def expect(self, account: str) -> None:
        """Let an account's series begin at 0."""
        with self._lock:
            self._accounts.add(account)
            self._retries.labels(account)
            self._duration.labels(account)

    def forget(self, account: str) -> None:
        """Drop the series of an account that is no longer configured; requests in flight add none."""
        with self._lock:
            self._accounts.discard(account)
            for family in (self._requests, self._retries, self._duration):
                family.remove_by_labels({"account": account})

    def requested(self, account: str, status: int | None, duration: float) -> None:
        """See api.client.RequestObserver."""
        with self._lock:
            if account in self._accounts:
                self._requests.labels(account, "none" if status is None else str(status)).inc()
                self._duration.labels(account).observe(duration)

    def retried(self, account: str) -> None:
        """See api.client.RequestObserver."""
        with self._lock:
            if account in self._accounts:
                self._retries.labels(account).inc()


class ExporterMetrics:
    """The exporter's own metrics, which need no API request."""

    def __init__(self, version: str, revision: str) -> None:
        self.registry = CollectorRegistry()
        self.api = ApiMetrics(self.registry)
        Info(
            f"{PREFIX}exporter_build",
            "Version, revision and Python version of the exporter.",
            registry=self.registry,
        ).info({"version": version, "revision": revision, "python_version": platform.python_version()})
        self._reload_successful = Gauge(
            f"{PREFIX}exporter_config_last_reload_successful",
            "Whether the last configuration reload attempt was successful.",
            registry=self.registry,
        )
        self._reload_time = Gauge(
            f"{PREFIX}exporter_config_last_reload_success_timestamp_seconds",
            "Timestamp of the last successful configuration reload.",
            registry=self.registry,
        )
        self._discovery_up = Gauge(
            f"{PREFIX}discovery_up",
            "Whether the last refresh of the discovered workspaces and TaskChannels succeeded.",
            ("account",),
            registry=self.registry,
        )
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def config_loaded(self, at: float) -> None:
        """Take note that the configuration was loaded, at Unix seconds `at`."""
        self._reload_successful.set(1)
        self._reload_time.set(at)

    def config_rejected(self) -> None:
        """Take note that a new configuration could not be used."""
        self._reload_successful.set(0)

    def discovered(self, account: str, *, up: bool) -> None:
        """See discovery.DiscoveryObserver."""
        self._discovery_up.labels(account).set(up)

    def forget_discovery(self, account: str) -> None:
        """Drop the series of an account that has nothing to discover any more."""
        self._discovery_up.remove_by_labels({"account": account})


def _query_labels(result: PollResult) -> tuple[str, str, str]:
    target = result.query.target
    return target.workspace, target.channel, result.query.period.label


def _gauge(name: str, text: str, labels: Iterable[str], *more: str, unit: str = "") -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, text, labels=(*labels, *more), unit=unit)


def _counter(name: str, text: str, labels: Iterable[str], *more: str, unit: str = "") -> CounterMetricFamily:
    return CounterMetricFamily(PREFIX + name, text, labels=(*labels, *more), unit=unit)
