"""The HTTP server: uvicorn with limits for slow, idle and numerous clients."""

import asyncio
import errno
import logging
import math
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
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
from taskrouter_exporter.server.normalize import normalize_requests
from taskrouter_exporter.server.unsent import MAX_UNSENT_BYTES, send_in_chunks

log = structlog.get_logger()

_HEALTH_PATHS: Final = ("/-/healthy", "/-/ready")
_NO_RESOURCES: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_CONNECTION: Final = "connection"
_EMPTY_LINES: Final = re.compile(rb"\A(\r?\n)+")
_CLOSING_INTERVAL_SECONDS: Final = 1
_WARNING_INTERVAL_SECONDS: Final = 60


_ExceptionHandler = Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object]


@dataclass(frozen=True, slots=True)
class Limits:
    """Timeouts, in seconds, and sizes for one connection.

    Attributes:
        handshake: Until the TLS handshake is complete.
        head: Until a request's line and headers are complete.
        idle: Until the next request on a connection: longer than the usual scrape interval.
        stall: Until a client has read a response that does not fit into the socket's buffer.
        goodbye: Until a client answers the end of TLS.
        shutdown: Until a scrape in flight ends after SIGTERM.
        head_bytes: Size of a request's line and headers.
        unsent_bytes: Size of all responses that clients have not read yet.
    """

    handshake: float = 10
    head: float = 10
    idle: int = 120
    stall: float = 30
    goodbye: float = 1
    shutdown: int = 5
    head_bytes: int = 16 * 1024
    unsent_bytes: int = MAX_UNSENT_BYTES


def limit_concurrency(app: ASGIApp, max_requests: int) -> ASGIApp:
    """Return an app that answers 503 while `max_requests` are in flight; 0 disables the limit.

    Health checks are neither counted nor refused: they cost nothing, and an orchestrator that restarts an
    overloaded exporter makes things worse.
    """
    in_flight = 0

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal in_flight
        if scope["path"] in _HEALTH_PATHS:
            await app(scope, receive, send)
        elif max_requests and in_flight >= max_requests:
            refusal = f"Limit of concurrent requests reached ({max_requests}), try again later.\n"
            await PlainTextResponse(refusal, 503, {"Retry-After": "1"})(scope, receive, send)
        else:
            in_flight += 1
            try:
                await app(scope, receive, send)
            finally:
                in_flight -= 1

    return answer


