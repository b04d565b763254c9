"""Every kind of statistics, by the real process, the simulator and the real Prometheus."""

import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from support.configurations import simulated
from support.exporter import PREFIX, Exporter, Labels, labelled
from support.faked_clock import SetClock, day_that_lasts
from support.faults import Fault, FaultySimulator
from support.prometheus import Prometheus, increase

from taskrouter_exporter.simulator import ContactCentre, WorkspaceModel
from taskrouter_exporter.statistics import KINDS
from taskrouter_exporter.statistics.kind import Kind

StartExporter = Callable[..., Exporter]
StartPrometheus = Callable[[Exporter], Prometheus]
FindProgram = Callable[[str, str], str]
KEYS: dict[str, Any] = {
    "statistics": ["workers", "tasks", "realtime"],
    "queues": "auto",
    "workflows": "auto",
    "service_levels": ["20s", "1m"],
}


def everything(simulator: FaultySimulator, **polling: Any) -> dict[str, Any]:
    """A configuration of every workspace with every kind of statistics, over all channels and for voice."""
    config = simulated(simulator, **polling)
    for target in config["targets"]:
        target.update(KEYS)
    return config


@pytest.fixture
def clock() -> SetClock:
    return SetClock(day_that_lasts() + timedelta(hours=11))


@pytest.fixture
def simulator(centre: ContactCentre, clock: SetClock, uncovered: None) -> Iterator[FaultySimulator]:
    del uncovered
    centre.prepare(clock.moment.replace(hour=0), clock.moment)
    with FaultySimulator(centre, clock, rate_limit=500) as simulator:
        yield simulator


@pytest.fixture
def exporter(simulator: FaultySimulator, start_exporter: StartExporter) -> Exporter:
    exporter = start_exporter(everything(simulator))
    exporter.wait_until_ready()
    return exporter


def rows(workspace: WorkspaceModel) -> dict[tuple[str, str], str | None]:
    """The SID of each subject by the prefix of its families and its name."""
    return {
        ("", ""): None,
        **{("queue_", each.friendly_name): each.sid for each in workspace.queues},
        **{("workflow_", each.friendly_name): each.sid for each in workspace.workflows},
    }


def labels_of(workspace: WorkspaceModel, channel: str, prefix: str, name: str) -> dict[str, str]:
    own = {prefix.rstrip("_"): name} if prefix else {}
    return {"workspace": workspace.friendly_name, "channel": channel, **own}


def test_every_family_has_the_api_s_own_numbers(
    centre: ContactCentre, clock: SetClock, exporter: Exporter
) -> None:
    scrape = exporter.scrape()
    assert set(scrape.find("up").values()) == {1}
    end = clock.moment
    for workspace in centre.workspaces:
        for channel in ("all", "voice"):
            only = None if channel == "all" else channel
            for (prefix, name), sid in rows(workspace).items():
                labels = labels_of(workspace, channel, prefix, name)
                window = centre.task_statistics(
                    workspace.sid, end - timedelta(minutes=15), end, only, sid, (20, 60)
                )
                entered = window.get("tasks_entered", window.get("tasks_created"))
                event = "entered" if prefix else "created"
                found = scrape.find(f"{prefix}window_task_events", **labels)
                assert found[labelled(**labels, window="15m", event=event)] == entered
                split = window["split_by_wait_time"]["60"]["below"]["reservations_accepted"]
                below = {"until": "accepted", "threshold": "1m", "side": "below"}
                found = scrape.find(f"{prefix}window_task_waits", **labels)
                assert found[labelled(**labels, window="15m", **below)] == split
                waits = scrape.find(f"{prefix}window_task_wait_max_seconds", until="accepted", **labels)
                assert list(waits.values()) == [window["wait_duration_until_accepted"]["max"]]
                now = centre.real_time_statistics(workspace.sid, end, only, sid)
                found = scrape.find(f"{prefix}tasks", **labels)
                assert {dict(each)["status"]: value for each, value in found.items()} == now[
                    "tasks_by_status"
                ]
                if prefix == "queue_":
                    available = scrape.value("queue_available_workers", **labels)
                    assert available == now["total_available_workers"]
            day = end.replace(hour=0, minute=0, second=0, microsecond=0)
            anchored = centre.task_statistics(workspace.sid, day, end, only)
            name = workspace.friendly_name
            total = scrape.value("task_events_total", workspace=name, channel=channel, event="completed")
            assert total == anchored["tasks_completed"]


def test_health_has_a_row_for_each_query_and_queues_share_their_requests(
    simulator: FaultySimulator, exporter: Exporter
) -> None:
    before = simulator.requests.count()
    scrape = exporter.scrape()
    up = Counter(
        (dict(labels)["statistics"], "queue" in dict(labels), "workflow" in dict(labels))
        for labels in scrape.find("up")
    )
    workspaces = simulator.centre.workspaces
    queues, workflows = (
        sum(len(getattr(workspace, name)) for workspace in workspaces) for name in ("queues", "workflows")
    )
    targets = 2 * len(workspaces)
    assert up == {
        ("workers", False, False): targets * 2,
        ("tasks", False, False): targets * 2,
        ("realtime", False, False): targets,
        ("tasks", True, False): 2 * queues * 2,
        ("realtime", True, False): 2 * queues,
        ("tasks", False, True): 2 * workflows * 2,
        ("realtime", False, True): 2 * workflows,
    }
    # The queues of all channels take one request for each workspace.
    saved = queues - len(workspaces)
    assert simulator.requests.count() - before == sum(up.values()) - saved
    assert {dict(labels).get("window") for labels in scrape.find("up", statistics="realtime")} == {None}


