"""The dashboard of single channels: all windows side by side, Activities, and where things are going."""

from typing import Final

from grafana_foundation_sdk.builders import dashboard as builders

from tools.dashboards.alert_list import alert_list
from tools.dashboards.colours import above
from tools.dashboards.parts import (
    CHANNEL,
    COUNT,
    NEEDS_COUNTERS,
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
    share_in_windows,
    whole,
)

_WINDOW: Final = f'{SELECTED}, window="$window"'
_NAME: Final = "{{workspace}} / {{channel}}"
_OUTCOMES: Final = {"Rejected": "rejected", "Timed out": "timed_out", "Accepted": "accepted"}
_SPIKES: Final = ("Rejected", "Timed out")
"""With an alert."""


def dashboard() -> builders.Dashboard:
    """Return the dashboard."""
    made = board(
        CHANNEL,
        "TaskRouter / Channel detail",
        "One channel of one workspace in all its windows.",
        first=("workspace", "channel"),
    )
    routing = (
        _routing("queue", "The channel's tasks by queue: what waits, and what came in the chosen window."),
        _routing("workflow", "The channel's tasks by the workflow that routes them, likewise."),
    )
    add_row(made, "Now", *_now())
    add_row(made, "Alerts", alert_list())
    add_row(made, "Reservations", _windows(), *_trends())
    add_row(made, "Queues and workflows", *routing)
    add_row(made, "Activities", _activities(), *_activity_trends())
    return made


def _now() -> list[Panel]:
    reservations = recorded("taskrouter:reservations:recent")
    made: list[Panel] = [
        number(
            "Reservations now",
            "Offers of a task to a Worker in the shortest window that is polled, mostly the last 15 minutes.",
            COUNT,
            query(reservations, _NAME, instant=True),
        )
    ]
    for name, outcome in _OUTCOMES.items():
        share = query(ratio("share", outcome, "15m"), f"{_NAME}: now", instant=True)
        if name not in _SPIKES:
            text = f"Share of the reservations of the last 15 minutes that ended as {name.lower()}."
            made.append(number(f"{name} now", text, SHARE, share))
            continue
        made.append(
            number(
                f"{name}: now and baseline",
                f"Share of the reservations that ended as {name.lower()}: of the last 15 minutes, and the "
                "baseline. That is the past week's share, or that of last week's same hour where it is "
                "higher.",
                SHARE,
                share,
                query(ratio("baseline", outcome), f"{_NAME}: baseline", instant=True),
                colours=above("spike_share"),
            )
        )
    return made


def _windows() -> Panel:
    shares = {
        **_OUTCOMES,
        "Cancelled": "canceled",
        "Rescinded": "rescinded",
    }
    created = f"max by (workspace, channel, window) (twilio_taskrouter_window_reservations{{{SELECTED}}})"
    made = rows(
        "Windows side by side",
        "How the reservations of each window ended, as shares of those created in it. A short window shows "
        "the current state, a long one what is usual. Red where a channel hardly works.",
        SHARE,
        keys={"workspace": "Workspace", "channel": "Channel", "window": "Window"},
        columns={"Reservations": created}
        | {name: share_in_windows(outcome, SELECTED) for name, outcome in shares.items()},
        worst="Rejected",
    )
    column(made, "Reservations", unit=COUNT)
    for name in _SPIKES:
        column(made, name, alert="spike_share")
    return made


