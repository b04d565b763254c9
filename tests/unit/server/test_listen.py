import os
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from taskrouter_exporter.server.listen import (
    ListenAddress,
    ListenError,
    allow_many_connections,
    describe,
    inherited_sockets,
    url_to_open,
)

HAS_IPV6 = socket.has_dualstack_ipv6()
FIRST_DESCRIPTOR = 800
V4, V6 = "127.0.0.1", "::1"


@contextmanager
def listening(host: str) -> Iterator[socket.socket]:
    """Listen on the only address of a host."""
    (bound,) = ListenAddress(host, 0).bind()
    with bound:
        yield bound


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let every name have the given addresses."""
    original = socket.getaddrinfo

    def fixed(*addresses: str) -> None:
        def found(_host: str, port: int, *_: object, **__: object) -> list[object]:
            return [
                each for address in addresses for each in original(address, port, type=socket.SOCK_STREAM)
            ]

        monkeypatch.setattr(socket, "getaddrinfo", found)

    return fixed


@pytest.mark.skipif(not HAS_IPV6, reason="this machine has no IPv6")
def test_a_name_listens_on_all_of_its_addresses_with_one_port(resolve: Callable[..., None]) -> None:
    resolve(V6, V4, V6)
    with ExitStack() as stack:
        bound = [stack.enter_context(each) for each in ListenAddress("localhost", 0).bind()]
        assert [each.getsockname()[0] for each in bound] == [V6, V4]
        (port,) = {each.getsockname()[1] for each in bound}
        for host in (V6, V4):
            with socket.socket(socket.AF_INET6 if host == V6 else socket.AF_INET) as client:
                client.connect((host, port))


@pytest.mark.parametrize("foreign", ["198.51.100.1", "2001:db8::1", "fe80::1"])
@pytest.mark.parametrize("first", [True, False])
def test_an_address_that_the_machine_does_not_have_is_left_out(
    foreign: str,
    first: bool,  # noqa: FBT001 -- a parameter
    resolve: Callable[..., None],
) -> None:
    resolve(*((foreign, V4) if first else (V4, foreign)))
    with ExitStack() as stack:
        bound = [stack.enter_context(each) for each in ListenAddress("localhost", 0).bind()]
        assert [each.getsockname()[0] for each in bound] == [V4]


def test_a_name_without_an_address_of_the_machine_is_reported(resolve: Callable[..., None]) -> None:
    resolve("198.51.100.1", "203.0.113.1")
    with pytest.raises(ListenError, match="cannot listen on exporter:0: Cannot assign requested address"):
        ListenAddress("exporter", 0).bind()


@pytest.mark.skipif(not HAS_IPV6, reason="this machine has no IPv6")
def test_a_port_in_use_on_one_address_of_a_name_is_reported(resolve: Callable[..., None]) -> None:
    with listening(V4) as taken:
        port = taken.getsockname()[1]
        resolve(V6, V4)
        with pytest.raises(ListenError, match=f"localhost:{port}: Address already in use"):
            ListenAddress("localhost", port).bind()
        resolve(V6)
        for each in ListenAddress("localhost", port).bind():  # the other address was released
            each.close()


@pytest.mark.skipif(not HAS_IPV6, reason="this machine has no IPv6")
def test_an_assigned_port_is_free_on_all_addresses(
    resolve: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = socket.create_server
    with listening(V4) as taken:
        port = taken.getsockname()[1]
        ports = iter([port, port])

        def create_server(address: tuple[object, ...], **options: Any) -> socket.socket:
            if address[:2] == (V6, 0):
                address = (V6, next(ports, 0))
            return original(address, **options)

        monkeypatch.setattr(socket, "create_server", create_server)
        resolve(V6, V4)
        with ExitStack() as stack:
            bound = [stack.enter_context(each) for each in ListenAddress("localhost", 0).bind()]
            assert len(bound) == 2
            assert {each.getsockname()[1] for each in bound} != {port}


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        (":10142", "", 10142),
        ("127.0.0.1:0", "127.0.0.1", 0),
        ("[::1]:65535", "::1", 65535),
        ("exporter.example:80", "exporter.example", 80),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, host: str, port: int) -> None:
    assert ListenAddress.parse(text) == ListenAddress(host, port)


@pytest.mark.parametrize("text", ["", "10142", "::1:10142", "host:", "host:http", ":-1", ":1٣"])
def test_any_other_text_is_rejected_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r":10142, 127\.0\.0\.1:10142 or \[::1\]:10142"):
        ListenAddress.parse(text)


def test_a_port_above_65535_is_rejected() -> None:
    with pytest.raises(ValueError, match="65536"):
        ListenAddress.parse(":65536")


def test_a_port_in_use_is_reported_with_its_address() -> None:
    with listening("127.0.0.1") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match=f"127.0.0.1:{port}: Address already in use"):
            ListenAddress("127.0.0.1", port).bind()


@pytest.mark.parametrize("host", ["a..b", "x" * 70])
def test_an_invalid_host_name_is_reported(host: str) -> None:
    with pytest.raises(ListenError, match=f"cannot listen on {host}:0: "):
        ListenAddress(host, 0).bind()


def test_an_empty_host_listens_on_every_interface() -> None:
    with listening("") as everywhere:
        port = everywhere.getsockname()[1]
        hosts = ["127.0.0.1", *(["::1"] if socket.has_dualstack_ipv6() else [])]
        for host in hosts:
            with socket.socket(socket.AF_INET6 if host == V6 else socket.AF_INET) as client:
                client.connect((host, port))


def test_the_description_has_the_port_that_the_system_assigned() -> None:
    with listening("127.0.0.1") as bound:
        assert describe([bound]) == [f"127.0.0.1:{bound.getsockname()[1]}"]


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_an_ipv6_address_is_described_in_brackets() -> None:
    with listening("::1") as bound:
        assert describe([bound]) == [f"[::1]:{bound.getsockname()[1]}"]


def test_the_url_to_open_has_the_bound_address() -> None:
    with listening("127.0.0.1") as bound:
        port = bound.getsockname()[1]
        assert url_to_open(bound, tls=False) == f"http://127.0.0.1:{port}/"
        assert url_to_open(bound, tls=True) == f"https://127.0.0.1:{port}/"


def test_the_url_to_open_of_every_interface_is_localhost() -> None:
    with listening("") as bound:
        assert url_to_open(bound, tls=False) == f"http://localhost:{bound.getsockname()[1]}/"


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_the_url_to_open_of_an_ipv6_address_has_brackets() -> None:
    with listening("::1") as bound:
        assert url_to_open(bound, tls=False) == f"http://[::1]:{bound.getsockname()[1]}/"


def test_the_limit_of_open_files_is_raised_to_the_hard_limit() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before[1] // 2, before[1]))
        allow_many_connections()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def passed(number: str, pid: int | None = None) -> dict[str, str]:
    return {"LISTEN_FDS": number, "LISTEN_PID": str(pid or os.getpid())}


@pytest.mark.parametrize(
    "environ", [{}, {"LISTEN_FDS": "1"}, passed("1", 1), passed("0"), passed(""), passed("-1"), passed("x")]
)
def test_sockets_that_systemd_does_not_pass_to_this_process_are_an_error(environ: dict[str, str]) -> None:
    with pytest.raises(ListenError, match="systemd passes no sockets"):
        inherited_sockets(environ)


def sends_at_once(bound: socket.socket) -> bool:
    """Whether a connection that is accepted does not wait with the second part of an answer."""
    bound.settimeout(5)
    with socket.create_connection(bound.getsockname()[:2]), bound.accept()[0] as accepted:
        return bool(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))


def test_connections_send_at_once() -> None:
    (bound,) = ListenAddress(V4, 0).bind()
    with bound:
        assert sends_at_once(bound)


@pytest.fixture
def first_descriptor(monkeypatch: pytest.MonkeyPatch) -> int:
    """Let systemd's descriptors begin where this process has none."""
    monkeypatch.setattr("taskrouter_exporter.server.listen._FIRST_DESCRIPTOR", FIRST_DESCRIPTOR)
    return FIRST_DESCRIPTOR


