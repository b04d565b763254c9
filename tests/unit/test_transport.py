"""The transport against sockets that answer badly, byte by byte as the tests say."""

import base64
import gzip
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from taskrouter_exporter.errors import ApiError, Reason
from taskrouter_exporter.transport import MAX_BODY_BYTES, Answer, RequestsTransport

TLS_HANDSHAKE = b"\x16"
Behaviour = Callable[[socket.socket, bytes], None]


class Peer:
    """A server that does with each request on a connection what it was told to do."""

    def __init__(self, behave: Behaviour) -> None:
        self.heads: list[bytes] = []
        self.connections = 0
        self._behave = behave
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._closing = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                while head := self._head(connection):
                    self.heads.append(head)
                    self._behave(connection, head)
        except OSError:
            return

    @staticmethod
    def _head(connection: socket.socket) -> bytes:
        head = b""
        while b"\r\n\r\n" not in head and not head.startswith(TLS_HANDSHAKE):
            data = connection.recv(65536)
            if not data:
                return b""
            head += data
        return head

    def close(self) -> None:
        self._closing.set()
        self._listener.close()


@pytest.fixture
def peer_that() -> Iterator[Callable[[Behaviour], Peer]]:
    peers: list[Peer] = []

    def start(behave: Behaviour) -> Peer:
        peers.append(Peer(behave))
        return peers[-1]

    yield start
    for peer in peers:
        peer.close()


def answering(body: bytes, headers: bytes = b"", status: bytes = b"200 OK") -> Behaviour:
    def behave(connection: socket.socket, _head: bytes) -> None:
        length = b"Content-Length: %d\r\n" % len(body)
        connection.sendall(b"HTTP/1.1 " + status + b"\r\n" + length + headers + b"\r\n" + body)

    return behave


def get(url: str, timeout: float = 5, transport: RequestsTransport | None = None) -> Answer:
    end = time.monotonic() + timeout
    own = transport or RequestsTransport(url, 4, {}, "test")
    try:
        return own.get(url + "/path", {"Minutes": "15"}, ("AC1", "sécret"), lambda: end)
    finally:
        if transport is None:
            own.close()


def test_an_answer_is_read_whole_and_its_headers_are_found_in_any_case(
    peer_that: Callable[[Behaviour], Peer],
) -> None:
    peer = peer_that(answering(b'{"a": 1}', b"X-Rate-Limit-Limit: 9\r\n"))
    answer = get(peer.url)
    assert (answer.status, answer.body, answer.headers["x-rate-limit-limit"]) == (200, b'{"a": 1}', "9")
    head = peer.heads[0]
    assert head.startswith(b"GET /path?Minutes=15 HTTP/1.1\r\n")
    assert b"Authorization: Basic " + base64.b64encode("AC1:sécret".encode()) in head


def test_connections_are_kept_alive(peer_that: Callable[[Behaviour], Peer]) -> None:
    peer = peer_that(answering(b"{}"))
    transport = RequestsTransport(peer.url, 4, {}, "test")
    for _ in range(3):
        get(peer.url, transport=transport)
    transport.close()
    assert (len(peer.heads), peer.connections) == (3, 1)


def test_every_status_is_an_answer_and_a_redirect_is_not_followed(
    peer_that: Callable[[Behaviour], Peer],
) -> None:
    peer = peer_that(answering(b"", b"Location: /elsewhere\r\n", b"302 Found"))
    assert get(peer.url).status == 302
    assert len(peer.heads) == 1


@pytest.mark.parametrize("location", [b"http://[bad", b"/\xff\xfe", b"https://elsewhere.invalid/"])
def test_a_redirects_target_is_not_even_looked_at(
    peer_that: Callable[[Behaviour], Peer], location: bytes
) -> None:
    peer = peer_that(answering(b"moved", b"Location: " + location + b"\r\n", b"302 Found"))
    assert get(peer.url).body == b"moved"


def test_the_body_of_a_redirect_is_bounded_too(peer_that: Callable[[Behaviour], Peer]) -> None:
    peer = peer_that(answering(b" " * (MAX_BODY_BYTES + 1), b"Location: /x\r\n", b"302 Found"))
    with pytest.raises(ApiError, match="larger than"):
        get(peer.url)


def test_a_compressed_body_is_unpacked_and_a_broken_one_is_a_bad_response(
    peer_that: Callable[[Behaviour], Peer],
) -> None:
    encoding = b"Content-Encoding: gzip\r\n"
    assert get(peer_that(answering(gzip.compress(b"{}"), encoding)).url).body == b"{}"
    with pytest.raises(ApiError) as caught:
        get(peer_that(answering(b"no gzip at all", encoding)).url)
    assert caught.value.reason is Reason.BAD_RESPONSE


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "bomb"])
def test_a_body_over_the_bound_is_a_bad_response(
    peer_that: Callable[[Behaviour], Peer], *, compressed: bool
) -> None:
    body = b" " * (MAX_BODY_BYTES + 1)
    peer = peer_that(
        answering(gzip.compress(body), b"Content-Encoding: gzip\r\n") if compressed else answering(body)
    )
    with pytest.raises(ApiError, match="larger than") as caught:
        get(peer.url)
    assert caught.value.reason is Reason.BAD_RESPONSE


