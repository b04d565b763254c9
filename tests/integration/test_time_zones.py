"""Counters that begin at local midnight, by the real process, over the days on which the clock is moved."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from support.configurations import simulated
from support.exporter import Exporter
from support.faked_clock import FakedClock

from taskrouter_exporter.simulator import ContactCentre, Simulator

SECOND: Final = timedelta(seconds=1)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "start", "hours"),
    [
        ("Europe/Berlin", utc("2026-03-28T23:00"), 23),
        ("Europe/Berlin", utc("2026-10-24T22:00"), 25),
        ("Asia/Beirut", utc("2026-03-28T22:00"), 23),
        ("Asia/Kolkata", utc("2026-03-28T18:30"), 24),
    ],
)
def test_counters_begin_at_local_midnight(
    *,
    zone: str,
    start: datetime,
    hours: int,
    program: Callable[[str, str], str],
    tmp_path: Path,
    centre: ContactCentre,
    start_exporter: Callable[..., Exporter],
) -> None:
    end = start + timedelta(hours=hours)
    clock = FakedClock(end - SECOND, program("faketime", "faketime"), tmp_path)
    with Simulator(centre, clock) as simulator:
        config = simulated(simulator)
        local, default = config["targets"] = config["targets"][:2]
        local["timezone"] = zone
        exporter = start_exporter(config, environment=clock.environment)
        for moment, begun in ((end - SECOND, start), (end, end)):
            clock.set(moment)
            scrape = exporter.scrape(accept="application/openmetrics-text")
            labels = {"workspace": local["name"], "channel": "all"}
            assert scrape.value("up", window="day", **labels) == 1
            assert scrape.value("reservations_created", **labels) == begun.timestamp()
            assert scrape.value("reservations_total", **labels) == len(
                centre.reservations(local["workspace"], begun, moment, None)
            )
            midnight = moment.replace(hour=0, minute=0, second=0)
            labels["workspace"] = default["name"]
            assert scrape.value("reservations_created", **labels) == midnight.timestamp()
