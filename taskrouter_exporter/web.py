"""The routes: what is answered to whom."""

import asyncio
import math
import time
from collections.abc import Sequence
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from taskrouter_exporter.engine import Engine
from taskrouter_exporter.metrics import Collector, Exposition

_TIMEOUT_HEADER: Final = "X-Prometheus-Scrape-Timeout-Seconds"
_DEFAULT_TIMEOUT_SECONDS: Final = 10.0
_COLLECTORS: Final = ("targets", "exporter")


class Web:
    """The HTTP side of the exporter.

    Args:
        engine: What polls.
        telemetry_path: Where the metrics stand, `/metrics` by default.
        timeout_offset: Seconds by which an answer leaves before Prometheus would give up.
    """

    def __init__(self, engine: Engine, telemetry_path: str, timeout_offset: float) -> None:
        self._engine = engine
        self._telemetry_path = telemetry_path
        self._timeout_offset = timeout_offset
        self._rendering = _RenderingTime()
        self.app = Starlette(
            routes=[
                Route(telemetry_path, self._metrics),
                Route("/-/healthy", _healthy),
                Route("/-/ready", _healthy),
            ],
            exception_handlers={404: self._not_found},
        )
        self.app.router.redirect_slashes = False

    async def _metrics(self, request: Request) -> Response:
        deadline = time.monotonic() + self._budget(request)
        wanted = _wanted_collectors(request)
        exposition = Exposition(request.headers.get("Accept", ""), request.headers.get("Accept-Encoding", ""))
        if request.method == "HEAD":
            return Response(headers=exposition.headers)
        collectors: list[Collector] = []
        queries = self._engine.config.queries if "targets" in wanted else ()
        if queries:
            reserve = self._rendering.reserve(len(queries), deadline - time.monotonic())
            collectors.append(await self._engine.poll(queries, deadline - reserve))
        if "exporter" in wanted:
            collectors.append(self._engine.metrics.registry)
        begin = time.monotonic()
        body = await asyncio.to_thread(exposition.render, collectors)
        self._rendering.took(len(queries), time.monotonic() - begin)
        return Response(body, headers=exposition.headers)

    def _budget(self, request: Request) -> float:
        """Seconds until the answer must have left.

        A time-out that the offset would use up is halved instead: Prometheus allows 0.5 s and less.
        """
        header = request.headers.get(_TIMEOUT_HEADER)
        timeout = _DEFAULT_TIMEOUT_SECONDS if header is None else _positive_seconds(header)
        return max(timeout - self._timeout_offset, timeout / 2)

    async def _not_found(self, _request: Request, _error: Exception) -> Response:
        return PlainTextResponse(f"404: nothing here. Metrics: {self._telemetry_path}\n", status_code=404)


class _RenderingTime:
    """How much of a scrape's time is kept back for writing its answer, learnt from the last one."""

    def __init__(self) -> None:
        self._seconds_per_query = 0.0005

    def took(self, queries: int, seconds: float) -> None:
        """Take a measurement into account."""
        if queries:
            self._seconds_per_query = seconds / queries

    def reserve(self, queries: int, budget: float) -> float:
        """Seconds to keep back: twice what it took last, and no more than half of the budget."""
        return min(0.05 + 2 * self._seconds_per_query * queries, budget / 2)


async def _healthy(_request: Request) -> Response:
    return PlainTextResponse("OK\n")


def _wanted_collectors(request: Request) -> Sequence[str]:
    wanted = request.query_params.getlist("collect[]") or _COLLECTORS
    for name in wanted:
        if name not in _COLLECTORS:
            raise HTTPException(400, f"collect[]: {name!r} is not one of {', '.join(_COLLECTORS)}\n")
    return wanted


def _positive_seconds(header: str) -> float:
    try:
        seconds = float(header)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise HTTPException(400, f"{_TIMEOUT_HEADER}: {header!r} is not a positive number of seconds\n")
    return seconds
