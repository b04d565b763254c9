"""A TaskRouter API that answers every request after a fixed time, at next to no cost of its own."""

import asyncio
import json
import multiprocessing
import socket
from typing import Final

_ACTIVITIES: Final = (
    "Offline",
    "Available",
    "Unavailable",
    "Break",
    "Lunch",
    "Training",
    "Meeting",
    "Wrap-up",
)
WORKSPACE: Final = "WS" + "0" * 32
_BODY: Final = json.dumps(
    {
        "account_sid": "AC" + "0" * 32,
        "workspace_sid": WORKSPACE,
        "url": f"https://taskrouter.twilio.com/v1/Workspaces/{WORKSPACE}/Workers/CumulativeStatistics",
        "reservations_created": 120,
        "reservations_accepted": 100,
        "reservations_rejected": 8,
        "reservations_timed_out": 6,
        "reservations_canceled": 3,
        "reservations_rescinded": 2,
        "activity_durations": [
            {
                "sid": f"WA{number:032x}",
                "friendly_name": name,
                "min": 1,
                "avg": 212,
                "max": 900,
                "total": 12345,
            }
            for number, name in enumerate(_ACTIVITIES)
        ],
        "start_time": "2026-11-23T00:00:00Z",
        "end_time": "2026-11-23T00:15:00Z",
    }
).encode()
_ANSWER: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Rate-Limit-Limit: 100\r\n"
    b"X-Rate-Limit-Remaining: 99\r\nContent-Length: %d\r\n\r\n%s" % (len(_BODY), _BODY)
)


class _Protocol(asyncio.Protocol):
    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 -- what a TCP server is given
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._head += data
        if self._head.endswith(b"\r\n\r\n"):
            # GET /v1/Workspaces/WS…/Workers/CumulativeStatistics: the answer names the same workspace.
            workspace = self._head.split(b"/", 5)[3][:34]
            self._head = b""
            answer = _ANSWER.replace(WORKSPACE.encode(), workspace)
            asyncio.get_running_loop().call_later(self._delay, self._transport.write, answer)


def _serve(listener: socket.socket, delay: float) -> None:
    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(lambda: _Protocol(delay), sock=listener)
        await server.serve_forever()

    asyncio.run(run())


def start_api(delay: float) -> tuple[str, multiprocessing.Process]:
    """Start the API in a process of its own and return its address and the process."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    process = multiprocessing.Process(target=_serve, args=(listener, delay), daemon=True)
    process.start()
    port = listener.getsockname()[1]
    listener.close()
    return f"http://127.0.0.1:{port}", process
