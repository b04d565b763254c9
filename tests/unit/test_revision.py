from pathlib import Path

import pytest

from taskrouter_exporter.revision import revision


@pytest.fixture
def package(tmp_path: Path) -> Path:
    package = tmp_path / "taskrouter_exporter"
    package.mkdir()
    return package


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="ascii")


def test_the_revision_written_by_the_build_takes_precedence(package: Path) -> None:
    write(package / "REVISION", "abc123\n")
    write(package.parent / ".git" / "HEAD", "def456\n")
    assert revision(package) == "abc123"


@pytest.mark.parametrize(
    "files",
    [
        {"HEAD": "abc123\n"},
        {"HEAD": "ref: refs/heads/main\n", "refs/heads/main": "abc123\n"},
        {"HEAD": "ref: refs/heads/main\n", "packed-refs": "# pack-refs\nabc123 refs/heads/main\n"},
    ],
    ids=["detached", "loose", "packed"],
)
def test_in_a_checkout_git_names_the_revision(package: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        write(package.parent / ".git" / name, text)
    assert revision(package) == "abc123"


@pytest.mark.parametrize(
    "files", [{}, {"HEAD": "ref: refs/heads/main\n"}, {"HEAD": "ref: refs/heads/main\n", "packed-refs": ""}]
)
def test_otherwise_the_revision_is_unknown(package: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        write(package.parent / ".git" / name, text)
    assert revision(package) == "unknown"
