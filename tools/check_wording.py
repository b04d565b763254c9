"""Check of the prose for expressions that the project avoids: `python -m tools.check_wording [DIRECTORY]`.

`.codespell/expressions.tsv` contains them, one per line: a regular expression, a tab, and what to write
instead. Single words are in `.codespell/words.txt`, which codespell reads.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tools.thresholds import ROOT

EXPRESSIONS: Final = ROOT / ".codespell/expressions.tsv"

_PATTERNS: Final = (
    "*.md",
    "*.yaml",
    "Dockerfile",
    "Makefile",
    "exporter.py",
    ".env.example",
    ".github/**/*",
    "benchmarks/*.py",
    "contrib/**/*",
    "docs/*",
    "helm/**/*",
    "monitoring/**/*",
    "taskrouter_exporter/**/*.py",
    "tools/**/*.py",
)
_SUFFIXES: Final = frozenset(
    {"", ".example", ".md", ".py", ".service", ".socket", ".tpl", ".txt", ".yaml", ".yml"}
)
"""Generated JSON is left out: its sources are checked."""
_BREAK: Final = r'(?:[ \t]*"?[ \t]*\n[ \t]*(?:(?:#|//|\*|>)[ \t]*)?f?"?|[ \t]+)'
"""Matches a space, or a line break in prose, in a comment or between two parts of a string."""


def check_wording(root: Path, expressions: Mapping[re.Pattern[str], str]) -> Iterator[str]:
    """Yield a line `file:line: problem` for each expression in the texts of a project's directory."""
    for file in texts(root):
        text = file.read_text(encoding="utf-8")
        for position, problem in find_expressions(text, expressions):
            yield f"{file.relative_to(root)}:{text.count(chr(10), 0, position) + 1}: {problem}"


def read_expressions(file: Path) -> dict[re.Pattern[str], str]:
    """Read the expressions, each with what to write instead. A space also matches a line break."""
    lines = (line.split("\t") for line in file.read_text(encoding="utf-8").splitlines())
    return {
        re.compile(expression.replace(" ", _BREAK), re.IGNORECASE): instead for expression, instead in lines
    }


def find_expressions(text: str, expressions: Mapping[re.Pattern[str], str]) -> Iterator[tuple[int, str]]:
    """Yield the position of each expression in a text, and a message with what to write instead."""
    for expression, instead in expressions.items():
        for match in expression.finditer(text):
            yield match.start(), f"{' '.join(match[0].split())!r}: {instead}"


def texts(root: Path) -> list[Path]:
    """Return the files that are checked."""
    found = {file for pattern in _PATTERNS for file in root.glob(pattern)}
    return sorted(file for file in found if file.is_file() and file.suffix in _SUFFIXES)


if __name__ == "__main__":
    root = Path(sys.argv[1]).resolve() if sys.argv[1:] else ROOT
    sys.exit("\n".join(check_wording(root, read_expressions(EXPRESSIONS))) or None)
