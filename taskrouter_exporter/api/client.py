"""The API client of one account: a request within a deadline, with retries, and typed errors."""

import asyncio
import json
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from typing import Final, Protocol, TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)
from tenacity.stop import stop_base
from tenacity.wait import wait_base

from taskrouter_exporter import __version__
from taskrouter_exporter.api.call import Attempt, Call, HttpAnswer, RateLimit
from taskrouter_exporter.api.credentials import Credentials
from taskrouter_exporter.api.environment import network_problems
from taskrouter_exporter.api.errors import ApiError, Reason, reason_of_status
from taskrouter_exporter.api.executor import FairExecutor
from taskrouter_exporter.api.fair_queue import Job
from taskrouter_exporter.api.secrets import Secrets
from taskrouter_exporter.api.streams import Deadline
from taskrouter_exporter.api.transport import MOST_PREPARED, RequestsTransport, Transport
from taskrouter_exporter.config.errors import ConfigError
from taskrouter_exporter.config.model import Account, Config, Polling

_USER_AGENT: Final = f"taskrouter-exporter/{__version__}"
_FIRST_BACKOFF_SECONDS: Final = 0.25
_LONGEST_BACKOFF_SECONDS: Final = 10
_LONGEST_MESSAGE: Final = 200
_EXAMINED_MESSAGE: Final = 1000
_DECIMAL: Final = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?")
_IMPATIENT_PART: Final = 0.25
"""The part of the request timeout that an attempt gets which is not expected to be answered."""

_Result = TypeVar("_Result")


class RequestObserver(Protocol):
    """Receives every API request, from the threads that carry them out."""

    def requested(self, account: str, status: int | None, duration: float) -> None:
        """Take note of a request that ended after `duration` seconds; without an answer it has no status."""

    def retried(self, account: str) -> None:
        """Take note that another attempt follows."""


class Client:
    """The API with the credentials of one account."""

    def __init__(
        self,
        account: Account,
        polling: Polling,
        transport: Transport,
        executor: FairExecutor,
        observer: RequestObserver,
    ) -> None:
        self._account = account
        self._polling = polling
        self._transport = transport
        self._executor = executor
        self._observer = observer
        self._credentials = Credentials(account)
        # One for all calls: what tenacity keeps in it is used up between two awaits, and one for each call
        # would leave a reference cycle behind that only the garbage collector frees.
        self._retrying = AsyncRetrying(
            stop=stop_after_attempt(polling.attempts) | stop_before_deadline(),
            wait=wait_at_least_retry_after(
                wait_random_exponential(multiplier=_FIRST_BACKOFF_SECONDS, max=_LONGEST_BACKOFF_SECONDS)
            ),
            retry=retry_if_exception(lambda error: isinstance(error, ApiError) and error.retryable),
            before_sleep=self._before_wait,
            reraise=True,
        )

    @property
    def base_url(self) -> str:
        """Address of the API."""
        return self._account.base_url

    @property
    def generation(self) -> int:
        """How often the credentials have changed."""
        return self._credentials.generation

    async def reread_credentials(self) -> None:
        """Reread the password if its file has changed; requests do so by themselves."""
        if self._account.password_file is not None:
            await asyncio.to_thread(self._credentials.password)

    async def get(self, call: Call, read: Callable[[HttpAnswer], _Result]) -> _Result:
        """Carry the call out: attempts and the waits between them, none of which would pass the deadline.

        It may outlast the deadline where an attempt does; the caller gives it up then.

        Args:
            call: What to ask.
            read: Parses the answer, in the thread of the request: a large one must not block the event loop.

        Raises:
            ApiError: that of the last attempt, or of `read`.
        """
        call.patience = _IMPATIENT_PART * self._polling.request_timeout
        return await self._retrying(self._attempt, call, read)

    def close(self) -> None:
        """Close the kept connections."""
        self._transport.close()

    def _before_wait(self, retry_state: RetryCallState) -> None:
        call: Call = retry_state.args[0]
        call.retry_at = time.monotonic() + retry_state.upcoming_sleep
        self._observer.retried(self._account.name)

    async def _attempt(self, call: Call, read: Callable[[HttpAnswer], _Result]) -> _Result:
        job = Job(
            account=self._account.name,
            function=partial(self._request, call, read),
            deadline=lambda: call.deadline,
            claim=call.claim,
            retry=bool(call.attempts),
            patience=call.patience,
        )
        call.job, call.retry_at = job, None
        try:
            result: _Result = await self._executor.run(job)
        finally:
            call.job = None  # the job knows the call: a reference cycle otherwise
        return result

    def _request(self, call: Call, read: Callable[[HttpAnswer], _Result], job: Job) -> _Result:
        """Carry one attempt out, in a thread of the executor."""
        begin = time.monotonic()
        if call.deadline <= begin:
            raise call.failure_when_given_up()
        call.requesting, call.asked = True, begin
        timeout = self._timeout(call)
        answer = status = error = None
        password = self._credentials.password()
        try:
            answer = self._send(
                call,
                (self._account.username, password),
                lambda: self._executor.until(job, min(begin + timeout, call.deadline)),
            )
            status = answer.status
            rate_limit = _rate_limit(answer.headers)
            call.rate_limit = rate_limit or call.rate_limit
            if status != HTTPStatus.OK:
                failure = _error_of(answer, Secrets(self._account.username, password))
                if failure.reason is Reason.RATE_LIMITED:
                    self._executor.announce(job, None, failure.retry_after or 0)
                raise failure
            if rate_limit is not None and rate_limit.remaining is not None:
                self._executor.announce(job, rate_limit.remaining)
            return read(answer)
        except ApiError as problem:
            if answer is not None:
                problem.request_id = answer.request_id
            error, status = problem.without_traceback(), problem.status
            raise
        finally:
            end = time.monotonic()
            self._observer.requested(self._account.name, status, end - begin)
            previous = call.begun + sum(attempt.waited + attempt.duration for attempt in call.attempts)
            call.attempts.append(Attempt(begin - previous, end - begin, status, error))
            call.requesting = False

    def _send(self, call: Call, auth: tuple[str, str], deadline: Deadline) -> HttpAnswer:
        url = self._account.base_url + call.path
        if call.body is None:
            return self._transport.get(url, call.parameters, auth, deadline)
        return self._transport.post(url, call.body, auth, deadline)

    def _timeout(self, call: Call) -> float:
        """Seconds that the next attempt of a call may take."""
        is_short = len(call.attempts) < min(call.short_attempts, self._polling.attempts - 1)
        return call.patience if is_short else self._polling.request_timeout


