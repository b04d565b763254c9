"""The systemd unit: valid, well sandboxed, and true to the exporter's flags and to its page."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from support.exporter import ROOT

from taskrouter_exporter.flags import parse_flags

UNIT: Final = ROOT / "contrib" / "systemd" / "taskrouter-exporter.service"
SOCKET: Final = UNIT.with_suffix(".socket")
PAGE: Final = ROOT / "docs" / "systemd.md"
PROGRAM: Final = "/opt/taskrouter-exporter/bin/taskrouter-exporter"
CREDENTIALS: Final = "/run/credentials/taskrouter-exporter.service"

# Forbids memory that is writable and executable, as MemoryDenyWriteExecute= does, and becomes another Python.
SANDBOXED: Final = """
import ctypes, os, sys
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
if ctypes.CDLL(None).prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0):
    sys.exit(75)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""

# Runs in that sandbox, and so does the exporter that it starts.
SCRAPE: Final = """
import mmap
from pathlib import Path
import bcrypt
from support.exporter import Exporter
try:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
except PermissionError:
    pass
else:
    raise SystemExit("the memory is not protected")
bcrypt.hashpw(b"password", bcrypt.gensalt(4))
exporter = Exporter(["--demo"], Path("log").absolute())
names = exporter.scrape().names()
exporter.stop()
assert "window_reservations" in names
"""


def setting(name: str) -> str:
    (value,) = re.findall(f"^{name}=(.*)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)
    return str(value)


def test_systemd_accepts_the_units(program: Callable[[str, str], str], tmp_path: Path) -> None:
    """All but the program, which is not installed where the unit expects it."""
    program("kill", "procps")
    text = UNIT.read_text(encoding="utf-8")
    assert PROGRAM in text
    unit = tmp_path / UNIT.name
    unit.write_text(text.replace(PROGRAM, sys.executable), encoding="utf-8")
    listening = tmp_path / SOCKET.name
    listening.write_text(SOCKET.read_text(encoding="utf-8"), encoding="utf-8")
    analyze = program("systemd-analyze", "systemd")
    command = [analyze, "verify", "--man=no", str(unit), str(listening)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_exposure_is_as_low_as_documented(program: Callable[[str, str], str]) -> None:
    analyze = [program("systemd-analyze", "systemd"), "security", "--offline=true", "--no-pager", str(UNIT)]
    done = subprocess.run(analyze, check=True, capture_output=True, text=True)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found
    promised = re.search(r"exposure below ([0-9.]+) on", PAGE.read_text(encoding="utf-8"))
    assert promised
    assert float(found[1]) < float(promised[1])


def test_the_command_accepts_the_documented_configuration(tmp_path: Path) -> None:
    name, source = setting("LoadCredential").split(":")
    (tmp_path / name).write_text("0123456789abcdef0123456789abcdef\n", encoding="ascii")
    assert Path(source).parent == Path("/etc/taskrouter-exporter")
    (example,) = re.findall(
        "^```yaml\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    assert f"{CREDENTIALS}/{name}\n" in example
    config = tmp_path / "config.yaml"
    config.write_text(example.replace(CREDENTIALS, str(tmp_path)), encoding="utf-8")
    path, *arguments = shlex.split(setting("ExecStart"))
    assert path == PROGRAM
    here = [each.replace("/etc/taskrouter-exporter", str(tmp_path)) for each in arguments]
    command = [sys.executable, str(ROOT / "exporter.py"), *here, "--config.check"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{config}: valid")


def test_the_documented_variable_lets_the_exporter_use_the_socket_unit() -> None:
    page = PAGE.read_text(encoding="utf-8")
    environ = dict(re.findall(r"^echo (TASKROUTER_EXPORTER_\w+)=(\w+) >>", page, re.MULTILINE))
    assert parse_flags(shlex.split(setting("ExecStart"))[1:], environ).systemd_socket
    assert "ListenStream=10142\n" in SOCKET.read_text(encoding="utf-8")


def test_the_exporter_needs_no_memory_that_is_writable_and_executable(tmp_path: Path) -> None:
    assert setting("MemoryDenyWriteExecute") == "yes"
    done = subprocess.run(
        [sys.executable, "-c", SANDBOXED, "-c", SCRAPE],
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}"},
        capture_output=True,
        text=True,
    )
    if done.returncode == 75:
        pytest.skip("needs Linux 6.3 or newer")
    assert (done.returncode, done.stderr) == (0, "")
