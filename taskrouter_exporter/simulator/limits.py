"""The log of requests, and the limit on their rate."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from taskrouter_exporter.sids import sid_key

_AVERAGED_SECONDS: Final = 10
_REQUESTS_KEPT: Final = 2_000


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A line of the request log. `workspace_sid` is the path's, whether the workspace exists or not."""

    method: str
    path: str
    parameters: Mapping[str, str]
    workspace_sid: str | None


def request_key(sid: str | None) -> str | None:
    """Return a key that is equal for two spellings of one SID."""
    return None if sid is None else sid_key(sid)


class RequestLog:
    """The latest requests to the TaskRouter API (2,000 at most), and the number of all requests.

    SIDs are compared without regard to case.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest: deque[ReceivedRequest] = deque(maxlen=_REQUESTS_KEPT)
        self._counts: dict[str | None, int] = {}

    def add(self, request: ReceivedRequest, *, known: bool) -> None:
        """Add a request; only known workspaces have a count of their own."""
        with self._lock:
            self._latest.append(request)
            for key in {None, request_key(request.workspace_sid) if known else None}:
                self._counts[key] = self._counts.get(key, 0) + 1

    def count(self, workspace_sid: str | None = None) -> int:
        """Return the number of requests about a workspace, or of all requests."""
        with self._lock:
            return self._counts.get(request_key(workspace_sid), 0)

    def latest(self, workspace_sid: str | None = None) -> list[ReceivedRequest]:
        """Return the requests that are still kept, oldest first: those about a workspace, or all."""
        with self._lock:
            kept = list(self._latest)
        key = request_key(workspace_sid)
        return [request for request in kept if key in (None, request_key(request.workspace_sid))]

    def clear(self) -> None:
        """Remove every request."""
        with self._lock:
            self._latest.clear()
            self._counts.clear()


@dataclass(frozen=True, slots=True)
class Allowance:
    """The rate limiter's decision about one request.

    Attributes:
        limit: The number of requests allowed in ten seconds.
        remaining: How many of them are left after this one.
        retry_after: Whole seconds until the next request is allowed, if this one is refused.
    """

    limit: int
    remaining: int
    retry_after: int | None


class RateLimiter:
    """A limit on the requests per key: a rate, averaged over the last ten seconds.

    Args:
        rate: Requests per second.
        clock: A monotonic clock, in seconds.
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate = rate
        self._clock = clock
        self._lock = threading.Lock()
        self._admitted: dict[tuple[str | None, str], deque[float]] = {}

    def admit(self, key: tuple[str | None, str], most: float = math.inf) -> Allowance:
        """Decide whether one more request is allowed. A refused request does not count.

        Args:
            key: What the request is about.
            most: The highest rate for this key.
        """
        now = self._clock()
        limit = max(1, round(min(self.rate, most) * _AVERAGED_SECONDS))
        with self._lock:
            admitted = self._admitted.setdefault(key, deque())
            while admitted and admitted[0] <= now - _AVERAGED_SECONDS:
                admitted.popleft()
            if len(admitted) >= limit:
                wait = admitted[0] + _AVERAGED_SECONDS - now
                return Allowance(limit, 0, max(1, math.ceil(wait)))
            admitted.append(now)
            return Allowance(limit, limit - len(admitted), None)
