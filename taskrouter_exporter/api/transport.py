"""The network as everything above sees it: one HTTP request by a deadline, whatever the other side does."""

import io
import ssl
import threading
import time
import zlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import urlsplit

import h11
import requests
from requests.adapters import BaseAdapter
from requests.auth import HTTPBasicAuth
from requests.structures import CaseInsensitiveDict
from requests.utils import select_proxy

from taskrouter_exporter.api.call import HttpAnswer
from taskrouter_exporter.api.connection import (
    MAX_BODY_BYTES,
    Connection,
    Endpoint,
    RawAnswer,
    StaleConnectionError,
    open_stream,
    too_large,
)
from taskrouter_exporter.api.environment import (
    Authorities,
    certificate_authorities,
    endpoint,
    environment_proxies,
    proxy_endpoint,
    tls_context,
)
from taskrouter_exporter.api.errors import ApiError, Reason
from taskrouter_exporter.api.streams import Deadline

_DISTRUST_SECONDS: Final = 60.0
MOST_PREPARED: Final = 10_000
_MOST_ROUTES: Final = 16
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_GZIP: Final = 16 + zlib.MAX_WBITS


class Transport(Protocol):
    """What everything above needs of the network."""

    def get(
        self, url: str, parameters: Mapping[str, str], auth: tuple[str, str], deadline: Deadline
    ) -> HttpAnswer:
        """Carry out one GET, redirects not followed, and read the whole body until the deadline.

        `deadline` returns an instant on the monotonic clock, which may move later while the GET is under way.
        Looking the host up takes as long as the system's resolver does.

        Raises:
            ApiError: timeout, connection, or bad_response where the body is too large or cannot be decoded.
        """

    def post(self, url: str, body: bytes, auth: tuple[str, str], deadline: Deadline) -> HttpAnswer:
        """Carry out one POST of JSON that changes nothing at the API; otherwise as `get`."""

    def close(self) -> None:
        """Close the connections that are kept alive."""


class _Asked(NamedTuple):
    """What a request is made of."""

    method: str
    url: str
    parameters: tuple[tuple[str, str], ...]
    auth: tuple[str, str]
    body: bytes = b""


