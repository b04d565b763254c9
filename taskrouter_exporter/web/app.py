"""The routes, and the answers that need no more than a few lines."""

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from urllib.parse import SplitResult, urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from taskrouter_exporter import __version__
from taskrouter_exporter.config.errors import ConfigError
from taskrouter_exporter.config.json_schema import json_schema
from taskrouter_exporter.queries import Target
from taskrouter_exporter.revision import documentation_url
from taskrouter_exporter.runtime import Runtime
from taskrouter_exporter.web.config import config_yaml
from taskrouter_exporter.web.landing import LANDING_HEADERS, landing_page
from taskrouter_exporter.web.scrape import ScrapeHandler


class Web:
    """The HTTP side of the exporter.

    Args:
        runtime: Polls, and reloads the configuration.
        telemetry_path: Path of the metrics, `/metrics` by default.
        timeout_offset: Seconds to subtract from Prometheus's timeout.
        external_url: URL under which Prometheus reaches the exporter, by default the request's Host.
        max_scrape_timeout: Longest timeout of a scrape, in seconds.
    """

    def __init__(
        self,
        runtime: Runtime,
        telemetry_path: str,
        timeout_offset: float,
        external_url: str | None = None,
        *,
        max_scrape_timeout: float = 120,
    ) -> None:
        self._runtime = runtime
        self._telemetry_path = telemetry_path
        self._external_url = external_url
        self._links = {
            "Metrics": telemetry_path,
            "Service discovery": "/sd",
            "Configuration": "/config",
            "Configuration schema": "/config.schema.json",
            "Health": "/-/healthy",
            "Readiness": "/-/ready",
            "Documentation": documentation_url(__version__),
        }
        scrapes = ScrapeHandler(runtime, timeout_offset, max_scrape_timeout)
        self.app = Starlette(
            routes=[
                Route("/", self._landing),
                Route(telemetry_path, scrapes.metrics),
                Route("/probe", scrapes.probe),
                Route("/sd", self._discover),
                Route("/config", self._config),
                Route("/config.schema.json", _config_schema),
                Route("/-/healthy", _healthy),
                Route("/-/ready", self._ready),
                Route("/-/reload", self._reload, methods=["POST", "PUT"]),
            ],
            exception_handlers={404: self._not_found, 405: _method_not_allowed},
        )
        self.app.router.redirect_slashes = False

    async def _landing(self, _request: Request) -> Response:
        runtime = self._runtime
        page = await asyncio.to_thread(  # a page of many targets takes a while, and scrapes go on
            landing_page,
            runtime.snapshot.queries,
            runtime.history.last,
            self._links,
            found=runtime.discovery.discovered,
        )
        return HTMLResponse(page, headers=LANDING_HEADERS)

    async def _discover(self, request: Request) -> Response:
        """Answer Prometheus's HTTP service discovery: one `/probe` for each target."""
        url = urlsplit(self._external_url or str(request.base_url))
        snapshot = self._runtime.snapshot
        return await asyncio.to_thread(lambda: JSONResponse(_target_groups(url, snapshot.targets)))

    async def _config(self, _request: Request) -> Response:
        config = self._runtime.snapshot.config
        text = await asyncio.to_thread(config_yaml, config)
        return PlainTextResponse(text, headers={"Cache-Control": "no-store"})

    async def _reload(self, _request: Request) -> Response:
        try:
            await self._runtime.reload()
        except ConfigError as error:
            return PlainTextResponse(f"Invalid configuration; keeping the previous one:\n{error}\n", 500)
        return PlainTextResponse("OK\n")

    async def _ready(self, _request: Request) -> Response:
        if not self._runtime.ready:
            return PlainTextResponse("Not ready: discovering workspaces and channels.\n", 503)
        return PlainTextResponse("OK\n")

    async def _not_found(self, _request: Request, error: Exception) -> Response:
        detail = error.detail if isinstance(error, HTTPException) else ""
        if detail in ("", HTTPStatus.NOT_FOUND.phrase):
            detail = f"404 page not found. Metrics are at {self._telemetry_path}, an overview is at /.\n"
        return PlainTextResponse(detail, status_code=404)


async def _healthy(_request: Request) -> Response:
    return PlainTextResponse("OK\n")


async def _config_schema(_request: Request) -> Response:
    return Response(json_schema(), media_type="application/schema+json")


async def _method_not_allowed(request: Request, error: Exception) -> Response:
    header = (error.headers or {}).get("Allow", "") if isinstance(error, HTTPException) else ""
    allowed = sorted(header.split(", "))
    text = f"Method {request.method} is not allowed: {request.url.path} needs {' or '.join(allowed)}.\n"
    return PlainTextResponse(text, 405, {"Allow": ", ".join(allowed)})


def _target_groups(url: SplitResult, targets: Sequence[Target]) -> list[dict[str, object]]:
    """Return Prometheus's target groups: one for each target, scraped through the URL."""
    return [
        {
            "targets": [url.netloc],
            "labels": {
                "instance": f"{target.workspace}/{target.channel}",
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
