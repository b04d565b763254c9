import json
from typing import Any

import pytest

from taskrouter_exporter.api.call import HttpAnswer
from taskrouter_exporter.api.errors import ApiError, Reason
from taskrouter_exporter.batches import Batch, Batching
from taskrouter_exporter.periods import Current, Period, Window
from taskrouter_exporter.queries import Query, Row, Target
from taskrouter_exporter.statistics import realtime, tasks
from taskrouter_exporter.statistics.kind import Kind, Statistics

WORKSPACE = "WS" + "a" * 32


def row(number: int) -> Row:
    return Row(f"WQ{number:032x}", f"queue {number}")


def query(
    number: int,
    channel: str = "all",
    kind: Kind = realtime.QUEUE,
    period: Period = Current(),  # noqa: B008 -- frozen
    workspace: str = WORKSPACE,
) -> Query:
    return Query(Target("main", workspace, "support", channel), period, kind, row(number))


def sizes(*queries: Query) -> list[tuple[int, bool]]:
    return [(len(batch.queries), batch.bulk is not None) for batch in Batching().batches(queries, 0)]


def test_the_current_statistics_of_queues_are_asked_for_together_fifty_at_most() -> None:
    assert sizes(*(query(number) for number in range(120))) == [(50, True), (50, True), (20, True)]


def test_a_last_queue_alone_and_what_the_api_has_no_bulk_request_for_go_singly() -> None:
    assert sizes(*(query(number) for number in range(51))) == [(50, True), (1, False)]
    assert sizes(query(1, "voice"), query(2, "voice")) == [(1, False)] * 2
    cumulative = [query(number, kind=tasks.QUEUE, period=Window(15)) for number in range(2)]
    workflows = [query(number, kind=realtime.WORKFLOW) for number in range(2)]
    assert sizes(*cumulative, *workflows) == [(1, False)] * 4


def test_workspaces_are_not_mixed() -> None:
    assert sizes(*(query(n, workspace="WS" + c * 32) for c in "ab" for n in range(2))) == [(2, True)] * 2


def test_each_query_is_in_one_batch_in_its_order() -> None:
    queries = [query(number) for number in range(70)]
    assert [each for batch in Batching().batches(queries, 0) for each in batch.queries] == queries


def test_a_bulk_request_names_the_queues_and_has_a_rate_limit_of_its_own() -> None:
    (batch,) = Batching().batches([query(1), query(2)], 0)
    assert batch.path == f"/v1/Workspaces/{WORKSPACE}/TaskQueues/RealTimeStatistics"
    assert json.loads(batch.body or b"") == {"queueSids": [row(1).sid, row(2).sid]}
    assert batch.parameters(None) == {}
    assert batch.rate_limited_as == "TaskQueues/BulkRealTimeStatistics"


def test_a_single_query_is_a_get_whose_rate_limit_is_that_of_all_queues() -> None:
    batch = Batch((query(1, "voice"),))
    queues = f"/v1/Workspaces/{WORKSPACE}/TaskQueues"
    assert (batch.path, batch.body) == (f"{queues}/{row(1).sid}/RealTimeStatistics", None)
    assert batch.parameters(None) == {"TaskChannel": "voice"}
    assert batch.rate_limited_as == "TaskQueues/RealTimeStatistics"


def answer(*items: dict[str, Any]) -> HttpAnswer:
    return HttpAnswer(200, {}, json.dumps({"task_queue_data": items}).encode())


def test_each_query_gets_its_own_statistics_or_its_own_error() -> None:
    (batch,) = Batching().batches([query(1), query(2), query(3)], 0)
    first, second, third = batch.read(
        answer(
            {"task_queue_sid": row(3).sid, "total_available_workers": 3},
            {"task_queue_sid": row(1).sid, "total_available_workers": 1},
        )
    )
    assert isinstance(first, Statistics)
    assert isinstance(third, Statistics)
    assert [each.value("available_workers") for each in (first, third)] == [1, 3]
    assert isinstance(second, ApiError)
    assert (second.reason, second.message) == (Reason.BAD_RESPONSE, "the answer does not have this queue")


def test_an_answer_that_is_none_is_a_bad_response_of_all() -> None:
    (batch,) = Batching().batches([query(1), query(2)], 0)
    with pytest.raises(ApiError, match="no list of statistics"):
        batch.read(HttpAnswer(200, {}, b"{}"))


@pytest.mark.parametrize("reason", [Reason.FORBIDDEN, Reason.NOT_FOUND, Reason.BAD_RESPONSE])
def test_after_a_refusal_queues_are_asked_singly_for_ten_minutes(reason: Reason) -> None:
    batching, queries = Batching(), [query(1), query(2)]
    other = [query(1, workspace="WS" + "b" * 32), query(2, workspace="WS" + "b" * 32)]
    (batch,) = batching.batches(queries, 0)
    batching.record(batch, ApiError(reason, "no"), 100)
    assert len(list(batching.batches(queries, 699))) == 2
    assert len(list(batching.batches(other, 699))) == 1
    assert len(list(batching.batches(queries, 700))) == 1


@pytest.mark.parametrize("reason", [Reason.TIMEOUT, Reason.RATE_LIMITED, Reason.AUTH, Reason.SERVER_ERROR])
def test_other_failures_do_not_separate_them(reason: Reason) -> None:
    batching, queries = Batching(), [query(1), query(2)]
    (batch,) = batching.batches(queries, 0)
    batching.record(batch, ApiError(reason, "no"), 0)
    assert len(list(batching.batches(queries, 1))) == 1
