"""One connection against a server that answers byte by byte as the tests say."""

import socket
import time
from collections.abc import Callable, Iterator

import h11
import pytest
from support.peer import Behaviour, Peer, answer, answering, reset

from taskrouter_exporter.api.connection import MAX_BODY_BYTES, Connection, RawAnswer, StaleConnectionError
from taskrouter_exporter.api.errors import ApiError, Reason
from taskrouter_exporter.api.streams import connect

Connect = Callable[[Behaviour], Connection]


@pytest.fixture
def connected_to() -> Iterator[Connect]:
    open_ones: list[Peer | Connection] = []

    def start(behave: Behaviour) -> Connection:
        peer = Peer(behave)
        connection = Connection(connect("127.0.0.1", peer.port, within(5), {}))
        open_ones.extend((connection, peer))
        return connection

    yield start
    for each in open_ones:
        each.close()


def within(seconds: float) -> Callable[[], float]:
    end = time.monotonic() + seconds
    return lambda: end


def get(connection: Connection, seconds: float = 5) -> RawAnswer:
    request = h11.Request(method="GET", target="/path", headers=[("Host", "api.test")])
    return connection.exchange(request, within(seconds))


def scripted(*steps: bytes | Callable[[socket.socket], None]) -> Behaviour:
    """Send one step as the answer to each request, the last one for ever."""
    left = list(steps)

    def behave(connection: socket.socket, _head: bytes) -> None:
        step = left.pop(0) if len(left) > 1 else left[0]
        if callable(step):
            step(connection)
        else:
            connection.sendall(step)

    return behave


def settle() -> None:
    """Let what the server sends after its answer arrive."""
    time.sleep(0.05)


@pytest.mark.parametrize(
    "interim",
    [
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + b"HTTP/1.1 103 Early Hints\r\n\r\n",
    ],
    ids=["103", "102", "several"],
)
def test_interim_answers_are_skipped_until_the_final_one(connected_to: Connect, interim: bytes) -> None:
    def behave(connection: socket.socket, head: bytes) -> None:
        connection.sendall(interim)
        time.sleep(0.05)
        connection.sendall(answer(head.split()[1]))

    connection = connected_to(behave)
    assert [(each.status, each.body) for each in (get(connection), get(connection))] == [(200, b"/path")] * 2
    assert connection.reusable


