import argparse
import re
import subprocess
from collections.abc import Iterator

import pytest
from support.exporter import ROOT

from taskrouter_exporter import __version__, flags
from taskrouter_exporter.history import flags as backfill_flags
from taskrouter_exporter.one_shot import flags as query_flags
from tools.shell_files import COMPLETIONS, MAN_PAGE, files

PARSERS = {
    "": flags._parser(),
    "backfill": backfill_flags._parser(),
    "query": query_flags._parser(),
}


def long_flags(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        yield action.option_strings[-1]


def complete(*words: str) -> list[str]:
    """Return what bash offers for the last word."""
    script = (
        '. "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _shtab_taskrouter_exporter; '
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    command = ["bash", "-c", script, "bash", str(ROOT / COMPLETIONS["bash"]), "taskrouter-exporter", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def test_the_files_are_up_to_date() -> None:
    for path, text in files().items():
        assert (ROOT / path).read_text(encoding="utf-8") == text, f"{path} is out of date: make docs"


@pytest.mark.parametrize("columns", ["40", "300"])
def test_the_files_do_not_depend_on_the_terminal(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files()
    monkeypatch.setenv("COLUMNS", columns)
    assert files() == before


def test_the_man_page_describes_every_flag_of_every_command() -> None:
    page = (ROOT / MAN_PAGE).read_text(encoding="utf-8").replace("\\-", "-")
    assert page.startswith(f'.TH TASKROUTER-EXPORTER "1" "" "taskrouter-exporter {__version__}"')
    sections = re.split(r"^\.SS \\fBtaskrouter-exporter (\w+)\\fR$", page, flags=re.MULTILINE)
    by_command = dict(zip(["", *sections[1::2]], sections[::2], strict=True))
    assert by_command.keys() == PARSERS.keys()
    for command, parser in PARSERS.items():
        described = re.findall(r"^(?:\\fB-\w\\fR, )?\\fB(--[a-z.-]+)\\fR", by_command[command], re.MULTILINE)
        assert sorted(described) == sorted(set(long_flags(parser)) - {"--help"})


@pytest.mark.parametrize("command", PARSERS)
def test_bash_completes_every_flag(command: str) -> None:
    words = [command] if command else []
    assert {*long_flags(PARSERS[command])} <= {*complete(*words, "--")}


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["--log.l"], ["--log.level"]),
        (["--log.level", ""], ["debug", "info", "warn", "error"]),
        (["qu"], ["query"]),
        (["query", "--output", "j"], ["json"]),
    ],
)
def test_bash_completes_commands_and_values(words: list[str], offered: list[str]) -> None:
    assert complete(*words) == offered


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_completions_contain_every_flag(shell: str) -> None:
    text = (ROOT / COMPLETIONS[shell]).read_text(encoding="utf-8")
    pattern = r"--([a-z.-]+)[\[}]" if shell == "zsh" else r"^complete .*? -l ([a-z.-]+)"
    found = {*re.findall(pattern, text, re.MULTILINE)}
    expected = {flag.removeprefix("--") for parser in PARSERS.values() for flag in long_flags(parser)}
    assert found == expected
