"""A minimal HTTP/1.1 server over sockets.

`http.server` parses headers with the email package and looks up its own host name. This server needs a
fraction of that time, and the code that answers controls the connection itself.
"""

import contextlib
import json
import secrets
import select
import socket
import socketserver
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from email.utils import formatdate
from http import HTTPStatus
from typing import IO, Any, Final, cast
from urllib.parse import parse_qsl, urlsplit

_LINE_LIMIT: Final = 8192
_HEADERS_LIMIT: Final = 100
_BODY_LIMIT: Final = 65_536
_DRAIN_LIMIT: Final = 1 << 20
_JOIN_SECONDS: Final = 2.0

_STATUSES: Final = frozenset(HTTPStatus)
_ERROR_CODES: Final[dict[int, tuple[int, str]]] = {
    HTTPStatus.BAD_REQUEST: (20001, "Bad request"),
    HTTPStatus.UNAUTHORIZED: (20003, "Authenticate"),
    HTTPStatus.METHOD_NOT_ALLOWED: (20004, "Method not allowed"),
}
"""Twilio's error codes other than 20000 plus the status. Source: https://www.twilio.com/docs/api/errors."""


@dataclass(frozen=True, slots=True)
class Request:
    """A client's request. Header names are in lower case; of a repeated parameter, the last value counts."""

    method: str
    path: str
    parameters: Mapping[str, str]
    headers: Mapping[str, str]
    keep_alive: bool = True
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to a request."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()

    def head(self, *, keep_alive: bool) -> bytes:
        """Return status line and headers, up to the body. As at Twilio, each has its own request ID."""
        lines = [
            f"HTTP/1.1 {self.status} {_phrase(self.status)}",
            f"Date: {formatdate(usegmt=True)}",
            f"Content-Type: {self.content_type}",
            f"Twilio-Request-Id: RQ{secrets.token_hex(16)}",
        ]
        lines += [f"{name}: {value}" for name, value in self.headers]
        lines.append(f"Content-Length: {len(self.body)}")
        if not keep_alive:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


def json_answer(value: object, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    """Return an answer with a JSON body."""
    return Answer(status, json.dumps(value, separators=(",", ":")).encode(), headers=headers)


def error_answer(status: int, message: str | None = None) -> Answer:
    """Return an error in the form of Twilio's APIs."""
    code, default = _ERROR_CODES.get(status, (20000 + status, _phrase(status)))
    more_info = f"https://www.twilio.com/docs/errors/{code}"
    content = {"code": code, "message": message or default, "more_info": more_info, "status": status}
    return Answer(status, json.dumps(content).encode())


class ApiError(Exception):
    """Raised for a request that is answered with an error."""

    def __init__(self, status: int, message: str | None = None, *headers: tuple[str, str]) -> None:
        super().__init__(message)
        self.answer = replace(error_answer(status, message), headers=headers)


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in _STATUSES else "Unknown"


class Connection:
    """A client's connection.

    Attributes:
        socket: The connection's socket.
        keep_alive: Whether another request may follow.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.keep_alive = True

    def send(self, data: bytes) -> None:
        """Send all of the data."""
        self.socket.sendall(data)

    def send_answer(self, answer: Answer) -> None:
        """Send an answer in one write."""
        self.send(answer.head(keep_alive=self.keep_alive) + answer.body)

    def gone_within(self, seconds: float | None) -> bool:
        """Wait up to this many seconds, None for ever, and return whether either side closed the connection.

        A client that sends more data before it has its answer also counts as gone: the simulator does not
        support pipelining.
        """
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        if poll.poll(None if seconds is None else seconds * 1000):
            self.keep_alive = False
            return True
        return False


class Server(socketserver.ThreadingTCPServer):
    """A server on loopback with one thread per connection. It listens as soon as it is created.

    Args:
        port: The port to listen on; 0 for any free port.
        respond: Answers a request on its connection.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, port: int, respond: Callable[[Connection, Request], None]) -> None:
        super().__init__(("127.0.0.1", port), socketserver.BaseRequestHandler)
        self._respond = respond
        self._lock = threading.Lock()
        self._open: dict[socket.socket, threading.Thread] = {}

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return int(self.server_address[1])

    def close_all(self) -> None:
        """Stop listening and close every connection, whatever its thread is waiting for."""
        self.server_close()
        with self._lock:
            still_open = dict(self._open)
        for sock in still_open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in still_open.values():
            thread.join(_JOIN_SECONDS)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - socketserver's own signature
        """Start a thread for a new connection."""
        thread = threading.Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            name=f"simulator-{self.port}-connection",
            daemon=True,
        )
        with self._lock:
            self._open[request] = thread
        thread.start()

    def finish_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401, ARG002 - as above
        """Answer one request after the other until either side closes the connection."""
        sock = cast("socket.socket", request)
        connection = Connection(sock)
        # An OSError means that the client went away, which it may do at any time.
        with contextlib.suppress(OSError), sock.makefile("rb") as stream:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while connection.keep_alive:
                try:
                    received = _read_request(stream)
                except _UnreadableError as error:
                    connection.keep_alive = False
                    connection.send_answer(error_answer(error.status))
                    _drain(sock)
                    return
                if received is None:
                    return
                connection.keep_alive = received.keep_alive
                self._respond(connection, received)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401 - as above
        """Close a connection, without the FIN that socketserver sends first: it would prevent a TCP reset."""
        with self._lock:
            self._open.pop(request, None)
        self.close_request(request)


