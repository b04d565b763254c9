"""Sockets: where the exporter listens, and how it treats slow and idle clients."""

import asyncio
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

HEAD_TIMEOUT_SECONDS: Final = 10
"""How long a client may take for a request's line and headers."""
IDLE_TIMEOUT_SECONDS: Final = 120
"""How long a connection is kept for the next request: longer than the usual scrape interval."""
STALL_TIMEOUT_SECONDS: Final = 30
"""How long a client may take nothing of an answer that does not fit into the socket's buffer."""
SHUTDOWN_SECONDS: Final = 5
"""How long a scrape in flight may go on after SIGTERM."""
_MAX_HEAD_BYTES: Final = 16 * 1024
_BACKLOG: Final = 2048


class ListenError(Exception):
    """An address that cannot be listened on; its message says which and why."""


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """`host:port`; an empty host means every interface, over IPv4 and IPv6."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "ListenAddress":
        """Read `:10142`, `127.0.0.1:10142` or `[::1]:10142`.

        Raises:
            ValueError: the text is none of these.
        """
        host, colon, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if not colon or not (port.isascii() and port.isdigit()) or (":" in host and not bracketed):
            raise ValueError(f"{text!r} is not an address (write :10142, 127.0.0.1:10142 or [::1]:10142)")
        if int(port) > 65535:  # noqa: PLR2004 -- the highest port there is
            raise ValueError(f"{text!r}: the port is larger than 65535")
        return cls(host.strip("[]"), int(port))

    def bind(self) -> socket.socket:
        """Open the listening socket.

        Raises:
            ListenError: the port is in use, or the address is not this machine's.
        """
        everywhere = not self.host
        dual = everywhere and socket.has_dualstack_ipv6()
        host = self.host or ("::" if dual else "0.0.0.0")  # noqa: S104 -- what ":10142" asks for
        try:
            found = socket.getaddrinfo(host, self.port, type=socket.SOCK_STREAM)
            family, *_, address = found[0]
            return socket.create_server(address, family=family, backlog=_BACKLOG, dualstack_ipv6=dual)
        except OSError as error:
            raise ListenError(f"cannot listen on {self.host}:{self.port}: {_explain(error)}") from error


def _explain(error: OSError) -> str:
    """The system's own words; Python adds the address, and a host name's error number is not the system's."""
    return str(error.strerror) if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)


class HttpServer(uvicorn.Server):
    """uvicorn on sockets that are already open, stopped by `should_exit` and not by signals of its own."""

    def __init__(self, app: ASGIApp) -> None:
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
                timeout_keep_alive=IDLE_TIMEOUT_SECONDS,
                timeout_graceful_shutdown=SHUTDOWN_SECONDS,
                h11_max_incomplete_event_size=_MAX_HEAD_BYTES,
                backlog=_BACKLOG,
            )
        )

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

    def __init__(self, *args: Any, **settings: Any) -> None:  # noqa: ANN401 -- passed on
        super().__init__(*args, **settings)
        self._head_timer = _Timer(self.loop, HEAD_TIMEOUT_SECONDS)
        self._stall_timer = _Timer(self.loop, STALL_TIMEOUT_SECONDS)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own
        super().connection_made(transport)
        self._head_timer.start(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._head_timer.stop()
        self._stall_timer.stop()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        cycle: RequestResponseCycle | None = self.cycle
        answering = cycle is not None and not cycle.response_complete
        if answering or self.transport.is_closing():
            self._head_timer.stop()
        else:
            self._head_timer.start(self.transport)

    def timeout_keep_alive_handler(self) -> None:
        self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall_timer.start(self.transport)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stall_timer.stop()


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


def describe(sockets: Sequence[socket.socket]) -> list[str]:
    """The addresses that are listened on, `host:port`, with the port that was really taken."""
    names = (each.getsockname() for each in sockets)
    return [f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}" for name in names]
