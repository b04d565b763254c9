"""The part of the TaskRouter API that the exporter uses, served on loopback from a contact centre's data.

The behaviour follows Twilio's OpenAPI description and documentation of TaskRouter v1. Where these say
nothing, a comment says what was chosen.
"""

import base64
import math
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlencode

from taskrouter_exporter.sids import sid_key
from taskrouter_exporter.simulator.traffic import ChannelModel, ContactCentre, WorkspaceModel
from taskrouter_exporter.simulator.wire import (
    Answer,
    Connection,
    Request,
    Server,
    error_answer,
    json_answer,
)

HISTORY: Final = timedelta(days=30)
"""How far back statistics reach. Source: https://www.twilio.com/docs/taskrouter/api/worker/statistics."""

_DEFAULT_MINUTES: Final = 15
_MAX_MINUTES: Final = HISTORY // timedelta(minutes=1)
_AVERAGED_SECONDS: Final = 10
_DEFAULT_PAGE_SIZE: Final = 50
_MAX_PAGE_SIZE: Final = 1000
_REQUESTS_KEPT: Final = 2_000
_POLL_SECONDS: Final = 0.05
_RATE_LIMIT: Final = 50
"""Requests per second: the limit in the sample event of Twilio's article on monitoring API usage.

Source: https://support.twilio.com/hc/en-us/articles/37736751264283-Monitoring-TaskRouter-API-Usage
"""
_CREATED: Final = "2024-02-05T09:30:00Z"

Deliver = Callable[[Connection, Request, Answer], None]

_PATH: Final = re.compile(
    r"/v1/Workspaces(?:/(?P<sid>[^/]+)"
    r"(?:/(?P<resource>TaskChannels|Workers/CumulativeStatistics$)(?:/(?P<item>[^/]+))?)?)?"
)


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A line of the request log. `workspace_sid` is the path's, whether the workspace exists or not."""

    method: str
    path: str
    parameters: Mapping[str, str]
    workspace_sid: str | None


def _key(sid: str | None) -> str | None:
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
            for key in {None, _key(request.workspace_sid) if known else None}:
                self._counts[key] = self._counts.get(key, 0) + 1

    def count(self, workspace_sid: str | None = None) -> int:
        """Return the number of requests about a workspace, or of all requests."""
        with self._lock:
            return self._counts.get(_key(workspace_sid), 0)

    def latest(self, workspace_sid: str | None = None) -> list[ReceivedRequest]:
        """Return the requests that are still kept, oldest first: those about a workspace, or all."""
        with self._lock:
            kept = list(self._latest)
        key = _key(workspace_sid)
        return [request for request in kept if key in (None, _key(request.workspace_sid))]

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
        self._limit = max(1, round(rate * _AVERAGED_SECONDS))
        self._clock = clock
        self._lock = threading.Lock()
        self._admitted: dict[tuple[str | None, str], deque[float]] = {}

    def admit(self, key: tuple[str | None, str]) -> Allowance:
        """Decide whether one more request is allowed. A refused request does not count."""
        now = self._clock()
        with self._lock:
            admitted = self._admitted.setdefault(key, deque())
            while admitted and admitted[0] <= now - _AVERAGED_SECONDS:
                admitted.popleft()
            if len(admitted) >= self._limit:
                wait = admitted[0] + _AVERAGED_SECONDS - now
                return Allowance(self._limit, 0, max(1, math.ceil(wait)))
            admitted.append(now)
            return Allowance(self._limit, self._limit - len(admitted), None)


class _ApiError(Exception):
    """Raised for a request that is answered with an error."""

    def __init__(self, status: int, message: str | None = None, *headers: tuple[str, str]) -> None:
        super().__init__(message)
        self.answer = replace(error_answer(status, message), headers=headers)


