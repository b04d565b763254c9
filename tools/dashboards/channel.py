"""The dashboard of single channels: all windows side by side, Activities, and where things are going."""

from typing import Final

from grafana_foundation_sdk.builders import dashboard as builders

from tools.dashboards.colours import above
from tools.dashboards.parts import (
    CHANNEL,
    COUNT,
    NEEDS_COUNTERS,
    SECONDS,
    SELECTED,
    SHARE,
    Panel,
    alert_line,
    board,
    column,
    graph,
    number,
    query,
    rows,
    whole,
)

_WINDOW: Final = f'{SELECTED}, window="$window"'
_NAME: Final = "{{workspace}} / {{channel}}"
_OUTCOMES: Final = {"Rejected": "rejected", "Timed out": "timed_out", "Accepted": "accepted"}
_ALERTS: Final = {"Rejected": "rejection_ratio", "Timed out": "timeout_ratio"}


def dashboard() -> builders.Dashboard:
    """Return the dashboard."""
    made = board(
        CHANNEL,
        "TaskRouter / Channel detail",
        "One channel of one workspace in all its windows.",
        everything=False,
    )
    for panel in (*_now(), _windows(), *_trends(), _activities(), *_activity_trends()):
        made.with_panel(panel)
    return made


def _ratio(kind: str, outcome: str) -> str:
    return f'max by (workspace, channel) (taskrouter:outcome:ratio_{kind}{{{SELECTED}, outcome="{outcome}"}})'


def _now() -> list[Panel]:
    reservations = f"max by (workspace, channel) (taskrouter:reservations:recent{{{SELECTED}}})"
    made: list[Panel] = [
        number(
            "Reservations now",
            "Offers of a task to a Worker in the shortest window that is polled, mostly the last 15 minutes.",
            COUNT,
            query(reservations, _NAME, instant=True),
        )
    ]
    for name, outcome in _OUTCOMES.items():
        alert = _ALERTS.get(name)
        made.append(
            number(
                f"{name}: now and normally",
                f"Share of the reservations that ended as {name.lower()}, now and at the same hour of last "
                "week (or in the long window, while that is not known).",
                SHARE,
                query(_ratio("recent", outcome), f"{_NAME}: now", instant=True),
                query(_ratio("normal", outcome), f"{_NAME}: normally", instant=True),
                colours=above(alert) if alert else None,
            )
        )
    return made


def _windows() -> Panel:
    def share(outcome: str) -> str:
        selected = f'{SELECTED}, outcome="{outcome}"'
        return f"max by (workspace, channel, window) (taskrouter:window_outcome:ratio{{{selected}}})"

    shares = {
        **_OUTCOMES,
        "Cancelled": "canceled",
        "Rescinded": "rescinded",
    }
    created = f"max by (workspace, channel, window) (twilio_taskrouter_window_reservations{{{SELECTED}}})"
    made = rows(
        "Windows side by side",
        "How the reservations of each window ended, as shares of those created in it. A short window shows "
        "the current state, a long one the baseline. Coloured where the alerts' thresholds are passed.",
        SHARE,
        keys={"workspace": "Workspace", "channel": "Channel", "window": "Window"},
        columns={"Reservations": created} | {name: share(outcome) for name, outcome in shares.items()},
        worst="Rejected",
    )
    column(made, "Reservations", unit=COUNT)
    for name, alert in _ALERTS.items():
        column(made, name, alert=alert)
    return made


