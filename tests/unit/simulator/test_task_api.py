"""The resources about Tasks: their paths, parameters and attributes, as published."""

import base64
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from taskrouter_exporter.simulator import ContactCentre, Simulator
from taskrouter_exporter.simulator.wire import Request

Get = Callable[..., requests.Response]

NOW = datetime(2026, 11, 25, 12, 0, 7, tzinfo=UTC)

RESERVATIONS = {
    f"reservations_{name}"
    for name in ("created", "accepted", "rejected", "timed_out", "canceled", "rescinded")
}
CUMULATIVE = RESERVATIONS | {
    "account_sid", "workspace_sid", "url", "start_time", "end_time", "avg_task_acceptance_time",
    "tasks_canceled", "tasks_completed", "tasks_deleted", "tasks_moved",
    "wait_duration_until_accepted", "wait_duration_until_canceled", "split_by_wait_time",
}  # fmt: skip
REAL_TIME = {
    "account_sid", "workspace_sid", "url", "longest_task_waiting_age", "longest_task_waiting_sid",
    "tasks_by_priority", "tasks_by_status", "total_tasks",
}  # fmt: skip
QUEUE_REAL_TIME = {
    "task_queue_sid", "longest_relative_task_age_in_queue", "longest_relative_task_sid_in_queue",
    "activity_statistics", "total_eligible_workers", "total_available_workers",
}  # fmt: skip
BULK = {
    "task_queue_sid", "longest_task_waiting_age", "longest_task_waiting_sid", "total_tasks",
    "total_eligible_workers", "total_available_workers", "tasks_by_status", "tasks_by_priority",
    "activity_statistics",
}  # fmt: skip


@pytest.fixture
def workspace_path(centre: ContactCentre) -> str:
    return f"/v1/Workspaces/{centre.workspaces[0].sid}"


@pytest.fixture
def subjects(centre: ContactCentre, workspace_path: str) -> dict[str, str]:
    """Return the path of each kind of subject."""
    workspace = centre.workspaces[0]
    return {
        "workspace": workspace_path,
        "queue": f"{workspace_path}/TaskQueues/{workspace.queues[0].sid}",
        "workflow": f"{workspace_path}/Workflows/{workspace.workflows[0].sid}",
    }


@pytest.fixture
def bulk(
    simulator: Simulator, session: requests.Session, workspace_path: str
) -> Callable[[Any], requests.Response]:
    """POST a JSON body for the statistics of several TaskQueues."""

    def bulk(content: object) -> requests.Response:
        url = f"{simulator.base_url}{workspace_path}/TaskQueues/RealTimeStatistics"
        return session.post(url, json=content, timeout=10)

    return bulk


def test_cumulative_statistics_have_the_published_attributes(get: Get, subjects: dict[str, str]) -> None:
    own = {
        "workspace": {"tasks_created", "tasks_timed_out_in_workflow"},
        "queue": {"task_queue_sid", "tasks_entered", "wait_duration_in_queue_until_accepted"},
        "workflow": {"workflow_sid", "tasks_entered", "tasks_timed_out_in_workflow"},
    }
    for kind, path in subjects.items():
        answer = get(f"{path}/CumulativeStatistics", SplitByWaitTime="20,60").json()
        assert set(answer) == CUMULATIVE | own[kind]
        assert set(answer["wait_duration_until_accepted"]) == {"avg", "min", "max", "total"}
        assert set(answer["split_by_wait_time"]) == {"20", "60"}
        for sides in answer["split_by_wait_time"].values():
            assert set(sides) == {"below", "above"}
            assert all(set(side) == {"tasks_canceled", "reservations_accepted"} for side in sides.values())
        assert (answer["start_time"], answer["end_time"]) == ("2026-11-25T11:45:07Z", "2026-11-25T12:00:07Z")


