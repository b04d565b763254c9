from typing import Any

import pytest

from taskrouter_exporter.api.call import Attempt, Call
from taskrouter_exporter.api.errors import ApiError, Reason
from taskrouter_exporter.api.fair_queue import Standing
from taskrouter_exporter.periods import Window
from taskrouter_exporter.queries import Query, Target
from taskrouter_exporter.standings import Standings, has_hung

TIMEOUT = ApiError(Reason.TIMEOUT, "no answer")
BUSY = ApiError(Reason.SERVER_ERROR, "busy", 503)
REFUSED = ApiError(Reason.CONNECTION, "refused")


def query(name: str = "support") -> Query:
    return Query(Target("main", "WS" + "0" * 32, name, "all"), Window(15))


def call(*attempts: tuple[float, ApiError | None], asked: float | None = None, **attributes: Any) -> Call:
    made = [Attempt(0, seconds, error.status if error else 200, error) for seconds, error in attempts]
    return Call(
        "/",
        {},
        9.4,
        patience=1.25,
        attempts=made,
        asked=asked,
        begun=0,
        requesting=asked is not None,
        **attributes,
    )


@pytest.mark.parametrize(
    ("carried_out", "error", "hung"),
    [
        (call((0.1, None)), None, False),
        (call((4.9, None)), None, False),
        (call((0.1, BUSY), (0.1, None)), None, False),
        (call((5.0, TIMEOUT), (0.1, None)), None, True),
        (call((1.25, TIMEOUT), (2.0, None)), None, False),
        (call((1.25, TIMEOUT), (5.0, TIMEOUT)), TIMEOUT, True),
        (call(asked=0.0), TIMEOUT, True),
        (call(asked=9.0), TIMEOUT, None),
        (call(), TIMEOUT, None),
        (call(), REFUSED, None),
        (call((0.1, REFUSED)), REFUSED, False),
        (call((0.1, BUSY)), BUSY, False),
    ],
    ids=[
        "answered",
        "answered slowly",
        "answered after a retry",
        "one attempt took the full time",
        "one short attempt was not enough",
        "every attempt",
        "in flight from the begin to the deadline",
        "in flight for a moment",
        "never had a thread",
        "had no thread",
        "refused",
        "answered with an error",
    ],
)
def test_a_query_has_hung_where_it_held_a_thread_without_an_answer(
    carried_out: Call, error: ApiError | None, *, hung: bool | None
) -> None:
    assert has_hung(carried_out, error, now=9.4) is hung


def after(*polls: str) -> Standing:
    standings = Standings()
    for kind in "".join(polls):
        standings.record(
            query(),
            {"a": call((0.1, None)), "s": call((3.0, None)), "h": call((5.0, TIMEOUT)), "-": call()}[kind],
            TIMEOUT if kind in "h-" else None,
            now=9.4,
        )
    return standings.standing(query())


@pytest.mark.parametrize(
    ("polls", "standing"),
    [
        ("", Standing.UNKNOWN),
        ("-", Standing.UNKNOWN),
        ("a", Standing.PROVEN),
        ("a-", Standing.PROVEN),
        ("h", Standing.HUNG),
        ("h-", Standing.HUNG),
        ("aaah", Standing.HUNG),
        ("ha", Standing.DOUBTFUL),
        ("haa", Standing.PROVEN),
        ("hhhhhaa", Standing.PROVEN),
        ("hahaa", Standing.DOUBTFUL),
        ("hahaaaa", Standing.PROVEN),
        ("haaahaaa", Standing.DOUBTFUL),
        ("s", Standing.DOUBTFUL),
        ("sa", Standing.DOUBTFUL),
        ("saaaa", Standing.PROVEN),
    ],
)
def test_the_standing_follows_from_the_polls(polls: str, standing: Standing) -> None:
    assert after(polls) is standing


def test_one_relapse_is_forgotten_after_many_answers() -> None:
    assert after("h", "a" * 8, "haa") is Standing.PROVEN
    assert after("h", "a" * 7, "haa") is Standing.DOUBTFUL


def test_the_longest_streak_and_the_least_recently_asked_go_first() -> None:
    standings = Standings(chance=lambda: 0.5)
    for _ in range(2):
        standings.record(query("steady"), call((0.1, None)), None, 1)
    standings.record(query("new"), call((0.1, None)), None, 1)
    assert standings.claim(query("steady"), "Resource").rank < standings.claim(query("new"), "Resource").rank
    for name, asked in (("late", 50.0), ("early", 20.0)):
        standings.record(query(name), call((5.0, TIMEOUT), asked=asked), TIMEOUT, asked + 5)
    assert standings.claim(query("early"), "Resource").rank < standings.claim(query("late"), "Resource").rank


def test_threads_are_kept_free_only_while_a_proven_query_is_configured() -> None:
    standings = Standings()
    standings.record(query("hung"), call((5.0, TIMEOUT)), TIMEOUT, 9.4)
    assert not standings.claim(query("hung"), "Resource").limited
    standings.record(query("good"), call((0.1, None)), None, 9.4)
    assert standings.claim(query("hung"), "Resource").limited
    standings.forget_all_but([query("hung")])
    assert not standings.claim(query("hung"), "Resource").limited
    assert standings.standing(query("hung")) is Standing.HUNG
    standings.record(query("good"), call((0.1, None)), None, 9.4)
    standings.record(query("good"), call((5.0, TIMEOUT)), TIMEOUT, 9.4)
    assert not standings.claim(query("hung"), "Resource").limited