def _trends() -> list[Panel]:
    made: list[Panel] = []
    for name, alert in _ALERTS.items():
        outcome = _OUTCOMES[name]
        windows = f'taskrouter:window_outcome:ratio{{{SELECTED}, outcome="{outcome}"}}'
        made += [
            graph(
                f"{name}, window by window",
                f"Share of the reservations that ended as {name.lower()}, in each window before each "
                "instant. A short window that leaves the long ones behind is a change; the dashed lines "
                "are the alerts' thresholds.",
                SHARE,
                query(f"max by (workspace, channel, window) ({windows})", f"{_NAME}: {{{{window}}}}"),
                alert_line(alert),
            ),
            graph(
                f"{name}, now against normal",
                f"Share of the recent reservations that ended as {name.lower()}, next to that of the same "
                "hour of last week (or of the long window, while that is not known).",
                SHARE,
                query(_ratio("recent", outcome), f"{_NAME}: now"),
                query(_ratio("normal", outcome), f"{_NAME}: normally"),
                alert_line(alert),
            ),
        ]
    lengths = {"recent": "now", "rate30m": "30 minutes", "rate1h": "1 hour", "rate6h": "6 hours"}
    long_runs = [query(_ratio(kind, "rejected"), f"{_NAME}: {words}") for kind, words in lengths.items()]
    created = (
        f"max by (workspace, channel) (increase(twilio_taskrouter_reservations_total{{{SELECTED}}}[1h]))"
    )
    recent, last_week = (
        f"max by (workspace, channel) (taskrouter:reservations:{kind}{{{SELECTED}}})"
        for kind in ("recent", "last_week")
    )
    ended = whole("twilio_taskrouter_window_reservation_outcomes", "workspace, outcome", _WINDOW)
    return [
        *made,
        graph(
            "Reservations, now and last week",
            "Recent reservations, and as many as there were at the same hour of last week, once a week is "
            "known.",
            COUNT,
            query(recent, f"{_NAME}: now"),
            query(last_week, f"{_NAME}: last week"),
        ),
        graph(
            "How reservations ended",
            "Reservations of the chosen window before each instant, by how they ended.",
            COUNT,
            query(f"sum by (outcome) ({ended})", "{{outcome}}"),
            stacked=True,
        ),
        graph(
            "Rejected, in the long run",
            "Share of the reservations that were rejected now, in the last half hour, hour and six hours."
            + NEEDS_COUNTERS,
            SHARE,
            *long_runs,
        ),
        graph(
            "Reservations in an hour",
            "Reservations that were created in the hour before each instant." + NEEDS_COUNTERS,
            COUNT,
            query(created, _NAME),
        ),
    ]


def _activity(which: str) -> str:
    return (
        "max by (workspace, channel, activity)"
        f" (twilio_taskrouter_window_activity_{which}_seconds{{{_WINDOW}}})"
    )


def _activities() -> Panel:
    return rows(
        "Activities: shortest, average and longest time",
        "How long Workers stayed in each Activity in the chosen window, and how long in all.",
        SECONDS,
        keys={"workspace": "Workspace", "channel": "Channel", "activity": "Activity"},
        columns={
            "Shortest": _activity("min"),
            "Average": _activity("avg"),
            "Longest": _activity("max"),
            "In all": _activity("total"),
        },
        worst="In all",
    )


def _activity_trends() -> list[Panel]:
    share = f"sum by (activity) ({_activity('total')}) / on () group_left () sum ({_activity('total')})"
    rate = f"rate(twilio_taskrouter_activity_seconds_total{{{SELECTED}}}[$__rate_interval])"
    return [
        graph(
            "Average time in an Activity",
            "How long Workers stayed in each Activity on average, over the chosen window before each "
            "instant.",
            SECONDS,
            query(_activity("avg"), f"{_NAME}: {{{{activity}}}}"),
        ),
        graph(
            "Longest time in an Activity",
            "The longest that a Worker stayed in each Activity, over the chosen window before each instant.",
            SECONDS,
            query(_activity("max"), f"{_NAME}: {{{{activity}}}}"),
        ),
        graph(
            "What Workers' time goes into",
            "Each Activity's share of all Workers' time, over the chosen window before each instant.",
            SHARE,
            query(share, "{{activity}}"),
            stacked=True,
            most=1,
        ),
        graph(
            "Workers in each Activity, at each moment",
            "How many Workers were in the Activity in the few minutes before each instant." + NEEDS_COUNTERS,
            COUNT,
            query(f"sum by (activity) (max by (workspace, activity) ({rate}))", "{{activity}}"),
            stacked=True,
        ),
    ]
