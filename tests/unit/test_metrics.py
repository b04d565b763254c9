from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from prometheus_client import Metric
from support.statistics import statistics

from taskrouter_exporter.api.call import RateLimit
from taskrouter_exporter.api.errors import ApiError, Reason
from taskrouter_exporter.metrics import ExporterMetrics, TargetsCollector
from taskrouter_exporter.periods import Anchored, Period, Window
from taskrouter_exporter.poll_history import PollHistory, PollResult
from taskrouter_exporter.queries import Query, Target
from taskrouter_exporter.statistics.kind import Statistics
from taskrouter_exporter.web.exposition import Exposition

OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
ANCHOR = datetime(2026, 11, 25, tzinfo=UTC)
P = "twilio_taskrouter_"

ATTRIBUTES: dict[str, Any] = {
    "reservations_created": 10,
    "reservations_accepted": 5,
    "reservations_rejected": 2,
    "reservations_timed_out": 1,
    "reservations_canceled": 1,
    "reservations_rescinded": 0,
    "activity_durations": [
        {"friendly_name": "Available", "sid": "WA1", "min": 1, "avg": 2.5, "max": 4, "total": 100}
    ],
    "start_time": "2023-11-14T22:13:20Z",
    "end_time": "2023-11-14T22:28:20Z",
}
STATISTICS = statistics(**ATTRIBUTES)
COUNTED = statistics("anchored", **ATTRIBUTES)


OTHER = Query(Target("main", "WS" + "1" * 32, "other", "voice"), Window(15))


def outcome(
    answer: Statistics | None = STATISTICS,
    *,
    name: str = "support",
    channel: str = "voice",
    period: Period = Window(15),  # noqa: B008 -- frozen
    finished: float = 0,
    rate_limit: RateLimit | None = None,
) -> PollResult:
    query = Query(Target("main", "WS" + "0" * 32, name, channel), period)
    error = None if answer else ApiError(Reason.AUTH, "no")
    anchor = ANCHOR if isinstance(period, Anchored) else None
    resource = query.kind.rate_limited_as
    return PollResult(query, finished, 0.25, (), answer, error, rate_limit, anchor, resource=resource)


def render(*outcomes: PollResult, accept: str = "") -> str:
    return Exposition(accept, "").render([TargetsCollector(outcomes, PollHistory(), 9.5)]).decode()


def samples(families: Iterable[Metric]) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def series(text: str, name: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith((f"{P}{name}{{", f"{P}{name} "))]


def test_a_windows_statistics_are_gauges_by_workspace_channel_and_window() -> None:
    text = render(outcome())
    labels = 'workspace="support",channel="voice",window="15m"'
    assert series(text, "window_reservations") == [f"{P}window_reservations{{{labels}}} 10.0"]
    assert series(text, "window_reservation_outcomes")[0] == (
        f'{P}window_reservation_outcomes{{{labels},outcome="accepted"}} 5.0'
    )
    assert len(series(text, "window_reservation_outcomes")) == 5
    activity = f'{labels},activity="Available",activity_sid="WA1"'
    assert series(text, "window_activity_min_seconds") == [
        f"{P}window_activity_min_seconds{{{activity}}} 1.0"
    ]
    assert series(text, "window_activity_avg_seconds") == [
        f"{P}window_activity_avg_seconds{{{activity}}} 2.5"
    ]
    assert series(text, "window_activity_max_seconds") == [
        f"{P}window_activity_max_seconds{{{activity}}} 4.0"
    ]
    assert series(text, "window_activity_total_seconds") == [
        f"{P}window_activity_total_seconds{{{activity}}} 100.0"
    ]
    assert series(text, "window_start_timestamp_seconds") == [
        f"{P}window_start_timestamp_seconds{{{labels}}} 1.7e+09"
    ]
    assert series(text, "window_end_timestamp_seconds")[0].endswith(" 1.7000009e+09")
    assert series(text, "up") == [f'{P}up{{{labels},statistics="workers"}} 1.0']
    assert series(text, "scrape_deadline_seconds") == [f"{P}scrape_deadline_seconds 9.5"]
    assert series(text, "poll_duration_seconds") == [
        f'{P}poll_duration_seconds{{{labels},statistics="workers"}} 0.25'
    ]


def test_the_window_is_written_canonically() -> None:
    assert 'window="4h"' in render(outcome(period=Window(240)))


def test_every_reason_starts_at_0() -> None:
    lines = series(render(outcome()), "poll_errors_total")
    assert [line.rsplit(" ", 1)[1] for line in lines] == ["0.0"] * 8
    assert all(any(f'reason="{reason}"' in line for line in lines) for reason in Reason)


def test_ignored_attributes_are_counted_from_0_on_also_while_the_query_is_down() -> None:
    history, odd, down = (
        PollHistory(),
        outcome(replace(STATISTICS, ignored=("end_time", "end_time"))),
        outcome(None),
    )
    collector = TargetsCollector([odd, replace(down, query=OTHER)], history, 9.5)
    labels = 'channel="voice",window="15m",statistics="workers"'
    for count in (0, 2, 4):
        text = Exposition("", "").render([collector]).decode()
        assert series(text, "ignored_attributes_total") == [
            f'{P}ignored_attributes_total{{workspace="support",{labels}}} {count}.0',
            f'{P}ignored_attributes_total{{workspace="other",{labels}}} 0.0',
        ]
        history.record(odd)


