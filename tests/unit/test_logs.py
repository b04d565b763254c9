import json
import re
import subprocess
import sys
import time

import pytest
from support.exporter import ROOT

PROGRAM = """
import logging, structlog
from taskrouter_exporter.logs import set_up_logging
set_up_logging({level!r}, {form!r})
log = structlog.get_logger()
log.debug("detail")
log.info("two words", workspace="a b", status=None, text='say "x"\\nand\\x1b[31m y')
logging.getLogger("uvicorn.error").info("a library's info")
logging.getLogger("uvicorn.error").warning("a library's %s", "warning")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("a bug")
"""


def lines(level: str = "info", form: str = "logfmt") -> list[str]:
    program = PROGRAM.format(level=level, form=form)
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ended.stdout == ""
    return ended.stderr.splitlines()


def test_logfmt_has_one_line_per_event_without_absent_values() -> None:
    first, library, bug = lines()
    assert first.startswith("ts=20")
    assert 'level=info msg="two words" workspace="a b" text="say \\"x\\"\\nand' in first
    assert "status" not in first
    assert 'level=warning msg="a library\'s warning"' in library
    assert 'level=error msg="a bug"' in bug
    assert "ZeroDivisionError" in bug


def test_json_has_one_object_per_event() -> None:
    first, _, bug = map(json.loads, lines(form="json"))
    assert (first["level"], first["msg"], first["workspace"]) == ("info", "two words", "a b")
    assert "status" not in first
    assert "ZeroDivisionError" in bug["exception"]


@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_every_line_begins_with_time_level_and_message(form: str) -> None:
    begin = {"logfmt": r"ts=\S+ level=\w+ msg=", "json": r'\{"ts": "\S+", "level": "\w+", "msg": '}[form]
    for line in lines(form=form):
        if "ts" in line:  # not within a traceback
            assert re.match(begin, line), line


@pytest.mark.parametrize(("level", "count"), [("debug", 4), ("info", 3), ("warn", 2), ("error", 1)])
def test_only_messages_of_the_level_or_above_are_written(level: str, count: int) -> None:
    assert len(lines(level)) == count


@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_characters_that_control_a_terminal_or_the_direction_of_text_are_escaped(form: str) -> None:
    text = "".join(map(chr, [*range(32), 127, 0x85, 0x200B, 0x200F, 0x2028, 0x2029, 0x202E, 0x2066, 0xFEFF]))
    program = (
        PROGRAM.format(level="info", form=form)
        + f"\nlog.info({text!r}, key={text!r}, lone='\\ud800', kept='Süd 客服')"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=True)
    line = ended.stderr.decode().split("\n")[-2]
    assert line.isprintable()
    for escaped in ("\\u2028", "\\u202e", "\\ud800"):
        assert escaped in line
    assert "Süd" in (line if form == "logfmt" else json.loads(line)["kept"])


STALLED = """
import logging, sys, time
from taskrouter_exporter.logs import set_up_logging
import structlog
set_up_logging("info", {form!r})
log = structlog.get_logger()
slowest = 0
for number in range(20_000):
    begin = time.monotonic()
    log.info("line", number=number, text="x" * 100)
    slowest = max(slowest, time.monotonic() - begin)
print(slowest, flush=True)
"""


@pytest.mark.timeout(60)
@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_a_reader_that_stalls_stops_neither_the_program_nor_its_end(form: str) -> None:
    """Pipes hold 64 KiB; these are more than 2 MB."""
    command = [sys.executable, "-c", STALLED.format(form=form)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert float(process.stdout.readline()) < 1
        printed = time.monotonic()
        assert process.wait(20) == 0
        assert time.monotonic() - printed < 5


@pytest.mark.timeout(60)
@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_lines_dropped_while_the_reader_stalled_are_counted(form: str) -> None:
    program = STALLED.format(form=form) + "\nsys.stdin.readline()"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        found = [process.stderr.readline()]
        while "log messages dropped" not in found[-1]:
            found.append(process.stderr.readline())
        dropped = re.search(r'messages"?[=:] ?(\d+)', found[-1].partition("dropped")[2])
        assert dropped
        assert len(found) - 1 + int(dropped[1]) == 20_000
        process.stdin.close()


def test_a_full_disk_does_not_end_the_program() -> None:
    program = PROGRAM.format(level="info", form="logfmt") + "\nprint('still here')"
    with open("/dev/full", "w", encoding="ascii") as full:  # noqa: PTH123 -- a device
        ended = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=full,
            text=True,
            check=False,
        )
    assert ended.stdout == "still here\n"
