import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from support.exporter import ROOT

CHANGELOG: Final = """\
# Changelog

## [Unreleased]

### Added

- Something to come.

## [1.2.3] - 2026-11-24

### Fixed

- What was broken,
  in two lines. See [the page](docs/page.md).

## [1.2.2] - 2026-10-01

- Older.

[1.2.3]: https://example.com/1.2.3
"""


def run(directory: Path, tag: str, version: str, changelog: str) -> subprocess.CompletedProcess[str]:
    package = directory / "taskrouter_exporter"
    package.mkdir()
    (package / "__init__.py").write_text(f'"""Doc."""\n\n__version__ = "{version}"\n', encoding="utf-8")
    (directory / "CHANGELOG.md").write_text(changelog, encoding="utf-8")
    command = [sys.executable, str(ROOT / "tools" / "release_notes.py"), tag]
    return subprocess.run(command, check=False, cwd=directory, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("version", "notes"),
    [
        (
            "1.2.3",
            "### Fixed\n\n- What was broken,\n  in two lines. See [the page](docs/page.md).\n",
        ),
        ("1.2.2", "- Older.\n"),
    ],
)
def test_the_notes_are_the_section_of_the_version(tmp_path: Path, version: str, notes: str) -> None:
    done = run(tmp_path, f"v{version}", version, CHANGELOG)
    assert (done.returncode, done.stdout, done.stderr) == (0, notes, "")


@pytest.mark.parametrize(
    ("tag", "version", "changelog", "error"),
    [
        ("v1.2.4", "1.2.3", CHANGELOG, "the tag is v1.2.4, but taskrouter_exporter.__version__ is 1.2.3"),
        ("1.2.3", "1.2.3", CHANGELOG, "the tag is 1.2.3, but taskrouter_exporter.__version__ is 1.2.3"),
        ("v1.2.4", "1.2.4", CHANGELOG, "CHANGELOG.md has no section '## [1.2.4] - YYYY-MM-DD'"),
        ("v1x2.3", "1x2.3", CHANGELOG, "CHANGELOG.md has no section '## [1x2.3] - YYYY-MM-DD'"),
        (
            "v1.2.3",
            "1.2.3",
            "## [1.2.3] - 2026-11-24\n\n## [1.2.2] - 2026-10-01\n\n- Older.\n",
            "the section of 1.2.3 in CHANGELOG.md is empty",
        ),
    ],
    ids=["another version", "no v", "no section", "no pattern", "empty section"],
)
def test_a_release_that_does_not_fit_together_is_refused(
    tmp_path: Path, tag: str, version: str, changelog: str, error: str
) -> None:
    done = run(tmp_path, tag, version, changelog)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"{error}\n")
