import base64
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from support.config_files import targets_of

from taskrouter_exporter.config.model import Config
from taskrouter_exporter.demo import SCENARIOS, busy_offset, demo_configuration, start_demo
from taskrouter_exporter.expansion import static_queries
from taskrouter_exporter.simulator import ContactCentre, Scenario, Simulator
from taskrouter_exporter.simulator.wire import Request

HOURS = timedelta(hours=4)


@contextmanager
def demo(scenario: Scenario) -> Iterator[tuple[Simulator, Config]]:
    simulator, config = start_demo(scenario)
    yield simulator, config
    simulator.close()


def test_the_demo_has_a_target_for_each_workspace_and_channel_of_its_simulator() -> None:
    with demo(Scenario.CALM) as (simulator, config):
        targets = {(target.workspace_sid, target.channel) for target in targets_of(config)}
        assert targets == {
            (workspace.sid, channel)
            for workspace in simulator.centre.workspaces
            for channel in ("all", *(channel.unique_name for channel in workspace.channels))
            if channel != "default"  # which has no Tasks
        }
        assert {query.period.label for query in static_queries(config)} == {"15m", "4h", "8h", "day", ""}
        assert config.accounts["demo"].base_url == simulator.base_url


@pytest.mark.parametrize("hour", [3, 12, 21])
def test_a_calm_day_meets_the_service_levels(hour: int) -> None:
    """Or a new Prometheus, which has no baseline, shows a critical alert within minutes."""
    baseline_default, few = 0.15, 20
    now = datetime(2026, 11, 25, hour, 37, tzinfo=UTC)
    centre = ContactCentre(ahead=busy_offset(now))
    with demo(Scenario.CALM) as (_, config):
        (levels,) = {query.service_levels for query in static_queries(config) if query.service_levels}
    shares = []
    for workspace in centre.workspaces:
        for subject in (None, *(queue.sid for queue in workspace.queues)):
            answer = centre.task_statistics(workspace.sid, now - HOURS, now, None, subject, levels)
            for sides in answer["split_by_wait_time"].values():
                below, above = (sides[side]["reservations_accepted"] for side in ("below", "above"))
                if below + above >= few:
                    shares.append(above / (below + above))
    assert 0 < max(shares) < baseline_default


def test_the_calm_demo_has_no_incident() -> None:
    with demo(Scenario.CALM) as (simulator, _):
        assert simulator.centre.incident is None


def test_the_incident_of_a_scenario_starts_in_five_minutes_and_lasts_an_hour() -> None:
    before = datetime.now(UTC)
    with demo(Scenario.OUTAGE) as (simulator, _):
        incident = simulator.centre.incident
        assert incident is not None
        assert timedelta(minutes=5) <= incident.start - before < timedelta(minutes=6)
        assert incident.end - incident.start == timedelta(hours=1)


@pytest.mark.usefixtures("uncovered")
def test_the_demo_starts_in_a_busy_hour_at_any_time() -> None:
    for hours in range(0, 7 * 24, 5):
        now = datetime(2026, 11, 22, 23, 59, 59, 999_999, tzinfo=UTC) + timedelta(hours=hours)
        local = now + busy_offset(now)
        assert (local.weekday(), local.hour) == (2, 9)
        centre = ContactCentre(ahead=busy_offset(now))
        support = centre.workspaces[0].sid
        created = centre.task_statistics(support, now, now + timedelta(hours=1), "voice")["tasks_created"]
        assert created > 120
        queues = (queue.sid for queue in centre.workspaces[0].queues)
        for queue in queues:
            assert centre.real_time_statistics(support, now, None, queue)["total_available_workers"] > 1


def test_the_demos_centre_has_a_busy_hour_now() -> None:
    with demo(Scenario.CALM) as (simulator, _):
        centre, now = simulator.centre, datetime.now(UTC)
        support = centre.workspaces[0].sid
        assert len(centre.reservations(support, now, now + timedelta(hours=1), "voice")) > 120


def _statuses_of_a_burst(scenario: str) -> Counter[int]:
    """Return the statuses of the requests of one scrape, sent at once."""
    simulator, _ = start_demo(scenario)
    simulator.close()
    centre = simulator.centre
    credentials = base64.b64encode(f"{centre.account_sid}:{centre.auth_token}".encode()).decode()
    statuses: Counter[int] = Counter()
    for target in json.loads(demo_configuration(simulator))["targets"]:
        path = f"/v1/Workspaces/{target['workspace']}/Workers/CumulativeStatistics"
        request = Request("GET", path, {}, {"authorization": f"Basic {credentials}"})
        for _ in range(len(target["channels"]) * (len(target["windows"]) + 1)):
            statuses[simulator.answer(request).status] += 1
    return statuses


@pytest.mark.usefixtures("uncovered")
def test_a_scrape_meets_the_rate_limit_in_the_scenario_of_that_name_only() -> None:
    statuses = {scenario: _statuses_of_a_burst(scenario) for scenario in SCENARIOS}
    assert statuses.pop("rate-limit") == {200: 30, 429: 18}
    assert statuses == {scenario: {200: 48} for scenario in Scenario}
