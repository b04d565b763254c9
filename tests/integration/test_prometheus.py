"""What the real Prometheus and its promtool make of the real process."""

import subprocess
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from support.configurations import simulated
from support.exporter import PREFIX, Exporter, Labels, Scrape, labelled
from support.faked_clock import FakedClock, SetClock, day_that_lasts
from support.faults import Fault, FaultySimulator
from support.prometheus import Prometheus, increase

from taskrouter_exporter.simulator import ContactCentre, Outcome, Simulator, WorkspaceModel

OPENMETRICS = "application/openmetrics-text;version=1.0.0"
CHANNELS = ("all", "voice")
ACTIVITY_METRICS = [f"window_activity_{each}_seconds" for each in ("min", "avg", "max", "total")]

StartExporter = Callable[..., Exporter]
StartPrometheus = Callable[[Exporter], Prometheus]
FindProgram = Callable[[str, str], str]


def log_channel(channel: str) -> str | None:
    """Return the channel's name in the event log, None for all."""
    return None if channel == "all" else channel


def targets(centre: ContactCentre) -> dict[Labels, tuple[str, str | None]]:
    """The labels of what `simulated` configures, with workspace SID and channel for the event log."""
    return {
        labelled(workspace=workspace.friendly_name, channel=channel): (workspace.sid, log_channel(channel))
        for workspace in centre.workspaces
        for channel in CHANNELS
    }


def created(centre: ContactCentre, start: datetime, end: datetime) -> dict[Labels, float]:
    """Reservations created in `[start, end)` by the event log, per target."""
    return {
        labels: len(centre.reservations(sid, start, end, channel))
        for labels, (sid, channel) in targets(centre).items()
    }


def ended(centre: ContactCentre, start: datetime, end: datetime) -> dict[Labels, float]:
    """Reservations that ended in `[start, end)` by the event log, per target and outcome."""
    return {
        labels | labelled(outcome=outcome): sum(
            each.outcome is outcome and start <= each.ended < end
            for each in centre.reservations(sid, start - timedelta(hours=1), end, channel)
        )
        for labels, (sid, channel) in targets(centre).items()
        for outcome in Outcome
    }


def test_prometheus_sees_every_query_up_and_every_window_metric(
    simulator: Simulator, start_exporter: StartExporter, start_prometheus: StartPrometheus
) -> None:
    prometheus = start_prometheus(start_exporter(simulated(simulator)))
    windows = {
        labels | labelled(window="15m"): target for labels, target in targets(simulator.centre).items()
    }
    periods = {*windows, *(labels | labelled(window="day") for labels in targets(simulator.centre))}
    queries = {labels | labelled(statistics="workers") for labels in periods}
    prometheus.wait_for("count_over_time(up[1m])", lambda series: min(series.values(), default=0) >= 3)
    prometheus.wait_for_series(PREFIX + "up", dict.fromkeys(queries, 1.0))
    prometheus.wait_for_series("up", {frozenset(): 1.0})

    at = time.time()
    outcomes = {labels | labelled(outcome=outcome) for labels in windows for outcome in Outcome}
    assert prometheus.query(PREFIX + "window_reservation_outcomes", at).keys() == outcomes
    activities = {
        labels | labelled(activity=activity.friendly_name, activity_sid=activity.sid)
        for workspace in simulator.centre.workspaces
        for labels in windows
        if ("workspace", workspace.friendly_name) in labels
        for activity in workspace.activities
    }
    for name in ACTIVITY_METRICS:
        assert prometheus.query(PREFIX + name, at).keys() == activities, name
    start, end = (
        prometheus.query(f"{PREFIX}window_{each}_timestamp_seconds", at) for each in ("start", "end")
    )
    assert prometheus.query(PREFIX + "window_reservations", at) == {
        labels: len(
            simulator.centre.reservations(
                sid,
                datetime.fromtimestamp(start[labels], UTC),
                datetime.fromtimestamp(end[labels], UTC),
                channel,
            )
        )
        for labels, (sid, channel) in windows.items()
    }
    assert {end[labels] - start[labels] for labels in windows} == {15 * 60}


