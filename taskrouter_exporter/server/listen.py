"""The sockets that the exporter listens on."""

import ipaddress
import os
import resource
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

BACKLOG: Final = 2048


class ListenError(Exception):
    """An address that cannot be listened on. The message names it and the reason."""


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """`host:port`. An empty host is every interface, over IPv4 and IPv6."""

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

    def bind(self) -> socket.socket:
        """Open the listening socket.

        Raises:
            ListenError: the port is in use, or the address is not this machine's.
        """
        dual = not self.host and socket.has_dualstack_ipv6()
        host = self.host or ("::" if dual else "0.0.0.0")  # noqa: S104 -- what ":10142" asks for
        try:
            family, *_, address = socket.getaddrinfo(host, self.port, type=socket.SOCK_STREAM)[0]
            return socket.create_server(address, family=family, backlog=BACKLOG, dualstack_ipv6=dual)
        except OSError as error:
            raise ListenError(f"cannot listen on {self.host}:{self.port}: {_explain(error)}") from error
        except UnicodeError:
            raise ListenError(f"cannot listen on {self.host}:{self.port}: not a host name") from None


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