def test_an_answer_that_switches_protocols_is_an_error(connected_to: Connect) -> None:
    connection = connected_to(scripted(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"))
    with pytest.raises(h11.RemoteProtocolError):
        get(connection)
    assert not connection.reusable


def test_the_number_of_interim_answers_is_limited(connected_to: Connect) -> None:
    def behave(connection: socket.socket, _head: bytes) -> None:
        while True:
            connection.sendall(b"HTTP/1.1 103 Early Hints\r\nX-Padding: " + b"x" * 8192 + b"\r\n\r\n")

    with pytest.raises(ApiError) as caught:
        get(connected_to(behave))
    assert caught.value.reason is Reason.BAD_RESPONSE


@pytest.mark.parametrize("surplus", [b"stray", answer(b"again")], ids=["bytes", "a second copy"])
def test_a_connection_with_extra_bytes_after_the_answer_is_not_reused(
    connected_to: Connect, surplus: bytes
) -> None:
    connection = connected_to(scripted(answer(b"mine") + surplus))
    assert get(connection).body == b"mine", "on a fresh connection the first answer is the right one"
    assert (connection.reusable, connection.suspicious) == (False, True)


def test_extra_bytes_on_a_reused_connection_invalidate_the_answer(connected_to: Connect) -> None:
    connection = connected_to(scripted(answer(b"mine"), answer(b"whose?") + answer(b"mine too")))
    get(connection)
    with pytest.raises(StaleConnectionError) as caught:
        get(connection)
    assert caught.value.suspicious


@pytest.mark.parametrize(
    ("late", "suspicious"),
    [(b"stray", True), (answer(b"again"), True), (b"HTTP/1.1 408 Request Timeout\r\n\r\n", False)],
    ids=["bytes", "a second copy", "408"],
)
def test_bytes_that_arrive_on_an_idle_connection_close_it(
    connected_to: Connect, late: bytes, *, suspicious: bool
) -> None:
    def behave(connection: socket.socket, _head: bytes) -> None:
        connection.sendall(answer(b"mine"))
        time.sleep(0.02)
        connection.sendall(late)

    connection = connected_to(behave)
    assert get(connection).body == b"mine"
    settle()
    with pytest.raises(StaleConnectionError) as caught:
        get(connection)
    assert caught.value.suspicious is suspicious


def test_a_second_copy_that_arrives_for_the_next_request_is_known_by_its_request_id(
    connected_to: Connect,
) -> None:
    identified = answer(b"first", b"Twilio-Request-Id: RQ1\r\n")
    connection = connected_to(scripted(identified))
    get(connection)
    with pytest.raises(StaleConnectionError) as caught:
        get(connection)
    assert caught.value.suspicious


@pytest.mark.parametrize(
    "ending",
    [
        reset,
        lambda connection: connection.close(),
        lambda c: c.sendall(answer(status=b"408 Request Timeout")),
    ],
    ids=["reset", "closed", "408"],
)
def test_a_reused_connection_that_ends_before_its_answer_is_stale(
    connected_to: Connect, ending: Callable[[socket.socket], None]
) -> None:
    connection = connected_to(scripted(answer(), ending))
    get(connection)
    with pytest.raises(StaleConnectionError) as caught:
        get(connection)
    assert not caught.value.suspicious


@pytest.mark.parametrize("start", [b"HTTP", answer(b"{}")[:-1]], ids=["in its head", "in its body"])
def test_a_request_is_not_repeated_once_its_answer_has_started(connected_to: Connect, start: bytes) -> None:
    def cut(connection: socket.socket) -> None:
        connection.sendall(start)
        connection.close()

    connection = connected_to(scripted(answer(), cut))
    get(connection)
    with pytest.raises(h11.RemoteProtocolError):
        get(connection)


def test_an_end_on_a_fresh_connection_is_an_error(connected_to: Connect) -> None:
    with pytest.raises((OSError, h11.RemoteProtocolError)):
        get(connected_to(reset))


def test_a_connection_that_the_server_closes_is_not_reused(connected_to: Connect) -> None:
    connection = connected_to(answering(b"{}", b"Connection: close\r\n"))
    assert get(connection).body == b"{}"
    assert (connection.reusable, connection.suspicious) == (False, False)


@pytest.mark.parametrize("size", [b"-1", b"+1", b"0x2", b"1_0", b" 2", b"ffffffffffffffffffffff"])
def test_an_invalid_chunk_size_is_an_error_and_the_rest_is_not_read(
    connected_to: Connect, size: bytes
) -> None:
    sent = 0

    def behave(connection: socket.socket, _head: bytes) -> None:
        nonlocal sent
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%b\r\n" % size)
        while True:
            sent += connection.send(b"x" * 65536)

    connection = connected_to(behave)
    with pytest.raises((h11.RemoteProtocolError, ApiError)):
        get(connection)
    connection.close()
    assert sent < 32 * MAX_BODY_BYTES, "what the sockets' buffers took, not a stream without end"


def test_chunks_of_one_byte_do_not_outlast_the_deadline(connected_to: Connect) -> None:
    def behave(connection: socket.socket, _head: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            connection.sendall(b"1\r\nx\r\n" * 10_000)

    begin = time.monotonic()
    with pytest.raises((TimeoutError, ApiError)):
        get(connected_to(behave), seconds=0.3)
    assert time.monotonic() - begin < 30, "reading on would take much longer"


@pytest.mark.parametrize(("surplus", "allowed"), [(0, True), (1, False)])
def test_the_size_of_a_body_is_limited(connected_to: Connect, surplus: int, *, allowed: bool) -> None:
    connection = connected_to(answering(b" " * (MAX_BODY_BYTES + surplus)))
    if allowed:
        assert len(get(connection).body) == MAX_BODY_BYTES
    else:
        with pytest.raises(ApiError, match="larger than"):
            get(connection)