def test_real_time_statistics_have_the_published_attributes(get: Get, subjects: dict[str, str]) -> None:
    own = {
        "workspace": {"activity_statistics", "total_workers"},
        "queue": QUEUE_REAL_TIME,
        "workflow": {"workflow_sid"},
    }
    for kind, path in subjects.items():
        answer = get(f"{path}/RealTimeStatistics").json()
        assert set(answer) == REAL_TIME | own[kind]
        assert set(answer["tasks_by_status"]) == {"pending", "reserved", "assigned", "wrapping"}
        for activity in answer.get("activity_statistics", ()):
            assert set(activity) == {"friendly_name", "workers", "sid"}


def test_statistics_are_the_centres_own(get: Get, centre: ContactCentre, subjects: dict[str, str]) -> None:
    workspace = centre.workspaces[0]
    for path, subject in zip(
        subjects.values(), (None, workspace.queues[0].sid, workspace.workflows[0].sid), strict=True
    ):
        origin = {"account_sid": centre.account_sid}
        answer = get(f"{path}/CumulativeStatistics", Minutes="60", TaskChannel="voice").json()
        assert answer.pop("url").endswith(f"{path}/CumulativeStatistics")
        expected = centre.task_statistics(workspace.sid, NOW - timedelta(hours=1), NOW, "voice", subject)
        assert answer == origin | expected
        answer = get(f"{path}/RealTimeStatistics", TaskChannel="voice").json()
        assert answer.pop("url").endswith(f"{path}/RealTimeStatistics")
        assert answer == origin | centre.real_time_statistics(workspace.sid, NOW, "voice", subject)


def test_statistics_without_thresholds_have_no_split(get: Get, workspace_path: str) -> None:
    assert get(f"{workspace_path}/CumulativeStatistics").json()["split_by_wait_time"] is None


@pytest.mark.parametrize("thresholds", ["20;60", "-5", "1.5", "x", ",".join("1" * 51)])
def test_thresholds_that_are_no_list_of_seconds_are_a_bad_request(
    get: Get, workspace_path: str, thresholds: str
) -> None:
    assert get(f"{workspace_path}/CumulativeStatistics", SplitByWaitTime=thresholds).status_code == 400


def test_unknown_subjects_and_channels_are_not_found(
    get: Get, centre: ContactCentre, workspace_path: str
) -> None:
    other = centre.workspaces[1]
    for path in (
        f"{workspace_path}/TaskQueues/{other.queues[0].sid}",
        f"{workspace_path}/TaskQueues/{centre.workspaces[0].workflows[0].sid}/RealTimeStatistics",
        f"{workspace_path}/Workflows/{other.workflows[0].sid}/CumulativeStatistics",
        f"{workspace_path}/Workflows/RealTimeStatistics",
        f"{workspace_path}/TaskQueues/CumulativeStatistics",
        f"{workspace_path}/Tasks",
    ):
        response = get(path)
        assert (response.status_code, response.json()["code"]) == (404, 20404), path
    assert get(f"{workspace_path}/RealTimeStatistics", TaskChannel="fax").status_code == 404


def test_lists_of_queues_and_workflows_are_paged(get: Get, simulator: Simulator, workspace_path: str) -> None:
    for resource, key in (("TaskQueues", "task_queues"), ("Workflows", "workflows")):
        whole = get(f"{workspace_path}/{resource}").json()
        assert whole["meta"]["key"] == key
        assert whole["meta"]["next_page_url"] is None
        items, path = [], f"{workspace_path}/{resource}?PageSize=1"
        while path:
            page = get(path).json()
            assert len(page[key]) == 1
            items += page[key]
            path = (page["meta"]["next_page_url"] or "").removeprefix(simulator.base_url)
        assert items == whole[key]
        (named,) = get(f"{workspace_path}/{resource}", FriendlyName=items[1]["friendly_name"]).json()[key]
        assert named == items[1]