def test_prometheus_sees_windows_as_gauges_and_anchored_statistics_as_counters(
    simulator: Simulator, start_exporter: StartExporter, start_prometheus: StartPrometheus
) -> None:
    prometheus = start_prometheus(start_exporter(simulated(simulator)))
    up = prometheus.wait_for(PREFIX + "up", lambda series: set(series.values()) == {1})
    assert len(up) == 3 * 2 * 2
    types = {
        name.removeprefix(PREFIX): {each["type"] for each in entries}
        for name, entries in prometheus.api("metadata").items()
    }
    windows = ["window_reservations", "window_reservation_outcomes", *ACTIVITY_METRICS]
    for name in [*windows, "window_start_timestamp_seconds", "window_end_timestamp_seconds", "up"]:
        assert types[name] == {"gauge"}, name
    for name in ("reservations", "reservation_outcomes", "activity_seconds", "poll_errors"):
        assert types[name] == {"counter"}, name


def test_increase_agrees_with_the_event_log_across_a_restart(
    centre: ContactCentre, start_exporter: StartExporter, start_prometheus: StartPrometheus
) -> None:
    # The clock of the API stands still at each of these, so that every sample has an exact place in the log.
    day = day_that_lasts()
    moments = [day + timedelta(hours=9, minutes=25 * step) for step in range(7)]
    clock = SetClock(moments[0])
    with Simulator(centre, clock) as simulator:
        config = simulated(simulator)
        exporter = start_exporter(config)
        prometheus = start_prometheus(exporter)

        def pass_through(moments: list[datetime]) -> None:
            for moment in moments:
                clock.moment = moment
                prometheus.wait_for_series(PREFIX + "reservations_total", created(centre, day, moment))

        pass_through(moments[:3])
        assert exporter.stop() == 0
        prometheus.wait_for_series("up", {frozenset(): 0.0})
        clock.moment = moments[3]
        # Where the first one listened, besides a port of its own: for Prometheus the same series.
        start_exporter(config, [f"--web.listen-address={exporter.address}"])
        pass_through(moments[4:])

        at = time.time()
        assert prometheus.query("changes(process_start_time_seconds[5m])", at) == {frozenset(): 1.0}
        for metric, log in (("reservations_total", created), ("reservation_outcomes_total", ended)):
            selector = f"{PREFIX}{metric}[5m]"
            samples = prometheus.samples(selector, at)
            grown = log(centre, moments[0], moments[-1])
            assert {labels: increase(values) for labels, values in samples.items()} == grown
            assert sum(grown.values()) > 50
            assert prometheus.query(f"resets({selector})", at) == dict.fromkeys(grown, 0.0)
            # increase() goes beyond the samples by 1.1 of their average distance at most, at either end.
            for labels, value in prometheus.query(f"increase({selector})", at).items():
                most = grown[labels] * (1 + 2.2 / (len(samples[labels]) - 1))
                assert grown[labels] <= value + 1e-6 <= most + 2e-6


HOSTILE_NAMES = [
    'a "quote", a back\\slash, \\n that is none',
    "two\nlines\r\nand\ttabs",
    "}# HELP twilio_taskrouter_up not a comment\n# EOF",
    "Ünïcödé 待機中 🎧 \u202eright to left\u202c \u2028 \ufeff",
    "control \x01\x07\x1b[31m\x7f\x85",
    "nul \x00 byte",
    " blanks ",
    "x" * 2000,
]
"""Names of Activities that a label value has to carry."""


def answer_with_hostile_names(simulator: FaultySimulator, workspace: WorkspaceModel) -> None:
    durations = [
        {"sid": f"WA{number:032}", "friendly_name": name, "min": 9.5, "avg": None, "max": 1, "total": 1e15}
        for number, name in enumerate(HOSTILE_NAMES)
    ]
    simulator.faults.set(workspace.sid, Fault.wrong_types("activity_durations", durations))


def test_prometheus_reads_hostile_label_values_unchanged(
    simulator: FaultySimulator, start_exporter: StartExporter, start_prometheus: StartPrometheus
) -> None:
    workspace = simulator.centre.workspaces[0]
    answer_with_hostile_names(simulator, workspace)
    config = simulated(simulator)
    config["targets"][0].update(name=HOSTILE_NAMES[0], channels=["all"])
    prometheus = start_prometheus(start_exporter(config))
    prometheus.wait_for("up", lambda series: set(series.values()) == {1})
    read = prometheus.query(f'{PREFIX}window_activity_total_seconds{{activity_sid=~"WA0{{16}}.*"}}')
    assert read == {
        labelled(
            workspace=HOSTILE_NAMES[0],
            channel="all",
            window="15m",
            activity=name,
            activity_sid=f"WA{number:032}",
        ): 1e15
        for number, name in enumerate(HOSTILE_NAMES)
    }


