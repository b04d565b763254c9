import resource
import socket
from contextlib import closing

import pytest

from taskrouter_exporter.server.listen import (
    ListenAddress,
    ListenError,
    allow_many_connections,
    describe,
    url_to_open,
)


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
    with closing(ListenAddress("127.0.0.1", 0).bind()) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match=f"127.0.0.1:{port}: Address already in use"):
            ListenAddress("127.0.0.1", port).bind()


@pytest.mark.parametrize("host", ["a..b", "x" * 70])
def test_an_invalid_host_name_is_reported(host: str) -> None:
    with pytest.raises(ListenError, match=f"cannot listen on {host}:0: "):
        ListenAddress(host, 0).bind()


def test_an_empty_host_listens_on_every_interface() -> None:
    with closing(ListenAddress("", 0).bind()) as everywhere:
        port = everywhere.getsockname()[1]
        hosts = ["127.0.0.1", *(["::1"] if socket.has_dualstack_ipv6() else [])]
        for host in hosts:
            socket.create_connection((host, port), timeout=5).close()


def test_the_description_has_the_port_that_the_system_assigned() -> None:
    with closing(ListenAddress("127.0.0.1", 0).bind()) as bound:
        assert describe([bound]) == [f"127.0.0.1:{bound.getsockname()[1]}"]


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_an_ipv6_address_is_described_in_brackets() -> None:
    with closing(ListenAddress("::1", 0).bind()) as bound:
        assert describe([bound]) == [f"[::1]:{bound.getsockname()[1]}"]


def test_the_url_to_open_has_the_bound_address() -> None:
    with closing(ListenAddress("127.0.0.1", 0).bind()) as bound:
        port = bound.getsockname()[1]
        assert url_to_open(bound, tls=False) == f"http://127.0.0.1:{port}/"
        assert url_to_open(bound, tls=True) == f"https://127.0.0.1:{port}/"


def test_the_url_to_open_of_every_interface_is_localhost() -> None:
    with closing(ListenAddress("", 0).bind()) as bound:
        assert url_to_open(bound, tls=False) == f"http://localhost:{bound.getsockname()[1]}/"


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_the_url_to_open_of_an_ipv6_address_has_brackets() -> None:
    with closing(ListenAddress("::1", 0).bind()) as bound:
        assert url_to_open(bound, tls=False) == f"http://[::1]:{bound.getsockname()[1]}/"


def test_the_limit_of_open_files_is_raised_to_the_hard_limit() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before[1] // 2, before[1]))
        allow_many_connections()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