def test_a_body_at_the_bound_is_read(peer_that: Callable[[Behaviour], Peer]) -> None:
    assert len(get(peer_that(answering(b" " * MAX_BODY_BYTES)).url).body) == MAX_BODY_BYTES


def drip(text: bytes) -> Behaviour:
    """Send a byte every 20 ms: no single read ever runs out of time."""

    def behave(connection: socket.socket, _head: bytes) -> None:
        for byte in text:
            connection.sendall(bytes([byte]))
            time.sleep(0.02)

    return behave


@pytest.mark.parametrize(
    "behave",
    [
        lambda connection, _head: connection.recv(1),
        drip(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 1000),
        drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b" " * 1000),
        drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 1000),
    ],
    ids=["silent", "slow head", "slow body", "slow chunks"],
)
def test_the_time_out_holds_for_the_whole_answer(
    peer_that: Callable[[Behaviour], Peer], behave: Behaviour
) -> None:
    peer = peer_that(behave)
    begin = time.monotonic()
    with pytest.raises(ApiError) as caught:
        get(peer.url, timeout=0.3)
    assert caught.value.reason is Reason.TIMEOUT
    assert 0.25 < time.monotonic() - begin < 4, "a drip of 20 s is not waited for"


def reset(connection: socket.socket, _head: bytes) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.mark.parametrize(
    "behave",
    [
        reset,
        lambda connection, _head: connection.close(),
        lambda connection, _head: connection.sendall(b"no HTTP at all\r\n\r\n") or connection.close(),
        lambda connection, _head: (
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}") or connection.close()
        ),
        lambda connection, _head: (
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{}")
            or connection.close()
        ),
    ],
    ids=["reset", "closed", "garbage", "truncated", "truncated chunk"],
)
def test_a_broken_connection_is_a_connection_error(
    peer_that: Callable[[Behaviour], Peer], behave: Behaviour
) -> None:
    with pytest.raises(ApiError) as caught:
        get(peer_that(behave).url)
    assert caught.value.reason is Reason.CONNECTION
    assert "sécret" not in str(caught.value)


def test_nobody_listening_is_a_connection_error_that_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ApiError, match="Connection refused") as caught:
        get(f"http://127.0.0.1:{port}")
    assert caught.value.reason is Reason.CONNECTION


def test_no_tls_at_the_other_side_is_a_connection_error(peer_that: Callable[[Behaviour], Peer]) -> None:
    peer = peer_that(answering(b"{}"))
    with pytest.raises(ApiError, match=r"SSL|TLS|EOF|reset") as caught:
        get(f"https://127.0.0.1:{peer.port}", timeout=1)
    assert caught.value.reason is Reason.CONNECTION


def test_a_netrc_never_replaces_the_configured_credentials(
    peer_that: Callable[[Behaviour], Peer], tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = f"{tmp_path}/netrc"
    with open(netrc, "w", encoding="ascii") as file:  # noqa: PTH123 -- a plain file
        file.write("machine 127.0.0.1 login other password other\n")
    monkeypatch.setenv("NETRC", netrc)
    peer = peer_that(answering(b"{}"))
    get(peer.url)
    assert base64.b64encode("AC1:sécret".encode()) in peer.heads[0]


def test_a_proxy_of_the_environment_is_used(
    peer_that: Callable[[Behaviour], Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = b"HTTP/1.1 407 Proxy-Authorization: Basic echoed-secret\r\n\r\n"
    proxy = peer_that(lambda connection, _head: connection.sendall(refusal))
    monkeypatch.setenv("https_proxy", proxy.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(ApiError, match=r"^the proxy refused: HTTP 407$") as caught:
        get("https://taskrouter.invalid")
    assert caught.value.reason is Reason.CONNECTION
    assert proxy.heads[0].startswith(b"CONNECT taskrouter.invalid:443 ")


def test_no_proxy_is_handed_what_goes_to_loopback_in_clear(
    peer_that: Callable[[Behaviour], Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, api = peer_that(answering(b"{}")), peer_that(answering(b"{}"))
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert get(api.url).body == b"{}"
    assert proxy.connections == 0


def test_a_slow_proxy_tunnel_does_not_outlast_the_time_out(
    peer_that: Callable[[Behaviour], Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = peer_that(drip(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 1000))
    monkeypatch.setenv("https_proxy", proxy.url.replace("//", "//user:proxy-secret@"))
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    begin = time.monotonic()
    with pytest.raises(ApiError) as caught:
        get("https://taskrouter.invalid", timeout=0.3)
    assert time.monotonic() - begin < 4
    assert caught.value.reason is Reason.TIMEOUT
    assert "proxy-secret" not in str(caught.value)
    assert proxy.heads[0].startswith(b"CONNECT taskrouter.invalid:443 ")
