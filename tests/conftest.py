"""Fixtures that several test folders share."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import settings
from support.coverage import processes_without_coverage, without_coverage
from support.exporter import Exporter
from support.faults import FaultySimulator
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from taskrouter_exporter.simulator import ContactCentre

# The longest first, or the last one would run alone at the end.
LONGEST_FIRST = (
    "tests/integration/test_weeks.py",
    "tests/integration/test_image.py",
    "tests/integration/test_dashboards.py",
    "tests/integration/test_backfill.py",
    "tests/integration/test_alert_chain.py",
    "tests/integration/test_rules.py",
    "tests/integration/test_wheel.py",
    "tests/integration/test_tutorial.py",
    "tests/stress/test_disturbed_connections.py",
    "tests/stress/test_stress.py",
    "tests/integration/test_scheduling.py",
)
# Their fixtures are too expensive to be set up by each worker.
ON_ONE_WORKER = {
    *(
        f"tests/integration/test_{name}.py"
        for name in ("backfill", "dashboards", "debian", "docs", "image", "landing", "wheel")
    ),
    "tests/fuzz/test_http_fuzz.py",
}

# Other tests of the real process cover what these run, which start hundreds of them.
COVERED_ELSEWHERE = (
    "tests/fuzz/",
    "tests/stress/",
    *(
        f"tests/integration/test_{name}.py"
        for name in (
            "alert_chain", "backfill", "dashboards", "faults", "gone_clients", "hardening",
            "network_settings", "probe", "query", "replaced_files", "scheduling", "secrets", "weeks",
        )
    ),
)  # fmt: skip

# A test asserts no seconds: a busy machine is no failure.
settings.register_profile("default", deadline=None)
settings.load_profile("default")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the longest tests; the sort is stable."""
    places = {file: place for place, file in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(places)))


class Scheduling(LoadScopeScheduling):
    """Distributes tests one by one, except those of some files.

    Its own `--dist=loadgroup` does nothing: xdist 3.8 sets an attribute that pytest 9.2 does not read.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if file in ON_ONE_WORKER else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    """Return the scheduling of `-n`."""
    return Scheduling(config, log)


@pytest.fixture
def uncovered() -> Iterator[None]:
    """Measure no coverage during a test."""
    with without_coverage():
        yield


@pytest.fixture(scope="module", autouse=True)
def no_coverage_of_processes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Measure no coverage in the processes of tests whose processes others cover."""
    with processes_without_coverage() if request.node.nodeid.startswith(COVERED_ELSEWHERE) else nullcontext():
        yield


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
