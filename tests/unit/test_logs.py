import json
import subprocess
import sys

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


def test_logfmt_is_a_line_per_event_without_absent_values() -> None:
    first, library, bug = lines()
    assert first.startswith("ts=20")
    assert 'level=info msg="two words" workspace="a b" text="say \\"x\\"\\nand' in first
    assert "status" not in first
    assert 'level=warning msg="a library\'s warning"' in library
    assert 'level=error msg="a bug"' in bug
    assert "ZeroDivisionError" in bug


def test_json_is_an_object_per_event() -> None:
    first, _, bug = map(json.loads, lines(form="json"))
    assert (first["level"], first["msg"], first["workspace"]) == ("info", "two words", "a b")
    assert "status" not in first
    assert "ZeroDivisionError" in bug["exception"]


@pytest.mark.parametrize(("level", "count"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_messages_below_the_level_are_not_written(level: str, count: int) -> None:
    assert len(lines(level)) == count


def test_a_full_disk_does_not_stop_the_process() -> None:
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
