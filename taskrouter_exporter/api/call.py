"""A call of the API: the request, its attempts and its answer."""

import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from taskrouter_exporter.api.errors import ApiError, Reason
from taskrouter_exporter.api.fair_queue import Claim, Job

_REQUEST_ID: Final = re.compile("RQ[0-9a-fA-F]{32}")


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An HTTP answer, whatever its status. Header names are matched without regard to case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def request_id(self) -> str | None:
        """Twilio's ID of the request; anything else that the header contains is not shown."""
        value = self.headers.get("Twilio-Request-Id", "")
        return value if _REQUEST_ID.fullmatch(value) else None


@dataclass(frozen=True, slots=True)
class RateLimit:
    """The `X-Rate-Limit-*` headers of an answer, in requests; limits are averaged over 10 s."""

    limit: float | None
    remaining: float | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One HTTP request and its result.

    Attributes:
        waited: Seconds between the previous attempt (or the start of the call) and this one.
        duration: Seconds that the request took.
        status: HTTP status, None without an answer.
        error: Why the answer is not usable, None where it is.
    """

    waited: float
    duration: float
    status: int | None
    error: ApiError | None


@dataclass(eq=False, slots=True)
class Call:
    """One request with its retries: how long it may take, and its attempts so far.

    Attributes:
        path: Path of the API resource.
        parameters: Query parameters.
        deadline: Instant on the monotonic clock. It may be moved while the call is under way.
        claim: What decides when its requests get a thread.
        short_attempts: So many attempts get a quarter of the request timeout only, but never the last one.
        body: JSON that is sent by POST, None for a GET.
        attempts: The attempts that ended.
        rate_limit: Of the newest answer that has one.
        begun: When the call started, on the monotonic clock.
        requesting: Whether a request is in flight.
        asked: When the newest request was sent.
        patience: Seconds that an attempt may take while others wait; the client sets it.
        job: The attempt that waits for a thread or has one.
        retry_at: When the next attempt starts, on the monotonic clock, while the call waits for it.
    """

    path: str
    parameters: Mapping[str, str]
    deadline: float
    claim: Claim = field(default_factory=Claim)
    short_attempts: int = 0
    body: bytes | None = None
    attempts: list[Attempt] = field(default_factory=list)
    rate_limit: RateLimit | None = None
    begun: float = field(default_factory=time.monotonic)
    requesting: bool = False
    asked: float | None = None
    patience: float = math.inf
    job: Job | None = None
    retry_at: float | None = None

    @property
    def waits_in_vain(self) -> bool:
        """Whether the next attempt would start at the deadline or past it: the deadline was moved earlier."""
        return self.retry_at is not None and self.retry_at >= self.deadline

    def failure_when_given_up(self) -> ApiError:
        """Return why the call has no answer if it is given up now: the last attempt's reason."""
        if self.requesting:
            return ApiError(Reason.TIMEOUT, "no answer before the deadline")
        if self.attempts and (error := self.attempts[-1].error):
            return error
        if self.job is not None and (self.job.parked or self.job.paced):
            return ApiError(
                Reason.RATE_LIMITED, "the rate limit admitted no request for this query before the deadline"
            )
        return ApiError(
            Reason.TIMEOUT, "no API request could start before the deadline (polling.concurrency)"
        )
