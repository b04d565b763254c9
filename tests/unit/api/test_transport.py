"""The transport against sockets that answer badly, byte by byte as the tests say."""

import base64
import gzip
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.certificates import Authority
from support.peer import Behaviour, Peer, answer, answering, reset, swallowing_syns, tunnelling

from taskrouter_exporter.api.call import HttpAnswer
from taskrouter_exporter.api.connection import MAX_BODY_BYTES
from taskrouter_exporter.api.errors import ApiError, Reason
from taskrouter_exporter.api.transport import RequestsTransport, _Asked


@pytest.fixture
def peer_that() -> Iterator[Callable[..., Peer]]:
    peers: list[Peer] = []

    def start(behave: Behaviour, tls: ssl.SSLContext | None = None) -> Peer:
        peers.append(Peer(behave, tls))
        return peers[-1]

    yield start
    for peer in peers:
        peer.close()


def get(url: str, timeout: float = 5, transport: RequestsTransport | None = None) -> HttpAnswer:
    end = time.monotonic() + timeout
    own = transport or RequestsTransport(url, 4, {}, "test")
    try:
        return own.get(url + "/path", {"Minutes": "15"}, ("AC1", "sécret"), lambda: end)
    finally:
        if transport is None:
            own.close()


def test_an_answer_is_read_whole_and_its_headers_are_found_in_any_case(
    peer_that: Callable[..., Peer],
) -> None:
    peer = peer_that(answering(b'{"a": 1}', b"X-Rate-Limit-Limit: 9\r\n"))
    got = get(peer.url)
    assert (got.status, got.body, got.headers["x-rate-limit-limit"]) == (200, b'{"a": 1}', "9")
    head = peer.heads[0]
    assert head.startswith(b"GET /path?Minutes=15 HTTP/1.1\r\n")
    assert b"Authorization: Basic " + base64.b64encode("AC1:sécret".encode()) in head


def test_connections_are_kept_alive(peer_that: Callable[..., Peer]) -> None:
    peer = peer_that(answering(b"{}"))
    transport = RequestsTransport(peer.url, 4, {}, "test")
    for _ in range(3):
        get(peer.url, transport=transport)
    transport.close()
    assert (len(peer.heads), peer.connections) == (3, 1)


def test_every_status_is_an_answer_and_a_redirect_is_not_followed(
    peer_that: Callable[..., Peer],
) -> None:
    peer = peer_that(answering(b"", b"Location: /elsewhere\r\n", b"302 Found"))
    assert get(peer.url).status == 302
    assert len(peer.heads) == 1


@pytest.mark.parametrize("location", [b"http://[bad", b"/\xff\xfe", b"https://elsewhere.invalid/"])
def test_the_target_of_a_redirect_is_not_parsed(peer_that: Callable[..., Peer], location: bytes) -> None:
    peer = peer_that(answering(b"moved", b"Location: " + location + b"\r\n", b"302 Found"))
    assert get(peer.url).body == b"moved"


def test_the_body_of_a_redirect_is_bounded_too(peer_that: Callable[..., Peer]) -> None:
    peer = peer_that(answering(b" " * (MAX_BODY_BYTES + 1), b"Location: /x\r\n", b"302 Found"))
    with pytest.raises(ApiError, match="larger than"):
        get(peer.url)


def test_a_compressed_body_is_unpacked_and_a_broken_one_is_a_bad_response(
    peer_that: Callable[..., Peer],
) -> None:
    encoding = b"Content-Encoding: gzip\r\n"
    assert get(peer_that(answering(gzip.compress(b"{}"), encoding)).url).body == b"{}"
    with pytest.raises(ApiError) as caught:
        get(peer_that(answering(b"no gzip at all", encoding)).url)
    assert caught.value.reason is Reason.BAD_RESPONSE


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "bomb"])
def test_a_body_over_the_bound_is_a_bad_response(peer_that: Callable[..., Peer], *, compressed: bool) -> None:
    body = b" " * (MAX_BODY_BYTES + 1)
    peer = peer_that(
        answering(gzip.compress(body), b"Content-Encoding: gzip\r\n") if compressed else answering(body)
    )
    with pytest.raises(ApiError, match="larger than") as caught:
        get(peer.url)
    assert caught.value.reason is Reason.BAD_RESPONSE


