import argparse
from pathlib import Path

import pytest

from taskrouter_exporter.command_line import Parser, timeout_seconds, write_output


def test_an_error_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        Parser(prog="x").parse_args(["--nothing"])
    assert exit_.value.code == 2
    assert capsys.readouterr().err == "x: unrecognized arguments: --nothing (see --help)\n"


def test_output_ends_with_a_newline(capsys: pytest.CaptureFixture[str]) -> None:
    assert write_output("text") == 0
    assert capsys.readouterr().out == "text\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which Linux has")
def test_a_full_disk_is_status_1(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    descriptor = (tmp_path / "spare").open("w")  # write_output() redirects what it could not write to
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        monkeypatch.setattr("sys.stdout", full)
        assert write_output("text") == 1
    descriptor.close()


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("1ms", 0.001), ("1h", 3600)])
def test_timeouts_are_durations_up_to_an_hour(text: str, seconds: float) -> None:
    assert timeout_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "30", "2h", "x"])
def test_any_other_timeout_is_rejected(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a duration from 1ms to 1h"):
        timeout_seconds(text)
