from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from taskrouter_exporter.config.model import Config
from taskrouter_exporter.demo import start_demo
from taskrouter_exporter.simulator import Scenario, Simulator


@contextmanager
def demo(scenario: Scenario) -> Iterator[tuple[Simulator, Config]]:
    simulator, config = start_demo(scenario)
    yield simulator, config
    simulator.close()


def test_the_demo_has_a_target_for_each_workspace_and_channel_of_its_simulator() -> None:
    with demo(Scenario.CALM) as (simulator, config):
        targets = {(target.workspace_sid, target.channel) for target in config.targets}
        assert targets == {
            (workspace.sid, channel)
            for workspace in simulator.centre.workspaces
            for channel in ("all", *(channel.unique_name for channel in workspace.channels))
            if channel != "default"  # which has no Tasks
        }
        assert {query.period.label for query in config.queries} == {"15m", "4h", "8h", "day"}
        assert config.accounts["demo"].base_url == simulator.base_url


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
