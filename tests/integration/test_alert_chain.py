"""An incident on its way to whoever is on call: exporter, Prometheus, Alertmanager, a webhook; in minutes."""

import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from support.alertmanager import Alert, Alertmanager, Webhook
from support.exporter import ROOT, Exporter
from support.faked_clock import FakedClock
from support.faster import faster
from support.prometheus import Prometheus
from support.waiting import wait_until

from taskrouter_exporter.demo import demo_configuration
from taskrouter_exporter.lines import PREFIX
from taskrouter_exporter.simulator import ContactCentre, Incident, Scenario, Simulator

FACTOR: Final = 30
"""How many times as fast as real time the contact centre's passes, and every duration of the rules."""

SCRAPES: Final = {"scrape_interval": "5s", "scrape_timeout": "5s"}
"""Not divided: a busy machine needs its seconds to answer."""

MORNING: Final = datetime(2035, 11, 28, 10, tzinfo=UTC)
"""A Wednesday's busy hour, always the same: what chance does in it is known. To come, so that its statistics
never look stale to Prometheus, whose clock is the real one."""

INCIDENTS: Final = {
    Scenario.REJECTION_SPIKE: Incident(MORNING + timedelta(minutes=5), MORNING + timedelta(minutes=35)),
    Scenario.QUEUE_BACKLOG: Incident(MORNING + timedelta(minutes=2), MORNING + timedelta(minutes=27)),
}
MONITORING: Final = ROOT / "monitoring"
OF_A_BUSY_MACHINE: Final = {"TaskRouterScrapeNearTimeout", "TaskRouterTargetDown", "TaskRouterExporterDown"}
"""Alerts that are right where the test's programs get too little time."""

StartExporter = Callable[..., Exporter]
FindProgram = Callable[[str, str], str]


class FastClock:
    """A clock that stands at `MORNING` until it is started."""

    def __init__(self) -> None:
        self._started: float | None = None

    def start(self) -> None:
        self._started = time.monotonic()

    def __call__(self) -> float:
        passed = 0 if self._started is None else time.monotonic() - self._started
        return MORNING.timestamp() + FACTOR * passed


@pytest.fixture
def scenario() -> Scenario:
    return Scenario.REJECTION_SPIKE


@pytest.fixture
def centre(scenario: Scenario) -> ContactCentre:
    return ContactCentre(seed=7, scenario=scenario, incident=INCIDENTS[scenario])


@pytest.fixture
def clock() -> FastClock:
    return FastClock()


@pytest.fixture
def exporter(  # noqa: PLR0917 -- fixtures
    scenario: Scenario,
    centre: ContactCentre,
    clock: FastClock,
    start_exporter: StartExporter,
    program: FindProgram,
    tmp_path: Path,
    uncovered: None,
) -> Iterator[Exporter]:
    """It exports the fast contact centre. Its own clock says which midnight its counters begin with."""
    del uncovered
    faked = FakedClock(MORNING, program("faketime", "faketime"), tmp_path)
    with Simulator(centre, clock) as simulator:
        # It stands still, and need not be looked at each time.
        del faked.environment["FAKETIME_NO_CACHE"]
        config = json.loads(demo_configuration(simulator))
        # Not everything at this speed: the calls of each queue, or else the Workers' statistics.
        if scenario is Scenario.QUEUE_BACKLOG:
            config["targets"] = [each for each in config["targets"] if each["channels"] == ["voice"]]
        else:
            for target in config["targets"]:
                for key in ("statistics", "queues", "workflows", "service_levels"):
                    target.pop(key, None)
        yield start_exporter(config, environment=faked.environment)


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook() as webhook:
        yield webhook


@pytest.fixture
def alertmanager(webhook: Webhook, program: FindProgram, tmp_path: Path) -> Iterator[Alertmanager]:
    config = faster(read(MONITORING / "alertmanager.yml"), FACTOR)
    (receiver,) = config["receivers"]
    receiver["webhook_configs"] = [{"url": webhook.url, "send_resolved": True}]
    path = program("prometheus-alertmanager", "prometheus-alertmanager")
    alertmanager = Alertmanager(path, config, tmp_path / "alertmanager")
    yield alertmanager
    alertmanager.stop()
    alertmanager.assert_clean_log()


