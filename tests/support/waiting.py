"""Waiting for conditions and log messages, long enough for a busy machine."""

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path


def wait_until(what: str, condition: Callable[[], bool], seconds: float = 120) -> None:
    """Wait until a condition is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not seen: {what}"
        time.sleep(0.02)


def wait_for_log(process: subprocess.Popen[bytes], log: Path, pattern: str) -> re.Match[str]:
    """Wait until a line of a running process's log matches."""
    match: re.Match[str] | None = None

    def matches() -> bool:
        nonlocal match
        text = log.read_text(encoding="utf-8")
        match = re.search(pattern, text)
        assert match or process.poll() is None, f"the process ended:\n{text}"
        return match is not None

    wait_until(f"{pattern} in {log}", matches)
    assert match is not None
    return match