def test_a_body_at_the_bound_is_read(peer_that: Callable[..., Peer]) -> None:
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
def test_the_timeout_covers_the_whole_answer(peer_that: Callable[..., Peer], behave: Behaviour) -> None:
    peer = peer_that(behave)
    begin = time.monotonic()
    with pytest.raises(ApiError) as caught:
        get(peer.url, timeout=0.3)
    assert caught.value.reason is Reason.TIMEOUT
    assert 0.25 < time.monotonic() - begin < 15, "a drip of 20 s is not waited for"


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
def test_a_broken_connection_is_a_connection_error(peer_that: Callable[..., Peer], behave: Behaviour) -> None:
    with pytest.raises(ApiError) as caught:
        get(peer_that(behave).url)
    assert caught.value.reason is Reason.CONNECTION
    assert "sécret" not in str(caught.value)


def test_a_refused_connection_is_a_connection_error_that_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ApiError, match="Connection refused") as caught:
        get(f"http://127.0.0.1:{port}")
    assert caught.value.reason is Reason.CONNECTION


def test_a_server_without_tls_is_a_connection_error(peer_that: Callable[..., Peer]) -> None:
    peer = peer_that(answering(b"{}"))
    with pytest.raises(ApiError, match=r"SSL|TLS|EOF|reset") as caught:
        get(f"https://127.0.0.1:{peer.port}", timeout=1)
    assert caught.value.reason is Reason.CONNECTION


