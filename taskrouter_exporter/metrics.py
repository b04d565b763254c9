"""Outcomes → metric families: the only room that knows metric names."""

import platform
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

PREFIX: Final = "twilio_taskrouter_"

_TARGET: Final = ("workspace", "channel")
_QUERY: Final = (*_TARGET, "window")
_ACTIVITY: Final = ("activity", "activity_sid")
_SLIDES: Final = "The window slides: do not use rate(). No series while up is 0."
_ANCHORED: Final = "since the start of the UTC day (or week). No series while up is 0."


class TargetsCollector:
    """The families of one scrape's outcomes, built fresh for it.

    Args:
        outcomes: What came of its polls.
        history: What is known of each query beyond the scrape.
        deadline: Seconds after which a poll was given up.
    """

    def __init__(self, outcomes: Sequence[PollResult], history: PollHistory, deadline: float) -> None:
        self._outcomes = outcomes
        self._history = history
        self._deadline = deadline
        up = [(each, each.statistics) for each in outcomes]
        self._windows = [
            (_query_labels(each), statistics)
            for each, statistics in up
            if statistics is not None and each.anchor is None
        ]
        self._counters = [
            (_query_labels(each)[:2], statistics, each.anchor.timestamp())
            for each, statistics in up
            if statistics is not None and each.anchor is not None
        ]

    def collect(self) -> Iterator[Metric]:
        """Yield one family after the other, so that no more than one is held in memory."""
        yield from self._health()
        yield from self._window_reservations()
        for attribute, meaning in (
            ("min", "Shortest"),
            ("avg", "Average"),
            ("max", "Longest"),
            ("total", "Total"),
        ):
            yield self._window_activity(attribute, meaning)
        yield self._window_timestamps("start", "Start")
        yield self._window_timestamps("end", "End")
        if self._counters:
            yield from self._anchored_counters()
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
        for outcome in self._outcomes:
            labels = _query_labels(outcome)
            ignored.add_metric(labels, self._history.ignored(outcome.query))
            up.add_metric(labels, outcome.up)
            duration.add_metric(labels, outcome.duration)
            for reason, count in self._history.errors(outcome.query).items():
                errors.add_metric((*labels, reason), count)
        deadline = _gauge(
            "scrape_deadline_seconds",
            "Time after which this scrape gave up on a poll.",
            (),
            unit="seconds",
        )
        deadline.add_metric((), self._deadline)
        yield from (up, duration, deadline, errors, ignored)

    def _window_reservations(self) -> Iterator[Metric]:
        created = _gauge("window_reservations", f"Reservations created in the window. {_SLIDES}", _QUERY)
        ended = _gauge(
            "window_reservation_outcomes",
            f"Reservations of the window by outcome; some are still pending. {_SLIDES}",
            _QUERY,
            "outcome",
        )
        for labels, statistics in self._windows:
            if statistics.created is not None:
                created.add_metric(labels, statistics.created)
            for outcome, count in statistics.outcomes.items():
                ended.add_metric((*labels, outcome), count)
        yield from (created, ended)

    def _window_activity(self, attribute: str, meaning: str) -> Metric:
        family = _gauge(
            f"window_activity_{attribute}_seconds",
            f"{meaning} time that Workers spent in the Activity in the window. {_SLIDES}",
            _QUERY,
            *_ACTIVITY,
            unit="seconds",
        )
        for labels, statistics in self._windows:
            for activity in statistics.activities:
                value = getattr(activity, attribute)
                if value is not None:
                    family.add_metric((*labels, activity.name, activity.sid), value)
        return family

    def _window_timestamps(self, attribute: str, meaning: str) -> Metric:
        family = _gauge(
            f"window_{attribute}_timestamp_seconds",
            f"{meaning} of the interval that the statistics cover, as reported by Twilio. {_SLIDES}",
            _QUERY,
            unit="seconds",
        )
        for labels, statistics in self._windows:
            value = getattr(statistics, attribute)
            if value is not None:
                family.add_metric(labels, value)
        return family

    def _anchored_counters(self) -> Iterator[Metric]:
        created = _counter("reservations", f"Reservations created {_ANCHORED}", _TARGET)
        ended = _counter("reservation_outcomes", f"Reservations by outcome, {_ANCHORED}", _TARGET, "outcome")
        activity = _counter(
            "activity_seconds",
            f"Time that Workers spent in the Activity {_ANCHORED} Its rate is the number of Workers in it.",
            _TARGET,
            *_ACTIVITY,
            unit="seconds",
        )
        held = _gauge(
            "counters_held",
            "Number of counters published at an earlier, higher value than that of the last answer. "
            "No series while up is 0.",
            _TARGET,
        )
        for labels, statistics, anchor in self._counters:
            held.add_metric(labels, statistics.held)
            if statistics.created is not None:
                created.add_metric(labels, statistics.created, created=anchor)
            for outcome, count in statistics.outcomes.items():
                ended.add_metric((*labels, outcome), count, created=anchor)
            for each in statistics.activities:
                if each.total is not None:
                    activity.add_metric((*labels, each.name, each.sid), each.total, created=anchor)
        yield from (created, ended, activity, held)

    def _workspaces(self) -> Iterator[Metric]:
        info = InfoMetricFamily(f"{PREFIX}workspace", "Information about a configured workspace.")
        for workspace, sid, account in dict.fromkeys(
            (target.workspace, target.workspace_sid, target.account)
            for target in (each.query.target for each in self._outcomes)
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
        for workspace, told in newest_rate_limits(self._outcomes).items():
            if told.limit is not None:
                limit.add_metric((workspace,), told.limit)
            if told.remaining is not None:
                remaining.add_metric((workspace,), told.remaining)
        yield from (limit, remaining)


class ApiMetrics:
    """API use: counted where it happens, over all scrapes. An api.client.RequestObserver."""

    def __init__(self, registry: CollectorRegistry) -> None:
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
        self._retries.labels(account)
        self._duration.labels(account)

    def forget(self, account: str) -> None:
        """Drop the series of an account that is no longer configured."""
        for family in (self._requests, self._retries, self._duration):
            family.remove_by_labels({"account": account})

    def requested(self, account: str, status: int | None, duration: float) -> None:
        """See api.client.RequestObserver."""
        self._requests.labels(account, "none" if status is None else str(status)).inc()
        self._duration.labels(account).observe(duration)

    def retried(self, account: str) -> None:
        """See api.client.RequestObserver."""
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
        """The configuration was loaded, at Unix seconds `at`."""
        self._reload_successful.set(1)
        self._reload_time.set(at)

    def config_rejected(self) -> None:
        """A new configuration could not be used."""
        self._reload_successful.set(0)

    def discovered(self, account: str, *, up: bool) -> None:
        """See discovery.DiscoveryObserver."""
        self._discovery_up.labels(account).set(up)

    def forget_discovery(self, account: str) -> None:
        """Drop the series of an account that has nothing to discover any more."""
        self._discovery_up.remove_by_labels({"account": account})


def _query_labels(outcome: PollResult) -> tuple[str, str, str]:
    target = outcome.query.target
    return target.workspace, target.channel, outcome.query.period.label


def _gauge(name: str, text: str, labels: Iterable[str], *more: str, unit: str = "") -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, text, labels=(*labels, *more), unit=unit)


def _counter(name: str, text: str, labels: Iterable[str], *more: str, unit: str = "") -> CounterMetricFamily:
    return CounterMetricFamily(PREFIX + name, text, labels=(*labels, *more), unit=unit)
