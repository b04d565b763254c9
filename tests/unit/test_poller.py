import asyncio
import gc
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from support.virtual_api import HANG, Reply, VirtualClient, cycle
from support.virtual_clock import run_virtually

from taskrouter_exporter.api.call import Attempt, Call, HttpAnswer, RateLimit
from taskrouter_exporter.api.errors import ApiError, Reason
from taskrouter_exporter.periods import Anchored, AnchorName, Current, Window
from taskrouter_exporter.poll_history import PollHistory, PollResult, newest_rate_limits
from taskrouter_exporter.poller import Poller
from taskrouter_exporter.queries import Query, Row, Target
from taskrouter_exporter.statistics import realtime
from taskrouter_exporter.statistics.kind import Statistics

Answer = Statistics | ApiError

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)  # a Wednesday


def query(name: str = "support", period: Window | Anchored = Window(15)) -> Query:  # noqa: B008 -- frozen
    return Query(Target("main", "WS" + "0" * 32, name, "all"), period)


class Api:
    """A client with an answer per call that the test chooses, and a wall clock."""

    def __init__(self, behave: Callable[[Call], Awaitable[Any]], *, sending: bool = True) -> None:
        self._sending = sending
        self.calls: list[Call] = []
        self.wall = NOON
        self.generation = 0
        self.base_url = "https://api.test"
        self._renewed = 0
        self._behave = behave

    def renew(self) -> None:
        self._renewed += 1

    async def reread_credentials(self) -> None:
        self.generation = self._renewed

    async def get(self, call: Call, read: Callable[[HttpAnswer], list[Answer]]) -> list[Answer]:
        self.calls.append(call)
        call.requesting = self._sending
        document = await self._behave(call)
        call.requesting = False
        return read(HttpAnswer(200, {}, json.dumps(document).encode()))

    def poller(self, history: PollHistory | None = None, cache: float = 0) -> Poller:
        loop = asyncio.get_running_loop()
        return Poller(
            {"main": self},
            history or PollHistory(),
            cache=cache,
            clock=lambda: self.wall.timestamp(),  # noqa: PLW0108 -- the wall moves
            monotonic=loop.time,
        )


def now() -> float:
    return asyncio.get_running_loop().time()


def after(seconds: float, document: Any = None) -> Callable[[Call], Awaitable[Any]]:
    async def behave(_call: Call) -> Any:
        await asyncio.sleep(seconds)
        return {"reservations_created": 5} if document is None else document

    return behave


def failing(reason: Reason) -> Callable[[Call], Awaitable[Any]]:
    async def behave(call: Call) -> Any:
        error = ApiError(reason, "no", 503)
        call.attempts.append(Attempt(0, 0, 503, error))
        call.requesting = False
        raise error

    return behave


def test_all_queries_are_polled_at_once_and_returned_in_order() -> None:
    async def scenario() -> None:
        begin, api = now(), Api(after(2))
        queries = [query(str(number)) for number in range(50)]
        outcomes = await api.poller().poll(queries, now() + 9)
        assert [each.query for each in outcomes] == queries
        assert all(
            each.up and each.statistics and each.statistics.value("reservations") == 5 for each in outcomes
        )
        assert now() - begin == pytest.approx(2)
        assert outcomes[0].duration == pytest.approx(2)
        assert outcomes[0].finished == NOON.timestamp()

    run_virtually(scenario())


def test_at_the_deadline_late_queries_are_down_and_the_others_are_served() -> None:
    async def scenario() -> None:
        late, prompt = query("late"), query("prompt")

        async def behave(call: Call) -> Any:
            return await after(60 if call is api.calls[0] else 1)(call)

        begin, api, history = now(), Api(behave), PollHistory()
        outcomes = await api.poller(history).poll([late, prompt], now() + 9)
        assert now() - begin == pytest.approx(9)
        assert [each.up for each in outcomes] == [False, True]
        assert outcomes[0].error is not None
        assert outcomes[0].error.reason is Reason.TIMEOUT
        assert outcomes[0].statistics is None
        assert history.errors(late)[Reason.TIMEOUT] == 1
        assert sum(history.errors(prompt).values()) == 0

    run_virtually(scenario())


