import math
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests
from support.faults import Fault, Faults, FaultySimulator
from support.waiting import wait_until

from taskrouter_exporter.simulator import ContactCentre

Get = Callable[..., requests.Response]
Switch = Callable[[Fault], None]


@pytest.fixture
def switch_on(simulator: FaultySimulator, centre: ContactCentre) -> Switch:
    """Switch on a fault of the first workspace."""

    def switch_on(fault: Fault) -> None:
        simulator.faults.set(centre.workspaces[0].sid, fault)

    return switch_on


@pytest.fixture
def good(get: Get, statistics_path: str) -> dict[str, Any]:
    """Return the statistics without a fault."""
    answer: dict[str, Any] = get(statistics_path).json()
    return answer


def test_a_fault_affects_one_workspace_only(
    get: Get, switch_on: Switch, centre: ContactCentre, statistics_path: str
) -> None:
    switch_on(Fault.status(500))
    other = f"/v1/Workspaces/{centre.workspaces[1].sid}/Workers/CumulativeStatistics"
    assert get(statistics_path).status_code == 500
    assert get(other).status_code == 200
    assert get("/v1/Workspaces").status_code == 200


def test_a_fault_lasts_until_it_is_cleared_or_used_up(
    get: Get, switch_on: Switch, simulator: FaultySimulator, centre: ContactCentre, statistics_path: str
) -> None:
    switch_on(Fault.status(503, times=2))
    assert [get(statistics_path).status_code for _ in range(3)] == [503, 503, 200]
    switch_on(Fault.status(503))
    assert [get(statistics_path).status_code for _ in range(3)] == [503, 503, 503]
    simulator.faults.clear(centre.workspaces[1].sid)
    assert get(statistics_path).status_code == 503
    simulator.faults.clear(centre.workspaces[0].sid)
    assert get(statistics_path).status_code == 200


def test_a_status_has_twilios_body_and_no_retry_after_unless_asked_for(
    get: Get, switch_on: Switch, statistics_path: str
) -> None:
    switch_on(Fault.status(429))
    response = get(statistics_path)
    assert "Retry-After" not in response.headers
    assert response.json() == {
        "code": 20429,
        "message": "Too Many Requests",
        "more_info": "https://www.twilio.com/docs/errors/20429",
        "status": 429,
    }
    switch_on(Fault.status(503, retry_after=7))
    assert get(statistics_path).headers["Retry-After"] == "7"


def test_a_status_can_have_a_problem_detail_as_its_body(
    get: Get, switch_on: Switch, statistics_path: str
) -> None:
    switch_on(Fault.status(403, problem=True))
    response = get(statistics_path)
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json() == {
        "type": "https://www.twilio.com/docs/errors/20403",
        "title": "Forbidden",
        "status": 403,
        "code": 20403,
        "detail": "Forbidden",
    }


@pytest.mark.parametrize("status", [204, 304, 520])
def test_a_connection_is_reusable_after_a_status_without_a_body_or_a_name(
    get: Get, switch_on: Switch, statistics_path: str, status: int
) -> None:
    switch_on(Fault.status(status, times=1))
    assert get(statistics_path).status_code == status
    assert get(statistics_path).status_code == 200


def test_latency_delays_the_correct_answer(
    get: Get, switch_on: Switch, good: dict[str, Any], statistics_path: str
) -> None:
    switch_on(Fault.latency(0.2))
    begin = time.monotonic()
    assert get(statistics_path).json() == good
    assert time.monotonic() - begin >= 0.2


def test_a_hang_never_answers(
    get: Get, switch_on: Switch, session: requests.Session, simulator: FaultySimulator
) -> None:
    switch_on(Fault.hang())
    with pytest.raises(requests.ReadTimeout):
        session.get(
            f"{simulator.base_url}/v1/Workspaces/{simulator.centre.workspaces[0].sid}/TaskChannels",
            timeout=0.3,
        )
    assert get("/v1/Workspaces").status_code == 200


@pytest.mark.parametrize(
    "fault", [Fault.hang(), Fault.latency(60), Fault.slow_drip(60)], ids=lambda f: f.name
)
@pytest.mark.parametrize("leaves_first", ["client", "simulator"])
def test_a_waiting_connections_thread_ends_with_the_client_or_the_simulator(
    centre: ContactCentre, statistics_path: str, fault: Fault, leaves_first: str
) -> None:
    with FaultySimulator(centre) as simulator:
        simulator.faults.set(centre.workspaces[0].sid, fault)
        host, port = simulator.base_url.removeprefix("http://").split(":")
        client = socket.create_connection((host, int(port)), timeout=10)
        client.sendall(f"GET {statistics_path} HTTP/1.1\r\n\r\n".encode())
        wait_until("a request", lambda: simulator.requests.count() == 1)
        assert connections(port) == 1
        if leaves_first == "client":
            client.close()
            wait_until("the end of the thread", lambda: connections(port) == 0)
    wait_until("the end of the thread", lambda: connections(port) == 0)
    client.close()


