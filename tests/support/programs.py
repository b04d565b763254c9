"""Programs that serve HTTP on loopback and log as Prometheus does: 2, from a Debian package, or 3."""

import http.client
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from support.waiting import wait_for_log, wait_until

IN_BACKGROUND: Final = ("nice", "-n", "15", "env", "GOGC=400")
"""Before the command of a long calculation, which must not take the time of programs with a deadline. A
program in Go takes more memory and a fifth less time with GOGC=400."""

SIGTERM: Final = r"Received SIGTERM|Received an OS signal, .*\bsignal=terminated\b"

LISTENING: Final = r'msg="?Listening on"?(?: component=web)? address=127\.0\.0\.1:(\d+)'


class Program:
    """A process that listens on a free port.

    Args:
        command: The program and its arguments.
        directory: Its working directory, which also contains the log.
    """

    def __init__(self, command: Sequence[str], directory: Path) -> None:
        self._log = directory / "log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            self.port = int(wait_for_log(self.process, self._log, LISTENING).group(1))
            wait_until("readiness", lambda: self.get("/-/ready")[0] == http.client.OK)
        except BaseException:
            self.stop()
            raise

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def get(self, path: str) -> tuple[int, bytes]:
        """Send one request; return status and body of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def stop(self) -> None:
        """Terminate the process; kill it if it does not end."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def assert_clean_log(self) -> None:
        """Assert that the log contains no warning and no error."""
        assert list(bad_lines(self.log)) == []


def bad_lines(log: str) -> Iterator[str]:
    """Yield the warnings and errors of a log, except that of the end by SIGTERM.

    The format is that of go-kit (`ts=… level=warn msg="Received SIGTERM, …"`) or, in Prometheus 3, that of
    slog (`time=… level=WARN source=… msg="Received an OS signal, …" signal=terminated`).
    """
    for line in log.splitlines():
        if re.search(r"\blevel=(WARN|ERROR)\b", line, re.IGNORECASE) and not re.search(SIGTERM, line):
            yield line
