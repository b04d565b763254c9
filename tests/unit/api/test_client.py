import asyncio
import base64
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import tenacity
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from taskrouter_exporter.api.call import Call, HttpAnswer, RateLimit
from taskrouter_exporter.api.client import (
    Client,
    _rate_limit,
    _retry_after,
    stop_before_deadline,
    wait_at_least_retry_after,
)
from taskrouter_exporter.api.errors import ApiError, Reason
from taskrouter_exporter.api.executor import FairExecutor
from taskrouter_exporter.api.fair_queue import Job
from taskrouter_exporter.config.model import Account, Polling

SECRET = "s3cret-token"
ACCOUNT = Account("main", "https://api.test", "AC" + "0" * 32, SecretStr(SECRET), None)


class ScriptedTransport:
    """Answers, or raises, one thing after the other; the last one for ever."""

    def __init__(self, *script: HttpAnswer | ApiError | Callable[[float], HttpAnswer]) -> None:
        self._script = list(script)
        self.timeouts: list[float] = []
        self.requests: list[tuple[str, Mapping[str, str], tuple[str, str]]] = []
        self.bodies: list[bytes] = []

    def get(
        self, url: str, parameters: Mapping[str, str], auth: tuple[str, str], deadline: Callable[[], float]
    ) -> HttpAnswer:
        timeout = deadline() - time.monotonic()
        self.timeouts.append(timeout)
        self.requests.append((url, parameters, auth))
        step = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        if isinstance(step, ApiError):
            raise step
        return step(timeout) if callable(step) else step

    def post(self, url: str, body: bytes, auth: tuple[str, str], deadline: Callable[[], float]) -> HttpAnswer:
        self.bodies.append(body)
        return self.get(url, {}, auth, deadline)

    def close(self) -> None:
        pass


class Notes:
    """An observer that records every call."""

    def __init__(self) -> None:
        self.statuses: list[int | None] = []
        self.retries = 0

    def requested(self, account: str, status: int | None, duration: float) -> None:
        assert account == "main"
        assert duration >= 0
        self.statuses.append(status)

    def retried(self, account: str) -> None:
        assert account == "main"
        self.retries += 1


