"""The health check of image and chart: `python -m taskrouter_exporter.healthcheck [URL [DIRECTORY]]`.

URL defaults to the environment variable TASKROUTER_EXPORTER_HEALTH_URL, and that to
`http://127.0.0.1:10142/-/healthy`. DIRECTORY has the files `username` and `password`, for
basic authentication.
"""

import base64
import http.client
import os
import queue
import socket
import ssl
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

_URL: Final = "http://127.0.0.1:10142/-/healthy"
_SECONDS: Final = 2
_TLS_RECORDS: Final = (b"\x15", b"\x16")
"""The first bytes of an alert and of a handshake message (RFC 8446, 5.1)."""


def check(url: str = _URL, login: Path | None = None) -> str:
    """Return what is wrong with the exporter at a URL, in one line, or an empty text, within 2 s.

    Any status below 500 is healthy. A refusal is an answer too: an exporter that requires a password (401),
    has a rate limit (429) or requires a client certificate (it ends TLS) is alive.
    """
    outcome = queue.SimpleQueue[str]()

    def ask() -> None:
        outcome.put(_check(url, login))

    # In a thread of its own, because a timeout of a socket starts again with each byte.
    threading.Thread(target=ask, daemon=True).start()
    try:
        return outcome.get(timeout=_SECONDS)
    except queue.Empty:
        return f"{url}: timed out"


def _check(url: str, login: Path | None) -> str:
    try:
        status = _status(urlsplit(url), _authorization(login) if login else {})
    except (OSError, http.client.HTTPException, ValueError) as error:
        return f"{url}: {str(error) or type(error).__name__}"
    return f"{url}: HTTP {status}" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else ""


def _authorization(login: Path) -> dict[str, str]:
    user, password = ((login / name).read_bytes() for name in ("username", "password"))
    return {"Authorization": f"Basic {base64.b64encode(user + b':' + password).decode()}"}


def _status(url: SplitResult, headers: Mapping[str, str]) -> int:
    """Return the status over HTTP or, if the URL says so or the server closes the connection, over HTTPS."""
    if url.scheme == "http":
        try:
            return _get(http.client.HTTPConnection(url.netloc, timeout=_SECONDS), url.path, headers)
        except ConnectionResetError:
            pass  # the server may speak TLS: the health check of the image does not know
    # The request stays on loopback or in the cluster, and the certificate is for another name.
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection(url.netloc, timeout=_SECONDS, context=unverified)
    try:
        return _get(connection, url.path, headers)
    except (ssl.SSLError, ConnectionError):
        if _speaks_tls(connection.host, connection.port, unverified):
            return HTTPStatus.UNAUTHORIZED  # it requires a client certificate
        raise


def _speaks_tls(host: str, port: int, context: ssl.SSLContext) -> bool:
    """Return whether a server answers the first message of TLS with one of TLS."""
    received, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(received, to_send).do_handshake()
    with socket.create_connection((host, port), timeout=_SECONDS) as connection:
        connection.sendall(to_send.read())
        return connection.recv(1) in _TLS_RECORDS


def _get(connection: http.client.HTTPConnection, path: str, headers: Mapping[str, str]) -> int:
    try:
        connection.request("GET", path, headers=dict(headers))
        return connection.getresponse().status
    finally:
        connection.close()


if __name__ == "__main__":
    default_url = os.environ.get("TASKROUTER_EXPORTER_HEALTH_URL") or _URL
    url, login = (*sys.argv[1:], *(default_url, "")[len(sys.argv) - 1 :])
    sys.exit(check(url, Path(login) if login else None) or 0)