def _trends() -> list[Panel]:
    made: list[Panel] = []
    for name in _SPIKES:
        outcome = _OUTCOMES[name]
        made += [
            graph(
                f"{name}, window by window",
                f"Share of the reservations that ended as {name.lower()}, in each window before each "
                "instant. A short window that leaves the long ones behind is a change. Above the dashed "
                "line a channel hardly works.",
                SHARE,
                query(share_in_windows(outcome, SELECTED), f"{_NAME}: {{{{window}}}}"),
                alert_line("spike_share"),
            ),
            graph(
                f"{name}, bounds and baseline",
                f"Share of the reservations of the last 15 minutes that ended as {name.lower()}, and how "
                "high it is at least but for chance: the lower bounds of the last 15 minutes and of the "
                "last hour. An alert fires where a bound is above its limit, a multiple of the baseline, "
                "and enough is lost.",
                SHARE,
                query(ratio("share", outcome, "15m"), f"{_NAME}: share"),
                query(ratio("lower_bound", outcome, "15m"), f"{_NAME}: bound, 15m"),
                query(ratio("lower_bound", outcome, "1h"), f"{_NAME}: bound, 1h"),
                query(ratio("baseline", outcome), f"{_NAME}: baseline"),
                query(_limit(outcome, "15m"), f"{_NAME}: limit, 15m"),
                query(_limit(outcome, "1h"), f"{_NAME}: limit, 1h"),
            ),
        ]
    created = (
        f"max by (workspace, channel) (increase(twilio_taskrouter_reservations_total{{{SELECTED}}}[1h]))"
    )
    recent, last_week = (recorded(f"taskrouter:reservations:{kind}") for kind in ("recent", "last_week"))
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
            "Lost beyond the baseline, in an hour",
            "Reservations of the last hour that were rejected or timed out beyond the baseline.",
            COUNT,
            query(ratio("excess", "rejected", "1h"), f"{_NAME}: rejected"),
            query(ratio("excess", "timed_out", "1h"), f"{_NAME}: timed out"),
        ),
        graph(
            "Reservations in an hour",
            "Reservations that were created in the hour before each instant." + NEEDS_COUNTERS,
            COUNT,
            query(created, _NAME),
        ),
    ]


def _routing(subject: str, description: str) -> Panel:
    """Return a table of the channel's tasks by queue or workflow."""
    now, window = f"twilio_taskrouter_{subject}", f"twilio_taskrouter_{subject}_window"

    def values(metric: str, selected: str) -> str:
        return f"max by (workspace, channel, {subject}) ({metric}{{{selected}}})"

    waiting = values(f"{now}_tasks", f'{SELECTED}, status="pending"')
    reserved = values(f"{now}_tasks", f'{SELECTED}, status="reserved"')
    entered, canceled = (
        values(f"{window}_task_events", f'{_WINDOW}, event="{event}"') for event in ("entered", "canceled")
    )
    created = values(f"{window}_reservations", _WINDOW)
    rejected, timed_out = (
        values(f"{window}_reservation_outcomes", f'{_WINDOW}, outcome="{_OUTCOMES[name]}"')
        for name in _SPIKES
    )
    made = rows(
        f"{subject.capitalize()}s",
        description,
        SHARE,
        keys={"workspace": "Workspace", "channel": "Channel", subject: subject.capitalize()},
        columns={
            "Longest wait": values(f"{now}_longest_waiting_task_age_seconds", SELECTED),
            "Tasks waiting": f"{waiting} + {reserved}",
            "Entered": entered,
            "Average wait": values(f"{window}_task_wait_avg_seconds", f'{_WINDOW}, until="accepted"'),
            "Canceled": f"{canceled} / ({entered} > 0)",
            "Rejected": f"{rejected} / ({created} > 0)",
            "Timed out": f"{timed_out} / ({created} > 0)",
        },
        worst="Longest wait",
    )
    for heading, unit in {
        "Longest wait": SECONDS,
        "Tasks waiting": COUNT,
        "Entered": COUNT,
        "Average wait": SECONDS,
    }.items():
        column(made, heading, unit=unit)
    return made


def _limit(outcome: str, span: str) -> str:
    multiple = f'scalar(max(taskrouter:threshold{{threshold="spike_multiple_{span}"}}))'
    return f"{ratio('baseline', outcome)} * {multiple}"


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
            "Workers' time by Activity",
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