@pytest.fixture(autouse=True)
def _short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of a hundredth: what is tested is the order of events, not their pace."""
    monkeypatch.setattr("taskrouter_exporter.api.client._FIRST_BACKOFF_SECONDS", 0.0025)


def get(
    transport: ScriptedTransport, notes: Notes, *, attempts: int = 4, within: float = 5.0
) -> tuple[HttpAnswer, Call]:
    async def run() -> tuple[HttpAnswer, Call]:
        polling = Polling(attempts=attempts, request_timeout=2.0)
        client = Client(ACCOUNT, polling, transport, FairExecutor(4, 1), notes)
        call = Call("/v1/x", {"Minutes": "15"}, time.monotonic() + within)
        calls.append(call)
        return await client.get(call, lambda answer: answer), call

    calls: list[Call] = []
    try:
        return asyncio.run(run())
    except ApiError as error:
        error.add_note(str(len(calls[0].attempts)))
        raise


OK = HttpAnswer(200, {}, b"{}")


def test_a_request_goes_to_the_accounts_host_with_its_credentials() -> None:
    transport = ScriptedTransport(OK)
    answer, call = get(transport, Notes())
    assert answer is OK
    assert transport.requests == [("https://api.test/v1/x", {"Minutes": "15"}, (ACCOUNT.username, SECRET))]
    assert [(each.status, each.error) for each in call.attempts] == [(200, None)]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(status: int) -> None:
    notes = Notes()
    answer, call = get(ScriptedTransport(HttpAnswer(status, {}, b""), HttpAnswer(status, {}, b""), OK), notes)
    assert answer is OK
    assert notes.statuses == [status, status, 200]
    assert notes.retries == 2
    assert [each.status for each in call.attempts] == [status, status, 200]


@pytest.mark.parametrize("reason", [Reason.CONNECTION, Reason.TIMEOUT])
def test_connection_errors_and_timeouts_are_retried(reason: Reason) -> None:
    notes = Notes()
    assert get(ScriptedTransport(ApiError(reason, "x"), OK), notes)[0] is OK
    assert notes.statuses == [None, 200]


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, Reason.AUTH),
        (403, Reason.FORBIDDEN),
        (404, Reason.NOT_FOUND),
        (400, Reason.BAD_RESPONSE),
        (204, Reason.BAD_RESPONSE),
        (302, Reason.BAD_RESPONSE),
        (501, Reason.SERVER_ERROR),
        (599, Reason.SERVER_ERROR),
        (999, Reason.BAD_RESPONSE),
    ],
)
def test_every_other_status_fails_at_once_with_its_reason(status: int, reason: Reason) -> None:
    notes = Notes()
    with pytest.raises(ApiError) as caught:
        get(ScriptedTransport(HttpAnswer(status, {}, b"")), notes)
    assert (caught.value.reason, caught.value.status) == (reason, status)
    assert notes.statuses == [status]
    assert notes.retries == 0


def test_the_attempts_end_with_the_last_ones_error() -> None:
    notes = Notes()
    script = [HttpAnswer(503, {}, b""), HttpAnswer(500, {}, b""), HttpAnswer(429, {}, b"")]
    with pytest.raises(ApiError) as caught:
        get(ScriptedTransport(*script), notes, attempts=3)
    assert caught.value.reason is Reason.RATE_LIMITED
    assert notes.statuses == [503, 500, 429]
    assert notes.retries == 2


def test_no_wait_starts_that_would_end_past_the_deadline() -> None:
    notes = Notes()
    begin = time.monotonic()
    with pytest.raises(ApiError) as caught:
        get(ScriptedTransport(HttpAnswer(429, {"Retry-After": "300"}, b"")), notes, within=100)
    assert time.monotonic() - begin < 60
    assert caught.value.reason is Reason.RATE_LIMITED
    assert notes.statuses == [429]
    assert notes.retries == 0


def test_an_attempt_gets_the_request_timeout_or_what_is_left_until_the_deadline() -> None:
    transport = ScriptedTransport(OK)
    get(transport, Notes(), within=10)
    get(transport, Notes(), within=1)
    assert 1.5 < transport.timeouts[0] <= 2.0
    assert 0.5 < transport.timeouts[1] <= 1.0


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (
            b'{"code": 20003, "message": "Authenticate", "more_info": "x", "status": 401}',
            20003,
            "Authenticate",
        ),
        (b'{"type": "x", "title": "Unauthorized", "status": 401, "code": 7, "detail": "No"}', 7, "No"),
        (b'{"title": "Unauthorized"}', None, "Unauthorized"),
        (b"<html>proxy</html>", None, "Unauthorized"),
        (b"[" * 100_000, None, "Unauthorized"),
        (b"[]", None, "Unauthorized"),
        (b'{"code": true, "message": 5}', None, "Unauthorized"),
        (b'{"message": "two\\nlines\\u001b[31m"}', None, "two lines [31m"),
    ],
)
def test_the_error_contains_the_apis_code_and_message(body: bytes, code: int | None, message: str) -> None:
    with pytest.raises(ApiError) as caught:
        get(ScriptedTransport(HttpAnswer(401, {}, body)), Notes())
    assert (caught.value.code, caught.value.message) == (code, message)


def test_a_message_is_bounded() -> None:
    with pytest.raises(ApiError) as caught:
        get(ScriptedTransport(HttpAnswer(401, {}, b'{"message": "' + b"x" * 9000 + b'"}')), Notes())
    assert caught.value.message == "x" * 200


def test_a_message_that_echoes_the_secret_is_withheld() -> None:
    encoded = base64.b64encode(f"{ACCOUNT.username}:{SECRET}".encode()).decode()
    for echo in (SECRET, encoded):
        with pytest.raises(ApiError) as caught:
            get(ScriptedTransport(HttpAnswer(401, {}, f'{{"message": "bad {echo}"}}'.encode())), Notes())
        assert caught.value.message == "Unauthorized (message withheld: it contains credentials)"


@pytest.mark.parametrize(
    ("header", "request_id"),
    [("RQ" + "0a" * 16, "RQ" + "0a" * 16), (f"RQ{SECRET}", None), ("", None)],
)
def test_the_request_id_of_a_failure_is_kept_for_twilios_support(header: str, request_id: str | None) -> None:
    with pytest.raises(ApiError) as caught:
        get(ScriptedTransport(HttpAnswer(401, {"Twilio-Request-Id": header}, b"")), Notes())
    assert caught.value.request_id == request_id


def test_the_rate_limit_is_read_from_failures_too_and_the_newest_counts() -> None:
    headers = {"X-Rate-Limit-Limit": "20", "X-Rate-Limit-Remaining": "0"}
    _, call = get(ScriptedTransport(HttpAnswer(429, headers, b""), OK), Notes())
    assert call.rate_limit == RateLimit(20, 0)
    _, call = get(ScriptedTransport(HttpAnswer(200, {"X-Rate-Limit-Remaining": "junk"}, b"{}")), Notes())
    assert call.rate_limit is None


@pytest.mark.parametrize(
    ("header", "value"),
    [("48.6", 48.6), ("0.0", 0), ("50", 50), ("-1", None), ("-0.5", None), ("nan", None), ("inf", None),
     ("1e3", None), ("9" * 400, None), ("4_8", None), ("\u0664", None), ("48.", None), ("", None)],
)  # fmt: skip
def test_a_rate_limit_is_a_decimal_number(header: str, value: float | None) -> None:
    read = _rate_limit({"X-Rate-Limit-Limit": header, "X-Rate-Limit-Remaining": "1.5"})
    assert read == RateLimit(value, 1.5)


def retry_state(error: ApiError, upcoming_sleep: float = 0) -> tenacity.RetryCallState:
    state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    state.upcoming_sleep = upcoming_sleep
    state.set_exception((type(error), error, None))
    return state


@pytest.mark.parametrize(("retry_after", "waited"), [(None, 2.0), (0.5, 2.0), (7.0, 7.0)])
def test_retry_after_lengthens_the_backoff_and_never_shortens_it(
    retry_after: float | None, waited: float
) -> None:
    wait = wait_at_least_retry_after(tenacity.wait_fixed(2))
    assert wait(retry_state(ApiError(Reason.RATE_LIMITED, "x", 429, retry_after=retry_after))) == waited


@pytest.mark.parametrize(("sleep", "stops"), [(0.9, False), (1.0, True), (1.1, True)])
def test_a_wait_may_end_before_the_deadline_and_not_at_it(*, sleep: float, stops: bool) -> None:
    stop = stop_before_deadline(lambda: 100.0)
    state = retry_state(ApiError(Reason.TIMEOUT, "x"), sleep)
    state.args = (Call("/", {}, 101.0),)
    assert stop(state) is stops


def test_concurrent_retries_are_independent() -> None:
    """Each call fails as often as its path says, and gets that many attempts more, not its neighbour's."""

    class Failing:
        def __init__(self) -> None:
            self._seen: dict[str, int] = {}

        def get(self, url: str, _parameters: object, _auth: object, _deadline: object) -> HttpAnswer:
            failures = int(url.rsplit("/", 1)[1]) % 4
            self._seen[url] = self._seen.get(url, 0) + 1
            return OK if self._seen[url] > failures else HttpAnswer(503, {}, b"")

        def post(self, url: str, _body: bytes, auth: object, deadline: object) -> HttpAnswer:
            return self.get(url, {}, auth, deadline)

        def close(self) -> None:
            pass

    async def run() -> list[int]:
        client = Client(ACCOUNT, Polling(attempts=4), Failing(), FairExecutor(4, 1), Notes())
        calls = [Call(f"/v1/{number}", {}, time.monotonic() + 5) for number in range(100)]
        assert (
            await asyncio.gather(*(client.get(call, lambda answer: answer) for call in calls)) == [OK] * 100
        )
        return [len(call.attempts) for call in calls]

    assert asyncio.run(run()) == [1 + number % 4 for number in range(100)]


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("3", 3, 3),
        ("0", 0, 0),
        (timedelta(hours=1), 3000, 3600),
        (timedelta(hours=-1), 0, 0),
        ("soon", None, None),
        ("-1", None, None),
        ("Fri, 31 Dec 9999 23:59:59 -2300", None, None),
        ("Mon, 01 Jan 2026 99999999999999999999:00:00 GMT", None, None),
    ],
    ids=["seconds", "none", "a date", "a date gone by", "nonsense", "negative", "past all time", "no time"],
)
def test_retry_after_is_seconds_or_a_date(
    header: str | timedelta, least: float | None, most: float | None
) -> None:
    if isinstance(header, timedelta):  # from the test's own time, not from when the tests were collected
        header = format_datetime(datetime.now(UTC) + header, usegmt=True)
    with pytest.raises(ApiError) as caught:
        get(ScriptedTransport(HttpAnswer(429, {"Retry-After": header}, b"")), Notes(), attempts=1)
    if least is None or most is None:
        assert caught.value.retry_after is None
    else:
        assert caught.value.retry_after is not None
        assert least <= caught.value.retry_after <= most