@pytest.fixture
def prometheus(
    exporter: Exporter, alertmanager: Alertmanager, program: FindProgram, tmp_path: Path
) -> Iterator[Prometheus]:
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        json.dumps(faster(read(MONITORING / "rules" / "taskrouter.yaml"), FACTOR)), encoding="utf-8"
    )
    config = faster(read(MONITORING / "prometheus.yml"), FACTOR)
    config["scrape_configs"][0].update(SCRAPES, static_configs=[{"targets": [exporter.address]}])
    config["alerting"]["alertmanagers"][0]["static_configs"] = [{"targets": [alertmanager.address]}]
    config["rule_files"] = [str(rules)]
    path = program("prometheus", "prometheus")
    prometheus = Prometheus(path, config, tmp_path / "prometheus")
    yield prometheus
    prometheus.stop()
    prometheus.assert_clean_log()


def read(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def is_spike(alert: Alert) -> bool:
    return concerns(alert, alertname="TaskRouterRejectionSpike", workspace="support", channel="voice")


def concerns(alert: Alert, **wanted: str) -> bool:
    labels: dict[str, str] = alert["labels"]
    return wanted.items() <= labels.items()


@pytest.mark.timeout(900)
def test_a_spike_of_rejections_is_told_with_its_numbers_and_then_that_it_is_over(
    clock: FastClock, prometheus: Prometheus, alertmanager: Alertmanager, webhook: Webhook
) -> None:
    prometheus.wait_for("taskrouter:reservations:recent", lambda series: len(series) == 12, seconds=120)
    clock.start()

    def warning_is_inhibited() -> bool:
        known = {each["labels"]["severity"]: each for each in alertmanager.alerts() if is_spike(each)}
        if known.keys() != {"warning", "critical"}:
            return False
        inhibitors: list[str] = known["warning"]["status"]["inhibitedBy"]
        return inhibitors == [known["critical"]["fingerprint"]]

    def told(status: str) -> set[str]:
        return {alert["labels"]["severity"] for alert in webhook.alerts(status) if is_spike(alert)}

    wait_until("a critical alert", lambda: "critical" in told("firing"))
    wait_until("the warning held back", warning_is_inhibited)
    # It may take three quarters of an hour after the incident, at this speed a minute and a half. On a busy
    # machine the critical alert may hold the warning back before anybody was told of it.
    wait_until("all clear", lambda: told("resolved") == told("firing"), 300)
    wait_until("silence", lambda: not any(map(is_spike, alertmanager.alerts())))

    others = [alert for alert in webhook.alerts("firing") if not is_spike(alert)]
    assert {alert["labels"]["alertname"] for alert in others} <= OF_A_BUSY_MACHINE
    for alert in filter(is_spike, webhook.alerts("firing")):
        description, runbook = (alert["annotations"][name] for name in ("description", "runbook_url"))
        numbers = re.fullmatch(
            r"In workspace support, channel voice, ([0-9.]+)% of the reservations of the last 15m, "
            r"([0-9.]+)% of the reservations of the last 1h, were rejected\. The baseline is ([0-9.]+)%\.",
            description,
        )
        assert numbers, description
        quarter, hour, baseline = map(float, numbers.groups())
        assert baseline == 15, "the default, as there is no past"
        assert max(quarter, hour) > 1.5 * baseline
        assert runbook.endswith("docs/runbooks.md#taskrouterrejectionspike")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("scenario", [Scenario.QUEUE_BACKLOG])
def test_a_queue_that_backs_up_is_told_by_its_name_and_then_that_it_is_over(
    clock: FastClock, prometheus: Prometheus, webhook: Webhook
) -> None:
    prometheus.wait_for(PREFIX + "queue_tasks", bool, seconds=120)
    clock.start()

    def told(status: str) -> list[Alert]:
        queue = {"workspace": "support", "channel": "voice", "queue": "Voice"}
        return [
            alert
            for alert in webhook.alerts(status)
            if concerns(alert, alertname="TaskRouterTasksWaiting", severity="warning", **queue)
        ]

    wait_until("an alert of the queue", lambda: bool(told("firing")))
    wait_until("all clear", lambda: bool(told("resolved")))
    for alert in told("firing"):
        description, runbook = (alert["annotations"][name] for name in ("description", "runbook_url"))
        queue = "In workspace support, channel voice, queue Voice"
        found = re.fullmatch(rf"{queue}, the oldest task has been waiting for (\d+)m \d+s\.", description)
        assert found, description
        assert int(found[1]) >= 5
        assert runbook.endswith("docs/runbooks.md#taskroutertaskswaiting")
    others = {alert["labels"]["queue"] for alert in webhook.alerts("firing") if "queue" in alert["labels"]}
    assert others == {"Voice"}
