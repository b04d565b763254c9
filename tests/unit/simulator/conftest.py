from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
import requests
from support.faults import FaultySimulator

from taskrouter_exporter.simulator import ContactCentre

NOW = datetime(2026, 11, 25, 12, 0, 7, 400_000, tzinfo=UTC)


@pytest.fixture(scope="session")
def centre() -> ContactCentre:
    return ContactCentre(seed=1)


@pytest.fixture
def simulator(centre: ContactCentre) -> Iterator[FaultySimulator]:
    with FaultySimulator(centre, clock=NOW.timestamp) as simulator:
        yield simulator


@pytest.fixture
def session(centre: ContactCentre) -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        session.auth = (centre.account_sid, centre.auth_token)
        yield session


@pytest.fixture
def get(simulator: FaultySimulator, session: requests.Session) -> Callable[..., requests.Response]:
    """GET a path of the simulator with query parameters."""

    def get(path: str, **parameters: str) -> requests.Response:
        return session.get(simulator.base_url + path, params=parameters, timeout=10, allow_redirects=False)

    return get


@pytest.fixture
def statistics_path(centre: ContactCentre) -> str:
    """Return the path of the first workspace's statistics."""
    return f"/v1/Workspaces/{centre.workspaces[0].sid}/Workers/CumulativeStatistics"