def test_counters_held_are_counted_for_each_anchored_query_that_is_up() -> None:
    day = Anchored("day")
    text = render(
        outcome(replace(COUNTED, held=3), period=day),
        outcome(COUNTED, name="sales", period=day),
        outcome(None, name="down", period=day),
        outcome(name="window"),
    )
    assert series(text, "counters_held") == [
        f'{P}counters_held{{workspace="support",channel="voice",window="day",statistics="workers"}} 3.0',
        f'{P}counters_held{{workspace="sales",channel="voice",window="day",statistics="workers"}} 0.0',
    ]


def test_a_failed_query_has_no_statistics_and_the_others_are_unaffected() -> None:
    text = render(outcome(None), outcome(name="sales"))
    assert [line.rsplit(" ", 1)[1] for line in series(text, "up")] == ["0.0", "1.0"]
    assert not any("window_" in line and 'workspace="support"' in line for line in text.splitlines())
    assert len(series(text, "window_reservations")) == 1


def test_a_missing_attribute_has_no_series() -> None:
    text = render(outcome(statistics(activity_durations=[{"friendly_name": "Idle", "max": 3}])))
    names = {
        line.split("{")[0] for line in text.splitlines() if "window_" in line and not line.startswith("#")
    }
    assert names == {f"{P}window_activity_max_seconds"}


def test_anchored_statistics_are_counters_without_a_window_and_created_at_the_anchor() -> None:
    text = render(outcome(COUNTED, period=Anchored("day")), accept=OPENMETRICS)
    labels = 'workspace="support",channel="voice"'
    assert series(text, "reservations_total") == [f"{P}reservations_total{{{labels}}} 10.0"]
    (created,) = series(text, "reservations_created")
    assert created.startswith(f"{P}reservations_created{{{labels}}} ")
    assert float(created.rsplit(" ", 1)[1]) == ANCHOR.timestamp()
    assert len(series(text, "reservation_outcomes_total")) == 5
    assert series(text, "activity_seconds_total") == [
        f'{P}activity_seconds_total{{{labels},activity="Available",activity_sid="WA1"}} 100.0'
    ]
    assert "window_reservations{" not in text
    assert 'window="day"' in series(text, "up")[0]


def test_the_newest_rate_limit_of_a_workspace_is_told() -> None:
    text = render(
        outcome(channel="a", finished=2, rate_limit=RateLimit(100, 7)),
        outcome(channel="b", finished=1, rate_limit=RateLimit(100, 9)),
        outcome(channel="c", finished=3),
    )
    labels = 'workspace="support",resource="Workers/CumulativeStatistics"'
    assert series(text, "api_rate_limit") == [f"{P}api_rate_limit{{{labels}}} 100.0"]
    assert series(text, "api_rate_limit_remaining") == [f"{P}api_rate_limit_remaining{{{labels}}} 7.0"]


def test_a_workspace_is_described_once() -> None:
    text = render(outcome(channel="a"), outcome(channel="b"))
    sid = "WS" + "0" * 32
    assert series(text, "workspace_info") == [
        f'{P}workspace_info{{workspace="support",workspace_sid="{sid}",account="main"}} 1.0'
    ]


def test_the_exporter_exposes_its_build_configuration_and_api_use() -> None:
    metrics = ExporterMetrics("1.2.3", "abc")
    metrics.api.expect("main")
    metrics.api.requested("main", 200, 0.1)
    metrics.api.requested("main", None, 5)
    metrics.config_loaded(1_700_000_000)
    text = Exposition("", "").render([metrics.registry]).decode()
    assert 'version="1.2.3",revision="abc"' in series(text, "exporter_build_info")[0]
    assert series(text, "api_requests_total") == [
        f'{P}api_requests_total{{account="main",code="200"}} 1.0',
        f'{P}api_requests_total{{account="main",code="none"}} 1.0',
    ]
    assert series(text, "api_retries_total") == [f'{P}api_retries_total{{account="main"}} 0.0']
    assert series(text, "api_request_duration_seconds_count") == [
        f'{P}api_request_duration_seconds_count{{account="main"}} 2.0'
    ]
    assert series(text, "exporter_config_last_reload_successful") == [
        f"{P}exporter_config_last_reload_successful 1.0"
    ]
    assert "process_resident_memory_bytes" in text
    assert "python_info{" in text
    metrics.config_rejected()
    text = Exposition("", "").render([metrics.registry]).decode()
    assert series(text, "exporter_config_last_reload_successful")[0].endswith(" 0.0")
    assert series(text, "exporter_config_last_reload_success_timestamp_seconds")[0].endswith(" 1.7e+09")


def test_a_request_that_ends_after_its_account_was_removed_brings_no_series_back() -> None:
    metrics = ExporterMetrics("1", "abc")
    metrics.api.expect("main")
    metrics.api.requested("main", 200, 0.1)
    metrics.api.forget("main")
    metrics.api.requested("main", 200, 0.1)
    metrics.api.retried("main")
    names = {
        sample.name
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.labels.get("account")
    }
    assert names == set()
