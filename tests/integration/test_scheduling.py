"""Isolation of targets from each other, and pacing below rate limits, in the real process."""

from collections.abc import Callable

import pytest
from support.configurations import simulated
from support.exporter import Exporter
from support.faults import Fault, FaultySimulator

from taskrouter_exporter.simulator import ContactCentre, Simulator

WINDOWS = [f"{number}m" for number in range(1, 21)]


@pytest.mark.parametrize(
    "fault",
    [Fault.hang(), Fault.slow_drip(0.05, headers=True), Fault.slow_drip(0.05)],
    ids=["hang", "slow head", "slow body"],
)
def test_twenty_good_queries_are_up_beside_forty_that_hang(
    fault: Fault, simulator: FaultySimulator, start_exporter: Callable[..., Exporter]
) -> None:
    config = simulated(simulator, request_timeout="2s")
    for target in config["targets"]:
        target.update(channels=["all"], windows=WINDOWS, counters=None)
        del target["counters"]
    *hanging, good = simulator.centre.workspaces
    for workspace in hanging:
        simulator.faults.set(workspace.sid, fault)
    exporter = start_exporter(config)
    ups = []
    for _ in range(3):
        scrape = exporter.scrape(8)
        assert scrape.answer.seconds < 8
        ups.append(sum(scrape.find("up", workspace=good.friendly_name).values()))
        assert len(scrape.find("up")) == 60
        assert sum(scrape.find("up").values()) == ups[-1]
    assert ups[1:] == [20, 20]


def test_a_burst_that_would_exhaust_the_rate_limit_is_spaced(
    centre: ContactCentre, start_exporter: Callable[..., Exporter]
) -> None:
    with Simulator(centre, rate_limit=2) as simulator:
        config = simulated(simulator)
        config["targets"] = [{"workspace": centre.workspaces[0].sid, "windows": [*WINDOWS, "1h", "2h", "3h"]}]
        exporter = start_exporter(config)
        scrape = exporter.scrape(16)
    assert set(scrape.find("up").values()) == {1}
    refused = scrape.find("api_requests_total", code="429")
    # 20 of 23 are admitted in 10 s. In one burst, the others would be refused 12 times in all.
    assert sum(refused.values()) < 12