class HttpServer(uvicorn.Server):
    """uvicorn on sockets that are already bound. `should_exit` stops it; it handles no signals.

    Args:
        app: The application.
        tls: None for plain HTTP.
        limits: The timeouts and sizes of a connection.
    """

    def __init__(self, app: ASGIApp, tls: ssl.SSLContext | None = None, limits: Limits | None = None) -> None:
        self._tls = tls
        self._limits = limits or Limits()
        self._sockets: list[socket.socket] = []
        self._other_server: _ExceptionHandler | None = None
        self._last_closing = self._last_warning = -math.inf
        super().__init__(
            uvicorn.Config(
                send_in_chunks(
                    normalize_requests(_refuse_when_cancelled(app)), _transport, self._limits.unsent_bytes
                ),
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
        """Listen, with timeouts for TLS and a handler for running out of file descriptors.

        uvicorn's own method waits a minute for a TLS handshake, and logs a traceback for each connection
        that cannot be accepted.
        """
        loop = asyncio.get_running_loop()
        self._sockets = list(sockets or ())
        self._other_server = loop.get_exception_handler()
        loop.set_exception_handler(self._handle_exception)
        self.servers = [
            await loop.create_server(
                self._protocol,
                sock=bound,
                ssl=self._tls,
                ssl_handshake_timeout=self._limits.handshake if self._tls else None,
                ssl_shutdown_timeout=self._limits.goodbye if self._tls else None,
                backlog=BACKLOG,
            )
            for bound in self._sockets
        ]
        self.started = True

    def _protocol(self) -> "_Protocol":
        return _Protocol(self._limits, self.config, self.server_state, app_state={})

    def _handle_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in _NO_RESOURCES:
            self._close_idle_connections(loop.time())
            if self._other_server:
                self._other_server(loop, context)
        elif isinstance(error, ValueError) and all(bound.fileno() < 0 for bound in self._sockets):
            pass  # a second after it ran out of descriptors, asyncio accepts again, even on a closed socket
        elif self._other_server:
            self._other_server(loop, context)
        else:
            loop.default_exception_handler(context)

    def _close_idle_connections(self, now: float) -> None:
        """Close half of the connections that wait for a request, the longest waiting first.

        asyncio reports many errors at once, and again each second while it cannot accept a connection.
        """
        if now < self._last_closing + _CLOSING_INTERVAL_SECONDS:
            return
        self._last_closing = now
        connections = self.server_state.connections
        idle = [peer for peer in connections if isinstance(peer, _Protocol) and not peer.answering]
        idle.sort(key=attrgetter("idle_since"))
        for connection in idle[: (len(idle) + 1) // 2]:
            connection.transport.abort()
        if now >= self._last_warning + _WARNING_INTERVAL_SECONDS:
            self._last_warning = now
            log.warning("no file descriptors left; closing idle connections")

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the caller: uvicorn's own method would end the process."""
        yield


@asynccontextmanager
async def serving(server: HttpServer, sockets: list[socket.socket]) -> AsyncIterator[None]:
    """Serve on some sockets beside something else, from its start to its end."""
    running = asyncio.create_task(server.serve(sockets))
    try:
        yield
    finally:
        server.should_exit = True
        await running


def _transport(scope: Scope) -> asyncio.Transport:
    connection: _Protocol = scope["state"][_CONNECTION]
    return connection.transport


def _refuse_when_cancelled(app: ASGIApp) -> ASGIApp:
    """Return an app that answers 503 to a request cancelled at shutdown: uvicorn would log a traceback."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except asyncio.CancelledError:
            await PlainTextResponse("The exporter is stopping.\n", 503)(scope, receive, send)

    return answer


class _Connection(h11.Connection):
    """h11's parser, which ignores empty lines before a request, as RFC 9112, 2.2 recommends."""

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        if self.their_state is h11.IDLE:
            received = self.trailing_data[0]
            request = _EMPTY_LINES.sub(b"", received)
            self._receive_buffer.maybe_extract_at_most(len(received) - len(request))
            if request == b"\r":
                return h11.NEED_DATA
        return super().next_event()


class _Protocol(H11Protocol):
    """uvicorn's protocol, with a timeout for each phase in which a client could hold the connection.

    uvicorn has a timeout between two requests. This class adds those for the head of a request and for a
    response that is not read. A connection that timed out is aborted: closing would wait for the client.
    """

    def __init__(
        self, limits: Limits, config: uvicorn.Config, server_state: ServerState, app_state: dict[str, Any]
    ) -> None:
        super().__init__(config, server_state, app_state)
        self.app_state[_CONNECTION] = self
        self.conn = _Connection(h11.SERVER, limits.head_bytes)
        self.logger = _quiet_logger()
        self.idle_since = self.loop.time()
        self._head_timer = _Timer(self.loop, limits.head)
        self._stall_timer = _Timer(self.loop, limits.stall)

    @property
    def answering(self) -> bool:
        """Whether the response to a request is incomplete."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own
        super().connection_made(transport)
        # Sending waits while anything is unsent. TLS would also pause with nothing unsent if `high` were 0.
        transport.set_write_buffer_limits(high=1, low=0)
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
        self.idle_since = self.loop.time()
        if not self.flow.write_paused:
            self._stall_timer.stop()
        super().on_response_complete()
        self._limit_closing()

    def send_400_response(self, msg: str) -> None:
        """Refuse a malformed request, or abort the connection if a response has begun.

        uvicorn would send the one response into the other, and log a traceback.
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
        if not self.answering and not self.transport.is_closing():  # else the client could read bit by bit
            self._stall_timer.stop()

    def _limit_closing(self) -> None:
        """Limit how long closing waits for the client to read the rest of a response."""
        if self.transport.is_closing():
            self._stall_timer.start(self.transport)


def _quiet_logger() -> logging.Logger:
    """Return uvicorn's logger without a warning for every malformed request: a client could fill the log."""
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
        """Start, unless it is running."""
        if self._handle is None:
            self._handle = self._loop.call_later(self._seconds, transport.abort)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
