"""Requests in the form that applications expect: origin-form targets, and no ambiguous framing."""

import re
from typing import Final
from urllib.parse import unquote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ABSOLUTE_FORM: Final = re.compile(rb"https?://(?P<authority>[^/]*)(?P<path>/.*)?", re.IGNORECASE | re.DOTALL)
_SLASHES: Final = re.compile("//+")
_CLOSE: Final = (b"connection", b"close")


def normalize_requests(app: ASGIApp) -> ASGIApp:
    """Return an app that gets the path of any form of request target.

    Proxies send the absolute form (`GET http://host/metrics`), whose host takes precedence over the Host
    header (RFC 9112, 3.2.2). Repeated slashes count as one. After a request with both Content-Length and
    Transfer-Encoding, the connection is closed, because a proxy may have read it differently (6.1).
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        names = {name for name, _ in scope["headers"]}
        if {b"content-length", b"transfer-encoding"} <= names:
            send = _closing(send)
        await app(_with_origin_form(scope), receive, send)

    return answer


def _with_origin_form(scope: Scope) -> Scope:
    path, headers = scope["path"], scope["headers"]
    if absolute := _ABSOLUTE_FORM.fullmatch(scope["raw_path"]):
        path = unquote((absolute["path"] or b"/").decode("ascii"))
        host = absolute["authority"].rpartition(b"@")[2]
        headers = [*((name, value) for name, value in headers if name != b"host"), (b"host", host)]
    return {**scope, "path": _SLASHES.sub("/", path), "headers": headers}


def _closing(send: Send) -> Send:
    async def close(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), _CLOSE]}
        await send(message)

    return close
