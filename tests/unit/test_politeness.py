import pytest

from taskrouter_exporter.api.errors import ApiError, Reason
from taskrouter_exporter.periods import Window
from taskrouter_exporter.politeness import Pauses, pause_seconds
from taskrouter_exporter.queries import Query, Target

QUERY = Query(Target("main", "WS" + "0" * 32, "support", "all"), Window(15))


def refused(times: int, reason: Reason = Reason.NOT_FOUND) -> Pauses:
    pauses = Pauses()
    for _ in range(times):
        pauses.record(QUERY, ApiError(reason, "no such workspace", 404, 20404), 100, 0)
    return pauses


def test_pauses_double_up_to_ten_minutes() -> None:
    assert [pause_seconds(refusals) for refusals in range(9)] == [0, 0, 30, 60, 120, 240, 480, 600, 600]
    assert pause_seconds(10**6) == 600


@pytest.mark.parametrize("reason", [Reason.NOT_FOUND, Reason.FORBIDDEN])
def test_a_refused_query_has_the_same_error_until_it_is_asked_again(reason: Reason) -> None:
    pauses = refused(3, reason)
    error = pauses.error(QUERY, 110, 0)
    assert error is not None
    assert (error.reason, error.status, error.code) == (reason, 404, 20404)
    assert error.message == "no such workspace (refused 3 times in a row, next attempt in 50 s)"
    assert pauses.error(QUERY, 160, 0) is None


@pytest.mark.parametrize("reason", sorted({*Reason} - {Reason.NOT_FOUND, Reason.FORBIDDEN}))
def test_no_other_failure_is_followed_by_a_pause(reason: Reason) -> None:
    assert refused(5, reason).error(QUERY, 100, 0) is None


def test_one_refusal_changes_nothing_and_a_success_ends_a_row() -> None:
    assert refused(1).error(QUERY, 100, 0) is None
    pauses = refused(3)
    pauses.record(QUERY, None, 200, 0)
    pauses.record(QUERY, ApiError(Reason.NOT_FOUND, "no"), 200, 0)
    assert pauses.error(QUERY, 200, 0) is None


def test_new_credentials_a_reset_and_other_queries_end_a_pause() -> None:
    assert refused(3).error(QUERY, 100, generation=1) is None
    for pauses, end in ((refused(3), Pauses.clear), (refused(3), lambda pauses: pauses.forget_all_but([]))):
        end(pauses)
        assert QUERY not in pauses
        assert pauses.error(QUERY, 100, 0) is None