def build_clients(
    config: Config,
    environ: Mapping[str, str],
    executor: FairExecutor,
    observer: RequestObserver,
    *,
    repeated: int = MOST_PREPARED,
) -> dict[str, Client]:
    """Return the client of each account of a configuration.

    Args:
        config: The configuration.
        environ: Environment variables.
        executor: Carries the requests out.
        observer: Receives each of them.
        repeated: See RequestsTransport.

    Raises:
        ConfigError: a network setting of the environment, or a password file, cannot be used.
    """
    if problems := network_problems((account.base_url for account in config.accounts.values()), environ):
        raise ConfigError(problems)
    try:
        return {
            name: Client(
                account,
                config.polling,
                RequestsTransport(
                    account.base_url,
                    config.polling.concurrency,
                    environ,
                    _USER_AGENT,
                    repeated=repeated,
                ),
                executor,
                observer,
            )
            for name, account in config.accounts.items()
        }
    except (OSError, ValueError) as error:  # a password file that went away since it was checked
        raise ConfigError([str(error)]) from error


class stop_before_deadline(stop_base):  # noqa: N801 -- named as tenacity's own strategies are
    """Stop where the wait before the next attempt would end at the Call's deadline or past it.

    Unlike tenacity's stop_before_delay, the deadline is an instant, which may move while the Call, the first
    argument of what is retried, is under way.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock

    def __call__(self, retry_state: RetryCallState) -> bool:
        """Return whether to stop."""
        call: Call = retry_state.args[0]
        return self._clock() + retry_state.upcoming_sleep >= call.deadline


class wait_at_least_retry_after(wait_base):  # noqa: N801 -- named as tenacity's own strategies are
    """Wait as `backoff` says, but not less than the last answer's Retry-After."""

    def __init__(self, backoff: wait_base) -> None:
        self._backoff = backoff

    def __call__(self, retry_state: RetryCallState) -> float:
        """Return the seconds to wait."""
        error = retry_state.outcome and retry_state.outcome.exception()
        retry_after = error.retry_after if isinstance(error, ApiError) else None
        return max(self._backoff(retry_state), retry_after or 0)


def _error_of(answer: HttpAnswer, secrets: Secrets) -> ApiError:
    """Return the error for an answer with a status other than 200.

    Twilio's body has `code` and `message`, or `code`, `title` and `detail` (RFC 9457).
    """
    try:
        body = json.loads(answer.body)
    except (ValueError, RecursionError):
        body = None
    document = body if isinstance(body, dict) else {}
    code = document.get("code")
    texts = (document.get(key) for key in ("message", "detail", "title"))
    message = next((text for text in texts if isinstance(text, str) and text), None) or _phrase(answer.status)
    if secrets.found_in(message[:_EXAMINED_MESSAGE]):
        message = f"{_phrase(answer.status)} (message withheld: it contains credentials)"
    return ApiError(
        reason_of_status(answer.status),
        "".join(char if char.isprintable() else " " for char in message[:_LONGEST_MESSAGE]),
        answer.status,
        code if isinstance(code, int) and not isinstance(code, bool) else None,
        _retry_after(answer.headers.get("Retry-After")),
    )


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "an unknown HTTP status"


def _retry_after(header: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks for: a number or an HTTP date (RFC 9110, 10.2.3)."""
    if header is None:
        return None
    if header.isascii() and header.isdigit():
        return float(header)
    try:
        moment = parsedate_to_datetime(header)
        if moment.tzinfo is None:  # asctime's form, or -0000: HTTP dates are in UTC (RFC 9110, 5.6.7)
            moment = moment.replace(tzinfo=UTC)
        moment = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return max((moment - datetime.now(UTC)).total_seconds(), 0)


def _rate_limit(headers: Mapping[str, str]) -> RateLimit | None:
    """Return what the headers say; Twilio's limits are averages and can be fractions."""
    limit, remaining = (
        float(value) if (value := headers.get(name)) and _DECIMAL.fullmatch(value) else None
        for name in ("X-Rate-Limit-Limit", "X-Rate-Limit-Remaining")
    )
    return None if limit is None and remaining is None else RateLimit(limit, remaining)
