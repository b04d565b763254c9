"""The sockets that the exporter listens on."""

import errno
import ipaddress
import os
import re
import resource
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

BACKLOG: Final = 2048
_PORT_ATTEMPTS: Final = 10
_FIRST_DESCRIPTOR: Final = 3
"""The first of those that systemd passes: SD_LISTEN_FDS_START."""

_MISSING: Final = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EINVAL}
"""Errors for an address that this machine does not have; EINVAL for a link-local one without an interface."""

_Resolved = tuple[socket.AddressFamily, tuple[Any, ...]]
"""A family and the address that goes with it."""


class ListenError(Exception):
    """An address that cannot be listened on. The message names it and the reason."""


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """`host:port`. An empty host is every interface, over IPv4 and IPv6; a name is all its addresses."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "ListenAddress":
        """Parse `:10142`, `127.0.0.1:10142` or `[::1]:10142`.

        Raises:
            ValueError: the text is none of these.
        """
        host, colon, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if not colon or not (port.isascii() and port.isdigit()) or (":" in host and not bracketed):
            raise ValueError(
                f"{text!r} is not an address (expected e.g. :10142, 127.0.0.1:10142 or [::1]:10142)"
            )
        if int(port) > 65535:  # noqa: PLR2004 -- the highest port there is
            raise ValueError(f"{text!r}: the port is larger than 65535")
        return cls(host.strip("[]"), int(port))

    def bind(self) -> list[socket.socket]:
        """Open a listening socket for each address of the host, all with the same port.

        Addresses that this machine does not have are left out: `localhost` may have an IPv6 address where
        IPv6 is disabled.

        Raises:
            ListenError: the port is in use on one of them, or the machine has none of them.
        """
        dual = not self.host and socket.has_dualstack_ipv6()
        host = self.host or ("::" if dual else "0.0.0.0")  # noqa: S104 -- what ":10142" asks for
        try:
            found = socket.getaddrinfo(host, self.port, type=socket.SOCK_STREAM)
            addresses = list(dict.fromkeys((family, address) for family, *_, address in found))
            for _ in range(_PORT_ATTEMPTS - 1):
                with suppress(_PortTakenError):
                    return _bind_all(addresses, dual=dual)
            return _bind_all(addresses, dual=dual)
        except OSError as error:
            raise ListenError(f"cannot listen on {self.host}:{self.port}: {_explain(error)}") from error
        except UnicodeError:
            raise ListenError(f"cannot listen on {self.host}:{self.port}: not a host name") from None


def inherited_sockets(environ: Mapping[str, str]) -> list[socket.socket]:
    """Return the listening sockets that systemd passes to this process, see sd_listen_fds(3).

    Raises:
        ListenError: there are none, or one is not a TCP socket that listens.
    """
    number = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(os.getpid()) or not re.fullmatch("[1-9][0-9]{0,4}", number):
        raise ListenError(
            "systemd passes no sockets (LISTEN_FDS and LISTEN_PID): start the exporter by its socket unit"
        )
    descriptors = range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + int(number))
    return [_inherited(descriptor) for descriptor in descriptors]


def _inherited(descriptor: int) -> socket.socket:
    try:
        os.set_inheritable(descriptor, False)  # noqa: FBT003 -- its only argument
        bound = socket.socket(fileno=descriptor)
        listens = bound.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise ListenError(f"socket {descriptor} from systemd: {os.strerror(error.errno or 0)}") from error
    if not listens or bound.family not in (socket.AF_INET, socket.AF_INET6):
        bound.close()
        raise ListenError(f"socket {descriptor} from systemd: not a listening TCP socket (ListenStream=port)")
    bound.setblocking(False)  # noqa: FBT003 -- its only argument
    return _undelayed(bound)


def _undelayed(bound: socket.socket) -> socket.socket:
    """Let the connections of a socket send at once; they inherit it.

    An answer's body would wait for the acknowledgement of its head otherwise, for 40 ms. asyncio does this
    for sockets that know their protocol, which those of `create_server` do not (`socket.proto` is 0).
    """
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return bound


class _PortTakenError(OSError):
    """The port that the system chose for one address is in use on another."""


def _bind_all(addresses: Sequence[_Resolved], *, dual: bool) -> list[socket.socket]:
    """Bind the addresses that this machine has, all to the port of the first.

    Raises:
        OSError: one cannot be bound, or there is none.
    """
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, (host, port, *scope) in addresses:
            assigned = sockets[0].getsockname()[1] if sockets else port
            try:
                bound = socket.create_server(
                    (host, assigned, *scope), family=family, backlog=BACKLOG, dualstack_ipv6=dual
                )
                sockets.append(_undelayed(bound))
            except OSError as error:
                if error.errno == errno.EADDRINUSE and not port and sockets:
                    raise _PortTakenError(*error.args) from error
                if error.errno not in _MISSING:
                    raise
                missing = error
    except OSError:
        for bound in sockets:
            bound.close()
        raise
    if missing and not sockets:
        raise missing
    return sockets


def _explain(error: OSError) -> str:
    """Return the system's message: Python's adds the address, and a host name's error number is not errno."""
    return str(error.strerror) if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)


def allow_many_connections() -> None:
    """Raise the limit of open files to the hard limit, as Go programs do at startup."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def describe(sockets: Sequence[socket.socket]) -> list[str]:
    """Return the addresses of bound sockets, `host:port`, with the port that the system assigned."""
    return [_join(*bound.getsockname()[:2]) for bound in sockets]


def url_to_open(bound: socket.socket, *, tls: bool) -> str:
    """Return a URL for a browser on this machine, where an address of every interface is localhost."""
    host, port = bound.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "localhost"
    return f"{'https' if tls else 'http'}://{_join(host, port)}/"


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
