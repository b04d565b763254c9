"""The part of the TaskRouter API that the exporter uses, served on loopback from a contact centre's data.

The behaviour follows Twilio's OpenAPI description and documentation of TaskRouter v1. Where these say
nothing, a comment says what was chosen.
"""

import base64
import math
import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Self

from taskrouter_exporter.sids import sid_key
from taskrouter_exporter.simulator.centre import ContactCentre
from taskrouter_exporter.simulator.limits import RateLimiter, ReceivedRequest, RequestLog, request_key
from taskrouter_exporter.simulator.model import WorkspaceModel
from taskrouter_exporter.simulator.parameters import interval, queue_sids, thresholds
from taskrouter_exporter.simulator.resources import Resources
from taskrouter_exporter.simulator.wire import (
    Answer,
    ApiError,
    Connection,
    Request,
    Server,
    json_answer,
)

_POLL_SECONDS: Final = 0.05
_RATE_LIMIT: Final = 50
"""Requests per second: the limit in the sample event of Twilio's article on monitoring API usage.

Source: https://support.twilio.com/hc/en-us/articles/37736751264283-Monitoring-TaskRouter-API-Usage
"""
_BULK: Final = "TaskQueues/RealTimeStatistics"
_BULK_RATE_LIMIT: Final = 5
"""Requests per second. Source: https://www.twilio.com/docs/taskrouter/api/taskqueue-statistics."""

Deliver = Callable[[Connection, Request, Answer], None]

_PATH: Final = re.compile(
    r"/v1/Workspaces(?:/(?P<sid>[^/]+)(?:/(?P<resource>"
    r"TaskChannels|TaskQueues|Workflows|Workers/CumulativeStatistics|TaskQueues/RealTimeStatistics|"
    r"CumulativeStatistics|RealTimeStatistics|"
    r"TaskChannels/(?P<channel>[^/]+)|"
    r"(?:TaskQueues|Workflows)/(?P<item>[^/]+)(?:/(?:Cumulative|RealTime)Statistics)?"
    r"))?)?"
)


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
        self._resources = Resources(centre.account_sid, self.base_url)

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
            known=request_key(sid) in self._workspaces,
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
        except ApiError as error:
            return error.answer

    def _good_answer(self, request: Request) -> Answer:
        self._authenticate(request)
        route = _PATH.fullmatch(request.path)
        sid, resource, channel, item = (
            route.group("sid", "resource", "channel", "item") if route else (None, None, None, None)
        )
        workspace = self._workspaces.get(sid_key(sid)) if sid else None
        if route is None or (sid and not workspace):
            raise _not_found(request)
        method = "POST" if resource == _BULK else "GET"
        if request.method != method:
            raise ApiError(HTTPStatus.METHOD_NOT_ALLOWED, None, ("Allow", method))
        if workspace is None or sid is None:
            limits = self._limit(None, "Workspaces")
            items = [self._resources.workspace(each) for each in self.centre.workspaces]
            return json_answer(self._resources.page(request, "workspaces", items), headers=limits)
        if (channel and not workspace.channel(channel)) or (
            item and not _has_item(workspace, resource, item)
        ):
            raise _not_found(request)
        limits = self._limit(request_key(sid), _limited_resource(resource, channel or item))
        return json_answer(
            self._content(workspace, sid, resource or "", channel or item, request), headers=limits
        )

    def _content(
        self, workspace: WorkspaceModel, sid: str, resource: str, item: str | None, request: Request
    ) -> dict[str, Any]:
        """Return the body of a good answer; statistics write the workspace's SID in the case of the path."""
        resources = self._resources
        if resource == _BULK:
            return self._bulk(workspace, sid, request)
        if resource.endswith("Statistics"):
            return self._statistics(workspace, sid, resource, item, request)
        if not resource:
            return resources.workspace(workspace)
        kind = resource.partition("/")[0]
        if kind == "TaskChannels":
            items = [resources.channel(workspace, channel) for channel in workspace.channels]
        elif kind == "TaskQueues":
            items = [resources.queue(workspace, queue) for queue in workspace.queues]
        else:
            items = [resources.workflow(workspace, workflow) for workflow in workspace.workflows]
        if item is None:
            return resources.page(request, _LIST_KEYS[kind], items)
        names = {sid_key(item), item}
        return next(
            each for each in items if not names.isdisjoint((sid_key(each["sid"]), each.get("unique_name")))
        )

    def _authenticate(self, request: Request) -> None:
        """Raise an error without the account SID and auth token, or the API key and its secret."""
        scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
        try:
            username, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except ValueError:
            username, password = "", ""
        if scheme.lower() != "basic" or not password or self._passwords.get(sid_key(username)) != password:
            raise ApiError(HTTPStatus.UNAUTHORIZED, None, ("WWW-Authenticate", 'Basic realm="Twilio API"'))

    def _limit(self, sid: str | None, resource: str) -> tuple[tuple[str, str], ...]:
        """Return the rate limit headers, or raise an error if the limit is exceeded.

        Twilio documents their names and meaning. Here, limit and remaining are requests per ten seconds, and
        the text of `X-Rate-Limit-Config` is invented.
        Source: https://support.twilio.com/hc/en-us/articles/37736751264283-Monitoring-TaskRouter-API-Usage
        """
        most = _BULK_RATE_LIMIT if resource == _BULK else math.inf
        allowance = self._limiter.admit((sid, resource), most)
        rate = min(self._limiter.rate, most)
        headers: tuple[tuple[str, str], ...] = (
            ("X-Rate-Limit-Limit", str(allowance.limit)),
            ("X-Rate-Limit-Remaining", str(allowance.remaining)),
            ("X-Rate-Limit-Config", f"{resource.replace('/', '')}: {rate:g}/s over 10s"),
        )
        if allowance.retry_after is not None:
            if self._retry_after:
                headers = (*headers, ("Retry-After", str(allowance.retry_after)))
            raise ApiError(HTTPStatus.TOO_MANY_REQUESTS, None, *headers)
        return headers

    def _statistics(
        self, workspace: WorkspaceModel, sid: str, resource: str, item: str | None, request: Request
    ) -> dict[str, Any]:
        channel = request.parameters.get("TaskChannel")
        if channel is not None and workspace.channel(channel) is None:
            # The real API's answer about an unknown TaskChannel is not documented. No resource has that name,
            # hence a 404.
            raise ApiError(HTTPStatus.NOT_FOUND, f"TaskChannel {channel} was not found")
        now = self._now()
        if resource.endswith("RealTimeStatistics"):
            answer = self.centre.real_time_statistics(sid, now, channel, item)
        else:
            start, end = interval(request.parameters, now)
            answer = (
                self.centre.statistics(sid, start, end, channel)
                if resource.startswith("Workers")
                else self.centre.task_statistics(
                    sid, start, end, channel, item, thresholds(request.parameters)
                )
            )
        return {**self._origin(request), **answer}

    def _bulk(self, workspace: WorkspaceModel, sid: str, request: Request) -> dict[str, Any]:
        """Return the real-time statistics of several TaskQueues.

        As in the published example, these are without the longest relative age in the TaskQueue. TaskQueues
        of other workspaces have zeros, as documented for those of other accounts.
        """
        now = self._now()
        data = []
        for queue in queue_sids(request):
            if workspace.queue(queue) is None:
                data.append({"task_queue_sid": queue, **_NO_TASKS})
                continue
            answer = self.centre.real_time_statistics(sid, now, None, queue)
            data.append({name: answer[name] for name in ("task_queue_sid", *_NO_TASKS)})
        return {
            **self._origin(request),
            "workspace_sid": sid,
            "task_queue_data": data,
            "task_queue_response_count": len(data),
        }

    def _origin(self, request: Request) -> dict[str, Any]:
        return {"account_sid": self.centre.account_sid, "url": self.base_url + request.path}

    def _now(self) -> datetime:
        return datetime.fromtimestamp(int(self._clock()), UTC)


