"""Relative links in Markdown: which are followed, and what is reported."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.exporter import ROOT

from tools.check_links import anchors, check_links, markdown_files


def write(root: Path, name: str, text: str) -> Path:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def problems(root: Path, text: str) -> list[str]:
    write(root, "page.md", text)
    return list(check_links(root))


@pytest.mark.parametrize(
    ("link", "problem"),
    [
        ("[a](missing.md)", "missing.md: no such file"),
        ("![a](images/missing.png)", "images/missing.png: no such file"),
        ('[a](missing.md "A title")', "missing.md: no such file"),
        ("[a](<missing file.md>)", "missing file.md: no such file"),
        ("[a\nb](missing.md)", "missing.md: no such file"),
        ("[![a](other.md)](missing.md)", "missing.md: no such file"),
        ("[a](missing_(1).md)", "missing_(1).md: no such file"),
        ("[a](other.md#missing)", "other.md#missing: no such heading"),
        ("[a](#missing)", "#missing: no such heading"),
        ("[a](/other.md)", "/other.md: not a relative link"),
        ("[a](../../other.md)", "../../other.md: outside of the repository"),
        ("[a]: missing.md", "missing.md: no such file"),
        ("[a][b]", "[b] has no definition"),
    ],
)
def test_a_broken_link_is_reported_with_file_and_line(tmp_path: Path, link: str, problem: str) -> None:
    write(tmp_path, "other.md", "# Other\n")
    line = 3 + link.count("\n")
    assert problems(tmp_path, f"# Page\n\n{link}\n") == [f"page.md:{line}: {problem}"]


@pytest.mark.parametrize(
    "link",
    [
        "[a](other.md)",
        "[a](other.md#some-heading)",
        "[a](folder)",
        "[a](folder/../other.md)",
        "[a](with%20space.md)",
        "[a](#page)",
        "[a][Other]\n\n[other]: other.md",
        "[a](https://example.com/missing.md)",
        "[a](mailto:somebody@example.com)",
        "[a](code.py#L10)",
        "`[a](missing.md)`",
        "``a ` [a](missing.md)``",
        "```\n[a](missing.md)\n```",
        "~~~~ yaml\n~~~\n[a](missing.md)\n~~~~",
        "- item\n\n  ```sh\n  [a](missing.md)\n  ```",
        "<!-- [a](missing.md) -->",
        "targets[0] (missing.md)",
    ],
)
def test_a_link_that_leads_somewhere_or_is_none_is_not_reported(tmp_path: Path, link: str) -> None:
    write(tmp_path, "other.md", "# Other\n\n## Some heading\n")
    write(tmp_path, "folder/file.txt", "")
    write(tmp_path, "with space.md", "")
    write(tmp_path, "code.py", "")
    assert problems(tmp_path, f"# Page\n\n{link}\n") == []


def test_text_after_a_code_block_is_checked_again(tmp_path: Path) -> None:
    text = "```\n[a](b.md)\n```\n[a](c.md)\n````\n```\n[a](d.md)\n"
    assert problems(tmp_path, text) == ["page.md:4: c.md: no such file"]


def test_anchors_are_those_of_github(tmp_path: Path) -> None:
    page = write(
        tmp_path,
        "page.md",
        "# With `code.<name>`, [a link](x.md) & *more*\n"
        "## Twice\n"
        "## Twice ##\n"
        "### snake_case-and  spaces\n"
        "## Über 10 %\n"
        '<a id="own"></a>\n'
        "```\n# no heading\n```\n"
        "#no-heading\n",
    )
    assert anchors(page) == {
        "with-codename-a-link--more",
        "twice",
        "twice-1",
        "snake_case-and--spaces",
        "über-10-",
        "own",
    }


def test_environments_caches_and_builds_are_left_out(tmp_path: Path) -> None:
    for name in (".venv/a.md", "dist/b.md", "docs/.cache/c.md", ".github/d.md", "docs/e.md", "docs/f.txt"):
        write(tmp_path, name, "")
    assert [file.name for file in markdown_files(tmp_path)] == ["d.md", "e.md"]


def test_the_exit_status_shows_whether_links_are_broken(tmp_path: Path) -> None:
    def check() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tools.check_links", str(tmp_path)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    page = write(tmp_path, "page.md", "[a](missing.md)\n")
    assert (check().returncode, check().stderr) == (1, "page.md:1: missing.md: no such file\n")
    page.write_text("# Page\n", encoding="utf-8")
    assert (check().returncode, check().stderr) == (0, "")
