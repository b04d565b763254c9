"""The progress of a backfill: a bar on a terminal, plain lines elsewhere."""

import shutil
import sys
import time
from datetime import timedelta
from typing import Final, Protocol, TextIO

from taskrouter_exporter.api.errors import ApiError
from taskrouter_exporter.durations import format_duration
from taskrouter_exporter.history.plan import Point

_LINE_SECONDS: Final = 30.0
_WAITING_SECONDS: Final = 10.0
"""A wait is mentioned if it is this long, or if the last mention of one was this long ago."""


class Progress(Protocol):
    """Shows how many points have an answer."""

    expired_points: int

    def answered(self) -> None:
        """Take note that a point has its answer."""

    def expired(self, point: Point) -> None:
        """Take note that TaskRouter does not keep a point any more."""

    def waiting(self, error: ApiError, seconds: float) -> None:
        """Take note that a request failed, and that it is repeated after some seconds."""

    def close(self) -> None:
        """Show the final state."""


def show_progress(total: int, answered: int, stream: TextIO = sys.stderr) -> Progress:
    """Return the kind of progress that suits a stream."""
    return Bar(total, answered, stream) if stream.isatty() else Lines(total, answered, stream)


class Bar:
    """A bar with rate and time left."""

    def __init__(self, total: int, answered: int, stream: TextIO) -> None:
        # Only a terminal needs it, and it takes 8 MB.
        from tqdm import tqdm  # noqa: PLC0415 -- see above

        self.expired_points = 0
        size = shutil.get_terminal_size()
        self._bar = tqdm(
            total=total,
            initial=answered,
            file=stream,
            unit="point",
            # In a container, a terminal can have the size 0: tqdm itself would show nothing.
            ncols=size.columns,
            nrows=size.lines,
            smoothing=0.05,
        )

    def answered(self) -> None:
        """See Progress."""
        self._bar.set_postfix_str("", refresh=False)
        self._bar.update()

    def expired(self, point: Point) -> None:
        """See Progress."""
        del point
        self.expired_points += 1
        self._bar.update()

    def waiting(self, error: ApiError, seconds: float) -> None:
        """See Progress."""
        self._bar.set_postfix_str(f"{error.reason}, waiting {seconds:.0f} s")

    def close(self) -> None:
        """See Progress."""
        self._bar.close()


class Lines:
    """A line now and then."""

    def __init__(self, total: int, answered: int, stream: TextIO) -> None:
        self.expired_points = 0
        self._total = total
        self._done = self._first = answered
        self._stream = stream
        self._begun = self._shown = time.monotonic()
        self._mentioned = -_WAITING_SECONDS

    def answered(self) -> None:
        """See Progress."""
        self._done += 1
        if time.monotonic() - self._shown >= _LINE_SECONDS:
            self._show()

    def expired(self, point: Point) -> None:
        """See Progress."""
        del point
        self.expired_points += 1
        self._done += 1

    def waiting(self, error: ApiError, seconds: float) -> None:
        """See Progress."""
        now = time.monotonic()
        if now - self._mentioned >= _WAITING_SECONDS:
            self._mentioned = now
            self._print(f"{error.reason}: {error.message}; waiting {seconds:.0f} s")

    def close(self) -> None:
        """See Progress."""
        self._show()

    def _show(self) -> None:
        self._shown = time.monotonic()
        rate = (self._done - self._first) / max(self._shown - self._begun, 0.001)
        left = ""
        if rate and self._done < self._total:
            seconds = timedelta(seconds=round((self._total - self._done) / rate))
            left = f", {format_duration(seconds)} left"
        self._print(f"{self._done} of {self._total} points, {rate:.1f} per second{left}")

    def _print(self, text: str) -> None:
        print(text, file=self._stream, flush=True)
