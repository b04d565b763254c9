"""A TaskRouter whose numbers are a function of the request, and whose connections misbehave.

Every published value can be checked: `number(workspace, channel, window, attribute)` is the right one.
"""

import json
import multiprocessing
import random
import socket
import struct
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urlsplit

OUTCOMES: Final = ("accepted", "rejected", "timed_out", "canceled", "rescinded")
ACTIVITIES: Final = ("Available", "Offline", "Break")
_LATENCY: Final = (0.005, 0.03)
_LATER: Final = (0.02, 0.3)
_DRIP_SECONDS: Final = 0.5
_INTERIM: Final = (
    b"HTTP/1.1 103 Early Hints\r\n\r\n",
    b"HTTP/1.1 102 Processing\r\nX-Progress: 50\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",
)


def number(workspace: str, channel: str, window: str, attribute: str) -> int:
    """Return the value that TaskRouter has for an attribute; the window is `15m` or `day`, as in labels."""
    return zlib.crc32(f"{workspace}|{channel}|{window}|{attribute}".encode()) % 1_000_000


def activity_sid(name: str) -> str:
    """Return the SID of an activity."""
    return f"WA{ACTIVITIES.index(name):032x}"


@dataclass(frozen=True, slots=True)
class Exchange:
    """One answer on its way to a client."""

    connection: socket.socket
    answer: bytes
    chance: random.Random

    def send(self, *parts: bytes) -> None:
        self.connection.sendall(b"".join(parts))

    def pause(self) -> None:
        time.sleep(self.chance.uniform(*_LATER))


Disturbance = Callable[[Exchange], bool]
"""Sends an answer, or fails to; returns whether the connection stays open."""


def plain(exchange: Exchange) -> bool:
    """Answer correctly."""
    exchange.send(exchange.answer)
    return True


def interim(exchange: Exchange) -> bool:
    """Send interim answers (1xx), and the final one a little later."""
    exchange.send(exchange.chance.choice(_INTERIM))
    exchange.pause()
    return plain(exchange)


def stray_bytes(exchange: Exchange) -> bool:
    """Send extra bytes after the answer."""
    exchange.send(exchange.answer, b"\r\nstray")
    return True


def second_copy(exchange: Exchange) -> bool:
    """Send the answer twice."""
    exchange.send(exchange.answer, exchange.answer)
    return True


def late_copy(exchange: Exchange) -> bool:
    """Send the answer again a little later, even if the client has sent another request."""
    plain(exchange)
    exchange.pause()
    return plain(exchange)


def late_408(exchange: Exchange) -> bool:
    """Close the idle connection with a 408."""
    plain(exchange)
    exchange.pause()
    exchange.send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    return False


def cut(exchange: Exchange) -> bool:
    """Close the connection within the answer."""
    exchange.send(exchange.answer[: exchange.chance.randrange(1, len(exchange.answer))])
    return False


def reset(exchange: Exchange) -> bool:
    """Reset the connection instead of answering."""
    exchange.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def closed(_exchange: Exchange) -> bool:
    """Close the connection instead of answering."""
    return False


def closed_while_idle(exchange: Exchange) -> bool:
    """Close the connection after the answer without announcing it."""
    plain(exchange)
    return False


def slow(exchange: Exchange) -> bool:
    """Send the answer in small pieces."""
    step = len(exchange.answer) // 10 + 1
    for start in range(0, len(exchange.answer), step):
        exchange.send(exchange.answer[start : start + step])
        time.sleep(_DRIP_SECONDS / 10)
    return True


DISTURBANCES: Final[tuple[Disturbance, ...]] = (
    interim, stray_bytes, second_copy, late_copy, late_408, cut, reset, closed, closed_while_idle, slow,
)  # fmt: skip


def _content(path: str, parameters: dict[str, str]) -> dict[str, object]:
    workspace = path.split("/")[3]
    channel = parameters.get("TaskChannel", "all")
    window = f"{parameters['Minutes']}m" if "Minutes" in parameters else "day"

    def value(attribute: str) -> int:
        return number(workspace, channel, window, attribute)

    return {
        "workspace_sid": workspace,
        "url": f"https://taskrouter.twilio.com{path}",
        "reservations_created": value("created"),
        **{f"reservations_{outcome}": value(outcome) for outcome in OUTCOMES},
        "activity_durations": [
            {"friendly_name": name, "sid": activity_sid(name), "total": value(name)} for name in ACTIVITIES
        ],
    }


def _serve(connection: socket.socket, seed: int, share: float) -> None:
    chance = random.Random(seed)
    with suppress(OSError), connection, connection.makefile("rb") as requests:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while line := requests.readline():
            while requests.readline().strip():
                pass
            url = urlsplit(line.split()[1].decode())
            body = json.dumps(_content(url.path, dict(parse_qsl(url.query)))).encode()
            head = (
                f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n"
                f"Twilio-Request-Id: RQ{uuid.uuid4().hex}\r\n\r\n"
            )
            time.sleep(chance.uniform(*_LATENCY))
            disturb = chance.choice(DISTURBANCES) if chance.random() < share else plain
            if not disturb(Exchange(connection, head.encode() + body, chance)):
                return


def _run(listener: socket.socket, share: float) -> None:
    seed = 0
    while True:
        connection, _ = listener.accept()
        seed += 1
        threading.Thread(target=_serve, args=(connection, seed, share), daemon=True).start()


@contextmanager
def disturbed_api(share: float) -> Iterator[str]:
    """Serve the API in a child process and yield its address; disturb a share of the answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        process = multiprocessing.get_context("fork").Process(
            target=_run, args=(listener, share), daemon=True
        )
        process.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            process.terminate()
            process.join()
