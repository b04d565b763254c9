"""Scrapes: `/metrics` and `/probe`, from a request's parameters to the exposition of its polls."""

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from taskrouter_exporter.metrics import TargetsCollector
from taskrouter_exporter.queries import Query
from taskrouter_exporter.runtime import Runtime, Snapshot
from taskrouter_exporter.web.debug import describe_polls
from taskrouter_exporter.web.exposition import Collector, Exposition
from taskrouter_exporter.web.rendering import Renderings

log = structlog.get_logger()

_TIMEOUT_HEADER: Final = "X-Prometheus-Scrape-Timeout-Seconds"
_DEFAULT_TIMEOUT_SECONDS: Final = 10.0
_LONGEST_LOGGED_HEADER: Final = 40
_CLIENT_CLOSED_REQUEST: Final = 499
"""nginx's status for a client that has gone. Nobody receives it."""

_FIXED_SECONDS: Final = 0.025
_FIRST_SECONDS_PER_QUERY: Final = 0.0005
_COLLECTORS: Final = ("targets", "exporter")


@dataclass(frozen=True, slots=True)
class Selection:
    """What the parameters of a request select.

    Attributes:
        queries: Those to poll.
        exporter: Whether the exporter's own metrics are included.
        debug: Whether the answer is debug output instead of an exposition.
    """

    queries: Sequence[Query]
    exporter: bool = False
    debug: bool = False


class ScrapeHandler:
    """Answers scrapes.

    Args:
        runtime: Has the queries, and polls them.
        timeout_offset: Seconds to subtract from Prometheus's timeout.
        max_timeout: Longest timeout of a scrape, in seconds. A longer one is shortened to it.
    """

    def __init__(self, runtime: Runtime, timeout_offset: float, max_timeout: float) -> None:
        self._runtime = runtime
        self._timeout_offset = timeout_offset
        self._max_timeout = max_timeout
        self._answer_time = _AnswerTime()
        self._warned_of_timeout = False
        self._renderings = Renderings()

    async def metrics(self, request: Request) -> Response:
        """Answer `/metrics`: every query, and the exporter's own metrics."""
        return await _while_connected(request, self._scrape(request, _select_collectors))

    async def probe(self, request: Request) -> Response:
        """Answer `/probe`: the queries of one configured target."""
        return await _while_connected(request, self._scrape(request, _select_target))

    async def _scrape(self, request: Request, select: Callable[[Request, Snapshot], Selection]) -> Response:
        started = time.monotonic()
        snapshot, history = self._runtime.snapshot, self._runtime.history
        selection = select(request, snapshot)
        queries = selection.queries
        exposition = Exposition(request.headers.get("Accept", ""), request.headers.get("Accept-Encoding", ""))
        if request.method == "HEAD":
            return _headers_only(exposition)

        timeout = self._timeout(request)
        deadline = started + timeout
        poll_deadline = deadline - self._answer_time.reserve(len(queries), deadline - time.monotonic())

        collectors: list[Collector] = []
        if queries:
            results = await snapshot.poll(queries, poll_deadline)
            collectors.append(TargetsCollector(results, history, poll_deadline - started))
            if selection.debug:
                text = Exposition("", "").render(collectors).decode()
                return PlainTextResponse(f"{describe_polls(results, snapshot.config)}\nMetrics:\n{text}")
            del results  # the collector has them until they are rendered
        if selection.exporter:
            collectors.append(self._runtime.metrics.registry)

        polled = min(time.monotonic(), poll_deadline)
        # The queries of a target are one object for as long as a configuration lasts.
        same = (id(queries), selection.exporter, exposition.format, timeout)
        rendering = self._renderings.render(same, exposition, collectors)
        del collectors
        body = await rendering
        self._answer_time.record(len(queries), time.monotonic() - polled)
        return Response(body, headers=exposition.headers)

    def _timeout(self, request: Request) -> float:
        """Return the seconds until the answer must have left.

        A timeout that the offset would use up is halved instead: Prometheus allows 0.5 s and less. A header
        that is not a positive number counts as missing, since a scrape with the default deadline is worth
        more than none. Only the first one is logged, or a scraper would fill the log.
        """
        header = request.headers.get(_TIMEOUT_HEADER)
        timeout = _DEFAULT_TIMEOUT_SECONDS
        if header is not None:
            seconds = _positive_seconds(header)
            if seconds is not None:
                timeout = seconds
            elif not self._warned_of_timeout:
                self._warned_of_timeout = True
                log.warning(
                    "invalid scrape timeout; using the default",
                    header=_TIMEOUT_HEADER,
                    value=header[:_LONGEST_LOGGED_HEADER],
                    default=_DEFAULT_TIMEOUT_SECONDS,
                )
        timeout = min(timeout, self._max_timeout)
        return max(timeout - self._timeout_offset, timeout / 2)