def test_a_poll_cancelled_in_its_backoff_has_the_reason_of_its_last_attempt() -> None:
    async def scenario() -> None:
        async def behave(call: Call) -> Any:
            call.attempts.append(Attempt(0, 1, 503, ApiError(Reason.SERVER_ERROR, "busy", 503)))
            call.requesting = False
            await asyncio.sleep(60)

        outcomes = await Api(behave).poller().poll([query()], now() + 9)
        assert outcomes[0].error is not None
        assert outcomes[0].error.reason is Reason.SERVER_ERROR

    run_virtually(scenario())


def test_nothing_late_is_served_later() -> None:
    async def scenario() -> None:
        api = Api(after(15))
        poller = api.poller()
        first = await poller.poll([query()], now() + 9)
        await asyncio.sleep(30)
        second = await poller.poll([query()], now() + 9)
        assert not first[0].up
        assert not second[0].up
        assert len(api.calls) == 2

    run_virtually(scenario())


def test_concurrent_scrapes_share_a_poll_in_flight() -> None:
    async def scenario() -> None:
        api = Api(after(4))
        poller = api.poller()
        first = asyncio.create_task(poller.poll([query()], now() + 9))
        await asyncio.sleep(2)
        second = asyncio.create_task(poller.poll([query(), query("other")], now() + 9))
        (one,), (two, other) = await first, await second
        assert one is two
        assert other.up
        assert len(api.calls) == 2

    run_virtually(scenario())


def test_a_scrape_that_joins_with_a_later_deadline_still_gets_the_answer() -> None:
    async def scenario() -> None:
        api, history = Api(after(5)), PollHistory()
        poller = api.poller(history)
        impatient = asyncio.create_task(poller.poll([query()], now() + 2))
        await asyncio.sleep(1)
        patient = asyncio.create_task(poller.poll([query()], now() + 9))
        assert not (await impatient)[0].up
        assert (await patient)[0].up
        assert len(api.calls) == 1
        assert history.errors(query())[Reason.TIMEOUT] == 0, "the poll itself did not fail"

    run_virtually(scenario())


def test_a_scrape_that_joins_with_an_earlier_deadline_leaves_at_its_own() -> None:
    async def scenario() -> None:
        api = Api(after(5))
        poller = api.poller()
        patient = asyncio.create_task(poller.poll([query()], now() + 9))
        await asyncio.sleep(1)
        begin = now()
        assert not (await poller.poll([query()], now() + 2))[0].up
        assert now() - begin == pytest.approx(2)
        assert (await patient)[0].up

    run_virtually(scenario())


@pytest.mark.parametrize("document", [[], {"reservations_created": "5"}])
def test_nothing_of_a_bad_response_is_published(document: Any) -> None:
    async def scenario() -> None:
        (outcome,) = await Api(after(1, document)).poller().poll([query()], now() + 9)
        assert outcome.statistics is None
        assert outcome.error is not None
        assert outcome.error.reason is Reason.BAD_RESPONSE

    run_virtually(scenario())


def test_an_unexpected_error_fails_its_query_at_once_and_is_logged_without_its_message() -> None:
    async def scenario() -> None:
        async def behave(_call: Call) -> Any:
            raise OverflowError("s3cret")

        begin = now()
        (outcome,) = await Api(behave).poller().poll([query()], now() + 9)
        assert now() == begin
        assert outcome.error is not None
        assert outcome.error.reason is Reason.BAD_RESPONSE

    with structlog.testing.capture_logs() as lines:
        run_virtually(scenario())
    assert lines[0]["error"] == "OverflowError"
    assert "test_poller.py" in lines[0]["where"]
    assert "s3cret" not in str(lines)


def test_a_good_answer_is_reused_within_the_cache_time_and_never_past_it() -> None:
    async def scenario() -> None:
        api = Api(after(1))
        poller = api.poller(cache=30)
        (first,) = await poller.poll([query()], now() + 9)
        await asyncio.sleep(28.5)
        assert (await poller.poll([query()], now() + 9))[0] is first
        await asyncio.sleep(1)
        assert (await poller.poll([query()], now() + 9))[0] is not first
        assert len(api.calls) == 2

    run_virtually(scenario())


