"""The routes: what is answered to whom."""

import asyncio
import math
import time
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final
from urllib.parse import SplitResult, urlsplit

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from taskrouter_exporter.config.loader import ConfigError
from taskrouter_exporter.documents import documents
from taskrouter_exporter.metrics import TargetsCollector
from taskrouter_exporter.queries import Query, Target
from taskrouter_exporter.runtime import Runtime
from taskrouter_exporter.web.debug import tell_polls
from taskrouter_exporter.web.exposition import Collector, Exposition
from taskrouter_exporter.web.landing import LANDING_HEADERS, landing_page

log = structlog.get_logger()

_TIMEOUT_HEADER: Final = "X-Prometheus-Scrape-Timeout-Seconds"
_DEFAULT_TIMEOUT_SECONDS: Final = 10.0
_LONGEST_LOGGED_HEADER: Final = 40
_COLLECTORS: Final = ("targets", "exporter")


class Web:
    """The HTTP side of the exporter.

    Args:
        runtime: What polls.
        telemetry_path: Where the metrics stand, `/metrics` by default.
        timeout_offset: Seconds by which an answer leaves before Prometheus would give up.
        external_url: How Prometheus reaches the exporter, where that is not the request's Host.
    """

    def __init__(
        self, runtime: Runtime, telemetry_path: str, timeout_offset: float, external_url: str | None = None
    ) -> None:
        self._runtime = runtime
        self._telemetry_path = telemetry_path
        self._timeout_offset = timeout_offset
        self._external_url = external_url
        self._documents = documents()
        self._closing = _ClosingTime()
        self._warned_of_timeout = False
        self.app = Starlette(
            routes=[
                Route("/", self._landing),
                Route(telemetry_path, self._metrics),
                Route("/probe", self._probe),
                Route("/sd", self._discover),
                Route("/docs/{name}", self._document),
                Route("/-/healthy", _healthy),
                Route("/-/ready", self._ready),
                Route("/-/reload", self._reload, methods=["POST", "PUT"]),
            ],
            exception_handlers={404: self._not_found},
        )
        self.app.router.redirect_slashes = False

    async def _metrics(self, request: Request) -> Response:
        begin = time.monotonic()
        deadline = begin + self._budget(request)
        wanted = _wanted_collectors(request)
        exposition = _exposition(request)
        if request.method == "HEAD":
            return Response(headers=exposition.headers)
        collectors: list[Collector] = []
        snapshot = self._runtime.snapshot
        queries = snapshot.queries if "targets" in wanted else ()
        poll_deadline = self._poll_deadline(queries, deadline)
        if queries:
            outcomes = await snapshot.poll(queries, poll_deadline)
            collectors.append(TargetsCollector(outcomes, self._runtime.history, poll_deadline - begin))
        if "exporter" in wanted:
            collectors.append(self._runtime.metrics.registry)
        return await self._answer(exposition, collectors, len(queries), poll_deadline)

    async def _probe(self, request: Request) -> Response:
        begin = time.monotonic()
        deadline = begin + self._budget(request)
        workspace, channel = (_parameter(request, name) for name in ("workspace", "channel"))
        snapshot = self._runtime.snapshot
        queries = snapshot.find(workspace, channel)
        if not queries:
            message = (
                f"workspace={workspace!r} channel={channel!r} is no configured target. /sd lists them.\n"
            )
            raise HTTPException(404, message)
        exposition = _exposition(request)
        if request.method == "HEAD":
            return Response(headers=exposition.headers)
        poll_deadline = self._poll_deadline(queries, deadline)
        outcomes = await snapshot.poll(queries, poll_deadline)
        collector = TargetsCollector(outcomes, self._runtime.history, poll_deadline - begin)
        if request.query_params.get("debug") == "true":
            text = Exposition("", "").render([collector]).decode()
            return PlainTextResponse(f"{tell_polls(outcomes, snapshot.config)}\nMetrics:\n{text}")
        return await self._answer(exposition, [collector], len(queries), poll_deadline)

    async def _discover(self, request: Request) -> Response:
        """Prometheus's HTTP service discovery: one `/probe` for each target."""
        url = urlsplit(self._external_url or str(request.base_url))
        snapshot = self._runtime.snapshot
        return await asyncio.to_thread(lambda: JSONResponse(_target_groups(url, snapshot.targets)))

    async def _document(self, request: Request) -> Response:
        file = self._documents.get(request.path_params["name"])
        if file is None:
            raise HTTPException(404, f"Documents: {', '.join(self._documents)}\n")
        return PlainTextResponse(await asyncio.to_thread(file.read_text, encoding="utf-8"))

    async def _reload(self, _request: Request) -> Response:
        try:
            await self._runtime.reload()
        except ConfigError as error:
            return PlainTextResponse(f"not reloaded, the last good configuration stays:\n{error}\n", 500)
        return PlainTextResponse("OK\n")

    async def _ready(self, _request: Request) -> Response:
        if not self._runtime.ready:
            return PlainTextResponse("discovering\n", 503)
        return PlainTextResponse("OK\n")

    async def _landing(self, _request: Request) -> Response:
        runtime = self._runtime
        page = await asyncio.to_thread(  # of many targets it takes a while, and scrapes go on
            landing_page,
            runtime.snapshot.queries,
            runtime.history.last,
            self._telemetry_path,
            found=runtime.discovery.discovered,
        )
        return HTMLResponse(page, headers=LANDING_HEADERS)

    async def _answer(
        self, exposition: Exposition, collectors: Sequence[Collector], queries: int, poll_deadline: float
    ) -> Response:
        begin = min(time.monotonic(), poll_deadline)
        body = await asyncio.to_thread(exposition.render, collectors)
        self._closing.took(queries, time.monotonic() - begin)
        return Response(body, headers=exposition.headers)

    def _budget(self, request: Request) -> float:
        """Return the seconds until the answer must have left.

        A timeout that the offset would use up is halved instead: Prometheus allows 0.5 s and less. A header
        that is no positive number counts as missing, since a scrape with the default deadline is worth more
        than none; one warning must do, or a scraper would fill the log.
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
        return max(timeout - self._timeout_offset, timeout / 2)

    def _poll_deadline(self, queries: Sequence[Query], deadline: float) -> float:
        return deadline - self._closing.reserve(len(queries), deadline - time.monotonic())

    async def _not_found(self, _request: Request, error: Exception) -> Response:
        detail = error.detail if isinstance(error, HTTPException) else ""
        if detail in ("", HTTPStatus.NOT_FOUND.phrase):
            detail = f"404: nothing here. Metrics: {self._telemetry_path}, overview: /\n"
        return PlainTextResponse(detail, status_code=404)


class _ClosingTime:
    """How much of a scrape's time is kept back for ending late polls and writing the answer.

    It is learnt from the last scrape.
    """

    def __init__(self) -> None:
        self._seconds_per_query = 0.0005

    def took(self, queries: int, seconds: float) -> None:
        """Take a measurement into account."""
        if queries:
            self._seconds_per_query = seconds / queries

    def reserve(self, queries: int, budget: float) -> float:
        """Seconds to keep back: twice what it took last, and no more than half of the budget."""
        return min(0.05 + 2 * self._seconds_per_query * queries, budget / 2)


def _target_groups(url: SplitResult, targets: Sequence[Target]) -> list[dict[str, object]]:
    """What Prometheus wants to be told of each target that stands behind the URL."""
    return [
        {
            "targets": [url.netloc],
            "labels": {
                "__scheme__": url.scheme,
                "__metrics_path__": f"{url.path.rstrip('/')}/probe",
                "__param_workspace": target.workspace,
                "__param_channel": target.channel,
                "__meta_taskrouter_workspace": target.workspace,
                "__meta_taskrouter_workspace_sid": target.workspace_sid,
                "__meta_taskrouter_channel": target.channel,
                "__meta_taskrouter_account": target.account,
            },
        }
        for target in targets
    ]


async def _healthy(_request: Request) -> Response:
    return PlainTextResponse("OK\n")


def _wanted_collectors(request: Request) -> Sequence[str]:
    wanted = request.query_params.getlist("collect[]") or _COLLECTORS
    for name in wanted:
        if name not in _COLLECTORS:
            raise HTTPException(400, f"collect[]: {name!r} is not one of {', '.join(_COLLECTORS)}\n")
    return wanted


def _exposition(request: Request) -> Exposition:
    return Exposition(request.headers.get("Accept", ""), request.headers.get("Accept-Encoding", ""))


def _parameter(request: Request, name: str) -> str:
    values = request.query_params.getlist(name)
    if len(values) != 1 or not values[0]:
        raise HTTPException(
            400, f"write /probe?workspace=…&channel=…, each once: {name} is given {len(values)} times\n"
        )
    return values[0]


def _positive_seconds(header: str) -> float | None:
    """Return the seconds that a scrape's timeout header says, None where it is no positive number."""
    try:
        seconds = float(header)
    except ValueError:
        return None
    return seconds if 0 < seconds < math.inf else None
