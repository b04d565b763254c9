"""A program from a Debian package that serves HTTP on loopback and logs as Prometheus does."""

import http.client
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path


class Program:
    """A process that listens on a free port.

    Args:
        command: The program and its arguments.
        directory: Where it runs and its log is.
    """

    def __init__(self, command: Sequence[str], directory: Path) -> None:
        self._log = directory / "log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            self.port = int(self._wait_for_log(r'msg="?Listening on"? address=127\.0\.0\.1:(\d+)').group(1))
            self._wait_until_ready()
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
        """Status and body of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def stop(self) -> None:
        """End it, by force where it does not by itself."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def assert_clean_log(self) -> None:
        """Nothing went wrong."""
        bad = [line for line in self.log.splitlines() if re.search("level=(warn|error)", line)]
        assert [line for line in bad if "Received SIGTERM" not in line] == []

    def _wait_until_ready(self, seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while self.get("/-/ready")[0] != http.client.OK:
            assert self.process.poll() is None, f"it ended:\n{self.log}"
            assert time.monotonic() < end, f"it is not ready:\n{self.log}"
            time.sleep(0.01)

    def _wait_for_log(self, pattern: str, seconds: float = 20) -> re.Match[str]:
        end = time.monotonic() + seconds
        while not (match := re.search(pattern, self.log)):
            assert self.process.poll() is None, f"it ended:\n{self.log}"
            assert time.monotonic() < end, f"no {pattern} in the log:\n{self.log}"
            time.sleep(0.01)
        return match


def wait_until(what: str, condition: Callable[[], bool], seconds: float = 120) -> None:
    """Wait until something is so, long enough for a busy machine."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not seen: {what}"
        time.sleep(0.05)