def test_after_a_failure_nothing_is_reused() -> None:
    async def scenario() -> None:
        async def behave(call: Call) -> Any:
            return await (failing(Reason.SERVER_ERROR) if len(api.calls) == 2 else after(1))(call)

        api = Api(behave)
        poller = api.poller(cache=10)
        ups = []
        for pause in (11, 1, 1, 1):
            ups.append((await poller.poll([query()], now() + 9))[0].up)
            await asyncio.sleep(pause)
        assert ups == [True, False, True, True]
        assert len(api.calls) == 3

    run_virtually(scenario())


def test_failures_are_logged_when_they_start_change_their_reason_and_end() -> None:
    reasons = [Reason.AUTH, Reason.AUTH, Reason.TIMEOUT, None, None, Reason.AUTH]

    async def scenario() -> None:
        async def behave(call: Call) -> Any:
            reason = reasons[len(api.calls) - 1]
            return await (failing(reason) if reason else after(0))(call)

        api = Api(behave)
        poller = api.poller()
        for _ in reasons:
            await poller.poll([query()], now() + 9)

    with structlog.testing.capture_logs() as lines:
        run_virtually(scenario())
    assert [(line["event"], line.get("reason")) for line in lines] == [
        ("poll failed", "auth"),
        ("poll failed", "timeout"),
        ("poll recovered", None),
        ("poll failed", "auth"),
    ]
    assert lines[0]["workspace"] == "support"
    assert (lines[0]["status"], lines[0]["message"], lines[0]["attempts"]) == (503, "no", 1)


def anchored_values(
    period: AnchorName, script: list[tuple[datetime, float]], history: PollHistory | None = None
) -> list[tuple[str, float | None, datetime | None]]:
    """Poll an anchored query at each instant, answered with each value; what was asked and what came."""

    async def scenario() -> list[tuple[str, float | None, datetime | None]]:
        seen = []
        value = 0.0

        async def behave(_call: Call) -> Mapping[str, float]:
            return {"reservations_created": value}

        api = Api(behave)
        poller = api.poller(history)
        for instant, told in script:
            api.wall, value = instant, told
            (outcome,) = await poller.poll([query(period=Anchored(period))], now() + 9)
            assert outcome.statistics is not None
            seen.append(
                (
                    api.calls[-1].parameters["StartDate"],
                    outcome.statistics.value("reservations"),
                    outcome.anchor,
                )
            )
        return seen

    return run_virtually(scenario())


def test_a_day_ends_with_one_reset_and_nothing_else_changes() -> None:
    midnight = datetime(2026, 11, 26, tzinfo=UTC)
    script = [
        (midnight - timedelta(seconds=90), 500.0),
        (midnight - timedelta(seconds=30), 501.0),
        (midnight + timedelta(seconds=30), 2.0),
        (midnight + timedelta(seconds=90), 3.0),
    ]
    assert anchored_values("day", script) == [
        ("2026-11-25T00:00:00Z", 500, midnight - timedelta(days=1)),
        ("2026-11-25T00:00:00Z", 501, midnight - timedelta(days=1)),
        ("2026-11-26T00:00:00Z", 2, midnight),
        ("2026-11-26T00:00:00Z", 3, midnight),
    ]


def test_weekly_counters_reset_on_monday_and_not_on_other_days() -> None:
    monday = datetime(2026, 11, 30, tzinfo=UTC)
    script = [(monday + timedelta(days=day, hours=1), 10.0 * (day % 7)) for day in range(-7, 2)]
    seen = anchored_values("week", script)
    assert [start for start, _, _ in seen] == ["2026-11-23T00:00:00Z"] * 7 + ["2026-11-30T00:00:00Z"] * 2
    assert [value for _, value, _ in seen] == [0, 10, 20, 30, 40, 50, 60, 0, 10]


def test_within_one_anchor_the_value_published_never_goes_down() -> None:
    script = [(NOON + timedelta(minutes=minute), value) for minute, value in enumerate((5.0, 7.0, 6.0, 8.0))]
    assert [value for _, value, _ in anchored_values("day", script)] == [5, 7, 7, 8]


def test_a_clock_set_back_over_midnight_does_not_bring_the_old_day_back() -> None:
    midnight = datetime(2026, 11, 26, tzinfo=UTC)
    script = [
        (midnight + timedelta(seconds=1), 1.0),
        (midnight - timedelta(seconds=1), 1.0),
        (midnight + timedelta(seconds=2), 2.0),
    ]
    assert {start for start, _, _ in anchored_values("day", script)} == {"2026-11-26T00:00:00Z"}


