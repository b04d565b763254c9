"""The health endpoints, and the app that serves nothing else."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from taskrouter_exporter.runtime import Runtime


def health_routes(runtime: Runtime) -> list[Route]:
    """Return the routes of the health endpoints, which never touch the API."""

    async def ready(_request: Request) -> Response:
        if not runtime.ready:
            return PlainTextResponse("Not ready: discovering workspaces and channels.\n", 503)
        return PlainTextResponse("OK\n")

    return [Route("/-/healthy", _healthy), Route("/-/ready", ready)]


def health_app(runtime: Runtime) -> Starlette:
    """Return the app of an address that has the health endpoints only."""
    app = Starlette(routes=health_routes(runtime), exception_handlers={404: _not_found})
    app.router.redirect_slashes = False
    return app


async def _healthy(_request: Request) -> Response:
    return PlainTextResponse("OK\n")


async def _not_found(_request: Request, _error: Exception) -> Response:
    return PlainTextResponse("404 page not found. Only /-/healthy and /-/ready are served here.\n", 404)
