import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from taskrouter_exporter.config.time_zones import is_time_zone, similar_time_zone, time_zone


@pytest.mark.parametrize(
    "name", ["UTC", "Europe/Berlin", "US/Eastern", "Etc/GMT+1", "America/Argentina/Salta"]
)
def test_names_of_the_database_are_time_zones(name: str) -> None:
    assert is_time_zone(name)


@pytest.mark.parametrize(
    "name",
    [
        *("", "Europe", "europe/berlin", "Europe/Berlin\0", "+02:00", "localtime", "Factory"),
        *("posix/Europe/Berlin", "right/Europe/Berlin", "../../etc/localtime", "/etc/localtime"),
    ],
)
def test_paths_and_other_spellings_are_no_time_zones(name: str) -> None:
    assert not is_time_zone(name)


@pytest.mark.parametrize(
    ("name", "similar"),
    [
        ("Europe/Berln", "Europe/Berlin"),
        ("europe/berlin", "Europe/Berlin"),
        ("Berlin", "Europe/Berlin"),
        ("New York", "America/New_York"),
        ("Europa/Madrid", "Europe/Madrid"),
    ],
)
def test_a_similar_name_is_suggested(name: str, similar: str) -> None:
    assert similar_time_zone(name) == similar


@pytest.mark.parametrize("name", ["GMT+1", "UTC+1", "+02:00", "CEST", "nowhere", "x" * 1_000_000])
def test_nothing_is_suggested_for_offsets_and_unknown_names(name: str) -> None:
    assert similar_time_zone(name) is None


def test_a_system_without_time_zones_has_those_of_the_package() -> None:
    program = (
        "from taskrouter_exporter.config.time_zones import is_time_zone, time_zone; "
        "print(is_time_zone('Europe/Berlin'), time_zone('Europe/Berlin'))"
    )
    environment = {**os.environ, "PYTHONTZPATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "True Europe/Berlin\n"


def test_a_time_zone_has_the_offsets_of_its_database() -> None:
    assert time_zone("UTC") is UTC
    assert datetime(2026, 7, 1, tzinfo=time_zone("Europe/Berlin")).utcoffset() == timedelta(hours=2)