def test_a_clock_that_was_a_day_ahead_is_corrected() -> None:
    script = [(NOON + timedelta(days=1), 0.0), (NOON, 50.0)]
    assert [(start, value) for start, value, _ in anchored_values("day", script)] == [
        ("2026-11-26T00:00:00Z", 0),
        ("2026-11-25T00:00:00Z", 50),
    ]


def test_a_cached_answer_of_yesterdays_anchor_is_not_reused() -> None:
    async def scenario() -> None:
        api = Api(after(0))
        api.wall = datetime(2026, 11, 25, 23, 59, 59, tzinfo=UTC)
        poller = api.poller(cache=600)
        anchored = query(period=Anchored("day"))
        await poller.poll([anchored], now() + 9)
        api.wall += timedelta(seconds=2)
        await poller.poll([anchored], now() + 9)
        assert [call.parameters["StartDate"][:10] for call in api.calls] == ["2026-11-25", "2026-11-26"]

    run_virtually(scenario())


def test_the_history_of_a_removed_query_is_forgotten() -> None:
    history, stays, goes = PollHistory(), query("stays"), query("goes")
    for each in (stays, goes):
        history.record(PollResult(each, 0, 1, error=ApiError(Reason.AUTH, "no")))
    history.forget_all_but([stays])
    assert history.errors(stays)[Reason.AUTH] == 1
    assert history.last(stays) is not None
    assert history.errors(goes)[Reason.AUTH] == 0
    assert history.last(goes) is None


def test_the_result_of_a_paused_query_has_its_anchor() -> None:
    async def scenario() -> None:
        api = Api(failing(Reason.FORBIDDEN))
        poller = api.poller()
        anchored = query(period=Anchored("day"))
        results = [(await poller.poll([anchored], now() + 9))[0] for _ in range(3)]
        assert results[-1].attempts == ()
        assert {result.anchor for result in results} == {datetime(2026, 11, 25, tzinfo=UTC)}

    run_virtually(scenario())


def test_a_query_that_was_never_sent_is_down_and_no_failure_of_its_target() -> None:
    async def scenario() -> None:
        async def never_sent(_call: Call) -> Any:
            await asyncio.sleep(60)

        api, history = Api(never_sent, sending=False), PollHistory()
        with structlog.testing.capture_logs() as lines:
            results = await api.poller(history).poll([query(str(number)) for number in range(500)], now() + 1)
        assert not any(result.up or result.asked for result in results)
        assert sum(history.errors(results[0].query).values()) == 0
        assert [(line["event"], line["queries"]) for line in lines] == [
            ("deadline reached before all queries were sent", 500)
        ]

    run_virtually(scenario())


def test_the_log_of_an_outage_is_bounded_and_says_how_much_it_leaves_out() -> None:
    async def scenario() -> None:
        api, history = Api(failing(Reason.CONNECTION)), PollHistory()
        with structlog.testing.capture_logs() as lines:
            await api.poller(history).poll([query(str(number)) for number in range(500)], now() + 9)
        assert [line["event"] for line in lines] == ["poll failed"] * 20 + ["more polls failed or recovered"]
        assert lines[-1]["polls"] == 480

    run_virtually(scenario())


def test_a_poll_ends_with_the_last_scrape_that_wants_it() -> None:
    async def scenario() -> None:
        api, history = Api(after(3600)), PollHistory()
        poller = api.poller(history)
        patient = asyncio.create_task(poller.poll([query()], now() + 1_000_000))
        await asyncio.sleep(1)
        second = asyncio.create_task(poller.poll([query()], now() + 9))
        await asyncio.sleep(1)
        patient.cancel()
        await asyncio.sleep(0)
        assert api.calls[0].deadline == pytest.approx(now() + 8), "that of the scrape that is left"
        second.cancel()
        await asyncio.sleep(0)
        await poller.drained()
        assert sum(history.errors(query()).values()) == 0
        assert (await poller.poll([query()], now() + 9))[0].error is not None
        assert len(api.calls) == 2

    run_virtually(scenario())


BEHAVIOURS = st.one_of(
    st.floats(0, 40).map(after),
    st.sampled_from(list(Reason)).map(failing),
    st.floats(0, 40).map(lambda seconds: after(seconds, {"reservations_created": "x"})),
)
SCRAPES = st.lists(st.tuples(st.floats(0, 15), st.floats(0.01, 20)), min_size=1, max_size=5)