def check_metrics(promtool: str, text: bytes) -> tuple[int, str]:
    """Exit status and everything that `promtool check metrics` says about a text."""
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=20,
        check=False,
    )
    return done.returncode, done.stdout.decode()


def test_promtool_reports_no_problem_with_the_demo(
    program: FindProgram, start_exporter: StartExporter
) -> None:
    promtool = program("promtool", "prometheus")
    scrape = start_exporter(arguments=["--demo"]).scrape()
    assert {"up", "reservations_total", "process_cpu_seconds_total"} <= scrape.names()
    assert check_metrics(promtool, scrape.answer.body) == (0, "")


def test_promtool_reports_no_problem_with_hostile_missing_and_failed_answers(
    program: FindProgram, simulator: FaultySimulator, start_exporter: StartExporter
) -> None:
    promtool = program("promtool", "prometheus")
    hostile, empty, failing = simulator.centre.workspaces
    answer_with_hostile_names(simulator, hostile)
    simulator.faults.set(empty.sid, Fault.nulls())
    simulator.faults.set(failing.sid, Fault.status(503))
    config = simulated(simulator, attempts=2)
    config["targets"][0].update(name=HOSTILE_NAMES[0])
    scrape = start_exporter(config).scrape()
    assert sorted(scrape.find("up").values()) == [0] * 4 + [1] * 8
    assert len(scrape.find("window_activity_total_seconds", channel="all")) == len(HOSTILE_NAMES)
    assert check_metrics(promtool, scrape.answer.body) == (0, "")


def test_promtool_reports_no_problem_when_every_query_fails(
    program: FindProgram, simulator: FaultySimulator, start_exporter: StartExporter
) -> None:
    promtool = program("promtool", "prometheus")
    for workspace in simulator.centre.workspaces:
        simulator.faults.set(workspace.sid, Fault.reset())
    scrape = start_exporter(simulated(simulator, attempts=1)).scrape()
    assert set(scrape.find("up").values()) == {0}
    assert check_metrics(promtool, scrape.answer.body) == (0, "")


SATURDAY = datetime(2026, 11, 28, tzinfo=UTC)
SUNDAY, MONDAY, TUESDAY = (SATURDAY + timedelta(days=days) for days in (1, 2, 3))
WEEK_BEFORE = MONDAY - timedelta(days=7)


def anchored(simulator: Simulator) -> tuple[dict[str, Any], dict[str, WorkspaceModel]]:
    """A configuration with a workspace whose counters begin with the day, and one with the week."""
    config = simulated(simulator)
    config["targets"] = config["targets"][:2]
    by_anchor = dict(zip(("day", "week"), simulator.centre.workspaces, strict=False))
    for target, anchor in zip(config["targets"], by_anchor, strict=True):
        target["counters"] = anchor
    return config, by_anchor


@pytest.fixture
def clock(program: FindProgram, tmp_path: Path) -> FakedClock:
    return FakedClock(SUNDAY, program("faketime", "faketime"), tmp_path)


