import base64
import json
import re
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
import requests
from support.faults import Fault, FaultySimulator

from taskrouter_exporter.demo import demo_configuration
from taskrouter_exporter.simulator import ContactCentre, Simulator
from taskrouter_exporter.simulator.limits import RateLimiter
from taskrouter_exporter.simulator.wire import Answer, Connection, Request

Get = Callable[..., requests.Response]

NOW = datetime(2026, 11, 25, 12, 0, 7, tzinfo=UTC)


def iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_statistics_are_the_centres_own_for_the_default_of_15_minutes(
    get: Get, centre: ContactCentre, simulator: Simulator, statistics_path: str
) -> None:
    response = get(statistics_path)
    expected = centre.statistics(centre.workspaces[0].sid, NOW - timedelta(minutes=15), NOW)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    assert response.json() == {
        "account_sid": centre.account_sid,
        "url": simulator.base_url + statistics_path,
        **expected,
    }
    assert response.json()["end_time"] == "2026-11-25T12:00:07Z"


MIDNIGHT = NOW.replace(hour=0, minute=0, second=0)


@pytest.mark.parametrize(
    ("parameters", "interval"),
    [
        ({"Minutes": "1"}, (NOW - timedelta(minutes=1), NOW)),
        ({"Minutes": "43200"}, (NOW - timedelta(days=30), NOW)),
        ({"StartDate": iso(MIDNIGHT)}, (MIDNIGHT, NOW)),
        ({"StartDate": "2026-11-25T01:00:00+01:00"}, (MIDNIGHT, NOW)),
        ({"StartDate": "2026-11-24", "EndDate": iso(MIDNIGHT)}, (MIDNIGHT - timedelta(days=1), MIDNIGHT)),
        ({"StartDate": iso(MIDNIGHT), "EndDate": "2027-01-01T00:00:00Z"}, (MIDNIGHT, NOW)),
        ({"EndDate": iso(MIDNIGHT)}, (MIDNIGHT - timedelta(minutes=15), MIDNIGHT)),
        ({"StartDate": iso(NOW)}, (NOW, NOW)),
    ],
)
def test_the_parameters_select_the_interval_up_to_now(
    get: Get,
    simulator: Simulator,
    statistics_path: str,
    parameters: dict[str, str],
    interval: tuple[datetime, datetime],
) -> None:
    start, end = interval
    answer = get(statistics_path, **parameters).json()
    assert (answer["start_time"], answer["end_time"]) == (iso(start), iso(end))
    expected = simulator.centre.statistics(simulator.centre.workspaces[0].sid, start, end)
    assert answer["reservations_created"] == expected["reservations_created"]


@pytest.mark.parametrize(
    "parameters",
    [
        {"Minutes": "15", "StartDate": iso(MIDNIGHT)},
        {"Minutes": "15", "EndDate": iso(MIDNIGHT)},
        {"Minutes": "0"},
        {"Minutes": "-5"},
        {"Minutes": "1.5"},
        {"Minutes": "٣"},
        {"Minutes": ""},
        {"Minutes": "43201"},
        {"Minutes": "9" * 5000},
        {"StartDate": "yesterday"},
        {"StartDate": "0001-01-01T00:00:00+10:00"},
        {"StartDate": iso(NOW - timedelta(days=30, seconds=1))},
        {"StartDate": iso(NOW + timedelta(seconds=1))},
        {"StartDate": iso(NOW), "EndDate": iso(MIDNIGHT)},
    ],
)
def test_a_malformed_or_impossible_interval_is_a_bad_request(
    get: Get, statistics_path: str, parameters: dict[str, str]
) -> None:
    response = get(statistics_path, **parameters)
    assert response.status_code == 400
    assert response.json()["code"] == 20001
    assert next(iter(parameters)) in response.json()["message"]


