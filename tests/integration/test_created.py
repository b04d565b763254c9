"""`_created` series, and what leaves them out."""

from collections.abc import Callable, Mapping, Sequence

import pytest
from support.configurations import simulated
from support.exporter import Exporter
from support.faults import FaultySimulator

OPENMETRICS = "application/openmetrics-text;version=1.0.0"
VARIABLE = "PROMETHEUS_DISABLE_CREATED_SERIES"


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--web.disable-created"], {}),
        ([], {"TASKROUTER_EXPORTER_WEB_DISABLE_CREATED": "true"}),
        ([], {VARIABLE: "True"}),
    ],
    ids=["flag", "variable of the flag", "variable of prometheus-client"],
)
def test_disabled_created_series_are_left_out_and_nothing_else(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    simulator: FaultySimulator,
    start_exporter: Callable[..., Exporter],
) -> None:
    config = simulated(simulator)
    with_created = start_exporter(config)
    without = start_exporter(config, arguments, environment)
    for accept in ("", OPENMETRICS):
        for exporter in (with_created, without):
            exporter.scrape()  # an HTTP status has a series from its first answer on
        names, left = (each.scrape(accept=accept).names() for each in (with_created, without))
        created = {name for name in names if name.endswith("_created")}
        assert left == names - created
        if accept:
            assert {
                "reservations_created", "activity_seconds_created", "api_requests_created",
                "api_request_duration_seconds_created",
            } <= created  # fmt: skip


def test_other_values_of_the_variable_disable_nothing(
    simulator: FaultySimulator, start_exporter: Callable[..., Exporter]
) -> None:
    exporter = start_exporter(simulated(simulator), environment={VARIABLE: "yes"})
    assert {"reservations_created", "api_retries_created"} <= exporter.scrape(accept=OPENMETRICS).names()