class RequestsTransport:
    """The transport of one account.

    requests prepares what is sent: URL, headers and authentication; proxies and certificate authorities come
    from the environment. A `.netrc` never replaces the configured credentials.

    Args:
        base_url: Of the API.
        connections: How many to keep alive.
        environ: Environment variables.
        user_agent: Value of that header.
        repeated: How many requests to keep prepared, because they are sent again and again.

    Raises:
        NetworkSettingError: a variable of the environment cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        connections: int,
        environ: Mapping[str, str],
        user_agent: str,
        *,
        repeated: int = MOST_PREPARED,
    ) -> None:
        self._headers = {"User-Agent": user_agent, "Accept": "application/json", "Accept-Encoding": "gzip"}
        self._proxies = environment_proxies(base_url)
        self._verify = certificate_authorities(environ)
        self._adapter = ExchangeAdapter(connections)
        self._newest: _PreparedRequest | None = None
        # Once for each query: preparing takes a good part of a request's CPU time.
        self._prepared = lru_cache(repeated)(self._prepare)

    def get(
        self, url: str, parameters: Mapping[str, str], auth: tuple[str, str], deadline: Deadline
    ) -> HttpAnswer:
        """See Transport.get."""
        return self._send(_Asked("GET", url, tuple(parameters.items()), auth), deadline)

    def post(self, url: str, body: bytes, auth: tuple[str, str], deadline: Deadline) -> HttpAnswer:
        """See Transport.post."""
        return self._send(_Asked("POST", url, (), auth, body), deadline)

    def _prepare(self, asked: "_Asked") -> "_PreparedRequest":
        headers = {**self._headers, "Content-Type": "application/json"} if asked.body else self._headers
        unprepared = requests.Request(
            asked.method, asked.url, headers, data=asked.body or None, params=asked.parameters
        )
        unprepared.auth = HTTPBasicAuth(*(part.encode() for part in asked.auth))
        prepared = unprepared.prepare()
        newest = _PreparedRequest(prepared, self._newest)  # another thread may replace it meanwhile
        self._newest = newest
        return newest

    def _send(self, asked: "_Asked", deadline: Deadline) -> HttpAnswer:
        begin = time.monotonic()
        try:
            response = self._adapter.send(
                self._prepared(asked), timeout=deadline, verify=self._verify, proxies=self._proxies
            )
        except TimeoutError as error:
            seconds = time.monotonic() - begin
            raise ApiError(Reason.TIMEOUT, f"no answer within {seconds:.3g} s") from error
        except (requests.RequestException, h11.ProtocolError, OSError, ValueError) as error:
            raise ApiError(Reason.CONNECTION, _explain(error)) from error
        return HttpAnswer(response.status_code, response.headers, response.content)

    def close(self) -> None:
        """See Transport.close."""
        self._adapter.close()


class _PreparedRequest(requests.PreparedRequest):
    """What requests has prepared and h11 has validated, once for all polls of a query.

    It keeps only what is sent, and has its headers in common with an earlier request that has equal ones.

    Attributes:
        origin: The beginning of its URL: scheme, host and port.
        event: The request line and the headers.
    """

    def __init__(self, prepared: requests.PreparedRequest, earlier: "_PreparedRequest | None") -> None:
        super().__init__()
        self.method, self.url, self.body = prepared.method, prepared.url, prepared.body
        self.origin = "/".join((self.url or "").split("/", 3)[:3])
        if earlier and (earlier.origin, earlier.headers) == (self.origin, prepared.headers):
            self.headers = earlier.headers
            headers: Any = earlier.event.headers
        else:
            self.headers = prepared.headers
            headers = [("Host", urlsplit(self.origin).netloc), *self.headers.items()]
        self.event: h11.Request = h11.Request(
            method=self.method or "GET", target=self.path_url, headers=headers
        )


class ExchangeAdapter(BaseAdapter):
    """A requests adapter that carries requests over connections of its own.

    requests' usual adapter stands on urllib3 and http.client, which take an interim answer (1xx) for the
    final one, reuse a connection on which something is left over, give the whole time to the first address
    of a host, and know no deadline for a whole answer.
    """

    def __init__(self, connections: int) -> None:
        super().__init__()
        self._pool = _Pool(connections)
        self._worked: dict[str, Any] = {}
        self._contexts: dict[Authorities, ssl.SSLContext] = {}
        self._route = lru_cache(_MOST_ROUTES)(_Route.of)

    def send(  # type: ignore[override] # timeout is a deadline, and the request is one prepared for h11 too
        self,
        request: _PreparedRequest,
        *,
        timeout: Deadline,
        verify: Authorities = True,
        proxies: Mapping[str, str] | None = None,
        **_unused: object,
    ) -> requests.Response:
        """Send a prepared request and read the whole answer.

        A request on a connection that turns out to be stale is repeated once on a fresh one.

        Raises:
            ApiError, TimeoutError, OSError, h11.RemoteProtocolError: as Connection.exchange.
        """
        route = self._route(request.origin, tuple((proxies or {}).items()), verify)
        connection = self._pool.take(route)
        try:
            answer = self._exchange(connection or self._open(route, timeout), route, request, timeout)
        except StaleConnectionError:
            answer = self._exchange(self._open(route, timeout), route, request, timeout)
        return _response(request, answer)

    def close(self) -> None:
        """Close the kept connections, and those in use as soon as they are free."""
        self._pool.close()

    def _open(self, route: "_Route", deadline: Deadline) -> Connection:
        context = self._context(route.verify) if route.uses_tls else None
        return Connection(open_stream(route.origin, route.proxy, context, deadline, self._worked))

    def _exchange(
        self, connection: Connection, route: "_Route", request: _PreparedRequest, deadline: Deadline
    ) -> RawAnswer:
        try:
            body = request.body if isinstance(request.body, bytes) else b""
            return connection.exchange(request.event, deadline, body)
        except StaleConnectionError as error:
            connection.suspicious = error.suspicious
            raise
        finally:
            self._pool.give_back(route, connection)

    def _context(self, verify: Authorities) -> ssl.SSLContext:
        if verify not in self._contexts:
            self._contexts[verify] = tls_context(verify)
        return self._contexts[verify]


@dataclass(frozen=True, slots=True, eq=False)
class _Route:
    """How to reach a URL. One object for each way, so that it is found by its identity."""

    origin: Endpoint
    proxy: Endpoint | None
    verify: Authorities

    @classmethod
    def of(cls, url: str, proxies: tuple[tuple[str, str], ...], verify: Authorities) -> "_Route":
        origin = endpoint(url)
        proxy = select_proxy(url, dict(proxies))
        return cls(origin, proxy_endpoint(proxy) if proxy else None, verify)

    @property
    def uses_tls(self) -> bool:
        return self.origin.tls or (self.proxy is not None and self.proxy.tls)


class _Pool:
    """The connections that are idle, by route; safe to use from several threads.

    The one that has been idle longest is used first: what arrives late on a connection is then most likely
    to have arrived already. After anything that belongs to no request, nothing is reused for a while: a
    peer that does so once does so again, and may do so while the next request is under way.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._idle: dict[_Route, deque[Connection]] = {}
        self._distrusted_until = 0.0
        self._closed = False

    def take(self, route: _Route) -> Connection | None:
        with self._lock:
            idle = self._idle.get(route)
            return idle.popleft() if idle else None

    def give_back(self, route: _Route, connection: Connection) -> None:
        """Keep a connection, or close it where it cannot be used again."""
        surplus = [connection]
        with self._lock:
            now = time.monotonic()
            if connection.suspicious:
                self._distrusted_until = now + _DISTRUST_SECONDS
                surplus += self._empty()
            elif connection.reusable and now >= self._distrusted_until and not self._closed:
                idle = self._idle.setdefault(route, deque())
                idle.append(connection)
                surplus = [idle.popleft()] if len(idle) > self._most else []
        for each in surplus:
            each.close()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            surplus = self._empty()
        for each in surplus:
            each.close()

    def _empty(self) -> list[Connection]:
        connections = [each for idle in self._idle.values() for each in idle]
        self._idle.clear()
        return connections


