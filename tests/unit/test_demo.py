"""The demo's scenarios, and whether its scrapes stay within the simulator's rate limit."""

import base64
import json
from collections import Counter

from taskrouter_exporter.demo import SCENARIOS, demo_configuration, start_demo
from taskrouter_exporter.simulator import Scenario
from taskrouter_exporter.simulator.wire import Request


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


def test_a_scrape_meets_the_rate_limit_in_the_scenario_of_that_name_only() -> None:
    statuses = {scenario: _statuses_of_a_burst(scenario) for scenario in SCENARIOS}
    assert statuses.pop("rate-limit") == {200: 30, 429: 18}
    assert statuses == {scenario: {200: 48} for scenario in Scenario}
