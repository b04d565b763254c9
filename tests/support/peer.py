"""Servers whose answers a test defines byte by byte, over TCP or TLS, and a proxy."""

import contextlib
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Final, cast

_TLS_HANDSHAKE: Final = b"\x16"
Behaviour = Callable[[socket.socket, bytes], None]


class Peer:
    """A server that handles each request on a connection with a given behaviour.

    Attributes:
        heads: The heads of all requests.
        connections: The number of accepted connections.
    """

    def __init__(self, behave: Behaviour, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.heads: list[bytes] = []
        self.connections = 0
        self._behave = behave
        self._tls = tls
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server((host, 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http{'s' if tls else ''}://{host}:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop listening and end every connection; each is closed by the thread that serves it."""
        for each in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
                thread.start()
                self._threads.append(thread)

    def _serve(self, raw: socket.socket) -> None:
        # A connection that the other side ends, or a test, is no failure of the server's.
        with contextlib.suppress(OSError, ValueError), contextlib.ExitStack() as stack:
            connection: socket.socket = stack.enter_context(raw)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls:
                secured = self._tls.wrap_socket(raw, server_side=True, do_handshake_on_connect=False)
                connection = stack.enter_context(secured)
                secured.do_handshake()
            self._open.append(connection)
            while head := _head(connection):
                self.heads.append(head)
                self._behave(connection, head)


def _head(connection: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head and not head.startswith(_TLS_HANDSHAKE):
        data = connection.recv(65536)
        if not data:
            return b""
        head += data
    return head


def answering(body: bytes, headers: bytes = b"", status: bytes = b"200 OK") -> Behaviour:
    """Answer every request in the same way."""
    return lambda connection, _head: connection.sendall(answer(body, headers, status))


def answer(body: bytes = b"{}", headers: bytes = b"", status: bytes = b"200 OK") -> bytes:
    """Write a complete answer."""
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n%b\r\n%b" % (status, len(body), headers, body)


def reset(connection: socket.socket, _head: bytes = b"") -> None:
    """Reset the connection."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def tunnelling(port: int, before: bytes = b"", after: bytes = b"") -> Behaviour:
    """Behave as a proxy that connects every tunnel (CONNECT) to a port of loopback.

    Args:
        port: The port of the server.
        before: Bytes to send before the final answer to CONNECT.
        after: Bytes to send immediately after it.
    """

    def behave(connection: socket.socket, _head: bytes) -> None:
        with socket.create_connection(("127.0.0.1", port)) as target:
            connection.sendall(before + b"HTTP/1.1 200 Connection established\r\n\r\n" + after)
            ends = {connection: target, target: connection}
            while True:
                waiting = [each for each in ends if isinstance(each, ssl.SSLSocket) and each.pending()]
                for source in waiting or select.select(list(ends), [], [])[0]:
                    data = source.recv(65536)
                    if not data:
                        connection.close()
                        return
                    ends[source].sendall(data)

    return behave


@contextlib.contextmanager
def swallowing_syns() -> Iterator[int]:
    """Open a port of loopback whose full backlog swallows every further connection; yield the port."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.settimeout(0)
            with contextlib.suppress(BlockingIOError):
                filler.connect(listener.getsockname())
        yield cast("int", listener.getsockname()[1])
