import io

import pytest

from taskrouter_exporter.api.errors import ApiError, Reason
from taskrouter_exporter.history.plan import Point
from taskrouter_exporter.history.progress import Bar, Lines, show_progress

ERROR = ApiError(Reason.RATE_LIMITED, "Too Many Requests", 429)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_has_a_bar_with_rate_and_time_left() -> None:
    terminal = Terminal()
    progress = show_progress(100, 40, terminal)
    assert isinstance(progress, Bar)
    progress.waiting(ERROR, 12)
    progress.answered()
    progress.expired(Point(0, 0))
    progress.close()
    text = terminal.getvalue()
    assert "42/100" in text
    assert "rate_limited, waiting 12 s" in text
    assert "point/s" in text
    assert progress.expired_points == 1


def test_elsewhere_there_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("taskrouter_exporter.history.progress.time.monotonic", lambda: now[0])
    stream = io.StringIO()
    progress = show_progress(100, 0, stream)
    assert isinstance(progress, Lines)
    for _ in range(70):
        now[0] += 0.5
        progress.answered()
    assert stream.getvalue() == "60 of 100 points, 2.0 per second, 20s left\n"
    progress.close()
    assert stream.getvalue().splitlines()[-1] == "70 of 100 points, 2.0 per second, 15s left"


def test_waits_are_mentioned_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("taskrouter_exporter.history.progress.time.monotonic", lambda: now[0])
    stream = io.StringIO()
    progress = show_progress(100, 0, stream)
    for _ in range(11):
        progress.waiting(ERROR, 2)
        now[0] += 1
    assert stream.getvalue() == "rate_limited: Too Many Requests; waiting 2 s\n" * 2
