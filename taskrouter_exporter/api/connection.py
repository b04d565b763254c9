"""One HTTP/1.1 connection: a request, its answer and nothing else, framed by h11."""

import ssl
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import h11

from taskrouter_exporter.api.errors import ApiError, Reason
from taskrouter_exporter.api.streams import Deadline, Stream, TlsStream, connect, remaining

MAX_BODY_BYTES: Final = 1024 * 1024
"""An answer larger than this is not read further. The largest real one (100 activities) is some 20 KB."""

_MAX_HEAD_BYTES: Final = 32 * 1024
_MAX_WIRE_BYTES: Final = MAX_BODY_BYTES + 2 * _MAX_HEAD_BYTES
_REQUEST_ID: Final = b"twilio-request-id"


class StaleConnectionError(Exception):
    """A connection that was used before cannot be used again: the request belongs on a fresh one.

    Attributes:
        suspicious: Whether something arrived on it that belongs to no request.
    """

    def __init__(self, *, suspicious: bool) -> None:
        super().__init__("the connection was closed or disturbed while it was idle")
        self.suspicious = suspicious


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """An answer as it came: header names in lower case, the body with its content coding."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Whom a connection is for.

    Attributes:
        host: Name or address of the API, or of the proxy.
        port: Its TCP port.
        tls: Whether it speaks TLS.
        authorization: Value of the header Proxy-Authorization, for a proxy that asks for it.
    """

    host: str
    port: int
    tls: bool
    authorization: str | None = field(default=None, repr=False)

    @property
    def authority(self) -> str:
        """Host and port, an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def open_stream(
    origin: Endpoint,
    proxy: Endpoint | None,
    context: ssl.SSLContext | None,
    deadline: Deadline,
    worked: MutableMapping[str, Any],
) -> Stream:
    """Connect to the origin, through the proxy where there is one, and begin TLS.

    Args:
        origin: The API.
        proxy: Asked for a tunnel (CONNECT).
        context: For TLS, to either of them; may be None where neither speaks it.
        deadline: For all of it.
        worked: See streams.connect.

    Raises:
        TimeoutError: it took too long.
        OSError: the connection cannot be made; ssl.SSLError among them.
        h11.RemoteProtocolError: the proxy does not answer in HTTP.
        ApiError: the proxy refuses.
    """
    first = proxy or origin
    stream: Stream = connect(first.host, first.port, deadline, worked)
    try:
        if proxy is not None:
            stream = _secured(stream, proxy, context, deadline)
            _open_tunnel(stream, origin, proxy, deadline)
        return _secured(stream, origin, context, deadline)
    except BaseException:
        stream.close()
        raise


def _secured(
    stream: Stream, endpoint: Endpoint, context: ssl.SSLContext | None, deadline: Deadline
) -> Stream:
    return TlsStream(stream, context, endpoint.host, deadline) if endpoint.tls and context else stream


def _open_tunnel(stream: Stream, origin: Endpoint, proxy: Endpoint, deadline: Deadline) -> None:
    headers = [("Host", origin.authority)]
    if proxy.authorization:
        headers.append(("Proxy-Authorization", proxy.authorization))
    protocol = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD_BYTES)
    reader = _Reader(stream, protocol, deadline)
    request = h11.Request(method="CONNECT", target=origin.authority, headers=headers)
    stream.send(_encoded(protocol, request), deadline)
    status = reader.head().status_code
    if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        raise ApiError(Reason.CONNECTION, f"the proxy refused: HTTP {status}")
    if protocol.trailing_data[0]:
        raise ApiError(Reason.CONNECTION, "the proxy sent data before the tunnel was used")


class Connection:
    """A kept-alive connection to the API."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._protocol = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD_BYTES)
        self._used = False
        self._last_request_id: bytes | None = None
        self.reusable = True
        self.suspicious = False

    def exchange(self, request: h11.Request, deadline: Deadline, body: bytes = b"") -> RawAnswer:
        """Send a request and read its answer, whole.

        Args:
            request: One that changes nothing: it may be sent twice.
            deadline: For all of it.
            body: Of the request.

        Raises:
            StaleConnectionError: no answer that can be trusted; a fresh connection may bring one.
            TimeoutError: the deadline has passed.
            OSError: the connection is broken.
            h11.RemoteProtocolError: the answer is not HTTP, or is cut short.
            ApiError: the answer is too large.
        """
        self.reusable = False
        if self._used:
            self._check_idle()
        reader = _Reader(self._stream, self._protocol, deadline)
        try:
            self._stream.send(_encoded(self._protocol, request, body), deadline)
            answer = reader.answer()
        except TimeoutError:
            raise
        except (OSError, h11.RemoteProtocolError):
            if self._used and not reader.received:
                raise StaleConnectionError(suspicious=False) from None
            raise
        self._check_answer(answer)
        self.reusable = (
            not self.suspicious and self._protocol.our_state is self._protocol.their_state is h11.DONE
        )
        if self.reusable:
            self._protocol.start_next_cycle()
        self._used = True
        return answer

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()

    def _check_idle(self) -> None:
        """Raise StaleConnectionError where anything has happened since the last answer."""
        try:
            data = self._stream.receive_now()
        except OSError:
            raise StaleConnectionError(suspicious=False) from None
        if data is not None:
            # Some proxies announce that they close an idle connection: nothing to be suspicious of.
            farewell = data == b"" or data.split(b" ", 2)[1:2] == [b"408"]
            raise StaleConnectionError(suspicious=not farewell)

    def _check_answer(self, answer: RawAnswer) -> None:
        """Find out whether the answer may be another request's, as far as that can be seen.

        What follows the answer, or repeats it, was not asked for. On a connection that was used before, the
        surplus may as well be what came first; on a fresh one the first answer can only be the right one.
        """
        request_id = next((value for name, value in answer.headers if name == _REQUEST_ID), None)
        repeated = request_id is not None and request_id == self._last_request_id
        self._last_request_id = request_id
        self.suspicious = repeated or bool(self._protocol.trailing_data[0]) or self._has_surplus()
        if self._used and (self.suspicious or answer.status == HTTPStatus.REQUEST_TIMEOUT):
            raise StaleConnectionError(suspicious=self.suspicious)

    def _has_surplus(self) -> bool:
        try:
            return bool(self._stream.receive_now())
        except OSError:
            return False  # the answer is whole, and the next request will notice


