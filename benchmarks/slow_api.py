"""A TaskRouter API that answers every request after a fixed time, at next to no cost of its own."""

import asyncio
import json
import multiprocessing
import re
import socket
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

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


QUEUES: Final = tuple(f"WQ{number:032x}" for number in range(300))
_EXAMPLES: Final = Path(__file__).parent.parent / "tests" / "data"
_EXAMPLE_WORKSPACE, _EXAMPLE_QUEUE = "WS" + "a" * 32, "WQ" + "a" * 32


def _example(name: str) -> str:
    text = (_EXAMPLES / f"{name}.example.json").read_text(encoding="utf-8")
    return json.dumps(json.loads(text)).replace(_EXAMPLE_WORKSPACE, WORKSPACE)


_STATISTICS: Final = {
    "CumulativeStatistics": _example("workspace-cumulative"),
    "RealTimeStatistics": _example("workspace-realtime"),
}
_OF_A_QUEUE: Final = {
    "CumulativeStatistics": _example("task-queue-cumulative"),
    "RealTimeStatistics": _example("task-queue-realtime"),
}
_PATH: Final = re.compile(rf"/v1/Workspaces/{WORKSPACE}/(?:TaskQueues/(?P<queue>WQ\w+)/)?(?P<resource>\w+)")


WORKSPACES: Final = 5000
CHANNELS: Final = 15
"""The most workspaces that an account can have, and the most TaskChannels of each."""

_PAGE: Final = 250
_LIST: Final = re.compile(
    r"GET (/v1/Workspaces(?:/(?P<workspace>WS\w+)/TaskChannels)?)\?(?:\S*&)?(?:Page=(?P<page>\d+))?"
)


def _list(head: str) -> dict[str, Any] | None:
    """Return a page of the workspaces or of the TaskChannels of one, None where no list is asked for."""
    found = _LIST.match(head)
    if found is None:
        return None
    created = {"date_created": "2026-01-01T00:00:00Z"}
    if found["workspace"]:
        listed = [
            {"sid": f"TC{number:032x}", "unique_name": f"channel-{number}", **created}
            for number in range(CHANNELS)
        ]
        return {"meta": {"next_page_url": None}, "channels": listed}
    page = int(found["page"] or 0)
    first = page * _PAGE
    numbers = range(first, min(first + _PAGE, WORKSPACES))
    listed = [
        {"sid": f"WS{number:032x}", "friendly_name": f"workspace {number}", **created} for number in numbers
    ]
    host = re.search(r"(?i)\r\nhost: (\S+)", head)
    more = f"http://{host[1] if host else ''}/v1/Workspaces?PageSize={_PAGE}&Page={page + 1}"
    return {"meta": {"next_page_url": more if first + _PAGE < WORKSPACES else None}, "workspaces": listed}


def _answer(head: str, body: bytes) -> bytes:
    """Return the answer to a request for a list, or about the workspace with many queues."""
    if (page := _list(head)) is not None:
        return _http(json.dumps(page).encode())
    found = _PATH.match(head.split(" ", 2)[1])
    assert found is not None, head  # noqa: S101 -- the benchmark asks for nothing else
    queue, resource = found["queue"], found["resource"]
    document: dict[str, Any] | str
    if body:
        asked = json.loads(body)["queueSids"]
        items = [json.loads(_of_a_queue(sid, "RealTimeStatistics")) for sid in asked]
        document = {"workspace_sid": WORKSPACE, "task_queue_data": items}
    elif resource == "TaskQueues":
        listed = [{"sid": sid, "friendly_name": f"queue {sid[-3:]}"} for sid in QUEUES]
        document = {"meta": {"key": "task_queues", "next_page_url": None}, "task_queues": listed}
    else:
        document = _of_a_queue(queue, resource) if queue else _STATISTICS[resource]
    return _http((document if isinstance(document, str) else json.dumps(document)).encode())


def _http(text: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(text)
    return head + text


def _of_a_queue(sid: str, resource: str) -> str:
    return _OF_A_QUEUE[resource].replace(_EXAMPLE_QUEUE, sid)


@dataclass
class _Traffic:
    """What the API has seen since it was last asked.

    Attributes:
        connections: Opened.
        requests: Received.
        received: Bytes, without those of TLS.
        sent: Bytes, without those of TLS.
        busy: Requests under way, each time their number changed, beside seconds since an unspecified time.
    """

    connections: int = 0
    requests: int = 0
    received: int = 0
    sent: int = 0
    busy: list[tuple[float, int]] = field(default_factory=list)

    def change(self, by: int) -> None:
        """Count requests that begin or end."""
        before = self.busy[-1][1] if self.busy else 0
        self.busy.append((time.monotonic(), before + by))


TRAFFIC_PATH: Final = "/traffic"
"""Answers with what was seen, and forgets it; is not counted itself."""


class _Protocol(asyncio.Protocol):
    def __init__(self, delay: float, traffic: _Traffic) -> None:
        self._delay = delay
        self._traffic = traffic
        self._observes = False
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 -- what a TCP server is given
        self._transport = transport
        self._traffic.connections += 1

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET " + TRAFFIC_PATH.encode()):
            self._tell_traffic()
            return
        self._traffic.received += len(data)
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        if not end or len(body) < int(length[1] if length else 0):
            return
        self._received = b""
        if b"/Workers/CumulativeStatistics" in head:
            # The answer names the workspace that it is about.
            answer = _ANSWER.replace(WORKSPACE.encode(), head.split(b"/", 5)[3][:34])
        else:
            answer = _answer(head.decode(), body)
        self._traffic.requests += 1
        self._traffic.change(+1)
        asyncio.get_running_loop().call_later(self._delay, self._send, answer)

    def _send(self, answer: bytes) -> None:
        self._traffic.change(-1)
        self._traffic.sent += len(answer)
        self._transport.write(answer)

    def _tell_traffic(self) -> None:
        self._traffic.connections -= not self._observes
        self._observes = True
        body = json.dumps(vars(self._traffic)).encode()
        vars(self._traffic).update(vars(_Traffic()))
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


def _serve(listener: socket.socket, delay: float, certificate: Path | None) -> None:
    async def run() -> None:
        traffic = _Traffic()
        context = None
        if certificate:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(certificate)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Protocol(delay, traffic), sock=listener, ssl=context)
        await server.serve_forever()

    asyncio.run(run())


def start_api(delay: float, certificate: Path | None = None) -> tuple[str, multiprocessing.Process]:
    """Start the API in a process of its own and return its address and the process.

    Args:
        delay: Seconds until it answers.
        certificate: A file with certificate and key, for TLS.
    """
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    process = multiprocessing.Process(target=_serve, args=(listener, delay, certificate), daemon=True)
    process.start()
    port = listener.getsockname()[1]
    listener.close()
    return f"{'https' if certificate else 'http'}://127.0.0.1:{port}", process