class _UnreadableError(Exception):
    """Raised for a request that cannot be read to its end; the status is the answer's."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def _read_request(stream: IO[bytes]) -> Request | None:
    """Read the next request; return None if the client has no more."""
    line = _read_line(stream, HTTPStatus.REQUEST_URI_TOO_LONG)
    if not line:
        return None
    parts = line.split()
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):  # noqa: PLR2004 - method, target, version
        raise _UnreadableError(HTTPStatus.BAD_REQUEST)
    method, target, version = parts
    headers = _read_headers(stream)
    if "transfer-encoding" in headers:
        raise _UnreadableError(HTTPStatus.LENGTH_REQUIRED)
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise _UnreadableError(HTTPStatus.BAD_REQUEST)
    if len(length) > len(str(_BODY_LIMIT)) or int(length) > _BODY_LIMIT:
        raise _UnreadableError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    try:
        url = urlsplit(target)
        parameters = dict(parse_qsl(url.query, keep_blank_values=True))
    except ValueError as error:
        raise _UnreadableError(HTTPStatus.BAD_REQUEST) from error
    keep_alive = version != "HTTP/1.0" and headers.get("connection", "").lower() != "close"
    body = stream.read(int(length))
    return Request(method, url.path, parameters, headers, keep_alive, body)


def _read_headers(stream: IO[bytes]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for _ in range(_HEADERS_LIMIT):
        line = _read_line(stream, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE).rstrip("\r\n")
        if not line:
            return headers
        name, colon, value = line.partition(":")
        if not colon:
            raise _UnreadableError(HTTPStatus.BAD_REQUEST)
        headers[name.lower()] = value.strip()
    raise _UnreadableError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)


def _read_line(stream: IO[bytes], too_long: HTTPStatus) -> str:
    line = stream.readline(_LINE_LIMIT + 1)
    if len(line) > _LINE_LIMIT:
        raise _UnreadableError(too_long)
    return line.decode("latin-1")


def _drain(sock: socket.socket) -> None:
    """Read the remaining data, up to a limit.

    Closing a socket with unread data resets the connection, and the client would lose the answer.
    """
    sock.shutdown(socket.SHUT_WR)
    sock.settimeout(1)
    left = _DRAIN_LIMIT
    while left > 0 and (data := sock.recv(65_536)):
        left -= len(data)