class Simulator:
    """A TaskRouter simulator on `http://127.0.0.1`, for the demo and for tests.

    It listens as soon as it is created, and answers between `start` and `close`, or within a `with` block.

    Args:
        centre: The source of the data.
        clock: Seconds since the epoch; events after that time are not counted.
        port: The port to listen on; 0 for any free port.
        rate_limit: Requests per second, per workspace and resource, averaged over ten seconds of real time.
        latency: Seconds by which every answer is delayed.
        retry_after: Whether a 429 has a Retry-After header.
        deliver: Sends each answer; tests pass a function that changes or withholds some.

    Attributes:
        base_url: The URL to use instead of `https://taskrouter.twilio.com`.
        requests: The requests received.
    """

    def __init__(  # noqa: PLR0913 - the rest are options
        self,
        centre: ContactCentre,
        clock: Callable[[], float] = time.time,
        port: int = 0,
        *,
        rate_limit: float = _RATE_LIMIT,
        latency: float = 0.0,
        retry_after: bool = False,
        deliver: Deliver | None = None,
    ) -> None:
        self.centre = centre
        self.requests = RequestLog()
        self.latency = latency
        self._clock = clock
        self._retry_after = retry_after
        self._deliver = deliver or _send_answer
        self._limiter = RateLimiter(rate_limit)
        self._workspaces = {sid_key(workspace.sid): workspace for workspace in centre.workspaces}
        self._passwords = {
            sid_key(centre.account_sid): centre.auth_token,
            sid_key(centre.api_key_sid): centre.api_key_secret,
        }
        self._server = Server(port, self._respond)
        self._thread: threading.Thread | None = None
        self.base_url = f"http://127.0.0.1:{self._server.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start answering requests."""
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_SECONDS,), name="simulator", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop answering, and close every connection."""
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._thread = None
        self._server.close_all()

    def _respond(self, connection: Connection, request: Request) -> None:
        """Answer one request."""
        route = _PATH.fullmatch(request.path)
        sid = route["sid"] if route else None
        self.requests.add(
            ReceivedRequest(request.method, request.path, request.parameters, sid),
            known=_key(sid) in self._workspaces,
        )
        answer = self.answer(request)
        if request.method == "HEAD":
            answer = replace(answer, body=b"")
        if self.latency and connection.gone_within(self.latency):
            return
        self._deliver(connection, request, answer)

    def answer(self, request: Request) -> Answer:
        """Return the answer to a request."""
        try:
            return self._good_answer(request)
        except _ApiError as error:
            return error.answer

    def _good_answer(self, request: Request) -> Answer:
        self._authenticate(request)
        route = _PATH.fullmatch(request.path)
        sid, resource, item = route.group("sid", "resource", "item") if route else (None, None, None)
        workspace = self._workspaces.get(sid_key(sid)) if sid else None
        channel = workspace.channel(item) if workspace and item else None
        if route is None or (sid and not workspace) or (item and not channel):
            raise _ApiError(HTTPStatus.NOT_FOUND, f"The requested resource {request.path} was not found")
        if request.method != "GET":
            raise _ApiError(HTTPStatus.METHOD_NOT_ALLOWED, None, ("Allow", "GET"))
        limits = self._limit(_key(sid), resource or "Workspaces")
        if workspace is None or sid is None:
            content = self._list_workspaces(request)
        elif resource is None:
            content = self._workspace(workspace)
        elif channel is not None:
            content = self._channel(workspace, channel)
        elif resource == "TaskChannels":
            content = self._list_channels(workspace, request)
        else:
            content = self._statistics(workspace, sid, request)
        return json_answer(content, headers=limits)

    def _authenticate(self, request: Request) -> None:
        """Raise an error without the account SID and auth token, or the API key and its secret."""
        scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
        try:
            username, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except ValueError:
            username, password = "", ""
        if scheme.lower() != "basic" or not password or self._passwords.get(sid_key(username)) != password:
            raise _ApiError(HTTPStatus.UNAUTHORIZED, None, ("WWW-Authenticate", 'Basic realm="Twilio API"'))

    def _limit(self, sid: str | None, resource: str) -> tuple[tuple[str, str], ...]:
        """Return the rate limit headers, or raise an error if the limit is exceeded.

        Twilio documents their names and meaning. Here, limit and remaining are requests per ten seconds, and
        the text of `X-Rate-Limit-Config` is invented.
        Source: https://support.twilio.com/hc/en-us/articles/37736751264283-Monitoring-TaskRouter-API-Usage
        """
        allowance = self._limiter.admit((sid, resource))
        headers: tuple[tuple[str, str], ...] = (
            ("X-Rate-Limit-Limit", str(allowance.limit)),
            ("X-Rate-Limit-Remaining", str(allowance.remaining)),
            ("X-Rate-Limit-Config", f"{resource.replace('/', '')}: {self._limiter.rate:g}/s over 10s"),
        )
        if allowance.retry_after is not None:
            if self._retry_after:
                headers = (*headers, ("Retry-After", str(allowance.retry_after)))
            raise _ApiError(HTTPStatus.TOO_MANY_REQUESTS, None, *headers)
        return headers

    def _statistics(self, workspace: WorkspaceModel, sid: str, request: Request) -> dict[str, Any]:
        """Return statistics; they write the workspace's SID in the same case as the path."""
        name = request.parameters.get("TaskChannel")
        if name is not None and workspace.channel(name) is None:
            # The real API's answer about an unknown TaskChannel is not documented. No resource has that name,
            # hence a 404.
            raise _ApiError(HTTPStatus.NOT_FOUND, f"TaskChannel {name} was not found")
        start, end = _interval(request.parameters, datetime.fromtimestamp(int(self._clock()), UTC))
        statistics = self.centre.statistics(sid, start, end, name)
        return {"account_sid": self.centre.account_sid, "url": self.base_url + request.path, **statistics}

    def _list_workspaces(self, request: Request) -> dict[str, Any]:
        name = request.parameters.get("FriendlyName")
        workspaces = [w for w in self.centre.workspaces if name in (None, w.friendly_name)]
        return self._page(request, "workspaces", [self._workspace(workspace) for workspace in workspaces])

    def _list_channels(self, workspace: WorkspaceModel, request: Request) -> dict[str, Any]:
        channels = [self._channel(workspace, channel) for channel in workspace.channels]
        return self._page(request, "channels", channels)

    def _channel(self, workspace: WorkspaceModel, channel: ChannelModel) -> dict[str, Any]:
        url = f"{self.base_url}/v1/Workspaces/{workspace.sid}"
        return {
            "account_sid": self.centre.account_sid,
            "date_created": _CREATED,
            "date_updated": _CREATED,
            "friendly_name": channel.friendly_name,
            "sid": channel.sid,
            "unique_name": channel.unique_name,
            "url": f"{url}/TaskChannels/{channel.sid}",
            "workspace_sid": workspace.sid,
            "channel_optimized_routing": False,
            "links": {"workspace": url},
        }

    def _workspace(self, workspace: WorkspaceModel) -> dict[str, Any]:
        """Return a workspace. Of Twilio's links, it has those that are served here."""
        url = f"{self.base_url}/v1/Workspaces/{workspace.sid}"
        offline = workspace.activities[0]
        return {
            "account_sid": self.centre.account_sid,
            "date_created": _CREATED,
            "date_updated": _CREATED,
            "default_activity_name": offline.friendly_name,
            "default_activity_sid": offline.sid,
            "event_callback_url": "",
            "events_filter": None,
            "friendly_name": workspace.friendly_name,
            "links": {"task_channels": f"{url}/TaskChannels"},
            "multi_task_enabled": True,
            "prioritize_queue_order": "FIFO",
            "sid": workspace.sid,
            "timeout_activity_name": offline.friendly_name,
            "timeout_activity_sid": offline.sid,
            "url": url,
        }

    def _page(self, request: Request, key: str, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return one page of a list with its `meta`.

        A PageToken is valid for its page only. Here, `Page` alone is enough; Twilio's documentation asks
        clients to follow `next_page_url` instead. Source: https://www.twilio.com/docs/usage/twilios-response
        """
        size = _integer(request.parameters, "PageSize", _DEFAULT_PAGE_SIZE, 1, _MAX_PAGE_SIZE)
        page = _integer(request.parameters, "Page", 0, 0, 1_000_000)
        filters = (
            {"FriendlyName": request.parameters["FriendlyName"]}
            if "FriendlyName" in request.parameters
            else {}
        )
        if request.parameters.get("PageToken") not in (None, _page_token(items, page * size)):
            raise _ApiError(HTTPStatus.BAD_REQUEST, "PageToken does not belong to this page")

        def url(number: int) -> str:
            token = _page_token(items, number * size)
            parameters = {
                "PageSize": size,
                "Page": number,
                **({"PageToken": token} if token else {}),
                **filters,
            }
            return f"{self.base_url}{request.path}?{urlencode(parameters)}"

        meta = {
            "first_page_url": url(0),
            "key": key,
            "next_page_url": url(page + 1) if (page + 1) * size < len(items) else None,
            "page": page,
            "page_size": size,
            "previous_page_url": url(page - 1) if page else None,
            "url": url(page),
        }
        return {key: items[page * size : (page + 1) * size], "meta": meta}


def _send_answer(connection: Connection, _request: Request, answer: Answer) -> None:
    connection.send_answer(answer)


def _page_token(items: Sequence[Mapping[str, Any]], offset: int) -> str | None:
    """Return the token of the page that starts at this offset: the SID of the last item before it."""
    return f"PT{items[offset - 1]['sid']}" if 0 < offset <= len(items) else None


def _interval(parameters: Mapping[str, str], now: datetime) -> tuple[datetime, datetime]:
    """Return start and end of the period that the parameters select.

    EndDate without StartDate is not documented. Here it selects the 15 minutes before EndDate.
    """
    dates = {name: _date(parameters, name) for name in ("StartDate", "EndDate") if name in parameters}
    if "Minutes" in parameters and dates:
        raise _ApiError(HTTPStatus.BAD_REQUEST, "Minutes cannot be used together with StartDate or EndDate")
    minutes = timedelta(minutes=_integer(parameters, "Minutes", _DEFAULT_MINUTES, 1, _MAX_MINUTES))
    end = min(dates.get("EndDate", now), now)
    start = dates.get("StartDate", end - minutes)
    if start > end:
        raise _ApiError(HTTPStatus.BAD_REQUEST, "StartDate is not before EndDate and now")
    if start < now - HISTORY:
        raise _ApiError(HTTPStatus.BAD_REQUEST, "StartDate is more than 30 days ago")
    return start, end


def _date(parameters: Mapping[str, str], name: str) -> datetime:
    """Parse an ISO 8601 time; without an offset it is UTC."""
    try:
        moment = datetime.fromisoformat(parameters[name])
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise _ApiError(HTTPStatus.BAD_REQUEST, f"{name} is not an ISO 8601 date and time") from error


def _integer(parameters: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = parameters.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
        raise _ApiError(HTTPStatus.BAD_REQUEST, f"{name} is not an integer from {low} to {high}")
    return int(text)
