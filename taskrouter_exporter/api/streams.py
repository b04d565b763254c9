"""Byte streams to another host, over TCP and TLS, each operation of which ends at a deadline."""

import errno
import os
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterable, MutableMapping
from contextlib import suppress
from functools import partial
from itertools import chain, zip_longest
from typing import Any, Final, Protocol, TypeVar

Deadline = Callable[[], float]
"""Returns an instant on the monotonic clock. It may move later while an operation is under way."""

_Address = tuple[int, Any]
_Result = TypeVar("_Result")

_READ_BYTES: Final = 64 * 1024
_STAGGER_SECONDS: Final = 0.25
"""How long one address has before the next is tried beside it. Source: RFC 8305, section 5."""
_KEEPALIVE: Final = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
"""Notices within a minute that a NAT or load balancer has dropped an idle connection without a word."""


def remaining(deadline: Deadline) -> float:
    """Return the seconds until the deadline.

    Raises:
        TimeoutError: it has passed.
    """
    seconds = deadline() - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


class Stream(Protocol):
    """A connection to another host as a sequence of bytes."""

    def receive(self, deadline: Deadline) -> bytes:
        """Return the next bytes, none at the end of the stream.

        Raises:
            TimeoutError: nothing came before the deadline.
            OSError: the connection is broken.
        """

    def receive_now(self) -> bytes | None:
        """Return what has arrived already: None where nothing has, no bytes at the end of the stream.

        Raises:
            OSError: the connection is broken.
        """

    def send(self, data: bytes, deadline: Deadline) -> None:
        """Send all the data; raises like `receive`."""

    def close(self) -> None:
        """Close the connection, in whatever state it is."""


class SocketStream:
    """A connected TCP socket.

    It never blocks by itself: a timeout of the socket would be set for each operation, and waited for before
    each, which are twice as many system calls.
    """

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._socket.settimeout(0)
        self._ready = select.poll()

    def receive(self, deadline: Deadline) -> bytes:
        """See Stream.receive."""
        while True:
            self._wait(select.POLLIN, deadline)
            with suppress(BlockingIOError):
                return self._socket.recv(_READ_BYTES)

    def receive_now(self) -> bytes | None:
        """See Stream.receive_now."""
        try:
            return self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return None

    def send(self, data: bytes, deadline: Deadline) -> None:
        """See Stream.send."""
        remaining(deadline)
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                self._wait(select.POLLOUT, deadline)

    def close(self) -> None:
        """See Stream.close."""
        self._socket.close()

    def _wait(self, event: int, deadline: Deadline) -> None:
        """Wait until the socket is ready, or broken. A deadline that has moved gives it another turn."""
        self._ready.register(self._socket, event)
        while not self._ready.poll(remaining(deadline) * 1000):
            pass


class TlsStream:
    """TLS over any other stream: over TCP, or over a tunnel that itself runs over TLS.

    ssl.SSLSocket would need a real socket below it, and its sendall has a timeout for each write.
    """

    def __init__(self, inner: Stream, context: ssl.SSLContext, hostname: str, deadline: Deadline) -> None:
        self._inner = inner
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=hostname)
        self._run(self._tls.do_handshake, deadline)

    def receive(self, deadline: Deadline) -> bytes:
        """See Stream.receive."""
        try:
            return self._run(partial(self._tls.read, _READ_BYTES), deadline)
        except ssl.SSLZeroReturnError:
            return b""

    def receive_now(self) -> bytes | None:
        """See Stream.receive_now. Records that carry no data, such as session tickets, are nothing."""
        data = self._inner.receive_now()
        if data:
            self._incoming.write(data)
        try:
            return self._tls.read(_READ_BYTES)
        except ssl.SSLWantReadError:
            return b"" if data == b"" else None
        except ssl.SSLZeroReturnError:
            return b""

    def send(self, data: bytes, deadline: Deadline) -> None:
        """See Stream.send."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._run(partial(self._tls.write, rest), deadline) :]

    def close(self) -> None:
        """See Stream.close."""
        self._inner.close()

    def _run(self, operation: Callable[[], _Result], deadline: Deadline) -> _Result:
        """Carry out an operation of TLS, feeding it what it wants to read and sending what it writes."""
        while True:
            try:
                result = operation()
            except ssl.SSLWantReadError:
                self._flush(deadline)
                data = self._inner.receive(deadline)
                if data:
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            else:
                self._flush(deadline)
                return result

    def _flush(self, deadline: Deadline) -> None:
        if self._outgoing.pending:
            self._inner.send(self._outgoing.read(), deadline)


def connect(host: str, port: int, deadline: Deadline, worked: MutableMapping[str, _Address]) -> SocketStream:
    """Connect to the first address of a host that accepts, each in turn with a short head start.

    One address that swallows packets must not use up the time of the others (RFC 8305, Happy Eyeballs).

    Args:
        host: Name or address.
        port: TCP port.
        deadline: Looking the name up takes as long as the system's resolver does.
        worked: By host, the address that accepted last: tried first, and kept up to date.

    Raises:
        TimeoutError: no address has accepted before the deadline.
        OSError: every address has refused, or the host is unknown.
    """
    infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = _in_order(((family, address) for family, _, _, _, address in infos), worked.get(host))
    connected, worked[host] = _race(addresses, deadline)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        if hasattr(socket, name):  # not everywhere by these names
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return SocketStream(connected)


def _in_order(addresses: Iterable[_Address], worked: _Address | None) -> list[_Address]:
    """Put the address that worked first, and let IPv6 and IPv4 alternate, as the resolver orders them."""
    by_family: dict[int, list[_Address]] = {}
    for address in addresses:
        by_family.setdefault(address[0], []).append(address)
    alternating = [each for each in chain(*zip_longest(*by_family.values())) if each is not None]
    return sorted(dict.fromkeys(alternating), key=lambda address: address != worked)


def _race(addresses: list[_Address], deadline: Deadline) -> tuple[socket.socket, _Address]:
    waiting = list(addresses)
    racing: dict[int, tuple[socket.socket, _Address]] = {}
    poll = select.poll()
    problem = OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    stagger = min(_STAGGER_SECONDS, remaining(deadline) / (len(addresses) + 1))
    next_start = 0.0
    try:
        while waiting or racing:
            seconds = remaining(deadline)
            if waiting and (not racing or time.monotonic() >= next_start):
                next_start = time.monotonic() + stagger
                address = waiting.pop(0)
                try:
                    racer = _begin(address)
                except OSError as error:
                    problem, next_start = error, 0.0
                else:
                    racing[racer.fileno()] = racer, address
                    poll.register(racer, select.POLLOUT)
                continue
            if waiting:
                seconds = min(seconds, max(next_start - time.monotonic(), 0))
            for number, _ in poll.poll(seconds * 1000):
                poll.unregister(number)
                racer, address = racing[number]
                code = racer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if not code:
                    del racing[number]
                    return racer, address
                racing.pop(number)[0].close()
                problem, next_start = OSError(code, os.strerror(code)), 0.0
        raise problem
    finally:
        for loser, _ in racing.values():
            loser.close()


def _begin(address: _Address) -> socket.socket:
    """Begin to connect, without waiting for the outcome."""
    family, where = address
    racer = socket.socket(family, socket.SOCK_STREAM)
    try:
        racer.settimeout(0)
        racer.connect(where)
    except BlockingIOError:  # in progress
        return racer
    except BaseException:
        racer.close()
        raise
    return racer