def _response(request: requests.PreparedRequest, answer: RawAnswer) -> requests.Response:
    response = requests.Response()
    response.status_code = answer.status
    response.request = request
    response.url = request.url or ""
    response.headers = _joined(answer.headers)
    response.raw = io.BytesIO(_decoded(answer, response.headers.get("Content-Encoding", "")))
    return response


def _joined(headers: list[tuple[bytes, bytes]]) -> CaseInsensitiveDict[str]:
    """Join the values of a repeated header by commas (RFC 9110, 5.3)."""
    joined: CaseInsensitiveDict[str] = CaseInsensitiveDict()
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return joined


def _decoded(answer: RawAnswer, coding: str) -> bytes:
    """Undo the content coding, of which one is allowed: each more could multiply the work.

    Raises:
        ApiError: bad_response.
    """
    if not answer.body or coding.strip().lower() in ("", "identity"):
        return answer.body
    if coding.strip().lower() not in ("gzip", "x-gzip"):
        raise ApiError(Reason.BAD_RESPONSE, "the body's Content-Encoding is not gzip", answer.status)
    decoder = zlib.decompressobj(_GZIP)
    try:
        body = decoder.decompress(answer.body, MAX_BODY_BYTES + 1)
    except zlib.error:
        raise ApiError(Reason.BAD_RESPONSE, "the body's compression is broken", answer.status) from None
    if len(body) > MAX_BODY_BYTES:
        raise too_large(answer.status)
    if not decoder.eof or decoder.unused_data:
        raise ApiError(Reason.BAD_RESPONSE, "the body's compression is broken", answer.status)
    return body


def _explain(error: BaseException) -> str:
    """Name the cause in words that cannot hold a secret, which a proxy's URL could."""
    match error:
        case h11.RemoteProtocolError():
            return "the connection was closed before the whole answer, or the answer is not HTTP/1.1"
        case ssl.SSLCertVerificationError():
            return f"the certificate is not accepted: {error.verify_message}"
        case OSError(strerror=str() as words) if words:
            return words
        case _:
            return type(error).__name__