@pytest.fixture(params=["America/New_York", "Asia/Tokyo"])
def local_time_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("local_time_zone")
@pytest.mark.parametrize(
    "form",
    ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y",
     "%a, %d %b %Y %H:%M:%S -0000", "%a, %d %b %Y %H:%M:%S +0000"],
    ids=["IMF-fixdate", "RFC 850", "asctime", "-0000", "+0000"],
)  # fmt: skip
def test_a_retry_after_date_is_in_utc_whatever_the_local_time_zone(form: str) -> None:
    seconds = _retry_after((datetime.now(UTC) + timedelta(minutes=2)).strftime(form))
    assert seconds is not None
    assert 100 < seconds <= 120


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} \d+ \d+:\d+:\d+ ([A-Z]+|[+-]\d+)"))
def test_any_retry_after_is_seconds_or_nothing(header: str) -> None:
    seconds = _retry_after(header)
    assert seconds is None or seconds >= 0


def test_a_call_cancelled_before_its_first_attempt_blames_the_concurrency_limit() -> None:
    error = Call("/", {}, 0).failure_when_given_up()
    assert error.reason is Reason.TIMEOUT
    assert "polling.concurrency" in error.message


@pytest.mark.parametrize("state", ["parked", "paced"])
def test_a_call_given_up_while_it_waits_for_a_rate_limit_says_so(state: str) -> None:
    job = Job("main", bool, lambda: 0.0)
    setattr(job, state, True)
    error = Call("/", {}, 0, job=job).failure_when_given_up()
    assert error.reason is Reason.RATE_LIMITED
    assert not error.retryable
