"""Fixtures that several test folders share."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import settings
from support.exporter import Exporter
from support.faults import FaultySimulator

from taskrouter_exporter.simulator import ContactCentre

# A test asserts no seconds: a busy machine is no failure.
settings.register_profile("default", deadline=None)
settings.load_profile("default")


@pytest.fixture(scope="session")
def program() -> Callable[[str, str], str]:
    """The path of a program from a Debian package; without it the test skips, or fails where CI=true."""

    def find(name: str, package: str) -> str:
        path = shutil.which(name)
        if path is None:
            reason = f"needs {name}: apt-get install {package}"
            if os.environ.get("CI") == "true":
                pytest.fail(reason)
            pytest.skip(reason)
        return path

    return find


@pytest.fixture(scope="module")
def centre() -> ContactCentre:
    return ContactCentre(seed=7)


@pytest.fixture
def simulator(centre: ContactCentre) -> Iterator[FaultySimulator]:
    # Tests scrape far more often than Prometheus does.
    with FaultySimulator(centre, rate_limit=500) as simulator:
        yield simulator


StartExporter = Callable[..., Exporter]


@pytest.fixture
def start_exporter(tmp_path: Path, centre: ContactCentre) -> Iterator[StartExporter]:
    """Start exporters; at the end each is stopped and its log is looked through."""
    started: list[Exporter] = []

    def start(
        config: object = None, arguments: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> Exporter:
        more = list(arguments)
        if config is not None:
            path = tmp_path / "config.yaml"
            path.write_text(config if isinstance(config, str) else json.dumps(config), encoding="utf-8")
            more.append(f"--config.file={path}")
        started.append(Exporter(more, tmp_path / f"exporter-{len(started)}.log", environment))
        return started[-1]

    yield start
    for exporter in started:
        if exporter.process.poll() is None:
            exporter.stop()
        exporter.assert_clean_log([centre.auth_token])
