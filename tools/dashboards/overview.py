"""The supervisor's dashboard: the current state of all channels against their baselines, and its history."""

from typing import Final

from grafana_foundation_sdk.builders import dashboard as builders

from tools.dashboards.colours import above, steps, threshold
from tools.dashboards.parts import (
    COUNT,
    FIRING,
    NEEDS_COUNTERS,
    OVERVIEW,
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

_ALERTING: Final = (
    "Above a dashed line an alert fires if this is well above the baseline of the channel, and if "
    f"there are {threshold('spike_reservations')['']:.0f} reservations: a channel with few of them jumps."
)
_WINDOW: Final = f'{SELECTED}, window="$window"'


def dashboard() -> builders.Dashboard:
    """Return the dashboard."""
    made = board(
        OVERVIEW,
        "TaskRouter / Overview",
        "How reservations fare in every workspace and channel, worst first.",
    )
    for panel in (*_now(), _channels(), *_history()):
        made.with_panel(panel)
    return made


def _recent(outcome: str, kind: str = "recent") -> str:
    return f'max by (workspace, channel) (taskrouter:outcome:ratio_{kind}{{{SELECTED}, outcome="{outcome}"}})'


def _lost() -> str:
    """How many more reservations than normally were rejected or timed out: few in a small channel."""
    labels, lost = "workspace, channel, outcome", f'{SELECTED}, outcome=~"rejected|timed_out"'
    recent, normal = (
        f"max by ({labels}) (taskrouter:outcome:ratio_{kind}{{{lost}}})" for kind in ("recent", "normal")
    )
    reservations = f"max by (workspace, channel) (taskrouter:reservations:recent{{{SELECTED}}})"
    return f"clamp_min(sum by (workspace, channel) ({recent} - {normal}) * {reservations}, 0)"


def _now() -> list[Panel]:
    reservations = whole("taskrouter:reservations:recent", "workspace", SELECTED)
    age = f"time() - max by (workspace) (twilio_taskrouter_window_end_timestamp_seconds{{{SELECTED}}})"
    return [
        number(
            "Alerts firing",
            "How many TaskRouter alerts fire for this selection. The red marks in the graphs tell when and "
            "which.",
            COUNT,
            query(FIRING, "alerts", instant=True),
            colours=steps("green", (1, "red")),
        ),
        number(
            "Reservations now",
            "Offers of a task to a Worker in the shortest window that is polled, mostly the last 15 minutes.",
            COUNT,
            query(reservations, "{{workspace}}", instant=True),
        ),
        number(
            "Accepted now, worst channel",
            "Share of the reservations that a Worker accepted, in the channel of each workspace that does "
            "worst.",
            SHARE,
            query(f"min by (workspace) ({_recent('accepted')})", "{{workspace}}", instant=True),
        ),
        number(
            "Age of the statistics",
            "How long ago Twilio's statistics end. What happened since then is not on this dashboard yet.",
            SECONDS,
            query(age, "{{workspace}}", instant=True),
            colours=above("statistics_lag_seconds"),
        ),
    ]


def _channels() -> Panel:
    made = rows(
        "Channels, worst first",
        "First the channel in which most reservations were rejected or timed out beyond the baseline. "
        "Then the shares of reservations that were rejected, timed out and were accepted now, next to the "
        "baseline: that of the same hour of last week, or of the long window while that is not known. "
        "Coloured where the alerts' thresholds are passed. A channel leads to its details.",
        SHARE,
        keys={"workspace": "Workspace", "channel": "Channel"},
        columns={
            "Lost beyond normal": _lost(),
            "Rejected now": _recent("rejected"),
            "Rejected normally": _recent("rejected", "normal"),
            "Timed out now": _recent("timed_out"),
            "Timed out normally": _recent("timed_out", "normal"),
            "Accepted now": _recent("accepted"),
            "Accepted normally": _recent("accepted", "normal"),
            "Reservations now": f"max by (workspace, channel) (taskrouter:reservations:recent{{{SELECTED}}})",
        },
        worst="Lost beyond normal",
    )
    column(made, "Channel", link="Details of this channel")
    column(made, "Rejected now", alert="rejection_ratio")
    column(made, "Timed out now", alert="timeout_ratio")
    column(made, "Lost beyond normal", unit=COUNT)
    column(made, "Reservations now", unit=COUNT)
    return made


def _history() -> list[Panel]:
    by_channel = "{{workspace}} / {{channel}}"
    outcomes = whole("twilio_taskrouter_window_reservation_outcomes", "workspace, outcome", _WINDOW)
    seconds = f"max by (workspace, activity) (twilio_taskrouter_window_activity_total_seconds{{{_WINDOW}}})"
    length = (
        f"max by (workspace) (twilio_taskrouter_window_end_timestamp_seconds{{{_WINDOW}}}"
        f" - twilio_taskrouter_window_start_timestamp_seconds{{{_WINDOW}}})"
    )
    rate = f"rate(twilio_taskrouter_activity_seconds_total{{{SELECTED}}}[$__rate_interval])"
    return [
        graph(
            "Rejected",
            "Share of the recent reservations that Workers rejected. " + _ALERTING,
            SHARE,
            query(_recent("rejected"), by_channel),
            alert_line("rejection_ratio"),
        ),
        graph(
            "Timed out",
            "Share of the recent reservations that no Worker answered in time. " + _ALERTING,
            SHARE,
            query(_recent("timed_out"), by_channel),
            alert_line("timeout_ratio"),
        ),
        graph(
            "Lost beyond normal",
            "How many more of the recent reservations were rejected or timed out than is normal for the "
            "channel.",
            COUNT,
            query(_lost(), by_channel),
        ),
        graph(
            "Accepted",
            "Share of the recent reservations that Workers accepted.",
            SHARE,
            query(_recent("accepted"), by_channel),
            most=1,
        ),
        graph(
            "Reservations over time",
            "Reservations that were created in the chosen window before each instant.",
            COUNT,
            query(whole("twilio_taskrouter_window_reservations", "workspace", _WINDOW), "{{workspace}}"),
            stacked=True,
        ),
        graph(
            "How reservations ended",
            "Reservations of all selected channels in the chosen window, by how they ended.",
            COUNT,
            query(f"sum by (outcome) ({outcomes})", "{{outcome}}"),
            stacked=True,
        ),
        graph(
            "Workers in each Activity, over the window",
            "How many Workers were in the Activity on average over the chosen window: the time that they "
            "spent in it, divided by the window's length.",
            COUNT,
            query(f"sum by (activity) ({seconds} / on (workspace) group_left () {length})", "{{activity}}"),
            stacked=True,
        ),
        graph(
            "Workers in each Activity, at each moment",
            "How many Workers were in the Activity in the few minutes before each instant." + NEEDS_COUNTERS,
            COUNT,
            query(f"sum by (activity) (max by (workspace, activity) ({rate}))", "{{activity}}"),
            stacked=True,
        ),
    ]
