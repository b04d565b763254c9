"""The dashboard of those who run the exporter: what is polled, what fails and why, and what it costs."""

from typing import Final

from grafana_foundation_sdk.builders import dashboard as builders

from tools.dashboards.alert_list import alert_list
from tools.dashboards.colours import above, below, steps
from tools.dashboards.parts import (
    ALERT,
    COUNT,
    EXPORTER,
    PER_SECOND,
    SECONDS,
    SELECTED,
    SELECTED_EXPORTERS,
    SHARE,
    Panel,
    add_row,
    alert_line,
    board,
    column,
    graph,
    number,
    query,
    rows,
    states,
)

_PREFIX: Final = "twilio_taskrouter_exporter"
_INFO: Final = f"{_PREFIX}_build_info{{{SELECTED_EXPORTERS}}}"
_OWN: Final = f"and on (job, instance) {_INFO}"
"""Only the series of exporters, of those that all processes have."""
_DEADLINE: Final = f"min(twilio_taskrouter_scrape_deadline_seconds{{{SELECTED_EXPORTERS}}})"
_INSTANCE: Final = "{{instance}}"


def dashboard() -> builders.Dashboard:
    """Return the dashboard."""
    made = board(
        EXPORTER,
        "TaskRouter / Exporter health",
        "Whether the exporter gets its data, and what it costs.",
        more=(),
    )
    add_row(made, "Now", *_now())
    add_row(made, "Alerts", alert_list())
    add_row(made, "Polls", *_polls())
    add_row(made, "API requests", *_api())
    add_row(made, "Processes", *_process())
    return made


def _now() -> list[Panel]:
    known = (
        "last_over_time(taskrouter:exporter:expected[20m]) or last_over_time(taskrouter:exporter:info[20m])"
    )
    seen = f"max by (job, instance) (up{{{SELECTED_EXPORTERS}}} and on (job, instance) ({known}))"
    down = f"max by (workspace, channel, window) (twilio_taskrouter_up{{{SELECTED}}}) == 0"
    return [
        number(
            "Exporters down",
            "Exporters that were scraped within the last week and that Prometheus cannot scrape now.",
            COUNT,
            query(f"count({seen} == 0) or vector(0)", "exporters", instant=True),
            colours=steps("green", (1, "red")),
        ),
        number(
            "Queries down",
            "A query is one workspace, channel and window. One that is down has no statistics.",
            COUNT,
            query(f"count({down}) or vector(0)", "queries", instant=True),
            colours=steps("green", (1, "red")),
        ),
        number(
            "Time used of the deadline",
            "The slowest successful poll of each exporter, as a share of the time that a scrape has. At "
            "100 % targets begin to be missed.",
            SHARE,
            query(_used_of_deadline(), _INSTANCE, instant=True),
            colours=above("poll_deadline_ratio"),
        ),
        number(
            "Rate limit left",
            "Share of the API requests that Twilio allows which was left after the last scrape.",
            SHARE,
            query(_rate_limit_left(), "{{workspace}}", instant=True),
            colours=below("rate_limit_remaining_ratio"),
        ),
    ]


def _used_of_deadline() -> str:
    return (
        f"max by (job, instance) (twilio_taskrouter_poll_duration_seconds{{{SELECTED_EXPORTERS}}}"
        " and on (job, instance, workspace, channel, window) twilio_taskrouter_up == 1)"
        " / on (job, instance) twilio_taskrouter_scrape_deadline_seconds"
    )


def _rate_limit_left() -> str:
    selected = f'{{{SELECTED_EXPORTERS}, workspace=~"$workspace"}}'
    remaining, limit = (f"twilio_taskrouter_api_rate_limit{which}{selected}" for which in ("_remaining", ""))
    return f"min by (workspace) ({remaining} / {limit})"


