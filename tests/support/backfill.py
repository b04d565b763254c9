"""The command `backfill` against a simulator, in forks of a process that has imported it."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from support.exporter import ROOT, Labels, labelled
from support.faults import FaultySimulator
from taskrouter_exporter.simulator import ContactCentre

FAST: Final = ("--rate=1000", "--yes")
DAY: Final = timedelta(days=1)
HOUR: Final = timedelta(hours=1)
STAMP: Final = ("--label=job=taskrouter", "--label=instance=localhost:10142")
"""The labels of `support.history`."""

_SERVER: Final = """
import json, os, resource, sys
from taskrouter_exporter.history import asking, command, gaps, remote_write
for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if not child:
        os.dup2(os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
        os.dup2(1, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["most_bytes"], resource.RLIM_INFINITY))
        status = 70
        try:
            status = command.main(order["arguments"])
        except SystemExit as error:
            status = error.code
        finally:
            sys.stdout.flush()
            if "coverage" in sys.modules and (measured := sys.modules["coverage"].Coverage.current()):
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
                measured.stop()
                measured.save()
            os._exit(status)
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


@dataclass(frozen=True)
class Done:
    """A run that has ended: its exit status and what it printed."""

    status: int
    text: str


class Backfills:
    """Runs backfills in forks of a process that has imported the command: an import takes longer than a run.

    Args:
        directory: For what they print.
    """

    def __init__(self, directory: Path) -> None:
        self._printed = directory / "printed"
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVER],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def start(self, *arguments: str, most_bytes: int = resource.RLIM_INFINITY) -> int:
        """Start a run, whose files cannot be larger than this, and return its process ID."""
        assert self._process.stdin is not None
        order = {"arguments": arguments, "output": str(self._printed), "most_bytes": most_bytes}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._line())

    def wait(self) -> Done:
        """Wait for the end of the run."""
        status = int(self._line())
        text = self._printed.read_text(encoding="utf-8")
        assert "Traceback" not in text, text
        return Done(status, text)

    def run(self, *arguments: str, most_bytes: int = resource.RLIM_INFINITY) -> Done:
        """Run to the end."""
        self.start(*arguments, most_bytes=most_bytes)
        return self.wait()

    def kill(self, pid: int, seconds: float, number: signal.Signals = signal.SIGKILL) -> Done:
        """Send a signal to a run after some seconds, unless it has ended."""
        time.sleep(seconds)
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        return self.wait()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the process that forks has ended"
        return line


def samples(file: Path) -> dict[tuple[str, Labels, str], str]:
    """The samples of a file with timestamps: name, labels and time to value, all as written."""
    found: dict[tuple[str, Labels, str], str] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        series, value, at = line.rsplit(" ", 2)
        name, _, text = series.partition("{")
        labels = labelled(**dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', text)))
        key = name, labels, at.removesuffix(".000")
        assert key not in found, f"{key} stands twice"
        found[key] = value
    return found


def configuration(simulator: Any, targets: Sequence[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """A configuration for a simulator."""
    centre = simulator.centre
    account = {
        "username": centre.account_sid,
        "password": centre.auth_token,
        "base_url": simulator.base_url,
    }
    return {"accounts": {"default": account}, "targets": list(targets), **more}


def target(centre: ContactCentre, **more: Any) -> dict[str, Any]:
    workspace = centre.workspaces[0]
    return {"workspace": workspace.sid, "name": "support", "counters": "day", **more}


def write_config(directory: Path, api: FaultySimulator, *targets: dict[str, Any], **more: Any) -> str:
    file = directory / "config.yaml"
    file.write_text(json.dumps(configuration(api, targets, **more)), encoding="utf-8")
    return f"--config.file={file}"


def during(start: datetime, end: datetime, step: str = "1h") -> tuple[str, ...]:
    return f"--from={start.isoformat()}", f"--to={end.isoformat()}", f"--step={step}"