class _Reader:
    """The incoming side of one exchange: bounded in bytes and in time, whatever the framing."""

    def __init__(self, stream: Stream, protocol: h11.Connection, deadline: Deadline) -> None:
        self._stream = stream
        self._protocol = protocol
        self._deadline = deadline
        self.received = 0

    def head(self) -> h11.Response:
        """Return the head of the final answer; interim ones (1xx) are skipped."""
        while not isinstance(event := self._event(), h11.Response):
            pass
        return event

    def answer(self) -> RawAnswer:
        """Return the final answer with its body."""
        head = self.head()
        body = bytearray()
        while not isinstance(event := self._event(), h11.EndOfMessage):
            if isinstance(event, h11.Data):
                body += event.data
            if len(body) > MAX_BODY_BYTES:
                raise too_large(head.status_code)
        return RawAnswer(head.status_code, list(head.headers), bytes(body))

    def _event(self) -> h11.Event:
        while (event := self._protocol.next_event()) is h11.NEED_DATA:
            data = self._stream.receive(self._deadline)
            self.received += len(data)
            if self.received > _MAX_WIRE_BYTES:
                raise too_large(None)
            self._protocol.receive_data(data)
        remaining(self._deadline)  # many small events must not outlast it either
        if isinstance(event, type):
            raise h11.RemoteProtocolError("the connection changed to another protocol")
        return event


def too_large(status: int | None) -> ApiError:
    """Return the error for a body that is larger than allowed."""
    return ApiError(Reason.BAD_RESPONSE, f"the body is larger than {MAX_BODY_BYTES} bytes", status)


def _encoded(protocol: h11.Connection, request: h11.Request, body: bytes = b"") -> bytes:
    events = [request, *([h11.Data(data=body)] if body else []), h11.EndOfMessage()]
    return b"".join(protocol.send(event) or b"" for event in events)