def test_a_netrc_never_replaces_the_configured_credentials(
    peer_that: Callable[..., Peer], tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = f"{tmp_path}/netrc"
    with open(netrc, "w", encoding="ascii") as file:  # noqa: PTH123 -- a plain file
        file.write("machine 127.0.0.1 login other password other\n")
    monkeypatch.setenv("NETRC", netrc)
    peer = peer_that(answering(b"{}"))
    get(peer.url)
    assert base64.b64encode("AC1:sécret".encode()) in peer.heads[0]


def test_a_proxy_of_the_environment_is_used(
    peer_that: Callable[..., Peer], monkeypatch: pytest.MonkeyPatch
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


def test_no_proxy_is_used_for_unencrypted_requests_to_loopback(
    peer_that: Callable[..., Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, api = peer_that(answering(b"{}")), peer_that(answering(b"{}"))
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert get(api.url).body == b"{}"
    assert proxy.connections == 0


def test_a_slow_proxy_tunnel_ends_at_the_timeout(
    peer_that: Callable[..., Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = peer_that(drip(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 1000))
    monkeypatch.setenv("https_proxy", proxy.url.replace("//", "//user:proxy-secret@"))
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    begin = time.monotonic()
    with pytest.raises(ApiError) as caught:
        get("https://taskrouter.invalid", timeout=2)
    assert time.monotonic() - begin < 15
    assert caught.value.reason is Reason.TIMEOUT
    assert "proxy-secret" not in str(caught.value)
    assert proxy.heads[0].startswith(b"CONNECT taskrouter.invalid:443 ")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def server_context(authority: Authority) -> ssl.SSLContext:
    identity = authority.issue("server", "127.0.0.1", "localhost")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(identity.certificate, identity.key)
    return context


@pytest.fixture
def trusting(authority: Authority) -> Iterator[Callable[[str], RequestsTransport]]:
    """Make transports that trust the authority."""
    transports: list[RequestsTransport] = []

    def make(url: str) -> RequestsTransport:
        transports.append(RequestsTransport(url, 4, {"REQUESTS_CA_BUNDLE": str(authority.file)}, "test"))
        return transports[-1]

    yield make
    for transport in transports:
        transport.close()


def use_proxy(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("https_proxy", url)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_connections_over_tls_are_kept_alive_whatever_tickets_the_server_sends(
    peer_that: Callable[..., Peer], authority: Authority, trusting: Callable[[str], RequestsTransport]
) -> None:
    peer = peer_that(answering(b"{}"), server_context(authority))
    transport = trusting(peer.url)
    assert [get(peer.url, transport=transport).body for _ in range(3)] == [b"{}"] * 3
    assert peer.connections == 1


def test_an_untrusted_certificate_is_a_connection_error_that_says_so(
    peer_that: Callable[..., Peer], authority: Authority
) -> None:
    peer = peer_that(answering(b"{}"), server_context(authority))
    with pytest.raises(ApiError, match="certificate") as caught:
        get(peer.url)
    assert caught.value.reason is Reason.CONNECTION


@pytest.mark.parametrize("by_tls", [False, True], ids=["http proxy", "https proxy"])
def test_a_tunnel_is_kept_and_interim_answers_to_connect_are_skipped(
    peer_that: Callable[..., Peer],
    authority: Authority,
    trusting: Callable[[str], RequestsTransport],
    monkeypatch: pytest.MonkeyPatch,
    *,
    by_tls: bool,
) -> None:
    context = server_context(authority)
    api = peer_that(answering(b"{}"), context)
    interim = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    proxy = peer_that(tunnelling(api.port, before=interim), context if by_tls else None)
    use_proxy(monkeypatch, proxy.url.replace("//", "//user:p%40ss@"))
    url = f"https://localhost:{api.port}"
    transport = trusting(url)
    assert [get(url, transport=transport).body for _ in range(2)] == [b"{}"] * 2
    assert (len(proxy.heads), len(api.heads), api.connections) == (1, 2, 1)
    assert b"Proxy-Authorization: Basic " + base64.b64encode(b"user:p@ss") in proxy.heads[0]
    assert b"Proxy-Authorization" not in api.heads[0]


def test_bytes_of_a_proxy_within_the_tunnel_are_refused(
    peer_that: Callable[..., Peer],
    authority: Authority,
    trusting: Callable[[str], RequestsTransport],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    api = peer_that(answering(b"{}"), server_context(authority))
    proxy = peer_that(tunnelling(api.port, after=answer(b"injected")))
    use_proxy(monkeypatch, proxy.url)
    url = f"https://localhost:{api.port}"
    with pytest.raises(ApiError) as caught:
        get(url, transport=trusting(url))
    assert caught.value.reason is Reason.CONNECTION


def test_an_unresponsive_proxy_address_leaves_time_for_the_next(
    peer_that: Callable[..., Peer],
    authority: Authority,
    trusting: Callable[[str], RequestsTransport],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    api = peer_that(answering(b"{}"), server_context(authority))
    proxy = peer_that(tunnelling(api.port))
    use_proxy(monkeypatch, "http://proxy.test:3128")
    resolve = socket.getaddrinfo
    with swallowing_syns() as silent:
        addresses = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in (silent, proxy.port)
        ]
        monkeypatch.setattr(
            "taskrouter_exporter.api.streams.socket.getaddrinfo",
            lambda host, *args, **settings: (
                addresses if host == "proxy.test" else resolve(host, *args, **settings)
            ),
        )
        url = f"https://localhost:{api.port}"
        assert get(url, transport=trusting(url)).body == b"{}"


def test_a_late_answer_is_never_the_next_requests(peer_that: Callable[..., Peer]) -> None:
    """The worst fault of all: after an interim answer, a number of another query with `up` 1."""

    def behave(connection: socket.socket, head: bytes) -> None:
        if b"/first" in head:
            connection.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n")
            time.sleep(0.05)
        connection.sendall(answer(head.split()[1]))

    peer = peer_that(behave)
    transport = RequestsTransport(peer.url, 4, {}, "test")
    for path in ("/first", "/second") * 3:
        assert get(peer.url + path, transport=transport).body.startswith(path.encode())
    transport.close()
    assert peer.connections == 1


def test_a_reset_of_a_reused_connection_is_repeated_once_on_a_fresh_one(
    peer_that: Callable[..., Peer],
) -> None:
    answers = iter([answer(b"1"), None, answer(b"2"), None, None])

    def behave(connection: socket.socket, _head: bytes) -> None:
        data = next(answers)
        if data is None:
            reset(connection)
        else:
            connection.sendall(data)

    peer = peer_that(behave)
    transport = RequestsTransport(peer.url, 4, {}, "test")
    assert [get(peer.url, transport=transport).body for _ in range(2)] == [b"1", b"2"]
    with pytest.raises(ApiError) as caught:
        get(peer.url, transport=transport)
    assert caught.value.reason is Reason.CONNECTION
    transport.close()
    assert (peer.connections, len(peer.heads)) == (3, 5)


def test_after_extra_bytes_no_connection_is_reused_for_a_while(
    peer_that: Callable[..., Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    surplus = iter([b"", b"stray"])
    peer = peer_that(lambda connection, _head: connection.sendall(answer(b"mine") + next(surplus, b"")))
    transport = RequestsTransport(peer.url, 4, {}, "test")
    assert {get(peer.url, transport=transport).body for _ in range(4)} == {b"mine"}
    assert peer.connections == 4, "the reused one, its repetition, and a fresh one for each that follows"
    monkeypatch.setattr("taskrouter_exporter.api.transport._DISTRUST_SECONDS", 0)
    transport.close()


def test_no_more_connections_are_kept_than_allowed(peer_that: Callable[..., Peer]) -> None:
    together = threading.Barrier(4)

    def behave(connection: socket.socket, _head: bytes) -> None:
        together.wait(20)
        connection.sendall(answer())

    peer = peer_that(behave)
    transport = RequestsTransport(peer.url, 2, {}, "test")
    for connections in (4, 6):
        threads = [threading.Thread(target=get, args=(peer.url, 20, transport)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert peer.connections == connections
    transport.close()


def members(count: int) -> bytes:
    return gzip.compress(b"") * count + gzip.compress(b"{}")


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        (b"gzip, gzip, gzip", gzip.compress(gzip.compress(members(2000)))),
        (b"gzip, gzip", gzip.compress(gzip.compress(b"{}"))),
        (b"gzip", members(4000)),
        (b"gzip", gzip.compress(b"{}") + b"rest"),
        (b"gzip", gzip.compress(b"{}")[:-4]),
        (b"br", b"{}"),
    ],
    ids=["three codings", "two codings", "empty members", "rest", "cut", "another"],
)
def test_of_content_codings_one_gzip_is_allowed(
    peer_that: Callable[..., Peer], coding: bytes, body: bytes
) -> None:
    peer = peer_that(answering(body, b"Content-Encoding: " + coding + b"\r\n"))
    begin = time.process_time()
    with pytest.raises(ApiError) as caught:
        get(peer.url)
    assert caught.value.reason is Reason.BAD_RESPONSE
    assert time.process_time() - begin < 2, "the work is bounded, whatever the number of members"


def test_the_accepted_encodings_can_be_decoded(peer_that: Callable[..., Peer]) -> None:
    peer = peer_that(answering(b"{}"))
    get(peer.url)
    assert b"accept-encoding: gzip\r\n" in peer.heads[0].lower()


def test_a_deadline_that_moves_later_extends_the_request(peer_that: Callable[..., Peer]) -> None:
    def behave(connection: socket.socket, _head: bytes) -> None:
        time.sleep(0.4)
        connection.sendall(answer(b"late"))

    peer = peer_that(behave)
    deadline = [time.monotonic() + 0.2]
    threading.Timer(0.05, lambda: deadline.__setitem__(0, time.monotonic() + 20)).start()
    transport = RequestsTransport(peer.url, 4, {}, "test")
    assert transport.get(peer.url, {}, ("a", "b"), lambda: deadline[0]).body == b"late"
    transport.close()


def test_requests_that_are_prepared_at_once_keep_their_own_headers() -> None:
    """GET and POST have different headers, and a request is prepared in the thread that sends it."""
    transport = RequestsTransport("https://api.example", 4, {}, "test")
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def prepare(number: int) -> bool:
        asked = _Asked("POST", f"https://api.example/{number}", (), ("u", "p"), b"{}" if number % 2 else b"")
        return ("Content-Type" in transport._prepare(asked).headers) == bool(asked.body)

    try:
        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(prepare, range(4000)))
    finally:
        sys.setswitchinterval(interval)