def test_a_task_channel_is_chosen_by_sid_or_unique_name(
    get: Get, centre: ContactCentre, statistics_path: str
) -> None:
    chat = centre.workspaces[0].channels[1]
    by_name, by_sid, every = (
        get(statistics_path, Minutes="60", **channel).json()
        for channel in ({"TaskChannel": "chat"}, {"TaskChannel": chat.sid}, {})
    )
    assert by_name == by_sid
    assert 0 < by_name["reservations_created"] < every["reservations_created"]


def test_sids_are_compared_without_regard_to_case(
    get: Get, centre: ContactCentre, simulator: FaultySimulator
) -> None:
    workspace = centre.workspaces[0]
    sid, channel = (f"{sid[:2]}{sid[2:].upper()}" for sid in (workspace.sid, workspace.channels[1].sid))
    path = f"/v1/Workspaces/{sid}/Workers/CumulativeStatistics"
    upper = get(path, TaskChannel=channel).json()
    lower = get(path.replace(sid, workspace.sid), TaskChannel="chat").json()
    assert sid != workspace.sid
    assert (upper["workspace_sid"], upper["url"]) == (sid, simulator.base_url + path)
    assert upper == {**lower, "workspace_sid": sid, "url": upper["url"]}
    assert get(f"/v1/Workspaces/{sid}/TaskChannels").json()["channels"]
    assert simulator.requests.count(sid) == simulator.requests.count(workspace.sid) == 3
    assert [each.workspace_sid for each in simulator.requests.latest(workspace.sid)] == [
        sid,
        workspace.sid,
        sid,
    ]
    simulator.faults.set(sid, Fault.status(503, times=1))
    assert [get(path.replace(sid, workspace.sid)).status_code for _ in range(2)] == [503, 200]


def test_every_answer_has_a_request_id_of_its_own(
    get: Get, simulator: FaultySimulator, centre: ContactCentre, statistics_path: str
) -> None:
    answers = [get(path) for path in (statistics_path, statistics_path, "/v1/Workspaces", "/v1/Other")]
    answers.append(requests.get(simulator.base_url + statistics_path, timeout=10))
    for fault in (Fault.status(503), Fault.html(), Fault.huge_body(1000, chunked=True), Fault.slow_drip(0)):
        simulator.faults.set(centre.workspaces[0].sid, fault)
        answers.append(get(statistics_path))
    assert [answer.status_code for answer in answers] == [200, 200, 200, 404, 401, 503, 502, 200, 200]
    request_ids = [answer.headers["Twilio-Request-Id"] for answer in answers]
    assert all(re.fullmatch("RQ[0-9a-f]{32}", request_id) for request_id in request_ids)
    assert len({*request_ids}) == len(request_ids)


def test_nothing_after_the_simulators_clock_is_counted(
    session: requests.Session, centre: ContactCentre
) -> None:
    now = MIDNIGHT.timestamp() + 10 * 3600
    path = f"/v1/Workspaces/{centre.workspaces[0].sid}/Workers/CumulativeStatistics"
    with Simulator(centre, clock=lambda: now) as simulator:
        counts = []
        for seconds in (0, 3600):
            now += seconds
            parameters = {"StartDate": iso(MIDNIGHT), "EndDate": iso(MIDNIGHT + timedelta(days=1))}
            answer = session.get(simulator.base_url + path, params=parameters, timeout=10).json()
            ended = sum(answer[name] for name in answer if name.startswith("reservations_"))
            counts.append((answer["reservations_created"], ended - answer["reservations_created"]))
    assert counts[0][0] > counts[0][1] > 0, "some pend"
    assert counts[1][0] > counts[0][0] + 100


