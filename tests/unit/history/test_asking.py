import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

import pytest
from support.virtual_clock import run_virtually

from taskrouter_exporter.api.call import Call, HttpAnswer
from taskrouter_exporter.api.errors import ApiError, Reason
from taskrouter_exporter.history.asking import Asking
from taskrouter_exporter.history.errors import BackfillError
from taskrouter_exporter.history.plan import Point
from taskrouter_exporter.periods import Window
from taskrouter_exporter.queries import Query, Target
from taskrouter_exporter.statistics.kind import Statistics

_Result = TypeVar("_Result")
QUERY = Query(Target("default", f"WS{0:032x}", "support", "all"), Window(15))
NOW = datetime(2026, 11, 25, tzinfo=UTC).timestamp()
STEPS = range(int(NOW) - 36_000, int(NOW), 3600)
POINTS = [Point(0, step) for step in STEPS]
GOOD = HttpAnswer(200, {}, b'{"reservations_created": 5}')
LIMITED = ApiError(Reason.RATE_LIMITED, "Too Many Requests", 429, retry_after=30)
DOWN = ApiError(Reason.CONNECTION, "Connection refused")
GARBAGE = HttpAnswer(200, {}, b"<html>")


@dataclass
class Api:
    """Answers with these, one after the other, and then well. It notes when it was asked for what."""

    answers: list[HttpAnswer | ApiError] = field(default_factory=list)
    asked: list[tuple[float, str]] = field(default_factory=list)

    async def get(self, call: Call, read: Callable[[HttpAnswer], _Result]) -> _Result:
        self.asked.append((asyncio.get_running_loop().time(), call.parameters["EndDate"]))
        await asyncio.sleep(0.1)
        answer = self.answers.pop(0) if self.answers else GOOD
        if isinstance(answer, ApiError):
            raise answer
        return read(answer)


@dataclass
class Noted:
    """What the observer of a backfill was notified of."""

    answers: int = 0
    lost: list[Point] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    def answered(self) -> None:
        self.answers += 1

    def expired(self, point: Point) -> None:
        self.lost.append(point)

    def waiting(self, error: ApiError, seconds: float) -> None:
        assert error.reason
        self.waits.append(seconds)


def ask(
    api: Api, points: Sequence[Point] = POINTS, now: float = NOW, rate: float = 2, noted: Noted | None = None
) -> list[Point]:
    recorded: list[Point] = []

    def record(point: Point, statistics: Statistics) -> None:
        assert statistics.value("reservations") == 5
        recorded.append(point)

    asking = Asking({"default": api}, rate, noted or Noted(), clock=lambda: now)
    run_virtually(asking.ask((QUERY,), points, record))
    return recorded


def test_requests_are_spaced_by_the_rate() -> None:
    api = Api()
    assert ask(api) == POINTS
    times = [at for at, _ in api.asked]
    assert [at - times[0] for at in times] == pytest.approx([number / 2 for number in range(10)])


def test_a_rate_limit_stops_all_requests_for_as_long_as_the_api_asks() -> None:
    api = Api([GOOD, LIMITED])
    noted = Noted()
    assert sorted(ask(api, noted=noted), key=lambda point: point.step) == POINTS
    times = [at - api.asked[0][0] for at, _ in api.asked]
    assert times[:2] == pytest.approx([0, 0.5])
    assert all(at >= 30.5 for at in times[3:])
    assert len(api.asked) == len(POINTS) + 1
    assert noted.answers == len(POINTS)


def test_an_outage_is_waited_out_however_long_it_takes() -> None:
    api = Api([DOWN] * 300)
    noted = Noted()
    assert len(ask(api, noted=noted)) == len(POINTS)
    assert len(noted.waits) == 300
    assert 30 < max(noted.waits) <= 60


def test_unusable_answers_are_repeated_and_end_the_backfill_if_there_is_no_other() -> None:
    assert len(ask(Api([GARBAGE] * 5))) == len(POINTS)
    with pytest.raises(
        BackfillError, match=r"^workspace=support .* bad_response: status 200, the body: json"
    ):
        ask(Api([GARBAGE] * 100))


@pytest.mark.parametrize(
    ("reason", "status"),
    [(Reason.AUTH, 401), (Reason.FORBIDDEN, 403), (Reason.NOT_FOUND, 404), (Reason.BAD_RESPONSE, 400)],
)
def test_a_refusal_ends_the_backfill_after_the_requests_in_flight(reason: Reason, status: int) -> None:
    recorded: list[Point] = []
    api = Api([GOOD, ApiError(reason, "No", status), GOOD, GOOD])
    asking = Asking({"default": api}, 100, Noted(), clock=lambda: NOW)
    with pytest.raises(BackfillError, match=f"{reason}: status {status}, No"):
        run_virtually(asking.ask((QUERY,), POINTS, lambda point, _: recorded.append(point)))
    assert len(recorded) == len(api.asked) - 1
    assert len(api.asked) < len(POINTS)


def test_what_cannot_be_recorded_ends_the_backfill() -> None:
    def record(_point: Point, _statistics: Statistics) -> None:
        raise BackfillError("the disk is full")

    asking = Asking({"default": Api()}, 100, Noted(), clock=lambda: NOW)
    with pytest.raises(BackfillError, match="the disk is full"):
        run_virtually(asking.ask((QUERY,), POINTS, record))


def test_points_that_taskrouter_has_forgotten_are_not_asked_for() -> None:
    noted, api = Noted(), Api()
    later = STEPS[3] - 900 + 30 * 86_400
    assert ask(api, now=later, noted=noted) == POINTS[3:]
    assert noted.lost == POINTS[:3]
    assert len(api.asked) == 7


def test_a_stop_ends_waits_at_once_and_records_what_is_in_flight() -> None:
    api, recorded = Api([GOOD, GOOD, LIMITED]), []

    async def stopped() -> None:
        asking = Asking({"default": api}, 10, Noted(), clock=lambda: NOW)
        task = asyncio.create_task(asking.ask((QUERY,), POINTS, lambda point, _: recorded.append(point)))
        await asyncio.sleep(0.55)
        begin = asyncio.get_running_loop().time()
        asking.stop()
        await task
        assert asyncio.get_running_loop().time() - begin <= 0.1

    run_virtually(stopped())
    assert len(recorded) == len(api.asked) - 1
