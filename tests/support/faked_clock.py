"""Clocks that a test sets, for itself and for a process under libfaketime."""

import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path


@dataclass
class SetClock:
    """A clock that does not run, but can be set."""

    moment: datetime

    def __call__(self) -> float:
        return self.moment.timestamp()


class FakedClock(SetClock):
    """A clock that a simulator here and a process under libfaketime share.

    The process's monotonic clock is the real one: deadlines, timeouts and backoffs take real time.
    """

    def __init__(self, moment: datetime, faketime: str, directory: Path) -> None:
        super().__init__(moment)
        # "-m": the library for programs with threads. The wrapper knows where Debian keeps it.
        command = [faketime, "-m", "-f", "+0", "printenv", "LD_PRELOAD"]
        found = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        self._file = directory / "now"
        self.environment = {
            "LD_PRELOAD": found.stdout.strip(),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            # The "fix" is for glibc before 2.25; on a newer one every wait for a lock spins.
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
            "NO_FAKE_STAT": "1",
            "TZ": "UTC",
        }
        self.set(moment)

    def set(self, moment: datetime) -> None:
        """Set the clock: first in this process, so that the API never gets a request about a future day."""
        self.moment = moment
        whole = self._file.with_suffix(".new")
        whole.write_text(f"{moment:%Y-%m-%d %H:%M:%S}\n", encoding="utf-8")
        whole.replace(self._file)


def day_that_lasts() -> datetime:
    """Midnight UTC of a day that has a minute left at least: so long the exporter's anchor stays."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    left = (today + timedelta(days=1) - datetime.now(UTC)).total_seconds()
    if left > 60:
        return today
    time.sleep(left)
    return today + timedelta(days=1)
