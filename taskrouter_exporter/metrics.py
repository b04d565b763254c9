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

from taskrouter_exporter.lines import PREFIX, WrittenFamily, number
from taskrouter_exporter.poll_history import PollHistory, PollResult, newest_rate_limits
from taskrouter_exporter.statistics import KINDS
from taskrouter_exporter.statistics.kind import Kind, Role

_RATE_LIMIT_LABELS: Final = ("workspace", "resource")
_ROLES: Final[tuple[Role, ...]] = ("window", "anchored", "current")


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
        self._published: dict[tuple[Kind, Role], list[tuple[bytes, ...]]] = {}
        for result in results:
            query = result.query
            published = self._published.setdefault((query.kind, query.period.role), [])
            if result.statistics is not None:
                published.append(result.lines)

    def collect(self) -> Iterator[Metric | WrittenFamily]:
        """Yield one family after the other, so that no more than one is held in memory."""
        yield from self._health()
        for kind in KINDS:
            for role in _ROLES:
                if (kind, role) in self._published:
                    yield from statistics_families(kind, role, self._published[kind, role])
        yield from self._workspaces()

    def _health(self) -> Iterator[WrittenFamily]:
        up = _gauge("up", "Whether the last poll of the query succeeded.", ())
        duration = _gauge(
            "poll_duration_seconds",
            "Duration of the poll, including retries and the wait for a free connection.",
            (),
            unit="seconds",
        )
        errors = _counter(
            "poll_errors", "Total number of failed polls by the reason of the last attempt.", ()
        )
        ignored = _counter(
            "ignored_attributes", "Attributes of answers that could not be read and have no series.", ()
        )
        held = _gauge(
            "counters_held",
            "Number of counters published at an earlier, higher value than that of the last answer. "
            "No series while up is 0.",
            (),
        )
        deadline = _gauge(
            "scrape_deadline_seconds",
            "Time after which this scrape gave up on a poll.",
            (),
            unit="seconds",
        )
        queries = [(result.query.label_text, result) for result in self._results]
        anchored = [each for each in queries if each[1].anchor is not None]
        history = self._history
        yield _written(up, ((labels, result.up) for labels, result in queries))
        yield _written(duration, ((labels, result.duration) for labels, result in queries))
        yield _written(deadline, [("", self._deadline)])
        yield _written(
            errors,
            (
                (f'{labels},reason="{reason}"', count)
                for labels, result in queries
                for reason, count in history.errors(result.query).items()
            ),
        )
        yield _written(ignored, ((labels, history.ignored(result.query)) for labels, result in queries))
        if anchored:
            yield _written(
                held,
                (
                    (labels, result.statistics.held)
                    for labels, result in anchored
                    if result.statistics is not None
                ),
            )

    def _workspaces(self) -> Iterator[Metric]:
        info = InfoMetricFamily(f"{PREFIX}workspace", "Information about a configured workspace.")
        for workspace, sid, account in dict.fromkeys(
            (target.workspace, target.workspace_sid, target.account)
            for target in (result.query.target for result in self._results)
        ):
            info.add_metric((), {"workspace": workspace, "workspace_sid": sid, "account": account})
        yield info
        limit = _gauge(
            "api_rate_limit",
            "Number of requests that the API allows, averaged over 10 s.",
            _RATE_LIMIT_LABELS,
        )
        remaining = _gauge(
            "api_rate_limit_remaining",
            "Number of requests remaining in the API's rate limit.",
            _RATE_LIMIT_LABELS,
        )
        for labels, rate_limit in newest_rate_limits(self._results).items():
            if rate_limit.limit is not None:
                limit.add_metric(labels, rate_limit.limit)
            if rate_limit.remaining is not None:
                remaining.add_metric(labels, rate_limit.remaining)
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


def statistics_families(
    kind: Kind, role: Role, published: Sequence[tuple[bytes, ...]]
) -> Iterator[WrittenFamily]:
    """Yield the families of one kind and role.

    Args:
        kind: The kind of statistics.
        role: What they are about.
        published: The lines of each query, family by family.
    """
    for place, family in enumerate(kind.families[role]):
        make = _gauge if family.type == "gauge" else _counter
        head = make(kind.prefix + family.name, family.text, (), unit=family.unit)
        yield WrittenFamily(head, [lines[place] for lines in published])


def _written(head: Metric, samples: Iterable[tuple[str, float]]) -> WrittenFamily:
    """Return a family with one line for each sample: the text of its labels, and its value."""
    name = head.name + ("_total" if head.type == "counter" else "")
    lines = (
        f"{name}{{{labels}}} {number(value)}\n" if labels else f"{name} {number(value)}\n"
        for labels, value in samples
    )
    return WrittenFamily(head, (line.encode() for line in lines))


def _gauge(name: str, text: str, labels: Iterable[str], *, unit: str = "") -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, text, labels=tuple(labels), unit=unit)


def _counter(name: str, text: str, labels: Iterable[str], *, unit: str = "") -> CounterMetricFamily:
    return CounterMetricFamily(PREFIX + name, text, labels=tuple(labels), unit=unit)