def _headers_only(exposition: Exposition) -> Response:
    """Return the answer to HEAD. It has no length: that would take a poll."""
    response = Response(headers=exposition.headers)
    del response.headers["Content-Length"]
    return response


class _AnswerTime:
    """The time to reserve, within a scrape's deadline, for ending late polls and writing the answer.

    It has a fixed share and one per query. The latter is estimated from the previous scrape of that size: a
    probe's duration, most of which does not depend on the number of queries, says nothing about `/metrics`.
    """

    def __init__(self) -> None:
        self._seconds_per_query: dict[int, float] = {}

    def record(self, queries: int, seconds: float) -> None:
        """Record how long an answer took."""
        if queries:
            share = max(seconds - _FIXED_SECONDS, 0) / queries
            self._seconds_per_query[queries.bit_length()] = share

    def reserve(self, queries: int, timeout: float) -> float:
        """Return the seconds to reserve: twice the previous answer's, and at most half of the timeout."""
        share = self._seconds_per_query.get(queries.bit_length(), _FIRST_SECONDS_PER_QUERY)
        return min(2 * (_FIXED_SECONDS + share * queries), timeout / 2)


async def _while_connected(request: Request, scrape: Coroutine[None, None, Response]) -> Response:
    """Return the answer to a scrape; cancel the scrape when its client has gone."""
    scraping = asyncio.create_task(scrape)
    gone = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait([scraping, gone], return_when=asyncio.FIRST_COMPLETED)
        if scraping.done():
            return scraping.result()
        return Response(status_code=_CLIENT_CLOSED_REQUEST)
    finally:
        for task in (scraping, gone):
            task.cancel()
        await asyncio.wait([scraping, gone])


async def _disconnected(request: Request) -> None:
    """Wait until the client has closed the connection; a body is ignored."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _select_collectors(request: Request, snapshot: Snapshot) -> Selection:
    """Select what `collect[]` names, by default everything."""
    names = request.query_params.getlist("collect[]") or _COLLECTORS
    for name in names:
        if name not in _COLLECTORS:
            raise HTTPException(
                400, f"Unknown collector in collect[]: {name!r} (expected {' or '.join(_COLLECTORS)}).\n"
            )
    return Selection(snapshot.queries if "targets" in names else (), exporter="exporter" in names)


def _select_target(request: Request, snapshot: Snapshot) -> Selection:
    queries = find_target(request, snapshot)
    return Selection(queries, debug=request.query_params.get("debug") == "true")


def find_target(request: Request, snapshot: Snapshot) -> Sequence[Query]:
    """Return the queries of a configured target: an arbitrary SID would cost the account's API requests."""
    workspace, channel = (_parameter(request, name) for name in ("workspace", "channel"))
    queries = snapshot.find(workspace, channel)
    if not queries:
        raise HTTPException(
            404,
            f"Unknown target: workspace={workspace!r} channel={channel!r}. "
            "/sd lists the configured targets.\n",
        )
    return queries


def _parameter(request: Request, name: str) -> str:
    values = request.query_params.getlist(name)
    if len(values) != 1 or not values[0]:
        problem = "is missing" if not any(values) else "is given more than once"
        raise HTTPException(
            400, f"Parameter {name} {problem}: {request.url.path}?workspace=…&channel=… needs one.\n"
        )
    return values[0]


def _positive_seconds(header: str) -> float | None:
    """Return the seconds of a scrape timeout header, and None if it is not a positive number."""
    try:
        seconds = float(header)
    except ValueError:
        return None
    return seconds if 0 < seconds < math.inf else None
