"""Threads that cannot be started."""

import threading

import pytest


def fail_to_start_threads(monkeypatch: pytest.MonkeyPatch, times: int) -> list[RuntimeError]:
    """Let the next starts of threads fail; return the failures still to come."""
    start, failures = threading.Thread.start, [RuntimeError("can't start new thread")] * times

    def failing_start(thread: threading.Thread) -> None:
        if failures:
            raise failures.pop()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", failing_start)
    return failures
