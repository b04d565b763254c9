import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from support.peer import Peer, answering, swallowing_syns

from taskrouter_exporter.api.streams import SocketStream, connect, remaining


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let a host name have these ports of loopback as its addresses, in that order."""

    def let(*ports: int) -> None:
        monkeypatch.setattr(
            "taskrouter_exporter.api.streams.socket.getaddrinfo",
            lambda *_args, **_settings: [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports
            ],
        )

    return let


def within(seconds: float) -> Callable[[], float]:
    end = time.monotonic() + seconds
    return lambda: end


def test_an_unresponsive_address_leaves_time_for_the_next(
    resolve: Callable[..., None],
) -> None:
    api, worked = Peer(answering(b"{}")), dict[str, Any]()
    with swallowing_syns() as silent:
        resolve(silent, api.port)
        connect("api.test", 443, within(5), worked).close()
    assert worked["api.test"] == (socket.AF_INET, ("127.0.0.1", api.port))
    api.close()


def test_the_address_that_worked_is_tried_first(resolve: Callable[..., None]) -> None:
    first, second = Peer(answering(b"{}")), Peer(answering(b"{}"))
    resolve(first.port, second.port)
    worked: dict[str, Any] = {"api.test": (socket.AF_INET, ("127.0.0.1", second.port))}
    stream = connect("api.test", 443, within(5), worked)
    assert worked["api.test"][1] == ("127.0.0.1", second.port)
    stream.close()
    first.close()
    second.close()


def test_an_address_that_refuses_is_followed_by_the_next_at_once(resolve: Callable[..., None]) -> None:
    api, worked = Peer(answering(b"{}")), dict[str, Any]()
    with socket.create_server(("127.0.0.1", 0)) as closed:
        refusing = closed.getsockname()[1]
    resolve(refusing, refusing, api.port)
    connect("api.test", 443, within(5), worked).close()
    assert worked["api.test"][1] == ("127.0.0.1", api.port)
    api.close()


def test_only_refusals_are_a_refusal(resolve: Callable[..., None]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        refusing = closed.getsockname()[1]
    resolve(refusing, refusing)
    with pytest.raises(OSError, match="refused"):
        connect("api.test", 443, within(5), {})


def test_only_silence_is_a_timeout(resolve: Callable[..., None]) -> None:
    with swallowing_syns() as silent:
        resolve(silent, silent)
        with pytest.raises(TimeoutError):
            connect("api.test", 443, within(0.3), {})


def test_a_deadline_that_moves_later_extends_the_wait() -> None:
    ours, theirs = socket.socketpair()
    deadline = [time.monotonic() + 0.1]
    move = threading.Timer(0.02, lambda: deadline.__setitem__(0, time.monotonic() + 20))
    answer = threading.Timer(0.3, lambda: theirs.sendall(b"late"))
    move.start()
    answer.start()
    assert SocketStream(ours).receive(lambda: deadline[0]) == b"late"
    ours.close()
    theirs.close()


def test_received_bytes_silence_and_the_end_are_distinguished() -> None:
    ours, theirs = socket.socketpair()
    stream = SocketStream(ours)
    assert stream.receive_now() is None
    theirs.sendall(b"x")
    assert stream.receive_now() == b"x"
    theirs.close()
    assert stream.receive_now() == b""
    stream.close()


def test_no_time_is_left_after_the_deadline() -> None:
    with pytest.raises(TimeoutError):
        remaining(time.monotonic)
    assert 0 < remaining(within(5)) <= 5