def test_queues_and_workflows_have_the_published_attributes(get: Get, workspace_path: str) -> None:
    (queue, *_), (workflow, *_) = (
        get(f"{workspace_path}/{resource}").json()[key]
        for resource, key in (("TaskQueues", "task_queues"), ("Workflows", "workflows"))
    )
    assert set(queue) == {
        "account_sid", "assignment_activity_name", "assignment_activity_sid", "date_created", "date_updated",
        "friendly_name", "max_reserved_workers", "links", "reservation_activity_name",
        "reservation_activity_sid", "sid", "target_workers", "task_order", "url", "workspace_sid",
    }  # fmt: skip
    assert set(workflow) == {
        "account_sid", "assignment_callback_url", "configuration", "date_created", "date_updated",
        "document_content_type", "fallback_assignment_callback_url", "friendly_name", "sid",
        "task_reservation_timeout", "url", "links", "workspace_sid",
    }  # fmt: skip


def test_bulk_statistics_are_those_of_each_queue(
    get: Get, bulk: Callable[[Any], requests.Response], centre: ContactCentre, workspace_path: str
) -> None:
    queues = [queue.sid for queue in centre.workspaces[0].queues]
    for name in ("queueSids", "QueueSids"):
        response = bulk({name: queues})
        answer = response.json()
        assert response.status_code == 200
        assert set(answer) == {
            "account_sid", "workspace_sid", "url", "task_queue_data", "task_queue_response_count",
        }  # fmt: skip
        assert answer["task_queue_response_count"] == len(queues)
        for sid, data in zip(queues, answer["task_queue_data"], strict=True):
            single = get(f"{workspace_path}/TaskQueues/{sid}/RealTimeStatistics").json()
            assert data == {name: single[name] for name in BULK}


def test_a_queue_of_another_workspace_has_zeros_in_bulk_statistics(
    bulk: Callable[[Any], requests.Response], centre: ContactCentre
) -> None:
    foreign = centre.workspaces[1].queues[0].sid
    (data,) = bulk({"queueSids": [foreign]}).json()["task_queue_data"]
    assert (data["task_queue_sid"], data["total_tasks"]) == (foreign, 0)
    assert set(data) == BULK


@pytest.mark.parametrize(
    "content",
    [
        {"queueSids": []},
        {"queueSids": ["WQ" + "0" * 32] * 51},
        {"queueSids": ["WQ0"]},
        {"queueSids": "WQ" + "0" * 32},
        {"queueSids": [1]},
        {},
        [],
    ],
)
def test_bulk_statistics_need_one_to_fifty_sids(
    bulk: Callable[[Any], requests.Response], content: object
) -> None:
    assert bulk(content).status_code == 400


def test_bulk_statistics_need_a_json_body(
    simulator: Simulator, session: requests.Session, centre: ContactCentre, workspace_path: str
) -> None:
    url = f"{simulator.base_url}{workspace_path}/TaskQueues/RealTimeStatistics"
    sid = centre.workspaces[0].queues[0].sid
    assert session.post(url, data={"queueSids": sid}, timeout=10).status_code == 400
    headers = {"Content-Type": "application/json"}
    assert session.post(url, data="{", headers=headers, timeout=10).status_code == 400
    response = session.get(url, timeout=10)
    assert (response.status_code, response.headers["Allow"]) == (405, "POST")


def test_bulk_statistics_are_limited_to_five_requests_a_second(
    centre: ContactCentre, workspace_path: str
) -> None:
    simulator = Simulator(centre, NOW.timestamp)
    simulator.close()
    credentials = base64.b64encode(f"{centre.account_sid}:{centre.auth_token}".encode()).decode()
    headers = {"authorization": f"Basic {credentials}", "content-type": "application/json"}
    body = b'{"queueSids": ["%s"]}' % centre.workspaces[0].queues[0].sid.encode()
    request = Request("POST", f"{workspace_path}/TaskQueues/RealTimeStatistics", {}, headers, body=body)
    answers = [simulator.answer(request) for _ in range(51)]
    assert Counter(answer.status for answer in answers) == {200: 50, 429: 1}
    assert dict(answers[-1].headers)["X-Rate-Limit-Config"] == "TaskQueuesRealTimeStatistics: 5/s over 10s"
    single = f"{workspace_path}/TaskQueues/{centre.workspaces[0].queues[0].sid}/RealTimeStatistics"
    assert simulator.answer(Request("GET", single, {}, headers)).status == 200
