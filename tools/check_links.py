"""Check of the relative links and anchors in Markdown files: `python -m tools.check_links [DIRECTORY]`.

It parses the Markdown that this project uses: ATX headings, inline links and images, reference links, fenced
code blocks, code spans and comments. Links to other sites are not checked.
"""

import re
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from tools.thresholds import ROOT

_NOT_OURS: Final = frozenset({"build", "dist", "node_modules"})
_FENCE: Final = re.compile(r" *(?P<marks>`{3,}|~{3,})")
_COMMENT: Final = re.compile(r"<!--.*?-->", re.DOTALL)
_CODE_SPAN: Final = re.compile(r"(?<!`)(?P<ticks>`+)(?!`)(?:(?!\n\n).)+?(?<!`)(?P=ticks)(?!`)", re.DOTALL)
_HEADING: Final = re.compile(r"^ {0,3}#{1,6}[ \t]+(?P<text>.*?)[ \t]*#*[ \t]*$", re.MULTILINE)
_HTML_ANCHOR: Final = re.compile(r"<a\s+(?:id|name)=[\"'](?P<name>[^\"']+)[\"']")
_INLINE: Final = re.compile(
    r"\]\(\s*(?P<target><[^>\n]*>|[^\s()]*(?:\([^\s()]*\)[^\s()]*)*)(?:\s+(?:\"[^\"]*\"|'[^']*'))?\s*\)"
)
_DEFINITION: Final = re.compile(r"^ {0,3}\[(?P<name>[^\]\n]+)\]:[ \t]*(?P<target>\S+)", re.MULTILINE)
_REFERENCE: Final = re.compile(r"\[[^\[\]]+\]\[(?P<name>[^\[\]\n]+)\]")
_LINK_TEXT: Final = re.compile(r"!?\[(?P<text>[^\]]*)\](?:\([^)]*\)|\[[^\]]*\])")


def check_links(root: Path) -> Iterator[str]:
    """Yield a line `file:line: problem` for each broken link in the Markdown files below a directory."""
    for file in markdown_files(root):
        text = _prose(file.read_text(encoding="utf-8"))
        for position, problem in _problems(root, file, text):
            yield f"{file.relative_to(root)}:{text.count(chr(10), 0, position) + 1}: {problem}"


def markdown_files(root: Path) -> list[Path]:
    """Return the Markdown files below a directory, without those of environments, caches and builds."""

    def ours(file: Path) -> bool:
        folders = file.relative_to(root).parts[:-1]
        return not any(name in _NOT_OURS or (name[0] == "." and name != ".github") for name in folders)

    return sorted(file for file in root.rglob("*.md") if ours(file))


@cache
def anchors(file: Path) -> frozenset[str]:
    """Return the anchors that GitHub gives the headings of a Markdown file, and those of `<a id="…">`."""
    text = _without_blocks(file.read_text(encoding="utf-8"))
    found = {match["name"] for match in _HTML_ANCHOR.finditer(text)}
    seen: Counter[str] = Counter()
    for match in _HEADING.finditer(text):
        anchor = _anchor(match["text"])
        found.add(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
        seen[anchor] += 1
    return frozenset(found)


def _anchor(heading: str) -> str:
    text = _LINK_TEXT.sub(lambda match: match["text"], heading)
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


def _problems(root: Path, file: Path, text: str) -> Iterator[tuple[int, str]]:
    """Yield the position of each broken link and what is wrong with it."""
    definitions = {match["name"].lower() for match in _DEFINITION.finditer(text)}
    for match in _REFERENCE.finditer(text):
        if match["name"].lower() not in definitions:
            yield match.start(), f"[{match['name']}] has no definition"
    for match in (*_INLINE.finditer(text), *_DEFINITION.finditer(text)):
        if problem := _broken(root, file, match["target"].strip("<>")):
            yield match.start(), problem


def _broken(root: Path, file: Path, link: str) -> str:
    """Return what is wrong with a link, or an empty string."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return ""
    if parts.path.startswith("/"):
        return f"{link}: not a relative link"
    target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
    if not target.is_relative_to(root.resolve()):
        return f"{link}: outside of the repository"
    if not target.exists():
        return f"{link}: no such file"
    if parts.fragment and target.suffix == ".md" and unquote(parts.fragment) not in anchors(target):
        return f"{link}: no such heading"
    return ""


def _prose(text: str) -> str:
    """Return Markdown with blanks in place of code blocks, comments and code spans."""
    return _CODE_SPAN.sub(_blank, _without_blocks(text))


def _without_blocks(text: str) -> str:
    lines = []
    opening = ""
    for line in text.split("\n"):
        fence = _FENCE.match(line)
        lines.append("" if opening or fence else line)
        if fence and not opening:
            opening = fence["marks"]
        elif fence and line.strip() == fence["marks"] and fence["marks"].startswith(opening):
            opening = ""
    return _COMMENT.sub(_blank, "\n".join(lines))


def _blank(match: re.Match[str]) -> str:
    """Replace a match by as many lines, so that line numbers stay the same."""
    return re.sub(r"[^\n]", " ", match[0])


if __name__ == "__main__":
    problems = list(check_links(Path(sys.argv[1]).resolve() if sys.argv[1:] else ROOT))
    sys.exit("\n".join(problems) or None)