_LIST_KEYS: Final = {"TaskChannels": "channels", "TaskQueues": "task_queues", "Workflows": "workflows"}
_NO_TASKS: Final[dict[str, Any]] = {
    "longest_task_waiting_age": 0,
    "longest_task_waiting_sid": None,
    "total_tasks": 0,
    "total_eligible_workers": 0,
    "total_available_workers": 0,
    "tasks_by_status": {"reserved": 0, "pending": 0, "assigned": 0, "wrapping": 0},
    "tasks_by_priority": {},
    "activity_statistics": [],
}


def _has_item(workspace: WorkspaceModel, resource: str | None, item: str) -> bool:
    """Return whether a workspace has the TaskQueue or Workflow in a path."""
    queues = (resource or "").startswith("TaskQueues")
    return (workspace.queue(item) if queues else workspace.workflow(item)) is not None


def _limited_resource(resource: str | None, item: str | None) -> str:
    """Return the resource that a limit is for. Items of a kind share it: `TaskQueue/RealTimeStatistics`."""
    if resource is None:
        return "Workspaces"
    kind, _, rest = resource.partition("/")
    if item is None:
        return resource
    return kind if rest == item else f"{kind.removesuffix('s')}/{rest.removeprefix(f'{item}/')}"


def _not_found(request: Request) -> ApiError:
    return ApiError(HTTPStatus.NOT_FOUND, f"The requested resource {request.path} was not found")


def _send_answer(connection: Connection, _request: Request, answer: Answer) -> None:
    connection.send_answer(answer)
