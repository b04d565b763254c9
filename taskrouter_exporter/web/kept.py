"""Pages that clients share: they are written, and compressed, once for all that ask at the same time."""

import asyncio
import gzip
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from taskrouter_exporter.web.exposition import quality


@dataclass(frozen=True, slots=True)
class Page:
    """A response's body, plain and compressed."""

    plain: bytes
    compressed: bytes

    @classmethod
    def of(cls, text: str) -> "Page":
        """Return the page with this text."""
        plain = text.encode()
        return cls(plain, gzip.compress(plain, compresslevel=1, mtime=0))

    def response(self, request: Request, media_type: str, headers: Mapping[str, str]) -> Response:
        """Return a response, compressed if the request accepts it."""
        headers = {**headers, "Vary": "Accept-Encoding"}
        if quality(request.headers.get("Accept-Encoding", ""), "gzip") <= 0:
            return Response(self.plain, media_type=media_type, headers=headers)
        headers["Content-Encoding"] = "gzip"
        return Response(self.compressed, media_type=media_type, headers=headers)


class Kept:
    """A page that is written again only when it is older than `seconds`, or of another source."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._writing = asyncio.Lock()
        self._page = Page(b"", b"")
        self._source: object = None
        self._expires = -math.inf

    async def get(self, source: object, write: Callable[[], Awaitable[Page]]) -> Page:
        """Return the page of a source; clients that ask at the same time share one."""
        async with self._writing:
            if source is not self._source or time.monotonic() >= self._expires:
                self._page = await write()
                self._source, self._expires = source, time.monotonic() + self._seconds
            return self._page
