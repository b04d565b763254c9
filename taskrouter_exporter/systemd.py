"""State notifications and the watchdog of systemd: datagrams to `$NOTIFY_SOCKET`, see sd_notify(3)."""

import asyncio
import os
import socket
import time
from collections.abc import Mapping

import structlog

log = structlog.get_logger()


class Notifier:
    """Tells systemd the state of the process. Without `$NOTIFY_SOCKET`, it does nothing.

    Args:
        environ: Has `NOTIFY_SOCKET`, and `WATCHDOG_USEC` and `WATCHDOG_PID` where the unit has a watchdog.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        # A leading @ is systemd's notation for the abstract namespace.
        self._address = f"\0{path[1:]}" if path.startswith("@") else path
        self._socket: socket.socket | None = None
        if path:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.settimeout(0)
        self._watchdog_seconds = _watchdog_seconds(environ)
        self._watchdog: asyncio.Task[None] | None = None

    def ready(self) -> None:
        """Report that the startup or a reload has ended, and start the watchdog's signs of life."""
        self._send("READY=1")
        if self._socket is not None and self._watchdog_seconds and self._watchdog is None:
            self._watchdog = asyncio.create_task(self._keep_alive(self._watchdog_seconds / 2))

    def reloading(self) -> None:
        """Report that a reload starts; `ready` reports its end."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """Report that the process is about to end."""
        self._send("STOPPING=1")

    def close(self) -> None:
        """End the watchdog's signs of life and close the socket."""
        if self._watchdog is not None:
            self._watchdog.cancel()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def _keep_alive(self, interval: float) -> None:
        """Send signs of life from the event loop: systemd restarts an exporter whose loop is blocked."""
        while True:
            self._send("WATCHDOG=1")
            await asyncio.sleep(interval)

    def _send(self, *assignments: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto("\n".join(assignments).encode(), self._address)
        except OSError as error:
            log.warning("systemd cannot be notified", state=assignments[0], error=error.strerror)


def _watchdog_seconds(environ: Mapping[str, str]) -> float:
    """Return the time within which systemd expects a sign of life, 0 without a watchdog for this process."""
    usec = environ.get("WATCHDOG_USEC", "")
    if not usec.isdecimal() or environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0
    return int(usec) / 1_000_000
