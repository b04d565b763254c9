"""HTTP/1.1 over sockets, as little of it as the simulator needs, and open to misbehaviour.

`http.server` parses headers with the e-mail package and looks up its own host name; this costs a fraction
of it, and hands the bare connection to whoever answers.
"""

import contextlib
import json
import secrets
import select
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
"""Twilio's codes that are not 20000 plus the status. Source: https://www.twilio.com/docs/api/errors."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a client sent; header names in lower case, of a repeated parameter the last."""

    method: str
    path: str
    parameters: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""
    keep_alive: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()

    def head(self, *, keep_alive: bool, chunked: bool = False) -> bytes:
        """Return status line and headers, up to the body, with a request ID of their own as at Twilio."""
        lines = [
            f"HTTP/1.1 {self.status} {_phrase(self.status)}",
            f"Date: {formatdate(usegmt=True)}",
            f"Content-Type: {self.content_type}",
            f"Twilio-Request-Id: RQ{secrets.token_hex(16)}",
        ]
        lines += [f"{name}: {value}" for name, value in self.headers]
        lines.append("Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(self.body)}")
        if not keep_alive:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


def json_answer(value: object, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    """An answer with a JSON body."""
    return Answer(status, json.dumps(value, separators=(",", ":")).encode(), headers=headers)


def error_answer(status: int, message: str | None = None, *, problem: bool = False) -> Answer:
    """An error as Twilio's APIs send it, or in its newer form, a problem detail (RFC 9457)."""
    code, usual = _ERROR_CODES.get(status, (20000 + status, _phrase(status)))
    more_info = f"https://www.twilio.com/docs/errors/{code}"
    text = message or usual
    content: dict[str, Any]
    if problem:
        content = {"type": more_info, "title": usual, "status": status, "code": code, "detail": text}
    else:
        content = {"code": code, "message": text, "more_info": more_info, "status": status}
    body = b"" if status in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED) else json.dumps(content).encode()
    return Answer(status, body, "application/problem+json" if problem else "application/json")


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in _STATUSES else "Unknown"


class Connection:
    """A client's connection, as whoever answers sees it.

    Attributes:
        keep_alive: Whether another request may follow on it.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.keep_alive = True

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self._socket.sendall(data)

    def send_answer(self, answer: Answer) -> None:
        """Send an answer in one write."""
        self.send(answer.head(keep_alive=self.keep_alive) + answer.body)

    def gone_within(self, seconds: float | None) -> bool:
        """Wait so long, or without end, and say whether the client (or our close) ended the connection.

        A client that sends on before it has its answer counts as gone: none that we serve pipelines.
        """
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        if poll.poll(None if seconds is None else seconds * 1000):
            self.keep_alive = False
            return True
        return False

    def reset(self) -> None:
        """End the connection with a TCP reset instead of an orderly close."""
        self.keep_alive = False
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Server(socketserver.ThreadingTCPServer):
    """A thread for each connection of loopback clients; it listens from the beginning on.

    Args:
        port: To listen on; 0 for any that is free.
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
        """The port that it listens on."""
        return int(self.server_address[1])

    def close_all(self) -> None:
        """Stop listening and end every connection, whatever its thread is waiting for."""
        self.server_close()
        with self._lock:
            still_open = dict(self._open)
        for sock in still_open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in still_open.values():
            thread.join(_JOIN_SECONDS)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - socketserver's own signature
        """Hand a new connection to a thread of its own."""
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
        """Answer one request after the other until either side has enough."""
        sock = cast("socket.socket", request)
        connection = Connection(sock)
        # An OSError is a client that went away in the middle: its right.
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
        """Close a connection. Without a FIN before, which would spoil a reset."""
        with self._lock:
            self._open.pop(request, None)
        self.close_request(request)


class _UnreadableError(Exception):
    """A request that cannot be read to its end, with the status that says so."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def _read_request(stream: IO[bytes]) -> Request | None:
    """The next request, or none if the client has no more."""
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
    return Request(method, url.path, parameters, headers, stream.read(int(length)), keep_alive)


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
    """Read what still comes, within bounds: closing over unread data would reset the answer away."""
    sock.shutdown(socket.SHUT_WR)
    sock.settimeout(1)
    left = _DRAIN_LIMIT
    while left > 0 and (data := sock.recv(65_536)):
        left -= len(data)