def connections(port: str) -> int:
    return sum(thread.name == f"simulator-{port}-connection" for thread in threading.enumerate())


def test_a_reset_is_a_tcp_reset(simulator: FaultySimulator, switch_on: Switch, statistics_path: str) -> None:
    switch_on(Fault.reset())
    host, port = simulator.base_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as sock:
        sock.sendall(f"GET {statistics_path} HTTP/1.1\r\n\r\n".encode())
        with pytest.raises(ConnectionResetError):
            sock.recv(1)


@pytest.mark.parametrize("headers", [False, True])
def test_a_slow_drip_sends_a_byte_at_a_time(
    simulator: FaultySimulator, switch_on: Switch, statistics_path: str, *, headers: bool
) -> None:
    switch_on(Fault.slow_drip(0.05, headers=headers))
    host, port = simulator.base_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as sock:
        sock.sendall(f"GET {statistics_path} HTTP/1.1\r\n\r\n".encode())
        pieces: list[bytes] = []
        begin = time.monotonic()
        while len(pieces) < 6:
            pieces.append(sock.recv(65_536))
        assert time.monotonic() - begin >= 0.2
    first, *rest = pieces
    assert first == b"H" if headers else b"Content-Length" in first
    assert sum(map(len, rest)) < 20


def test_a_slow_drip_arrives_complete(
    get: Get, switch_on: Switch, good: dict[str, Any], statistics_path: str
) -> None:
    switch_on(Fault.slow_drip(0, headers=True))
    assert get(statistics_path).json() == good


def test_a_truncated_body_is_shorter_than_announced(
    get: Get, switch_on: Switch, statistics_path: str
) -> None:
    switch_on(Fault.truncated())
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"):
        get(statistics_path)


@pytest.mark.parametrize("status", [200, 502])
def test_html_is_a_page(get: Get, switch_on: Switch, statistics_path: str, status: int) -> None:
    switch_on(Fault.html(status))
    response = get(statistics_path)
    assert response.status_code == status
    assert response.headers["Content-Type"].startswith("text/html")
    assert response.text.startswith("<!DOCTYPE html>")


def test_invalid_json_is_a_complete_body_that_does_not_parse(
    get: Get, switch_on: Switch, statistics_path: str
) -> None:
    switch_on(Fault.invalid_json())
    response = get(statistics_path)
    assert response.status_code == 200
    assert response.text.startswith("{")
    with pytest.raises(requests.JSONDecodeError):
        response.json()


def test_wrong_types_replace_numbers(
    get: Get, switch_on: Switch, good: dict[str, Any], statistics_path: str
) -> None:
    switch_on(Fault.wrong_types())
    assert get(statistics_path).json() == {**good, "reservations_created": "12"}
    switch_on(Fault.wrong_types("reservations_accepted", math.nan))
    assert '"reservations_accepted": NaN' in get(statistics_path).text


def test_nulls_and_missing_affect_all_attributes_or_one(
    get: Get, switch_on: Switch, good: dict[str, Any], statistics_path: str
) -> None:
    switch_on(Fault.nulls())
    assert get(statistics_path).json() == dict.fromkeys(good)
    switch_on(Fault.nulls("activity_durations"))
    assert get(statistics_path).json() == {**good, "activity_durations": None}
    switch_on(Fault.missing())
    assert get(statistics_path).json() == {}
    switch_on(Fault.missing("end_time"))
    assert get(statistics_path).json() == {k: v for k, v in good.items() if k != "end_time"}


def test_not_object_is_a_list(
    get: Get, switch_on: Switch, good: dict[str, Any], statistics_path: str
) -> None:
    switch_on(Fault.not_object())
    assert get(statistics_path).json() == [good]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_huge_body_is_correct_except_for_its_size(
    get: Get, switch_on: Switch, good: dict[str, Any], statistics_path: str, *, chunked: bool
) -> None:
    switch_on(Fault.huge_body(chunked=chunked, times=1))
    response = get(statistics_path)
    assert len(response.content) > 1024 * 1024
    assert ("Content-Length" in response.headers) is not chunked
    assert response.json() == good
    assert get(statistics_path).json() == good


def test_a_redirect_points_elsewhere(get: Get, switch_on: Switch, statistics_path: str) -> None:
    switch_on(Fault.redirect("http://127.0.0.1:9/x", status=307))
    response = get(statistics_path)
    assert (response.status_code, response.headers["Location"]) == (307, "http://127.0.0.1:9/x")


def test_an_error_stays_an_error_under_a_fault_of_the_content(
    get: Get, switch_on: Switch, statistics_path: str
) -> None:
    switch_on(Fault.nulls())
    assert get(statistics_path, Minutes="0").json()["code"] == 20001


def test_concurrent_requests_use_a_fault_up_exactly() -> None:
    faults = Faults()
    faults.set("WS", Fault.hang(times=1000))
    taken: list[Fault | None] = []
    threads = [
        threading.Thread(target=lambda: taken.extend(faults.take("WS") for _ in range(300))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(fault is not None for fault in taken) == 1000