@given(
    behaviours=st.lists(BEHAVIOURS, min_size=1, max_size=6), scrapes=SCRAPES, cache=st.sampled_from([0, 5])
)
def test_whatever_the_api_does_each_scrape_ends_at_its_deadline_with_every_query_complete_or_down(
    behaviours: list[Callable[[Call], Awaitable[Any]]], scrapes: list[tuple[float, float]], cache: float
) -> None:
    queries = [query(str(number)) for number in range(len(behaviours))]

    async def scenario() -> None:
        async def behave(call: Call) -> Any:
            return await behaviours[(len(api.calls) - 1) % len(behaviours)](call)

        api = Api(behave)
        poller = api.poller(cache=cache)

        async def scrape(pause: float, budget: float) -> None:
            await asyncio.sleep(pause)
            deadline = now() + budget
            outcomes = await poller.poll(queries, deadline)
            assert now() <= deadline + 1e-6
            assert [each.query for each in outcomes] == queries
            assert all(
                (each.statistics is None) == (each.error is not None) == (not each.up) for each in outcomes
            )
            assert all(each.statistics.value("reservations") == 5 for each in outcomes if each.statistics)

        await asyncio.gather(*(scrape(*each) for each in scrapes))

    run_virtually(scenario())


REPLIES = st.one_of(
    st.floats(0, 0.5).map(Reply),
    st.floats(0.5, 40).map(Reply),
    st.just(HANG),
    st.just(Reply(0.1, 503)),
)


@given(
    disturbers=st.lists(st.lists(REPLIES, min_size=1, max_size=4), max_size=40),
    good=st.integers(1, 10),
    concurrency=st.integers(2, 16),
    offset=st.sampled_from([0.0, 5.0]),
    in_one_workspace=st.booleans(),
)
@settings(max_examples=50)
def test_whatever_some_queries_do_the_others_are_up_once_they_are_known(
    disturbers: list[list[Reply]], good: int, concurrency: int, offset: float, *, in_one_workspace: bool
) -> None:
    """Some answer, fail, hang, are slow or alternate; one or two Prometheus servers scrape."""

    async def scenario() -> None:
        replies = dict(enumerate(map(cycle, disturbers)))
        queries = [located(number, in_one_workspace=in_one_workspace) for number in range(len(disturbers))]
        well = [located(100 + number, in_one_workspace=in_one_workspace) for number in range(good)]

        def reply(call: Call) -> Reply:
            channel = int(call.parameters["TaskChannel"])
            return replies[channel]() if channel in replies else Reply(0.2)

        loop = asyncio.get_running_loop()
        poller = Poller({"main": VirtualClient(concurrency, reply)}, PollHistory(), monotonic=loop.time)

        async def scrape(pause: float) -> None:
            await asyncio.sleep(pause)
            for number in range(16):
                begin = now()
                outcomes = await poller.poll([*queries, *well], begin + 9.4)
                if number >= 12:
                    assert [each.up for each in outcomes[len(queries) :]] == [True] * good
                await asyncio.sleep(begin + 10 - now())

        await asyncio.gather(*(scrape(pause) for pause in {0.0, offset}))

    with structlog.testing.capture_logs():
        run_virtually(scenario())


def located(number: int, *, in_one_workspace: bool) -> Query:
    sid = f"WS{0 if in_one_workspace else number:032x}"
    return Query(Target("main", sid, str(number), str(number)), Window(15))


def test_forty_queries_that_start_to_hang_affect_none_of_twenty_others() -> None:
    async def scenario() -> None:
        queries = [located(number, in_one_workspace=False) for number in range(60)]
        hanging = False

        def reply(call: Call) -> Reply:
            return HANG if hanging and int(call.parameters["TaskChannel"]) < 40 else Reply(0.1)

        loop = asyncio.get_running_loop()
        poller = Poller({"main": VirtualClient(16, reply)}, PollHistory(), monotonic=loop.time)
        ups = []
        for now_hanging in (False, True, True, False):
            hanging = now_hanging
            outcomes = await poller.poll(queries, now() + 9.4)
            ups.append((sum(each.up for each in outcomes[:40]), sum(each.up for each in outcomes[40:])))
        assert ups == [(40, 20), (0, 20), (0, 20), (40, 20)]

    with structlog.testing.capture_logs():
        run_virtually(scenario())


