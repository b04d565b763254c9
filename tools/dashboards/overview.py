"""The supervisor's dashboard: how all channels do now, against their baseline, and what led there."""

from typing import Final

from grafana_foundation_sdk.builders import dashboard as builders

from tools.dashboards.alert_list import alert_list
from tools.dashboards.colours import above, steps
from tools.dashboards.parts import (
    COUNT,
    FIRING,
    NEEDS_COUNTERS,
    OVERVIEW,
    SECONDS,
    SELECTED,
    SHARE,
    Panel,
    add_row,
    alert_line,
    board,
    column,
    graph,
    number,
    query,
    ratio,
    recorded,
    rows,
    whole,
)

_ALERTING: Final = (
    "An alert compares it with the channel's baseline and with what chance can do: the channel's details "
    "show both. "
    "Above the dashed line a channel hardly works."
)
_WINDOW: Final = f'{SELECTED}, window="$window"'


def dashboard() -> builders.Dashboard:
    """Return the dashboard."""
    made = board(
        OVERVIEW,
        "TaskRouter / Overview",
        "How reservations fare in every workspace and channel, worst first.",
    )
    add_row(made, "Now", *_now())
    add_row(made, "Alerts", alert_list())
    add_row(made, "Channels", _channels())
    add_row(made, "Over time", *_history())
    return made


def _recent(name: str) -> str:
    return ratio("share", name, "15m")


def _lost() -> str:
    """How many more reservations than the baseline were rejected or timed out within 15 minutes."""
    spikes = ('ratio=~"rejected|timed_out"', 'span="15m"')
    excess = recorded("taskrouter:ratio:excess", *spikes, by="workspace, channel, ratio")
    return f"clamp_min(sum by (workspace, channel) ({excess}), 0)"


def _now() -> list[Panel]:
    reservations = whole("taskrouter:reservations:recent", "workspace")
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
        "Then the shares of reservations that were rejected, timed out and were accepted recently, next "
        "to the baseline: the past week's share, or that of last week's same hour where it is higher. "
        "Red where a channel hardly works. A channel leads to its details.",
        SHARE,
        keys={"workspace": "Workspace", "channel": "Channel"},
        columns={
            "Lost beyond the baseline": _lost(),
            "Rejected now": _recent("rejected"),
            "Rejected baseline": ratio("baseline", "rejected"),
            "Timed out now": _recent("timed_out"),
            "Timed out baseline": ratio("baseline", "timed_out"),
            "Accepted now": _recent("accepted"),
            "Reservations now": recorded("taskrouter:reservations:recent"),
        },
        worst="Lost beyond the baseline",
    )
    column(made, "Channel", link="Details of this channel")
    column(made, "Rejected now", alert="spike_share")
    column(made, "Timed out now", alert="spike_share")
    column(made, "Lost beyond the baseline", unit=COUNT)
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
            alert_line("spike_share"),
        ),
        graph(
            "Timed out",
            "Share of the recent reservations that no Worker answered in time. " + _ALERTING,
            SHARE,
            query(_recent("timed_out"), by_channel),
            alert_line("spike_share"),
        ),
        graph(
            "Lost beyond the baseline",
            "How many more reservations of the last 15 minutes were rejected or timed out than the channel's "
            "baseline.",
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
