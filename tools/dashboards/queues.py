"""The wallboard: how many tasks wait in each queue, how long, and who is there to take them."""

from typing import Final

from grafana_foundation_sdk.builders import common
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    BigValueJustifyMode,
    BigValueTextMode,
)

from tools.dashboards.alert_list import alert_list
from tools.dashboards.colours import above, steps
from tools.dashboards.parts import (
    COUNT,
    QUEUES,
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
    rows,
    whole,
)

_SELECTED: Final = f'{SELECTED}, queue=~"$queue"'
_WINDOW: Final = f'{_SELECTED}, window="$window"'
_QUEUE: Final = "workspace, queue"
_NAME: Final = "{{workspace}} / {{queue}}"
_PREFIX: Final = "twilio_taskrouter_queue"


def dashboard() -> builders.Dashboard:
    """Return the dashboard."""
    made = board(
        QUEUES,
        "TaskRouter / Queues",
        "A wallboard: the tasks that wait in each queue, for how long, and who is there to take them.",
        more=("queue", "window"),
        first=("workspace",),
    )
    add_row(made, "Now", *_wall())
    add_row(made, "Queues", _table())
    add_row(made, "Alerts", alert_list())
    add_row(made, "Over time", *_history())
    return made


def _waiting() -> str:
    return whole(f"{_PREFIX}_tasks", _QUEUE, f'{_SELECTED}, status=~"pending|reserved"', per=_QUEUE)


def _oldest(channels: str) -> str:
    return f"max by ({_QUEUE}) ({_PREFIX}_longest_waiting_task_age_seconds{{{_SELECTED}, {channels}}})"


def _oldest_call() -> str:
    return _oldest('channel="voice"')


def _oldest_other() -> str:
    """Return that of other channels; of all where nothing else is polled."""
    other, everything = _oldest('channel!~"voice|all"'), _oldest('channel="all"')
    return f"{other} or on ({_QUEUE}) {everything}"


def _workers(which: str) -> str:
    """Return Workers by queue. Each may take tasks of several channels, and counts once."""
    return f"max by ({_QUEUE}) ({_PREFIX}_{which}_workers{{{_SELECTED}}})"


def _events(event: str) -> str:
    return whole(f"{_PREFIX}_window_task_events", _QUEUE, f'{_WINDOW}, event="{event}"', per=_QUEUE)


def _service_level() -> str:
    by, waits = f"{_QUEUE}, threshold", f"{_PREFIX}_window_task_waits"
    accepted = f'{_WINDOW}, until="accepted"'
    in_time = whole(waits, by, f'{accepted}, side="below"', per=by)
    return f"({in_time}) / (({whole(waits, by, accepted, per=by)}) > 0)"


def _abandoned() -> str:
    return f"({_events('canceled')}) / (({_events('entered')}) > 0)"


def _average_wait() -> str:
    total = f"{_PREFIX}_window_task_wait_total_seconds"
    waits = whole(total, _QUEUE, f'{_WINDOW}, until="accepted"', per=_QUEUE)
    accepted = whole(
        f"{_PREFIX}_window_reservation_outcomes", _QUEUE, f'{_WINDOW}, outcome="accepted"', per=_QUEUE
    )
    return f"({waits}) / (({accepted}) > 0)"


def _wall() -> list[Panel]:
    shown = [
        number(
            "Tasks waiting",
            "Tasks of each queue that no Worker has accepted yet.",
            COUNT,
            query(_waiting(), _NAME, instant=True),
        ),
        number(
            "Longest wait, calls",
            "How long the oldest task of the channel voice has been waiting. Coloured where an alert fires.",
            SECONDS,
            query(_oldest_call(), _NAME, instant=True),
            colours=above("calls_waiting_seconds"),
        ),
        number(
            "Longest wait, other channels",
            "How long the oldest other task has been waiting, or the oldest of all where single channels "
            "are not polled. Coloured where an alert fires.",
            SECONDS,
            query(_oldest_other(), _NAME, instant=True),
            colours=above("tasks_waiting_seconds"),
        ),
        number(
            "Available Workers",
            "Workers of each queue who are available for a task. Red where there is none.",
            COUNT,
            query(_workers("available"), _NAME, instant=True),
            colours=steps("red", (1, "green")),
        ),
        number(
            "Service level",
            "Share of the tasks of the chosen window that were accepted within the service level.",
            SHARE,
            query(_service_level(), f"{_NAME} ≤ {{{{threshold}}}}", instant=True),
        ),
    ]
    for panel in shown:
        # To be read from afar: nothing but the name and the number, as large as possible.
        panel.color_mode(BigValueColorMode.BACKGROUND_SOLID).graph_mode(BigValueGraphMode.NONE)
        panel.text_mode(BigValueTextMode.VALUE_AND_NAME).justify_mode(BigValueJustifyMode.CENTER)
        panel.text(common.VizTextDisplayOptions().title_size(24)).height(6).span(24)
    return list(shown)


def _table() -> Panel:
    made = rows(
        "Queues, longest wait first",
        "What waits now, who is there, and what became of the tasks that entered the queue in the chosen "
        "window. Canceled tasks are those of callers who gave up.",
        COUNT,
        keys={"workspace": "Workspace", "queue": "Queue"},
        columns={
            "Longest wait": _oldest('channel=~".+"'),
            "Tasks waiting": _waiting(),
            "Available Workers": _workers("available"),
            "Eligible Workers": _workers("eligible"),
            "Entered": _events("entered"),
            "Average wait": _average_wait(),
            "Canceled": _abandoned(),
        },
        worst="Longest wait",
    )
    column(made, "Longest wait", unit=SECONDS)
    column(made, "Average wait", unit=SECONDS)
    column(made, "Canceled", unit=SHARE)
    return made


def _history() -> list[Panel]:
    activities = f"max by (workspace, activity) (twilio_taskrouter_workers{{{SELECTED}}})"
    return [
        graph(
            "Tasks waiting over time",
            "Tasks of each queue that no Worker had accepted yet.",
            COUNT,
            query(_waiting(), _NAME),
            stacked=True,
        ),
        graph(
            "Available Workers over time",
            "Workers of each queue who were available for a task.",
            COUNT,
            query(_workers("available"), _NAME),
        ),
        graph(
            "Longest wait over time, calls",
            "How long the oldest task of the channel voice had been waiting. Above a dashed line an alert "
            "fires.",
            SECONDS,
            query(_oldest_call(), _NAME),
            alert_line("calls_waiting_seconds"),
        ),
        graph(
            "Longest wait over time, other channels",
            "How long the oldest other task had been waiting. Above a dashed line an alert fires.",
            SECONDS,
            query(_oldest_other(), _NAME),
            alert_line("tasks_waiting_seconds"),
        ),
        graph(
            "Service level over time",
            "Share of the tasks of the chosen window before each instant that were accepted within the "
            "service level.",
            SHARE,
            query(_service_level(), f"{_NAME} ≤ {{{{threshold}}}}"),
            most=1,
        ),
        graph(
            "Abandoned tasks",
            "Share of the tasks which entered the queue in the chosen window that were canceled.",
            SHARE,
            query(_abandoned(), _NAME),
        ),
        graph(
            "Tasks entered",
            "Tasks that entered each queue in the chosen window before each instant.",
            COUNT,
            query(_events("entered"), _NAME),
            stacked=True,
        ),
        graph(
            "Workers by Activity",
            "Workers of the workspace in each Activity at each instant.",
            COUNT,
            query(f"sum by (activity) ({activities})", "{{activity}}"),
            stacked=True,
        ),
    ]
