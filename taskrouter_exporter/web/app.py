"""The routes, and the answers that need no more than a few lines."""

import asyncio
import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from typing import Final, TypeVar
from urllib.parse import SplitResult, urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from taskrouter_exporter import __version__
from taskrouter_exporter.config.errors import ConfigError
from taskrouter_exporter.config.json_schema import json_schema
from taskrouter_exporter.queries import Target
from taskrouter_exporter.revision import documentation_url
from taskrouter_exporter.runtime import Runtime
from taskrouter_exporter.web.config import config_yaml
from taskrouter_exporter.web.failures import failures_json
from taskrouter_exporter.web.health import health_routes
from taskrouter_exporter.web.kept import Kept, Page
from taskrouter_exporter.web.landing import LANDING_HEADERS, Overview, landing_page
from taskrouter_exporter.web.scrape import ScrapeHandler, find_target

_PAGE_SECONDS: Final = 1

_Result = TypeVar("_Result")


class Web:
    """The HTTP side of the exporter.

    Args:
        runtime: Polls, and reloads the configuration.
        telemetry_path: Path of the metrics, `/metrics` by default.
        timeout_offset: Seconds to subtract from Prometheus's timeout.
        external_url: URL under which Prometheus reaches the exporter, by default the request's Host.
        max_scrape_timeout: Longest timeout of a scrape, in seconds.
        demo_scenario: Of the embedded simulator, "" without it.
    """

    def __init__(  # noqa: PLR0913 -- one for each flag
        self,
        runtime: Runtime,
        telemetry_path: str,
        timeout_offset: float,
        external_url: str | None = None,
        *,
        max_scrape_timeout: float = 120,
        demo_scenario: str = "",
    ) -> None:
        self._runtime = runtime
        self._demo_scenario = demo_scenario
        self._telemetry_path = telemetry_path
        self._external_url = external_url
        self._links = {
            "Metrics": f".{telemetry_path}",
            "Service discovery": "./sd",
            "Failed polls": "./api/v1/failures",
            "Configuration": "./config",
            "Configuration schema": "./config.schema.json",
            "Health": "./-/healthy",
            "Readiness": "./-/ready",
            "Documentation": documentation_url(__version__),
        }
        # One thread: pages of many targets, requested by many clients, would delay the scrapes.
        self._pages = ThreadPoolExecutor(1, thread_name_prefix="page")
        self._landing_page = Kept(_PAGE_SECONDS)
        self._all_failures = Kept(_PAGE_SECONDS)
        scrapes = ScrapeHandler(runtime, timeout_offset, max_scrape_timeout)
        self.app = Starlette(
            routes=[
                Route("/", self._landing),
                Route(telemetry_path, scrapes.metrics),
                Route("/probe", scrapes.probe),
                Route("/sd", self._discover),
                Route("/api/v1/failures", self._failures),
                Route("/config", self._config),
                Route("/config.schema.json", _config_schema),
                *health_routes(runtime),
                Route("/-/reload", self._reload, methods=["POST", "PUT"]),
            ],
            exception_handlers={404: self._not_found, 405: _method_not_allowed},
        )
        self.app.router.redirect_slashes = False

    async def _landing(self, request: Request) -> Response:
        runtime = self._runtime
        overview = Overview(
            queries=runtime.snapshot.queries,
            last=runtime.history.last,
            links=self._links,
            found=runtime.discovery.discovered,
            failures=runtime.failures.of,
            trend=runtime.trends.of if runtime.trends else None,
            demo_scenario=self._demo_scenario,
            failed_reload=runtime.failed_reload,
        )
        source = runtime.failed_reload or runtime.snapshot
        page = await self._landing_page.get(source, lambda: self._write(lambda: landing_page(overview)))
        return page.response(request, "text/html", LANDING_HEADERS)

    async def _failures(self, request: Request) -> Response:
        """Answer with the failed polls of all targets, or of the one that is named."""
        snapshot, failures_of = self._runtime.snapshot, self._runtime.failures.of
        if request.query_params:
            target = find_target(request, snapshot)[0].target
            page = Page.of(failures_json([target], failures_of))
        else:
            page = await self._all_failures.get(
                snapshot, lambda: self._write(lambda: failures_json(snapshot.targets, failures_of))
            )
        return page.response(request, "application/json", {"Cache-Control": "no-store"})

    async def _discover(self, request: Request) -> Response:
        """Answer Prometheus's HTTP service discovery: one `/probe` for each target."""
        url = urlsplit(self._external_url or str(request.base_url))
        snapshot = self._runtime.snapshot
        text = await self._in_thread(lambda: _target_groups(url, snapshot.targets))
        return Response(text, media_type="application/json")

    async def _config(self, _request: Request) -> Response:
        config = self._runtime.snapshot.config
        text = await self._in_thread(partial(config_yaml, config))
        return PlainTextResponse(text, headers={"Cache-Control": "no-store"})

    async def _write(self, write: Callable[[], str]) -> Page:
        return await self._in_thread(lambda: Page.of(write()))

    async def _in_thread(self, function: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._pages, function)

    async def _reload(self, request: Request) -> Response:
        if refusal := self._cross_site(request):
            return PlainTextResponse(f"Cross-site request refused: {refusal}.\n", 403)
        try:
            await self._runtime.reload()
        except ConfigError as error:
            return PlainTextResponse(f"Invalid configuration; keeping the previous one:\n{error}\n", 500)
        return PlainTextResponse("OK\n")

    def _cross_site(self, request: Request) -> str:
        """Return why a request comes from another site, or "". Only browsers send these headers."""
        for site in request.headers.getlist("Sec-Fetch-Site"):
            if site not in ("none", "same-origin"):
                return f"Sec-Fetch-Site is {site!r} (expected none or same-origin)"
        own = {request.headers.get("Host", "").lower()}
        if self._external_url:
            own.add(urlsplit(self._external_url).netloc.lower())
        for origin in request.headers.getlist("Origin"):
            scheme, _, host = origin.lower().partition("://")
            default_port = {"http": ":80", "https": ":443"}.get(scheme, "")
            if not default_port or own.isdisjoint({host, host + default_port}):
                return f"Origin is {origin!r}, not the exporter's own host"
        return ""

    async def _not_found(self, _request: Request, error: Exception) -> Response:
        detail = error.detail if isinstance(error, HTTPException) else ""
        if detail in ("", HTTPStatus.NOT_FOUND.phrase):
            detail = f"404 page not found. Metrics are at {self._telemetry_path}, an overview is at /.\n"
        return PlainTextResponse(detail, status_code=404)


async def _config_schema(_request: Request) -> Response:
    return Response(json_schema(), media_type="application/schema+json")


async def _method_not_allowed(request: Request, error: Exception) -> Response:
    header = (error.headers or {}).get("Allow", "") if isinstance(error, HTTPException) else ""
    allowed = sorted(header.split(", "))
    text = f"Method {request.method} is not allowed: {request.url.path} needs {' or '.join(allowed)}.\n"
    return PlainTextResponse(text, 405, {"Allow": ", ".join(allowed)})


def _target_groups(url: SplitResult, targets: Iterable[Target]) -> bytes:
    """Return Prometheus's target groups as JSON: one for each target, scraped through the URL.

    Each is encoded by itself: a single call for 75,000 of them would stop everything else for 0.3 s.
    """
    groups = (
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
    )
    return b"[" + b",".join([json.dumps(group, separators=(",", ":")).encode() for group in groups]) + b"]"
