"""The sockets that the exporter listens on."""

import os
import resource
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

BACKLOG: Final = 2048


class ListenError(Exception):
    """An address that cannot be listened on; its message says which and why."""


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """`host:port`; an empty host means every interface, over IPv4 and IPv6."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "ListenAddress":
        """Read `:10142`, `127.0.0.1:10142` or `[::1]:10142`.

        Raises:
            ValueError: the text is none of these.
        """
        host, colon, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if not colon or not (port.isascii() and port.isdigit()) or (":" in host and not bracketed):
            raise ValueError(f"{text!r} is not an address (write :10142, 127.0.0.1:10142 or [::1]:10142)")
        if int(port) > 65535:  # noqa: PLR2004 -- the highest port there is
            raise ValueError(f"{text!r}: the port is larger than 65535")
        return cls(host.strip("[]"), int(port))

    def bind(self) -> socket.socket:
        """Open the listening socket.

        Raises:
            ListenError: the port is in use, or the address is not this machine's.
        """
        everywhere = not self.host
        dual = everywhere and socket.has_dualstack_ipv6()
        host = self.host or ("::" if dual else "0.0.0.0")  # noqa: S104 -- what ":10142" asks for
        try:
            found = socket.getaddrinfo(host, self.port, type=socket.SOCK_STREAM)
            family, *_, address = found[0]
            return socket.create_server(address, family=family, backlog=BACKLOG, dualstack_ipv6=dual)
        except OSError as error:
            raise ListenError(f"cannot listen on {self.host}:{self.port}: {_explain(error)}") from error
        except UnicodeError:
            raise ListenError(f"cannot listen on {self.host}:{self.port}: not a host name") from None


def _explain(error: OSError) -> str:
    """The system's own words; Python adds the address, and a host name's error number is not the system's."""
    return str(error.strerror) if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)


def allow_many_connections() -> None:
    """Raise the limit of open files as far as the system lets us, as Go programs do at their start."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def describe(sockets: Sequence[socket.socket]) -> list[str]:
    """The addresses that are listened on, `host:port`, with the port that was really taken."""
    names = (each.getsockname() for each in sockets)
    return [f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}" for name in names]