@pytest.mark.parametrize("kind", KINDS, ids=[f"{kind.name} of a {kind.subject}" for kind in KINDS])
def test_a_failure_concerns_its_own_queries_only(
    kind: Kind, simulator: FaultySimulator, start_exporter: StartExporter
) -> None:
    """The rest of the workspace's statistics are published, whichever kind fails."""
    exporter = start_exporter(everything(simulator, attempts=1))
    exporter.wait_until_ready()
    failing = simulator.centre.workspaces[0]
    ending = kind.resource.replace("{sid}/", "").lower()

    def is_concerned(path: str) -> bool:
        parts = path.lower().split("/")[4:]
        return "/".join(part for part in parts if len(part) != 34) == ending

    simulator.faults.set(failing.sid, Fault.status(503).where(is_concerned))
    scrape = exporter.scrape()
    down = {labels for labels, value in scrape.find("up").items() if value == 0}
    own = {kind.subject} - {"workspace"}
    assert down == {
        labels
        for labels in scrape.find("up", workspace=failing.friendly_name, statistics=kind.name)
        if dict(labels).keys() & {"queue", "workflow"} == own
    }
    assert down
    errors = scrape.find("poll_errors_total", reason="server_error")
    assert {labels - {("reason", "server_error")} for labels, value in errors.items() if value} == down


def test_a_renamed_queue_leaves_no_stale_series(
    centre: ContactCentre, simulator: FaultySimulator, start_exporter: StartExporter
) -> None:
    workspace = centre.workspaces[0]
    config = everything(simulator)
    config["discovery"] = {"interval": "10s"}
    exporter = start_exporter(config)
    exporter.wait_until_ready()
    old = workspace.queues[0]
    assert exporter.scrape().find("queue_tasks", queue=old.friendly_name)
    simulator.faults.set(
        workspace.sid,
        Fault.replaced(f'"{old.friendly_name}"'.encode(), b'"Renamed"').where(
            lambda path: path.endswith("/TaskQueues")
        ),
    )
    exporter.wait_for_log('msg="discovered queries changed" .*\n(.*\n)*.*msg="discovered queries changed"')
    scrape = exporter.scrape()
    assert scrape.find("queue_tasks", workspace=workspace.friendly_name, queue="Renamed")
    assert not scrape.find("queue_tasks", workspace=workspace.friendly_name, queue=old.friendly_name)
    assert not scrape.find("up", workspace=workspace.friendly_name, queue=old.friendly_name)


def test_promtool_has_nothing_to_say(program: FindProgram, exporter: Exporter) -> None:
    promtool = program("promtool", "prometheus")
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=exporter.scrape().answer.text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_counters_of_tasks_agree_with_the_event_log_across_a_restart(
    start_prometheus: StartPrometheus,
    clock: SetClock,
    simulator: FaultySimulator,
    start_exporter: StartExporter,
) -> None:
    centre = simulator.centre
    config = simulated(simulator)
    for target in config["targets"]:
        target.update(channels=["all"], statistics=["tasks"], queues="auto")
    day = clock.moment.replace(hour=0)
    moments = [day + timedelta(hours=9, minutes=25 * step) for step in range(5)]
    clock.moment = moments[0]
    exporter = start_exporter(config)
    exporter.wait_until_ready()
    prometheus = start_prometheus(exporter)

    def log(start: datetime, end: datetime) -> dict[Labels, float]:
        """Tasks that entered each queue."""
        return {
            labelled(workspace=workspace.friendly_name, channel="all", queue=queue.friendly_name): sum(
                each.kind == "entered" and each.queue == queue
                for each in centre.task_events(workspace.sid, start, end)
            )
            for workspace in centre.workspaces
            for queue in workspace.queues
        }

    name = f'{PREFIX}queue_task_events_total{{event="entered"}}'

    def pass_through(moments: list[datetime]) -> None:
        for moment in moments:
            clock.moment = moment
            wanted = {labels | labelled(event="entered"): count for labels, count in log(day, moment).items()}
            prometheus.wait_for_series(name, wanted)

    pass_through(moments[:2])
    assert exporter.stop() == 0
    prometheus.wait_for_series("up", {frozenset(): 0.0})
    clock.moment = moments[2]
    again = start_exporter(config, [f"--web.listen-address={exporter.address}"])
    again.wait_until_ready()
    pass_through(moments[3:])
    samples = prometheus.samples(f"{name}[5m]", time.time())
    grown = {labels - labelled(event="entered"): increase(values) for labels, values in samples.items()}
    assert grown == log(moments[0], moments[-1])
    assert sum(grown.values()) > 50
