"""The HTTP server: uvicorn with limits for slow, idle and numerous clients."""

import asyncio
import errno
import logging
import math
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

import h11
import structlog
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

from taskrouter_exporter.server.listen import BACKLOG

log = structlog.get_logger()

_HEALTH_PATHS: Final = ("/-/healthy", "/-/ready")
_NO_RESOURCES: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_RELIEF_SECONDS: Final = 1
_COMPLAINT_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client can take of the server. Times are seconds.

    Attributes:
        handshake: For the TLS handshake.
        head: For a request's line and headers.
        idle: For the next request on a connection: longer than the usual scrape interval.
        stall: For a client to take what of its answer does not fit into the socket's buffer.
        goodbye: For the end of TLS, once we have said it.
        shutdown: For a scrape in flight after SIGTERM.
        head_bytes: Of a request's line and headers.
    """

    handshake: float = 10
    head: float = 10
    idle: int = 120
    stall: float = 30
    goodbye: float = 1
    shutdown: int = 5
    head_bytes: int = 16 * 1024


def limit_concurrency(app: ASGIApp, most: int) -> ASGIApp:
    """Let no more than so many requests in at once, and answer 503 to the others; 0 lets all in.

    Health checks are neither counted nor refused: an orchestrator that restarted an overloaded exporter
    would make things worse. They cost nothing.
    """
    in_flight = 0

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal in_flight
        if scope["path"] in _HEALTH_PATHS:
            await app(scope, receive, send)
        elif most and in_flight >= most:
            refusal = f"Limit of concurrent requests reached ({most}), try again later.\n"
            await PlainTextResponse(refusal, 503, {"Retry-After": "1"})(scope, receive, send)
        else:
            in_flight += 1
            try:
                await app(scope, receive, send)
            finally:
                in_flight -= 1

    return answer


class HttpServer(uvicorn.Server):
    """uvicorn on sockets that are already open, stopped by `should_exit` and not by signals of its own.

    Args:
        app: What answers.
        tls: What to listen with; None for plain HTTP.
        limits: What one client can take.
    """

    def __init__(self, app: ASGIApp, tls: ssl.SSLContext | None = None, limits: Limits | None = None) -> None:
        self._tls = tls
        self._limits = limits or Limits()
        self._sockets: list[socket.socket] = []
        self._relieved = self._complained = -math.inf
        super().__init__(
            uvicorn.Config(
                _answering_when_stopped(app),
                http=_Protocol,
                loop="asyncio",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=self._limits.idle,
                timeout_graceful_shutdown=self._limits.shutdown,
                h11_max_incomplete_event_size=self._limits.head_bytes,
                backlog=BACKLOG,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen. uvicorn's own would leave a TLS handshake a minute, and a full process its tracebacks."""
        loop = asyncio.get_running_loop()
        self._sockets = list(sockets or ())
        loop.set_exception_handler(self._handle_exception)
        self.servers = [
            await loop.create_server(
                self._protocol,
                sock=each,
                ssl=self._tls,
                ssl_handshake_timeout=self._limits.handshake if self._tls else None,
                ssl_shutdown_timeout=self._limits.goodbye if self._tls else None,
                backlog=BACKLOG,
            )
            for each in self._sockets
        ]
        self.started = True

    def _protocol(self) -> "_Protocol":
        return _Protocol(self._limits, self.config, self.server_state, app_state={})

    def _handle_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in _NO_RESOURCES:
            self._make_room(loop.time())
        elif isinstance(error, ValueError) and all(each.fileno() < 0 for each in self._sockets):
            pass  # asyncio goes on to accept a second after it ran out of descriptors, stopped by then or not
        else:
            loop.default_exception_handler(context)

    def _make_room(self, now: float) -> None:
        """Close half of the connections that wait for a request, those first that have waited longest.

        asyncio calls for it many times at once, and again each second while it cannot accept a connection.
        """
        if now < self._relieved + _RELIEF_SECONDS:
            return
        self._relieved = now
        open_ones = [each for each in self.server_state.connections if isinstance(each, _Protocol)]
        waiting = sorted((each for each in open_ones if not each.answering), key=attrgetter("waiting_since"))
        for connection in waiting[: (len(waiting) + 1) // 2]:
            connection.transport.abort()
        if now >= self._complained + _COMPLAINT_SECONDS:
            self._complained = now
            log.warning("no file descriptors left; closing idle connections")

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to whoever runs the server: uvicorn would end the process by them."""
        yield


def _answering_when_stopped(app: ASGIApp) -> ASGIApp:
    """Answer 503 to a request that the end of the process cuts off, where uvicorn would log a traceback."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except asyncio.CancelledError:
            await PlainTextResponse("The exporter is stopping.\n", 503)(scope, receive, send)

    return answer


class _Protocol(H11Protocol):
    """uvicorn's protocol, with a time-out for each phase in which a client could keep the connection.

    uvicorn itself has one for the wait between two requests; here are those for the head of a request and
    for an answer that is not taken. What has timed out is aborted: closing would wait for the client.
    """

    def __init__(
        self, limits: Limits, config: uvicorn.Config, server_state: ServerState, app_state: dict[str, Any]
    ) -> None:
        super().__init__(config, server_state, app_state)
        self.logger = _quiet_logger()
        self.waiting_since = self.loop.time()
        self._head_timer = _Timer(self.loop, limits.head)
        self._stall_timer = _Timer(self.loop, limits.stall)

    @property
    def answering(self) -> bool:
        """Whether a request has come in whose answer is not complete."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own
        super().connection_made(transport)
        self._head_timer.start(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._head_timer.stop()
        self._stall_timer.stop()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.answering or self.transport.is_closing():
            self._head_timer.stop()
        else:
            self._head_timer.start(self.transport)
        self._limit_closing()

    def on_response_complete(self) -> None:
        self.waiting_since = self.loop.time()
        super().on_response_complete()
        self._limit_closing()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is malformed, or hang up where the answer to its beginning is on its way already.

        uvicorn would send the one answer into the other, and log a traceback.
        """
        if self.answering:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.abort()

    def timeout_keep_alive_handler(self) -> None:
        self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall_timer.start(self.transport)

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._stall_timer.stop()

    def _limit_closing(self) -> None:
        """Closing waits for the client to take the rest of its answer, however small: not for ever."""
        if self.transport.is_closing():
            self._stall_timer.start(self.transport)


def _quiet_logger() -> logging.Logger:
    """uvicorn's, without the warning for every malformed request: no client shall fill the log."""
    logger = logging.getLogger("uvicorn.error.request")
    logger.setLevel(logging.ERROR)
    return logger


class _Timer:
    """Aborts a connection unless it is stopped in time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._handle: asyncio.TimerHandle | None = None

    def start(self, transport: asyncio.Transport) -> None:
        """Start it, unless it runs already."""
        if self._handle is None:
            self._handle = self._loop.call_later(self._seconds, transport.abort)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
