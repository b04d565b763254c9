"""What one client can do to the server, and what it cannot; over real sockets."""

import asyncio
import itertools
import logging
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from support.serving import Serving, is_cut

from taskrouter_exporter.server.http import Limits, limit_concurrency
from taskrouter_exporter.server.unsent import CHUNK_BYTES

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
SHORT = Limits(handshake=0.3, head=0.3, idle=1, stall=0.3)
LARGE = 16 * 1024 * 1024


class App:
    """Answers at once on `/`, much on `/large`, when released on `/held`, and badly on `/broken`."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.held = 0
        self.app = Starlette(
            routes=[
                Route("/", lambda _: PlainTextResponse("hello\n"), methods=["GET"]),
                Route("/large", lambda _: Response(bytes(LARGE))),
                Route("/medium", lambda _: Response(bytes(60_000))),
                Route("/held", self._hold, methods=["GET", "POST"]),
                Route("/broken", self._break),
                Route("/host", lambda request: PlainTextResponse(str(request.base_url))),
                Route("/-/healthy", lambda _: PlainTextResponse("OK\n")),
            ]
        )

    async def _hold(self, _request: Request) -> Response:
        self.held += 1
        await asyncio.to_thread(self.go_on.wait)
        return PlainTextResponse("at last\n")

    async def _break(self, _request: Request) -> Response:
        raise ValueError("an-internal-detail")


def send_slowly(connection: socket.socket, parts: Iterable[bytes]) -> None:
    for part in parts:
        connection.sendall(part)
        time.sleep(0.01)


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def serving(app: App) -> Iterator[Serving]:
    with Serving(app.app, limits=SHORT) as serving:
        yield serving
        app.go_on.set()


def test_a_head_sent_byte_by_byte_times_out(serving: Serving) -> None:
    with serving.connect() as connection, pytest.raises(ConnectionError):
        send_slowly(connection, (bytes([byte]) for byte in b"GET / HTTP/1.1\r\nX: " + 10_000 * b"x"))
    serving.wait_until(lambda: serving.connections == 0)


def test_a_second_head_has_the_same_timeout(serving: Serving) -> None:
    with serving.connect() as connection:
        connection.sendall(GET)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET / HT")
        begin = time.monotonic()
        assert is_cut(connection)
        assert time.monotonic() - begin < SHORT.idle


@pytest.mark.parametrize("first", [b"", GET], ids=["from the start", "after a request"])
def test_a_silent_connection_times_out(first: bytes, serving: Serving) -> None:
    with serving.connect() as connection:
        connection.sendall(first)
        assert is_cut(connection)
    assert serving.connections == 0


def test_a_client_that_never_reads_its_response_times_out(serving: Serving) -> None:
    with serving.connect(receive_buffer=4096) as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        serving.wait_until(lambda: serving.connections == 1)
        serving.wait_until(lambda: serving.connections == 0)


def test_a_client_that_reads_bit_by_bit_times_out(app: App) -> None:
    with (
        Serving(app.app, limits=SHORT, send_buffer=4096) as serving,
        serving.connect(receive_buffer=4096) as connection,
    ):
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        begin = time.monotonic()
        with suppress(ConnectionError):
            while connection.recv(100_000):
                time.sleep(0.005)
        assert time.monotonic() - begin < 5


def test_a_request_counts_until_its_response_is_sent(app: App) -> None:
    limits = Limits(stall=1.5)
    with (
        Serving(limit_concurrency(app.app, 1), limits=limits) as serving,
        serving.connect(receive_buffer=4096) as connection,
    ):
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(15).startswith(b"HTTP/1.1 200")
        assert serving.request("/").status == 503
        serving.wait_until(lambda: serving.connections == 0)
        assert serving.request("/").status == 200


def buffered(serving: Serving) -> int:
    """Return the bytes that wait in the transports."""
    return sum(
        each.transport.get_write_buffer_size() for each in list(serving.server.server_state.connections)
    )


def test_a_client_that_does_not_read_has_a_chunk_buffered(app: App) -> None:
    with Serving(app.app) as serving, serving.connect(receive_buffer=4096) as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
        serving.wait_until(lambda: buffered(serving) > 0)
        time.sleep(0.1)
        assert buffered(serving) <= CHUNK_BYTES


def test_the_clients_that_have_been_reading_for_longest_are_cut_above_the_limit(app: App) -> None:
    limits = Limits(unsent_bytes=3 * LARGE)
    with Serving(app.app, limits=limits) as serving, ExitStack() as stack:
        silent = []
        for _ in range(6):
            silent.append(stack.enter_context(serving.connect(receive_buffer=4096)))
            silent[-1].sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
            assert silent[-1].recv(15).startswith(b"HTTP/1.1 200")
        serving.wait_until(lambda: serving.connections == 3)
        assert len(serving.request("/large").body) == LARGE
        serving.wait_until(lambda: serving.connections == 2)


def test_closing_times_out_when_the_client_does_not_read(app: App) -> None:
    with (
        Serving(app.app, limits=SHORT, send_buffer=4096) as serving,
        serving.connect(receive_buffer=2048) as connection,
    ):
        connection.sendall(b"GET /medium HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        serving.wait_until(lambda: serving.connections == 1)
        serving.wait_until(lambda: serving.connections == 0)


def test_a_client_that_reads_receives_a_large_response_completely(serving: Serving) -> None:
    assert len(serving.request("/large").body) == LARGE


def test_a_body_is_not_buffered_while_its_request_is_processed(app: App) -> None:
    with Serving(app.app, limits=SHORT) as serving, serving.connect() as connection:
        connection.sendall(b"POST /held HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
        serving.wait_until(lambda: app.held == 1)
        connection.settimeout(0.5)
        sent = 0
        with suppress(TimeoutError):
            while sent < 100_000_000:
                sent += connection.send(bytes(100_000))
        assert sent < 30_000_000  # what the system's own buffers take
        (protocol,) = serving.server.server_state.connections
        assert len(protocol.cycle.body) < 1_000_000  # type: ignore[union-attr] # it is h11's
        app.go_on.set()


def test_an_endless_body_is_cut_after_the_response(serving: Serving) -> None:
    with serving.connect() as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 405")
        with pytest.raises(ConnectionError):
            send_slowly(connection, itertools.repeat(b"5\r\nhello\r\n"))


def test_pipelined_requests_are_answered_in_order(serving: Serving, app: App) -> None:
    app.go_on.set()
    with serving.connect() as connection:
        connection.sendall(
            b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n"
            + GET
            + b"GET /no HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        answer = b""
        while part := connection.recv(4096):
            answer += part
    assert answer.count(b"HTTP/1.1 ") == 3
    assert answer.index(b"at last") < answer.index(b"hello") < answer.index(b"HTTP/1.1 404")


def exchange(serving: Serving, *parts: bytes) -> bytes:
    """Send the parts in segments of their own, and return everything that comes back."""
    with serving.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            connection.sendall(part)
            time.sleep(0.02)
        answer = b""
        with suppress(ConnectionError):
            while part := connection.recv(4096):
                answer += part
    return answer


@pytest.mark.parametrize(
    "parts",
    [
        (b"\r\n", GET),
        (b"\r", b"\n" + GET),
        (b"\n\r\n\r\n" + GET,),
        (GET + b"\r\n" + GET,),
        (GET, b"\r\n", GET),
        (b"POST /" + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1\r\n" + GET,),
    ],
)
def test_empty_lines_before_a_request_are_ignored(parts: tuple[bytes, ...], serving: Serving) -> None:
    answer = exchange(serving, *parts)
    assert b" 400 " not in answer
    assert answer.endswith(b"hello\n")


def test_endless_empty_lines_time_out(serving: Serving) -> None:
    with serving.connect() as connection, pytest.raises(ConnectionError):
        send_slowly(connection, itertools.repeat(b"\r\n", 1000))


@pytest.mark.parametrize("line", [b" GET / HTTP/1.1\r\n", b"\rGET / HTTP/1.1\r\n"])
def test_other_white_space_before_a_request_is_refused(line: bytes, serving: Serving) -> None:
    assert exchange(serving, line + b"Host: x\r\n\r\n").startswith(b"HTTP/1.1 400")


BOTH = b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"


def test_a_request_with_both_framings_is_the_last_of_its_connection(serving: Serving) -> None:
    for method, path in ((b"GET", b"/"), (b"POST", b"/"), (b"GET", b"/no")):
        answer = exchange(serving, method + b" " + path + b" HTTP/1.1\r\nHost: x\r\n" + BOTH + GET)
        assert answer.count(b"HTTP/1.1 ") == 1
        assert b"connection: close" in answer.lower()


@pytest.mark.parametrize(
    "target",
    [
        "http://x/-/healthy",
        "HTTP://[::1]:80/-/healthy?a=b",
        "https://x//-/healthy",
        "//-/healthy",
        "/-//healthy",
    ],
)
def test_a_target_in_absolute_form_or_with_more_slashes_is_its_path(target: str, serving: Serving) -> None:
    assert serving.request(target).text == "OK\n"


def test_the_host_of_the_absolute_form_takes_precedence(serving: Serving) -> None:
    assert serving.request("http://user@other:81/host", headers={"Host": "x"}).text == "http://other:81/"
    assert serving.request("http://other", headers={"Host": "x"}).text == "hello\n"


def test_health_checks_in_absolute_form_are_not_limited(app: App) -> None:
    with Serving(limit_concurrency(app.app, 1)) as serving:
        held = threading.Thread(target=serving.request, args=["/held"])
        held.start()
        serving.wait_until(lambda: app.held == 1)
        assert serving.request("http://x/-/healthy").status == 200
        app.go_on.set()
        held.join(20)


def test_an_internal_error_is_plain_text_without_details(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    answer = serving.request("/broken")
    assert (answer.status, answer.body) == (500, b"Internal Server Error")
    assert answer.headers["content-type"].startswith("text/plain")
    serving.wait_until(lambda: "an-internal-detail" in caplog.text)


def test_malformed_requests_are_not_logged(serving: Serving, caplog: pytest.LogCaptureFixture) -> None:
    upgrade = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade, close\r\nUpgrade: websocket\r\n\r\n"
    for request in (b"nonsense\r\n\r\n", b"\x16\x03\x01", b"GET / HTTP/1.1\r\nX: " + bytes(70_000), upgrade):
        with serving.connect() as connection:
            connection.sendall(request)
            assert is_cut(connection)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


BAD_CHUNK = b"zz\r\n"
CHUNKED = b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_a_malformed_body_is_refused_while_its_request_is_processed(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    with Serving(app.app) as serving, serving.connect(receive_buffer=2048) as connection:
        connection.sendall(b"POST /held" + CHUNKED)
        serving.wait_until(lambda: app.held == 1)
        connection.sendall(BAD_CHUNK)
        assert connection.recv(1000).startswith(b"HTTP/1.1 400")
        app.go_on.set()
        assert is_cut(connection)
        serving.wait_until(lambda: not serving.server.server_state.tasks)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_malformed_body_ends_the_connection_after_the_response(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    with Serving(app.app) as serving:
        for path in (b"/", b"/large"):
            with serving.connect() as connection:
                connection.sendall(b"POST " + path + CHUNKED)
                assert connection.recv(15).startswith(b"HTTP/1.1 405")
                connection.sendall(BAD_CHUNK)
                assert is_cut(connection)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_malformed_body_ends_a_large_response_in_progress(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    with Serving(app.app) as serving, serving.connect(receive_buffer=2048) as connection:
        connection.sendall(b"GET /large" + CHUNKED)
        assert connection.recv(15).startswith(b"HTTP/1.1 200")
        connection.sendall(BAD_CHUNK)
        assert is_cut(connection)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_requests_above_the_limit_are_refused_and_health_checks_are_not(app: App) -> None:
    with Serving(limit_concurrency(app.app, 2)) as serving:
        held = [threading.Thread(target=serving.request, args=["/held"]) for _ in range(2)]
        for each in held:
            each.start()
        serving.wait_until(lambda: app.held == 2)
        refused = serving.request("/")
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert refused.text == "Limit of concurrent requests reached (2), try again later.\n"
        assert serving.request("/-/healthy").status == 200
        app.go_on.set()
        for each in held:
            each.join(20)
        assert serving.request("/").status == 200


def test_a_failed_request_is_no_longer_counted(app: App) -> None:
    with Serving(limit_concurrency(app.app, 1)) as serving:
        assert [serving.request("/broken").status for _ in range(3)] == [500, 500, 500]
        assert serving.request("/").status == 200


def test_a_limit_of_zero_accepts_all_requests(app: App) -> None:
    with Serving(limit_concurrency(app.app, 0)) as serving:
        held = [threading.Thread(target=serving.request, args=["/held"]) for _ in range(50)]
        for each in held:
            each.start()
        serving.wait_until(lambda: app.held == 50)
        app.go_on.set()
        for each in held:
            each.join(20)


def test_a_client_that_resets_its_connection_does_not_affect_others(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(20):
        connection = serving.connect()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        connection.close()
    assert serving.request("/").status == 200
    assert "Traceback" not in caplog.text


async def _never(_scope: Scope, _receive: Receive, _send: Send) -> None:
    await asyncio.Event().wait()


def test_a_request_cancelled_at_shutdown_is_answered_503() -> None:
    with Serving(_never, limits=Limits(shutdown=1)) as serving, serving.connect() as connection:
        connection.sendall(GET)
        serving.wait_until(lambda: len(serving.server.server_state.tasks) == 1)
        serving.server.should_exit = True
        assert connection.recv(1000).startswith(b"HTTP/1.1 503")