def test_an_api_that_is_slow_for_all_serves_as_many_as_its_threads_can() -> None:
    async def scenario() -> None:
        queries = [located(number, in_one_workspace=False) for number in range(60)]
        loop = asyncio.get_running_loop()
        client = VirtualClient(16, lambda _call: Reply(3.0))
        poller = Poller({"main": client}, PollHistory(), monotonic=loop.time)
        for _ in range(4):
            outcomes = await poller.poll(queries, now() + 9.4)
            assert sum(each.up for each in outcomes) == 48, "three rounds of 16"
            await asyncio.sleep(0.6)

    with structlog.testing.capture_logs():
        run_virtually(scenario())


def test_a_query_that_is_merely_slow_recovers() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        replies = iter([Reply(60), Reply(2.0), Reply(2.0)])
        client = VirtualClient(4, lambda _call: next(replies))
        poller = Poller({"main": client}, PollHistory(), monotonic=loop.time)
        outcomes = [(await poller.poll([query()], now() + 9.4))[0] for _ in range(3)]
        assert [each.up for each in outcomes] == [False, True, True]
        durations = [[attempt.duration for attempt in each.attempts] for each in outcomes]
        assert durations[1:] == [[pytest.approx(1.25), pytest.approx(2)], [pytest.approx(2)]]

    with structlog.testing.capture_logs():
        run_virtually(scenario())


def test_a_query_that_is_refused_repeatedly_is_polled_less_often() -> None:
    refusal: ApiError | None = ApiError(Reason.NOT_FOUND, "no such workspace", 404)

    async def scenario() -> None:
        async def behave(call: Call) -> Any:
            if refusal is None:
                return {"reservations_created": 5}
            call.attempts.append(Attempt(0, 0, 404, refusal))
            raise refusal

        nonlocal refusal
        begin, api, history = now(), Api(behave), PollHistory()
        poller = api.poller(history)
        asked: list[float] = []
        for scrapes in range(1, 181):
            (outcome,) = await poller.poll([query()], now() + 9)
            assert outcome.error is not None
            assert outcome.error.reason is Reason.NOT_FOUND
            assert history.errors(query())[Reason.NOT_FOUND] == scrapes, "every scrape counts"
            if len(asked) < len(api.calls):
                asked.append(now() - begin)
            else:
                assert outcome.attempts == ()
                assert "times in a row, next attempt in" in outcome.error.message
            await asyncio.sleep(10)
        assert asked == pytest.approx([0, 10, 40, 100, 220, 460, 940, 1540])
        for renew in (api.renew, poller.resume):
            before = len(api.calls)
            await poller.poll([query()], now() + 9)
            assert len(api.calls) == before
            renew()
            for _ in range(3):
                await poller.poll([query()], now() + 9)
            assert len(api.calls) == before + 2, "the first refusal is followed by no pause"
        api.renew()
        refusal = None
        assert (await poller.poll([query()], now() + 9))[0].up

    with structlog.testing.capture_logs() as lines:
        run_virtually(scenario())
    events = [line["event"] for line in lines]
    assert events[:2] == ["poll failed", "query refused repeatedly; polling it less often"]
    assert events[-1] == "poll recovered"


def test_the_cache_is_pruned_with_the_queries() -> None:
    async def scenario() -> None:
        poller = Api(after(0)).poller(cache=60)
        for generation in range(60):
            queries = [query(f"{generation}/{number}") for number in range(20)]
            poller.forget_all_but(queries)
            await poller.poll(queries, now() + 9)
        assert len(poller._cached) == 20
        late = query("gone before its poll ended")
        await poller.poll([late], now() + 9)
        assert late not in poller._cached

    run_virtually(scenario())


def test_results_are_ordered_by_the_start_of_their_polls() -> None:
    history, success = PollHistory(), PollResult(query(), 100, 1, begun=99)
    history.record(success)
    with structlog.testing.capture_logs() as lines:
        history.record(PollResult(query(), 101, 9, error=ApiError(Reason.AUTH, "old password"), begun=92))
    assert history.last(query()) == success
    assert history.errors(query())[Reason.AUTH] == 1, "it is counted, but no news"
    assert lines == []


