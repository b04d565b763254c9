"""The HTTP server in a thread of the test, with timeouts short enough for a test."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from starlette.types import ASGIApp

from support.exporter import Answer, request
from support.waiting import wait_until
from taskrouter_exporter.server.http import HttpServer, Limits


class Serving:
    """An app served on a free port of loopback."""

    def __init__(
        self,
        app: ASGIApp,
        tls: ssl.SSLContext | None = None,
        limits: Limits | None = None,
        send_buffer: int = 0,
    ) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        if send_buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        self.port: int = self._socket.getsockname()[1]
        self.server = HttpServer(app, tls, limits)
        self._thread = threading.Thread(target=lambda: asyncio.run(self.server.serve([self._socket])))

    def __enter__(self) -> Self:
        self._thread.start()
        wait_until("server started", lambda: self.server.started)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive()

    def connect(self, receive_buffer: int = 0) -> socket.socket:
        connection = socket.socket()
        if receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.settimeout(20)
        connection.connect(("127.0.0.1", self.port))
        return connection

    def request(
        self,
        path: str = "/",
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> Answer:
        """Send one request on a connection of its own."""
        return request(self.port, path, method, headers, tls)

    @property
    def connections(self) -> int:
        return len(self.server.server_state.connections)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        wait_until("the expected state of the server", condition)


def is_cut(connection: socket.socket) -> bool:
    """Read until the other side closes the connection."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        pass
    return True
