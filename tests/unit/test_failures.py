from typing import Any

from taskrouter_exporter import failures as module
from taskrouter_exporter.api.errors import ApiError, Reason
from taskrouter_exporter.failures import MOST_FAILURES, Failure, Failures
from taskrouter_exporter.periods import Window
from taskrouter_exporter.poll_history import PollResult
from taskrouter_exporter.queries import Query, Target

ERROR = ApiError(Reason.AUTH, "message", 401, 20003, request_id="RQ" + "0" * 32)


def query(name: str = "support", minutes: int = 15) -> Query:
    return Query(Target("main", "WS" + "0" * 32, name, "all"), Window(minutes))


def failed(query: Query, finished: float = 0, error: ApiError | None = ERROR) -> PollResult:
    return PollResult(query, finished, 1, error=error)


def times(failures: Failures, asked: Query) -> list[float]:
    return [failure.finished for failure in failures.of(asked.target)]


def test_a_failed_poll_is_kept_with_what_support_asks_for() -> None:
    failures, asked = Failures(), query()
    failures.record(failed(asked, 7.5))
    assert failures.of(asked.target) == (Failure(asked, 7.5, Reason.AUTH, 401, 20003, "RQ" + "0" * 32),)


def test_a_good_poll_is_no_failure() -> None:
    failures, asked = Failures(), query()
    failures.record(failed(asked, error=None))
    assert times(failures, asked) == []


def test_only_the_newest_failed_polls_of_a_target_are_kept_newest_first() -> None:
    failures, asked, other = Failures(), query(), query(minutes=60)
    for number in range(30):
        failures.record(failed(asked if number % 2 else other, number))
    assert times(failures, asked) == [*range(29, 9, -1)]
    assert MOST_FAILURES == 20


def test_failed_polls_are_kept_over_a_reload_for_targets_that_stay() -> None:
    failures, stays, goes = Failures(), query("stays"), query("goes")
    for asked in (stays, goes):
        failures.record(failed(asked, 1))
    failures.forget_all_but([query("stays", minutes=60), query("new")])
    assert (times(failures, stays), times(failures, goes)) == ([1], [])


def test_very_many_failing_targets_have_fewer_failed_polls_each(monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "_MOST_IN_ALL", 100)
    failures, queries = Failures(), [query(str(number)) for number in range(40)]
    for finished in range(30):
        for asked in queries:
            failures.record(failed(asked, finished))
            assert sum(len(times(failures, each)) for each in queries) <= 101
    assert [times(failures, asked) for asked in queries] == [[29, 28]] * 40
    failures.forget_all_but(queries[:2])
    for finished in range(30, 60):
        failures.record(failed(queries[0], finished))
    assert len(times(failures, queries[0])) == 20
