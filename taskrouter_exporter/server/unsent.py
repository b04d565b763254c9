"""Responses that are sent in chunks, so that clients that do not read take a bounded amount of memory."""

from collections.abc import Callable
from typing import Final, Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

CHUNK_BYTES: Final = 64 * 1024
MAX_UNSENT_BYTES: Final = 64 * 1024 * 1024
"""What all clients together have not read yet: ten answers with a thousand targets, uncompressed."""


class Transport(Protocol):
    """The connection of a request."""

    def abort(self) -> None:
        """Close it at once, without sending what is buffered."""


def send_in_chunks(
    app: ASGIApp, transport: Callable[[Scope], Transport], max_unsent: int = MAX_UNSENT_BYTES
) -> ASGIApp:
    """Return an app that sends the next chunk when the client has read the previous one.

    A request lasts until its last byte has been handed to the system, so it counts as one in flight until
    then. While all requests together have more than `max_unsent` bytes to send, the connection that has
    been sending for longest is aborted.

    Args:
        app: The application.
        transport: Returns the connection of a request.
        max_unsent: In bytes. A single larger response is sent nevertheless.
    """
    unsent: dict[Transport, int] = {}

    def make_room() -> None:
        while sum(unsent.values()) > max_unsent and len(unsent) > 1:
            slowest = next(iter(unsent))
            del unsent[slowest]
            slowest.abort()

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        connection = transport(scope)

        async def send_chunks(message: Message) -> None:
            body = message.get("body", b"")
            if message["type"] != "http.response.body" or not body:
                await send(message)
                return
            unsent[connection] = len(body)
            make_room()
            try:
                for start in range(0, len(body), CHUNK_BYTES):
                    if connection not in unsent:
                        break
                    chunk = body[start : start + CHUNK_BYTES]
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                # Sending waits until the previous chunk has been read.
                await send({**message, "body": b""})
            finally:
                unsent.pop(connection, None)

        await app(scope, receive, send_chunks)

    return answer