def moved(given: socket.socket, descriptor: int) -> socket.socket:
    """Give a socket another descriptor, which is free."""
    with given:
        return socket.socket(fileno=os.dup2(given.fileno(), descriptor))


def test_the_sockets_that_systemd_passes_are_those_to_listen_on(first_descriptor: int) -> None:
    with ExitStack() as stack:
        descriptors = first_descriptor, first_descriptor + 1
        given = [stack.enter_context(moved(socket.create_server((V4, 0)), each)) for each in descriptors]
        addresses = [each.getsockname() for each in given]
        for each in given:
            each.set_inheritable(True)
        taken = inherited_sockets(passed("2"))
        assert [each.getsockname() for each in taken] == addresses
        assert not any(each.get_inheritable() or each.getblocking() for each in taken)
        assert all(map(sends_at_once, taken))
        for each in taken:
            each.detach()


@pytest.mark.parametrize("kind", ["not listening", "datagram", "unix"])
def test_a_socket_from_systemd_that_is_not_tcp_or_does_not_listen_is_an_error(
    kind: str, first_descriptor: int
) -> None:
    family = socket.AF_UNIX if kind == "unix" else socket.AF_INET
    unplaced = socket.socket(family, socket.SOCK_DGRAM if kind == "datagram" else socket.SOCK_STREAM)
    with moved(unplaced, first_descriptor) as given:
        if kind == "unix":
            given.bind("")
            given.listen()
        message = f"^socket {first_descriptor} from systemd: not a listening TCP socket"
        with pytest.raises(ListenError, match=message):
            inherited_sockets(passed("1"))
        given.detach()


def test_a_descriptor_that_systemd_announces_and_does_not_pass_is_an_error(first_descriptor: int) -> None:
    with pytest.raises(ListenError, match=f"^socket {first_descriptor} from systemd: Bad file descriptor$"):
        inherited_sockets(passed("1"))