def _polls() -> list[Panel]:
    query_labels = "job, workspace, channel, window"
    up = f"max by ({query_labels}) (twilio_taskrouter_up{{{SELECTED}}})"
    failed = (
        f"max by ({query_labels}, reason) (increase(twilio_taskrouter_poll_errors_total{{{SELECTED}}}[5m]))"
    )
    age = (
        f"time() - max by (workspace, channel) (twilio_taskrouter_window_end_timestamp_seconds{{{SELECTED}}})"
    )
    return [
        states(
            "Up",
            "Whether all windows of a channel were polled.",
            query(
                f"min by (workspace, channel) (max by ({query_labels}) (twilio_taskrouter_up{{{SELECTED}}}))",
                "{{workspace}} / {{channel}}",
            ),
        ),
        graph(
            "Queries up, and down by reason",
            "Queries that were polled, and those that were not by the reason that the exporter gave in the "
            "last minutes. docs/metrics.md explains the reasons.",
            COUNT,
            query(f"sum({up})", "up"),
            query(
                f"sum by (reason) (({failed} > bool 0) * on ({query_labels}) group_left () (1 - {up}))",
                "{{reason}}",
            ),
            stacked=True,
        ),
        graph(
            "Duration of polls",
            "The slowest successful poll of each workspace, retries included, and the time that a scrape "
            "has for it. Above the alert's share of that time an alert fires.",
            SECONDS,
            query(
                f"max by (workspace) (twilio_taskrouter_poll_duration_seconds{{{SELECTED}}}"
                " and on (job, instance, workspace, channel, window) twilio_taskrouter_up == 1)",
                "{{workspace}}",
            ),
            query(_DEADLINE, "deadline"),
            query(
                _DEADLINE + ' * scalar(max(taskrouter:threshold{threshold="poll_deadline_ratio"}))',
                ALERT,
            ),
        ),
        graph(
            "Age of the statistics",
            "How long before each instant Twilio's statistics end. Above the dashed line an alert fires.",
            SECONDS,
            query(age, "{{workspace}} / {{channel}}"),
            alert_line("statistics_lag_seconds"),
        ),
    ]


def _api() -> list[Panel]:
    buckets, requests, retries = (
        f"rate(twilio_taskrouter_api_{name}{{{SELECTED_EXPORTERS}}}[$__rate_interval])"
        for name in ("request_duration_seconds_bucket", "requests_total", "retries_total")
    )
    return [
        graph(
            "API requests by status",
            "Requests to Twilio in a second, by HTTP status; none is where no answer came.",
            PER_SECOND,
            query(f"sum by (account, code) ({requests})", "{{account}}: {{code}}"),
            stacked=True,
        ),
        graph(
            "Retries",
            "Requests in a second that repeated a failed one.",
            PER_SECOND,
            query(f"sum by (account) ({retries})", "{{account}}"),
        ),
        graph(
            "Duration of API requests",
            "Duration of API requests: median, 90th and 99th percentile.",
            SECONDS,
            *(
                query(
                    f"histogram_quantile({quantile}, sum by (account, le) ({buckets}))",
                    f"{{{{account}}}}: {name}",
                )
                for quantile, name in {0.5: "p50", 0.9: "p90", 0.99: "p99"}.items()
            ),
        ),
        graph(
            "Rate limit left",
            "Share of the API requests that Twilio allows which was left after each scrape. Below the "
            "dashed line an alert fires.",
            SHARE,
            query(_rate_limit_left(), "{{workspace}}"),
            alert_line("rate_limit_remaining_ratio"),
            most=1,
        ),
    ]


def _process() -> list[Panel]:
    return [
        graph(
            "Memory",
            "Resident memory of each exporter.",
            "bytes",
            query(f"process_resident_memory_bytes {_OWN}", _INSTANCE),
        ),
        graph(
            "CPU",
            "Cores that each exporter keeps busy.",
            COUNT,
            query(f"rate(process_cpu_seconds_total[$__rate_interval]) {_OWN}", _INSTANCE),
        ),
        _exporters(),
    ]


def _exporters() -> Panel:
    made = rows(
        "Exporters",
        "Version of each exporter, how long it has run, and whether its last load of the configuration "
        "succeeded (1) or it keeps the previous one (0).",
        COUNT,
        keys={"instance": "Instance", "version": "Version"},
        columns={
            "Configuration loaded": _by_version(f"{_PREFIX}_config_last_reload_successful"),
            "Runs for": _by_version("(time() - process_start_time_seconds)"),
        },
        worst="Runs for",
    )
    column(made, "Runs for", unit=SECONDS)
    return made


def _by_version(expr: str) -> str:
    return f"max by (instance, version) ({expr} * on (job, instance) group_left (version) {_INFO})"
