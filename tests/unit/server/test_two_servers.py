"""Two servers in one event loop: an address of its own for the health endpoints."""

import asyncio
import errno
import socket
from collections.abc import Callable

import pytest
from starlette.responses import PlainTextResponse

from taskrouter_exporter.server.http import HttpServer, serving


class Beside:
    """Two servers with an idle connection each, something that happens to them, and what came after it.

    Attributes:
        ports: Theirs.
        connections: How many connections each still had.
    """

    def __init__(self, happens: Callable[[asyncio.AbstractEventLoop], None]) -> None:
        self.ports: list[int] = []
        self.connections: list[int] = []
        asyncio.run(self._run(happens))

    async def _run(self, happens: Callable[[asyncio.AbstractEventLoop], None]) -> None:
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        self.ports = [each.getsockname()[1] for each in sockets]
        servers = [HttpServer(PlainTextResponse("hello\n")) for _ in sockets]
        async with serving(servers[0], sockets[:1]), serving(servers[1], sockets[1:]):
            writers = [await self._idle(port) for port in self.ports]
            happens(asyncio.get_running_loop())
            await asyncio.sleep(0)  # a connection that is aborted closes at the next turn of the loop
            self.connections = [len(server.server_state.connections) for server in servers]
            for writer in writers:
                writer.close()

    @staticmethod
    async def _idle(port: int) -> asyncio.StreamWriter:
        """Return a connection that waits for its second request."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readuntil(b"hello\n")).startswith(b"HTTP/1.1 200")
        return writer


def test_both_servers_close_idle_connections_when_no_file_descriptors_are_left() -> None:
    error = OSError(errno.EMFILE, "Too many open files")
    context = {"message": "accept failed", "exception": error}
    assert Beside(lambda loop: loop.call_exception_handler(context)).connections == [0, 0]


def test_another_error_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    context = {"message": "an unexpected error", "exception": RuntimeError("unexpected")}
    assert Beside(lambda loop: loop.call_exception_handler(context)).connections == [1, 1]
    assert [record.getMessage().splitlines()[0] for record in caplog.records] == ["an unexpected error"]


def test_a_server_beside_another_ends_with_what_it_is_beside() -> None:
    for port in Beside(lambda _: None).ports:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=20)
