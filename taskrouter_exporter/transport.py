"""The seam to the network: one HTTP GET, within so many seconds, whatever the other side does."""

import http.client
import io
import re
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final, Protocol

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from taskrouter_exporter.errors import ApiError, Reason

MAX_BODY_BYTES: Final = 4 * 1024 * 1024
"""An answer larger than this is not read further. The largest real one (100 activities) is some 20 KB."""

_CHUNK_BYTES: Final = 64 * 1024
_REFUSED_TUNNEL: Final = re.compile(r"Tunnel connection failed: (\d+)")


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, whatever its status. Header names are matched without regard to case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport(Protocol):
    """What everything above needs of the network."""

    def get(
        self, url: str, parameters: Mapping[str, str], auth: tuple[str, str], deadline: Callable[[], float]
    ) -> Answer:
        """Carry out one GET, redirects not followed, and read the whole body until the deadline.

        `deadline` returns an instant on the monotonic clock, which may move later while the GET is under way.

        Connecting has the same time once more for each further address of the host, and looking the host up
        takes as long as the system's resolver does.

        Raises:
            ApiError: timeout, connection, or bad_response where the body is too large or cannot be decoded.
        """

    def close(self) -> None:
        """Close the connections that are kept alive."""


class RequestsTransport:
    """The transport of one account: one pooled requests Session.

    Proxies come from the environment, but not for `http://`: that is for loopback only, and a proxy would
    be handed the credentials in clear. The Session trusts the environment in nothing else, so that a
    `.netrc` never replaces the configured credentials; a CA bundle of `REQUESTS_CA_BUNDLE` or
    `CURL_CA_BUNDLE` is used.
    """

    def __init__(self, base_url: str, connections: int, environ: Mapping[str, str], user_agent: str) -> None:
        self._session = _DirectSession()
        self._session.trust_env = False
        self._headers = {**self._session.headers, "User-Agent": user_agent, "Accept": "application/json"}
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        adapter = _DeadlineAdapter(pool_connections=1, pool_maxsize=connections)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)
        self._settings: dict[str, Any] = {
            "stream": True,
            "allow_redirects": False,
            "proxies": requests.utils.get_environ_proxies(base_url) if base_url.startswith("https:") else {},
            "verify": environ.get("REQUESTS_CA_BUNDLE") or environ.get("CURL_CA_BUNDLE") or True,
        }

    def get(
        self, url: str, parameters: Mapping[str, str], auth: tuple[str, str], deadline: Callable[[], float]
    ) -> Answer:
        """See Transport.get."""
        timeout = deadline() - time.monotonic()
        try:
            credentials = HTTPBasicAuth(*(part.encode() for part in auth))
            request = requests.Request(
                "GET", url, self._headers, params=parameters, auth=credentials
            ).prepare()
            settings = {**self._settings, "timeout": urllib3.Timeout(total=timeout)}
            with self._session.send(request, **settings) as response:
                return Answer(response.status_code, response.headers, _read_body(response))
        except (requests.Timeout, urllib3.exceptions.TimeoutError) as error:
            raise ApiError(Reason.TIMEOUT, f"no answer within {timeout:.3g} s") from error
        except urllib3.exceptions.DecodeError as error:
            raise ApiError(Reason.BAD_RESPONSE, "the body's compression is broken") from error
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise ApiError(Reason.CONNECTION, _explain(error)) from error

    def close(self) -> None:
        """See Transport.close."""
        self._session.close()


class _DirectSession(requests.Session):
    """A Session that sees no redirects: where it does not follow one, requests still reads its whole body."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Nowhere."""


def _read_body(response: requests.Response) -> bytes:
    body = bytearray()
    for chunk in response.raw.stream(_CHUNK_BYTES, decode_content=True):
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            body.clear()  # or the error's traceback would keep it
            raise ApiError(
                Reason.BAD_RESPONSE, f"the body is larger than {MAX_BODY_BYTES} bytes", response.status_code
            )
    return bytes(body)


def _explain(error: BaseException) -> str:
    """Name the root cause in words that cannot hold a secret, which a proxy's URL could."""
    root = error
    while cause := root.__cause__ or root.__context__:
        root = cause
    if isinstance(root, OSError) and root.strerror:
        return root.strerror
    if refused := _REFUSED_TUNNEL.match(str(root)):
        return f"the proxy refused: HTTP {refused[1]}"
    return type(root).__name__


class _DeadlineReader(io.RawIOBase):
    """A socket's bytes until an instant: a time-out per read would let a slow sender go on for ever."""

    def __init__(self, raw: io.RawIOBase, connection: socket.socket, deadline: float) -> None:
        self._raw = raw
        self._connection = connection
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:  # noqa: ANN401 -- the type in typeshed is not public
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("timed out")
        self._connection.settimeout(remaining)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _DeadlineResponse(http.client.HTTPResponse):
    """Takes the time-out that the socket has when the answer is awaited for the whole answer."""

    def __init__(self, sock: socket.socket, *args: Any, **settings: Any) -> None:  # noqa: ANN401 -- passed on
        super().__init__(sock, *args, **settings)
        timeout = sock.gettimeout()
        if timeout is not None:
            raw = self.fp.detach()
            self.fp = io.BufferedReader(_DeadlineReader(raw, sock, time.monotonic() + timeout))


class _DeadlineHTTPConnection(HTTPConnection):
    response_class = _DeadlineResponse


class _DeadlineHTTPSConnection(HTTPSConnection):
    response_class = _DeadlineResponse


class _DeadlineHTTPPool(HTTPConnectionPool):
    ConnectionCls = _DeadlineHTTPConnection


class _DeadlineHTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _DeadlineHTTPSConnection


class _DeadlineAdapter(HTTPAdapter):
    """An adapter whose connections keep the deadline, towards the API and through a proxy alike."""

    def init_poolmanager(self, *args: Any, **settings: Any) -> None:  # noqa: ANN401 -- passed on
        super().init_poolmanager(*args, **settings)
        self.poolmanager.pool_classes_by_scheme = {"http": _DeadlineHTTPPool, "https": _DeadlineHTTPSPool}

    def proxy_manager_for(self, *args: Any, **settings: Any) -> urllib3.ProxyManager:  # noqa: ANN401 -- passed on
        manager: urllib3.ProxyManager = super().proxy_manager_for(*args, **settings)
        manager.pool_classes_by_scheme = self.poolmanager.pool_classes_by_scheme
        return manager