@pytest.mark.parametrize(
    ("anchors_before", "anchors_after"),
    [
        ({"day": SUNDAY, "week": WEEK_BEFORE}, {"day": MONDAY, "week": MONDAY}),
        ({"day": MONDAY, "week": MONDAY}, {"day": TUESDAY, "week": MONDAY}),
    ],
    ids=["Sunday to Monday", "Monday to Tuesday"],
)
def test_counters_reset_at_midnight_and_nothing_else_changes(
    anchors_before: Mapping[str, datetime],
    anchors_after: Mapping[str, datetime],
    clock: FakedClock,
    centre: ContactCentre,
    start_exporter: StartExporter,
) -> None:
    midnight = anchors_after["day"]
    before = [midnight - timedelta(seconds=seconds) for seconds in (6 * 3600, 60, 1)]
    after = [midnight + timedelta(seconds=seconds) for seconds in (0, 1, 12 * 3600)]
    with Simulator(centre, clock) as simulator:
        config, by_anchor = anchored(simulator)
        exporter = start_exporter(config, environment=clock.environment)
        scrapes: list[tuple[datetime, Scrape]] = []
        for moment in (*before, *after):
            clock.set(moment)
            scrapes.append((moment, exporter.scrape(accept=OPENMETRICS)))

    for moment, scrape in scrapes:
        assert set(scrape.find("up").values()) == {1}
        assert len(scrape.find("up")) == 8
        assert set(scrape.find("poll_errors_total").values()) == {0}
        anchors = anchors_before if moment < midnight else anchors_after
        for anchor, workspace in by_anchor.items():
            start = anchors[anchor]
            for channel in CHANNELS:
                of_target = {"workspace": workspace.friendly_name, "channel": channel}
                log = log_channel(channel)
                assert scrape.value("reservations_total", **of_target) == len(
                    centre.reservations(workspace.sid, start, moment, log)
                )
                for family in ("reservations", "reservation_outcomes", "activity_seconds"):
                    begun = set(scrape.find(f"{family}_created", **of_target).values())
                    assert begun == {start.timestamp()}
                window = moment - timedelta(minutes=15)
                assert scrape.value("window_reservations", **of_target) == len(
                    centre.reservations(workspace.sid, window, moment, log)
                )
                assert scrape.value("window_end_timestamp_seconds", **of_target) == moment.timestamp()
    assert {len(scrape.statistics()) for _, scrape in scrapes} == {len(scrapes[0][1].statistics())}

    names = ("reservations_total", "reservation_outcomes_total", "activity_seconds_total")
    for anchor, workspace in by_anchor.items():
        resets = int(anchors_after[anchor] == midnight)
        for name in names:
            series = [scrape.find(name, workspace=workspace.friendly_name) for _, scrape in scrapes]
            for labels, last_before in series[len(before) - 1].items():
                values = [each[labels] for each in series]
                drops = sum(a > b for a, b in pairwise(values))
                assert drops == (resets if last_before else 0), (name, labels)


def test_prometheus_sees_one_reset_at_midnight_and_loses_only_its_last_second(
    clock: FakedClock,
    centre: ContactCentre,
    start_exporter: StartExporter,
    start_prometheus: StartPrometheus,
) -> None:
    evening, last_second, noon = (
        MONDAY + timedelta(seconds=seconds) for seconds in (-6 * 3600, -1, 12 * 3600)
    )
    clock.set(evening)
    centre.prepare(WEEK_BEFORE, noon)
    with Simulator(centre, clock) as simulator:
        config, by_anchor = anchored(simulator)
        prometheus = start_prometheus(start_exporter(config, environment=clock.environment))
        name = PREFIX + "reservations_total"
        workspaces = {"day": SUNDAY, "week": WEEK_BEFORE}

        def wait_for(moment: datetime, starts: Mapping[str, datetime]) -> None:
            clock.set(moment)
            wanted = {
                labelled(workspace=workspace.friendly_name, channel=channel): float(
                    len(centre.reservations(workspace.sid, starts[anchor], moment, log_channel(channel)))
                )
                for anchor, workspace in by_anchor.items()
                for channel in CHANNELS
            }
            prometheus.wait_for_series(name, wanted)

        for moment in (evening, last_second):
            wait_for(moment, workspaces)
        for moment in (MONDAY, noon):
            wait_for(moment, dict.fromkeys(by_anchor, MONDAY))

        at = time.time()
        samples = prometheus.samples(f"{name}[5m]", at)
        assert len(samples) == 4
        assert prometheus.query(f"resets({name}[5m])", at) == dict.fromkeys(samples, 1.0)
        created_series = f"{PREFIX}reservations_created[5m]"
        assert prometheus.query(f"changes({created_series})", at) == dict.fromkeys(samples, 1.0)
        # On a busy machine a query may exceed the timeout of 1 s; nothing else may go wrong.
        failed = prometheus.query(f'max_over_time({PREFIX}poll_errors_total{{reason!="timeout"}}[5m])', at)
        assert set(failed.values()) == {0}
        for labels, (sid, channel) in targets(centre).items():
            if labels in samples:
                all_of_it = len(centre.reservations(sid, evening, noon, channel))
                lost = len(centre.reservations(sid, last_second, MONDAY, channel))
                assert all_of_it - lost <= increase(samples[labels]) <= all_of_it
