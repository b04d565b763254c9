"""The man page and the completions of bash, zsh and fish, from the parsers: `python -m tools.shell_files`."""

import argparse
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

import shtab
from argparse_manpage.manpage import Manpage

from taskrouter_exporter import __version__, flags
from taskrouter_exporter.command_line import config_path
from taskrouter_exporter.history import flags as backfill_flags
from taskrouter_exporter.one_shot import flags as query_flags
from tools.thresholds import ROOT

PROGRAM: Final = "taskrouter-exporter"
MAN_PAGE: Final = Path("contrib", "man", f"{PROGRAM}.1")
COMPLETIONS: Final = {
    shell: Path("contrib", "completions", f"{PROGRAM}.{shell}") for shell in ("bash", "zsh", "fish")
}
_COMMANDS: Final = {"backfill": backfill_flags, "query": query_flags}
_URL: Final = "https://github.com/taskrouter-exporter/twilio-taskrouter-exporter"
_SECTIONS: Final = {
    "exit status": r"""
0 after SIGTERM or SIGINT, 1 if the configuration or an address cannot be used, and 2 if a flag cannot be
used. Those of \fBquery\fR name the reason of a failure, and are described in its documentation.""",
    "files": r"""
.TP
\fIconfig.yaml\fR
The configuration, in the current directory. \fB\-\-config.file\fR names others,
and \fB\-\-config.example\fR prints an example with every key.""",
    "signals": r"""
.TP
SIGHUP
Reload the configuration. An invalid configuration is rejected, and the previous one is kept.""",
    "see also": rf"""
.UR {_URL}/blob/v{__version__}/docs/README.md
Documentation
.UE""",
}


def files() -> Mapping[Path, str]:
    """Return the content of each file by its path in the repository."""
    completions = {path: shtab.complete(_parser(), shell) for shell, path in COMPLETIONS.items()}
    return {MAN_PAGE: _man_page(), **completions}


def _man_page() -> str:
    page = Manpage(_parser(), format="single-commands-section")
    page.description = "Prometheus exporter for Twilio TaskRouter"
    page.source = f"{PROGRAM} {__version__}"
    page.manual = "Prometheus exporters"
    page.date = ""  # that of the build would change the file
    for heading, text in _SECTIONS.items():
        page.add_section(heading, "=", text.strip())
    return str(page)


def _parser() -> argparse.ArgumentParser:
    """Return one parser of all flags and commands; at run time, each command has only its own."""
    parser = _documented(flags._parser(), PROGRAM)  # noqa: SLF001 -- only documentation needs the parsers
    commands = parser.add_subparsers(title="commands", parser_class=argparse.ArgumentParser)
    for name, module in _COMMANDS.items():
        of_command = module._parser()  # noqa: SLF001 -- likewise
        description = of_command.description
        _documented(
            commands.add_parser(
                name, parents=[of_command], add_help=False, description=description, help=description
            ),
            f"{PROGRAM} {name}",
        )
    return parser


def _documented(parser: argparse.ArgumentParser, usage: str) -> argparse.ArgumentParser:
    """Return the parser with a usage and a width that depend on no version of Python and no terminal."""
    parser.usage = f"{usage} [FLAG...]"
    parser.formatter_class = partial(argparse.HelpFormatter, width=110)
    for action in parser._actions:  # noqa: SLF001 -- as shtab itself: there is no other way
        if action.type in (Path, config_path):
            action.complete = shtab.FILE  # type: ignore[attr-defined] # shtab's own attribute
    return parser


if __name__ == "__main__":
    for path, text in files().items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text, encoding="utf-8")