def test_the_account_and_an_api_key_are_accepted_in_either_case(
    simulator: Simulator, centre: ContactCentre, statistics_path: str
) -> None:
    def status(username: str, password: str) -> int:
        url = simulator.base_url + statistics_path
        return requests.get(url, auth=(username, password), timeout=10).status_code

    for sid, password in (
        (centre.account_sid, centre.auth_token),
        (centre.api_key_sid, centre.api_key_secret),
    ):
        assert status(sid, password) == 200
        assert status(sid[:2] + sid[2:].upper(), password) == 200
    assert re.fullmatch("SK[0-9a-f]{32}", centre.api_key_sid)
    assert status(centre.account_sid, centre.api_key_secret) == 401
    assert status(centre.api_key_sid, centre.auth_token) == 401


@pytest.mark.parametrize(
    "header", ["", "Bearer abc", "Basic !!!", "Basic QUM6eA==", "Basic Og==", "Basic /w=="]
)
def test_wrong_credentials_are_refused(simulator: Simulator, statistics_path: str, header: str) -> None:
    headers = {"Authorization": header} if header else {}
    response = requests.get(simulator.base_url + statistics_path, headers=headers, timeout=10)
    assert response.status_code == 401
    assert response.json() == {
        "code": 20003,
        "message": "Authenticate",
        "more_info": "https://www.twilio.com/docs/errors/20003",
        "status": 401,
    }


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1/Workspaces/",
        "/v1/Workspaces/WS0/Workers/CumulativeStatistics",
        "/v1/Workspaces/WS0/TaskChannels",
        "/v1/Workspaces/WS0",
        "/v1/Workspaces/WS0/Workers",
        "/v2/Workspaces",
    ],
)
def test_an_unknown_resource_is_not_found(get: Get, path: str) -> None:
    response = get(path)
    assert (response.status_code, response.json()["code"]) == (404, 20404)


