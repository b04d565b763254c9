"""HTTP requests to a server of the Prometheus API, with its authentication and certificate authorities."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

import requests
from requests.auth import AuthBase, HTTPBasicAuth

from taskrouter_exporter import __version__
from taskrouter_exporter.config.passwords import PasswordError, read_password_file
from taskrouter_exporter.files import FileError, read_regular_file
from taskrouter_exporter.history.errors import BackfillError

_TIMEOUT_SECONDS: Final = 60.0
_LONGEST_REASON: Final = 300
_MOST_TOKEN_BYTES: Final = 16_384


@dataclass(frozen=True, slots=True)
class Server:
    """A server of the Prometheus API, and how to authenticate.

    Attributes:
        flag: The flag that names it.
        url: Its URL.
        username: For basic authentication.
        password_file: Contains the password of the user.
        token_file: Contains a bearer token.
        ca_file: Contains the certificate authorities to trust.
    """

    flag: str
    url: str
    username: str | None
    password_file: Path | None
    token_file: Path | None
    ca_file: Path | None


class UnreachableError(Exception):
    """A request without an answer, or with one that says that the server is out of order for now.

    Attributes:
        retry_after: Seconds that the server asks to wait, where it does.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class _Bearer(AuthBase):
    """Sets the header of a bearer token, or none: a `.netrc` does not replace it."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token is not None:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class HttpClient:
    """Sends requests to one server.

    Raises:
        BackfillError: a file of the server's settings cannot be used.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"taskrouter-exporter/{__version__} (backfill)"
        self._auth = self._authentication()
        if server.ca_file is not None and not server.ca_file.is_file():
            raise BackfillError(f"{server.flag}.ca-file: {server.ca_file} is not a file")

    def post(self, path: str, body: bytes | Mapping[str, str], headers: Mapping[str, str]) -> bytes:
        """Send a POST and return the body of the answer.

        Raises:
            UnreachableError: there is no answer, or it is a 429 or 5xx.
            BackfillError: the server refuses the request.
        """
        url = self._server.url.rstrip("/") + path
        ca_file = self._server.ca_file
        try:
            response = self._session.post(
                url,
                data=body,
                headers=dict(headers),
                auth=self._auth,
                timeout=_TIMEOUT_SECONDS,
                verify=str(ca_file) if ca_file else True,
                allow_redirects=False,
            )
        except requests.exceptions.SSLError:
            raise BackfillError(f"{self._name}: the server's certificate is not accepted") from None
        except (requests.RequestException, OSError) as error:
            raise UnreachableError(f"{self._name}: {_cause(error)}") from None
        status = response.status_code
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return response.content
        message = f"{self._name}: status {status}: {_reason(response)}"
        if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            after = response.headers.get("Retry-After", "")
            raise UnreachableError(message, float(after) if after.isascii() and after.isdigit() else None)
        raise BackfillError(message)

    @property
    def _name(self) -> str:
        return f"{self._server.flag}={self._server.url}"

    def _authentication(self) -> Callable[[requests.PreparedRequest], requests.PreparedRequest]:
        server = self._server
        try:
            if server.username is not None and server.password_file is not None:
                password = read_password_file(server.password_file)
                return HTTPBasicAuth(server.username.encode(), password.encode())
            if server.token_file is not None:
                return _Bearer(_read_token(server.token_file))
        except (PasswordError, FileError) as error:
            raise BackfillError(f"{server.flag}: {error}") from None
        return _Bearer(None)


def _read_token(path: Path) -> str:
    """Return the token in a file.

    Raises:
        FileError: there is none.
    """
    try:
        token = read_regular_file(path, _MOST_TOKEN_BYTES).decode("ascii").strip()
    except FileError as error:
        raise FileError(f"{path} {error}") from None
    except UnicodeDecodeError:
        token = ""
    if not token or not token.isprintable() or " " in token:
        raise FileError(f"{path} does not contain a token on one line")
    return token


def _cause(error: BaseException) -> str:
    """Return the innermost error's words: the outer ones of requests repeat the URL."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


def _reason(response: requests.Response) -> str:
    """Return the first line of a body, as far as it is text for people."""
    text = response.text.strip()[:_LONGEST_REASON].partition("\n")[0]
    return "".join(char if char.isprintable() else " " for char in text) or response.reason or "no reason"