QUEUES = [
    Query(query().target, Current(), realtime.QUEUE, Row(f"WQ{number:032x}", f"queue {number}"))
    for number in range(3)
]


def available(*numbers: int) -> dict[str, Any]:
    items = [{"task_queue_sid": f"WQ{number:032x}", "total_available_workers": number} for number in numbers]
    return {"task_queue_data": items}


def workers(results: list[PollResult]) -> list[float | None]:
    family = r"(?m)^twilio_taskrouter_queue_available_workers.* (.*)$"
    found = [re.search(family, b"".join(each.lines).decode()) for each in results]
    return [float(each[1]) if each else None for each in found]


def test_results_wait_for_no_garbage_collector() -> None:
    async def scenario() -> int:
        api = Api(after(1, available(2, 0)))
        poller = api.poller()
        await poller.poll([query(), *QUEUES], now() + 9)
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                await poller.poll([query(), *QUEUES], now() + 9)
            return gc.collect()
        finally:
            gc.enable()

    assert run_virtually(scenario()) < 20


def test_queues_share_a_request_and_each_has_its_own_result() -> None:
    async def scenario() -> None:
        api = Api(after(1, available(2, 0)))
        results = await api.poller().poll([query(), *QUEUES], now() + 9)
        assert workers(results[1:]) == [0, None, 2]
        assert [each.up for each in results] == [False, True, False, True]
        assert [call.body is not None for call in api.calls] == [False, True]
        assert [each.together for each in results] == [1, 3, 3, 3]
        reasons = [each.error and each.error.reason for each in results[1:]]
        assert reasons == [None, Reason.BAD_RESPONSE, None]

    run_virtually(scenario())


def test_scrapes_of_some_of_the_queues_join_the_request_of_all() -> None:
    async def scenario() -> None:
        api = Api(after(4, available(0, 1, 2)))
        poller = api.poller()
        impatient = asyncio.create_task(poller.poll(QUEUES, now() + 2))
        await asyncio.sleep(1)
        one = asyncio.create_task(poller.poll(QUEUES[1:2], now() + 9))
        assert workers(await impatient) == [None] * 3
        assert workers(await one) == [1]
        assert len(api.calls) == 1

    run_virtually(scenario())


def test_a_request_for_queues_is_given_up_with_its_last_scrape() -> None:
    async def scenario() -> None:
        ended = []

        async def behave(_call: Call) -> Any:
            try:
                await asyncio.sleep(60)
            finally:
                ended.append(now())

        api = Api(behave)
        poller, begin = api.poller(), now()
        first, second = (asyncio.create_task(poller.poll(QUEUES[:n], now() + 2 * n)) for n in (2, 3))
        results = [await first, await second]
        await poller.drained()
        assert [workers(each) for each in results] == [[None] * 2, [None] * 3]
        assert [each - begin for each in ended] == pytest.approx([6, 6])

    run_virtually(scenario())


def test_after_a_refusal_the_queues_are_asked_singly() -> None:
    async def scenario() -> None:
        async def behave(call: Call) -> Any:
            if call.body is not None:
                return await failing(Reason.FORBIDDEN)(call)
            return {"total_available_workers": 1}

        api = Api(behave)
        poller = api.poller()
        assert workers(await poller.poll(QUEUES, now() + 9)) == [None] * 3
        assert workers(await poller.poll(QUEUES, now() + 9)) == [1] * 3
        assert len(api.calls) == 1 + 3

    run_virtually(scenario())


def test_the_request_for_several_queues_has_a_rate_limit_of_its_own() -> None:
    async def scenario() -> None:
        async def behave(call: Call) -> Any:
            call.rate_limit = RateLimit(50, 48) if call.body is not None else RateLimit(500, 400)
            return available(0, 1, 2) if call.body is not None else {"total_available_workers": 3}

        api = Api(behave)
        voice = replace(QUEUES[0], target=replace(query().target, channel="voice"))
        results = await api.poller().poll([*QUEUES, voice], now() + 9)
        assert newest_rate_limits(results) == {
            ("support", "TaskQueues/BulkRealTimeStatistics"): RateLimit(50, 48),
            ("support", "TaskQueues/RealTimeStatistics"): RateLimit(500, 400),
        }
        assert len({call.claim.resource for call in api.calls}) == 2

    run_virtually(scenario())