def test_an_unknown_task_channel_is_not_found(get: Get, statistics_path: str) -> None:
    response = get(statistics_path, TaskChannel="fax")
    assert (response.status_code, response.json()["code"]) == (404, 20404)
    assert "fax" in response.json()["message"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS"])
def test_other_methods_are_not_allowed(
    session: requests.Session, simulator: Simulator, statistics_path: str, method: str
) -> None:
    response = session.request(method, simulator.base_url + statistics_path, timeout=10)
    assert response.status_code == 405
    assert response.headers["Allow"] == "GET"


def test_workspaces_are_listed_in_the_published_form(
    get: Get, centre: ContactCentre, simulator: Simulator
) -> None:
    answer = get("/v1/Workspaces").json()
    url = f"{simulator.base_url}/v1/Workspaces?PageSize=50&Page=0"
    assert answer["meta"] == {
        "first_page_url": url,
        "key": "workspaces",
        "next_page_url": None,
        "page": 0,
        "page_size": 50,
        "previous_page_url": None,
        "url": url,
    }
    assert [(w["sid"], w["friendly_name"]) for w in answer["workspaces"]] == [
        (workspace.sid, workspace.friendly_name) for workspace in centre.workspaces
    ]
    published = (
        "account_sid date_created date_updated default_activity_name default_activity_sid event_callback_url "
        "events_filter friendly_name links multi_task_enabled prioritize_queue_order sid "
        "timeout_activity_name timeout_activity_sid url"
    )
    assert set(answer["workspaces"][0]) == set(published.split())


def test_task_channels_are_listed_in_the_published_form(get: Get, centre: ContactCentre) -> None:
    workspace = centre.workspaces[1]
    answer = get(f"/v1/Workspaces/{workspace.sid}/TaskChannels").json()
    assert answer["meta"]["key"] == "channels"
    assert [(c["sid"], c["unique_name"]) for c in answer["channels"]] == [
        (channel.sid, channel.unique_name) for channel in workspace.channels
    ]
    published = (
        "account_sid date_created date_updated friendly_name sid unique_name url workspace_sid "
        "channel_optimized_routing links"
    )
    assert set(answer["channels"][0]) == set(published.split())


def pages(session: requests.Session, url: str | None, key: str) -> list[list[Any]]:
    found = []
    while url:
        answer = session.get(url, timeout=10).json()
        found.append([item["sid"] for item in answer[key]])
        url = answer["meta"]["next_page_url"]
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_following_next_page_url_visits_every_item_once(
    session: requests.Session, simulator: Simulator, centre: ContactCentre, size: int
) -> None:
    for path, key, items in (
        ("/v1/Workspaces", "workspaces", centre.workspaces),
        (
            f"/v1/Workspaces/{centre.workspaces[0].sid}/TaskChannels",
            "channels",
            centre.workspaces[0].channels,
        ),
    ):
        found = pages(session, f"{simulator.base_url}{path}?PageSize={size}", key)
        assert all(len(page) == size for page in found[:-1])
        assert [sid for page in found for sid in page] == [item.sid for item in items]


def test_the_previous_page_is_pointed_to(get: Get) -> None:
    meta = get("/v1/Workspaces", PageSize="1", Page="1").json()["meta"]
    assert "Page=0" in meta["previous_page_url"]
    assert "PageToken=PTWS" in meta["next_page_url"]


@pytest.mark.parametrize(
    "parameters",
    [
        {"PageSize": "0"},
        {"PageSize": "1001"},
        {"PageSize": "x"},
        {"Page": "-1"},
        {"Page": "1", "PageToken": "PT0"},
    ],
)
def test_a_malformed_page_is_a_bad_request(get: Get, parameters: dict[str, str]) -> None:
    assert get("/v1/Workspaces", **parameters).status_code == 400


def test_workspaces_are_filtered_by_friendly_name(get: Get, centre: ContactCentre) -> None:
    workspace = centre.workspaces[1]
    answer = get("/v1/Workspaces", FriendlyName=workspace.friendly_name).json()
    assert [item["sid"] for item in answer["workspaces"]] == [workspace.sid]
    assert f"FriendlyName={workspace.friendly_name}" in answer["meta"]["first_page_url"]
    assert get("/v1/Workspaces", FriendlyName="sale").json()["workspaces"] == []


def urls(node: Any) -> set[str]:
    """Return every URL in an answer."""
    if isinstance(node, dict):
        return {url for value in node.values() for url in urls(value)}
    if isinstance(node, list):
        return {url for value in node for url in urls(value)}
    return {node} if isinstance(node, str) and node.startswith("http") else set()


def test_every_url_in_an_answer_is_answered(
    session: requests.Session, simulator: Simulator, statistics_path: str
) -> None:
    begin = f"{simulator.base_url}/v1/Workspaces?PageSize=2"
    seen, new = set(), {begin, simulator.base_url + statistics_path}
    while new:
        url = new.pop()
        seen.add(url)
        response = (
            session.post(url, json={"queueSids": [simulator.centre.workspaces[0].queues[0].sid]}, timeout=10)
            if url.endswith("/TaskQueues/RealTimeStatistics")
            else session.get(url, timeout=10)
        )
        assert response.status_code == 200, url
        new |= urls(response.json()) - seen
    paths = {re.sub(r"[A-Z]{2}[0-9a-f]{32}", "SID", url.removeprefix(simulator.base_url)) for url in seen}
    assert {path.partition("?")[0] for path in paths} == {
        "/v1/Workspaces",
        "/v1/Workspaces/SID",
        "/v1/Workspaces/SID/TaskChannels",
        "/v1/Workspaces/SID/TaskChannels/SID",
        "/v1/Workspaces/SID/Workers/CumulativeStatistics",
        *(
            f"/v1/Workspaces/SID{subject}{part}"
            for subject in ("", "/TaskQueues/SID", "/Workflows/SID")
            for part in ("", "/CumulativeStatistics", "/RealTimeStatistics")
        ),
        "/v1/Workspaces/SID/TaskQueues",
        "/v1/Workspaces/SID/TaskQueues/RealTimeStatistics",
        "/v1/Workspaces/SID/Workflows",
    }


def test_a_single_resource_is_the_item_of_its_list(get: Get, centre: ContactCentre) -> None:
    workspace = f"/v1/Workspaces/{centre.workspaces[1].sid}"
    for path in (
        "/v1/Workspaces",
        *(f"{workspace}/{resource}" for resource in ("TaskChannels", "TaskQueues", "Workflows")),
    ):
        answer = get(path).json()
        for item in answer[answer["meta"]["key"]]:
            assert get(f"{path}/{item['sid']}").json() == item
            assert get(f"{path}/{item['sid'][:2]}{item['sid'][2:].upper()}").json() == item


def test_every_answer_is_dated(get: Get) -> None:
    for path in ("/v1/Workspaces", "/nothing"):
        date = parsedate_to_datetime(get(path).headers["Date"])
        assert abs(date - datetime.now(UTC)) < timedelta(minutes=1)


def test_the_default_rate_limit_is_of_a_documented_magnitude(
    simulator: Simulator, centre: ContactCentre, statistics_path: str
) -> None:
    credentials = base64.b64encode(f"{centre.account_sid}:{centre.auth_token}".encode()).decode()
    request = Request("GET", statistics_path, {}, {"authorization": f"Basic {credentials}"})
    statuses = [simulator.answer(request).status for _ in range(501)]
    assert statuses == [200] * 500 + [429]


def test_a_scrape_of_the_demo_takes_a_tenth_of_the_rate_limit_at_most(
    simulator: Simulator, get: Get, statistics_path: str
) -> None:
    targets = json.loads(demo_configuration(simulator))["targets"]
    queries = max(len(target["channels"]) * (len(target["windows"]) + 1) for target in targets)
    assert queries <= int(get(statistics_path).headers["X-Rate-Limit-Limit"]) / 10


@pytest.mark.parametrize("retry_after", [False, True])
def test_requests_over_the_rate_limit_are_refused_per_workspace_and_resource(
    session: requests.Session, centre: ContactCentre, *, retry_after: bool
) -> None:
    with Simulator(centre, rate_limit=0.3, retry_after=retry_after) as simulator:
        first, second = (f"{simulator.base_url}/v1/Workspaces/{w.sid}" for w in centre.workspaces[:2])
        remaining = []
        for _ in range(3):
            response = session.get(f"{first}/Workers/CumulativeStatistics", timeout=10)
            assert response.status_code == 200
            assert response.headers["X-Rate-Limit-Limit"] == "3"
            assert response.headers["X-Rate-Limit-Config"]
            remaining.append(response.headers["X-Rate-Limit-Remaining"])
        assert remaining == ["2", "1", "0"]
        refused = session.get(f"{first}/Workers/CumulativeStatistics", timeout=10)
        assert (refused.status_code, refused.json()["code"]) == (429, 20429)
        assert refused.headers["X-Rate-Limit-Remaining"] == "0"
        assert ("Retry-After" in refused.headers) is retry_after
        assert session.get(f"{first}/TaskChannels", timeout=10).status_code == 200
        assert session.get(f"{second}/Workers/CumulativeStatistics", timeout=10).status_code == 200


def test_the_rate_is_averaged_over_ten_seconds() -> None:
    now = 100.0
    limiter = RateLimiter(0.2, clock=lambda: now)
    key = ("WS", "TaskChannels")
    assert limiter.admit(key).remaining == 1
    now = 104.0
    assert limiter.admit(key).remaining == 0
    assert limiter.admit(key).retry_after == 6
    now = 109.9
    assert limiter.admit(key).retry_after == 1
    now = 110.0
    assert limiter.admit(key).retry_after is None
    assert limiter.admit(key).retry_after == 4


def test_requests_are_logged_and_counted_by_workspace(
    get: Get, simulator: Simulator, centre: ContactCentre, statistics_path: str
) -> None:
    get(statistics_path, Minutes="15")
    get("/v1/Workspaces")
    get("/v1/Workspaces/WS0/TaskChannels")
    sid = centre.workspaces[0].sid
    assert simulator.requests.count() == 3
    assert simulator.requests.count(sid) == 1
    assert simulator.requests.count(centre.workspaces[1].sid) == 0
    (request,) = simulator.requests.latest(sid)
    assert (request.method, request.path, request.parameters) == ("GET", statistics_path, {"Minutes": "15"})
    simulator.requests.clear()
    assert (simulator.requests.count(), simulator.requests.latest()) == (0, [])


def test_latency_is_added_to_every_answer(session: requests.Session, centre: ContactCentre) -> None:
    with Simulator(centre, latency=0.2) as simulator:
        begin = time.monotonic()
        assert session.get(f"{simulator.base_url}/v1/Workspaces", timeout=10).status_code == 200
        assert time.monotonic() - begin >= 0.2


def test_many_clients_are_answered_at_the_same_time(
    session: requests.Session, centre: ContactCentre, statistics_path: str
) -> None:
    everyone = threading.Barrier(30, timeout=20)

    def deliver(connection: Connection, _request: Request, answer: Answer) -> None:
        everyone.wait()
        connection.send_answer(answer)

    with Simulator(centre, NOW.timestamp, deliver=deliver) as simulator, ThreadPoolExecutor(30) as pool:

        def ask(_number: int) -> Any:
            url, auth = simulator.base_url + statistics_path, session.auth
            return requests.get(url, auth=auth, timeout=20).json()

        answers = list(pool.map(ask, range(30)))
    assert all(answer == answers[0] for answer in answers)


def exchange(simulator: Simulator, sent: bytes) -> bytes:
    """Send bytes on a connection and return all received bytes until the simulator closes it."""
    host, port = simulator.base_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as sock:
        sock.sendall(sent)
        received = b""
        while data := sock.recv(65_536):
            received += data
    return received


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / SPDY/3\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET //[ HTTP/1.1\r\n\r\n", 400),
        (b"PUT / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"PUT / HTTP/1.1\r\nContent-Length: 65537\r\n\r\n", 413),
        (b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (b"GET /" + b"x" * 300_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 300_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"X: x\r\n" * 30_000 + b"\r\n", 431),
    ],
    ids=lambda value: value[:24].decode() if isinstance(value, bytes) else str(value),
)
def test_an_unreadable_request_is_refused_and_the_connection_closed(
    simulator: Simulator, sent: bytes, status: int
) -> None:
    head = exchange(simulator, sent).split(b"\r\n\r\n")[0]
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"Connection: close" in head


def test_a_connection_is_kept_until_the_client_says_close(simulator: Simulator) -> None:
    last = b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"
    assert exchange(simulator, b"GET / HTTP/1.1\r\n\r\n" * 2 + last + last).count(b"HTTP/1.1 401") == 3
    assert exchange(simulator, b"GET / HTTP/1.0\r\n\r\n" * 2).count(b"HTTP/1.1 401") == 1


def test_the_answer_to_head_has_no_body(simulator: Simulator) -> None:
    head, body = exchange(simulator, b"HEAD / HTTP/1.1\r\nConnection: close\r\n\r\n").split(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 401")
    assert body == b""


def test_close_ends_idle_connections_and_frees_the_port(centre: ContactCentre) -> None:
    simulator = Simulator(centre)
    port = int(simulator.base_url.rpartition(":")[2])
    with simulator, socket.create_connection(("127.0.0.1", port), timeout=10) as idle:
        idle.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert idle.recv(65_536)
        simulator.close()
        assert idle.recv(65_536) == b""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=10)
    with Simulator(centre, port=port) as again:
        assert again.base_url == simulator.base_url


def test_a_simulator_that_never_started_can_be_closed(centre: ContactCentre) -> None:
    Simulator(centre).close()
