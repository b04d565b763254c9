from pathlib import Path

import pytest

from taskrouter_exporter.revision import documentation_url, revision


@pytest.fixture
def package(tmp_path: Path) -> Path:
    package = tmp_path / "taskrouter_exporter"
    package.mkdir()
    return package


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="ascii")


def test_the_revision_of_the_build_comes_first(package: Path) -> None:
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
def test_a_checkout_has_the_revision_of_its_head(package: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        write(package.parent / ".git" / name, text)
    assert revision(package) == "abc123"


@pytest.mark.parametrize(
    "files", [{}, {"HEAD": "ref: refs/heads/main\n"}, {"HEAD": "ref: refs/heads/main\n", "packed-refs": ""}]
)
def test_without_both_the_revision_is_unknown(package: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        write(package.parent / ".git" / name, text)
    assert revision(package) == "unknown"


def test_a_build_links_to_the_documentation_of_its_tag(package: Path) -> None:
    write(package / "REVISION", "abc123\n")
    assert documentation_url("1.2.3", package).endswith("/tree/v1.2.3/docs")


@pytest.mark.parametrize("revision", [None, "unknown\n", ""])
def test_an_unreleased_version_links_to_the_documentation_of_main(
    package: Path, revision: str | None
) -> None:
    write(package.parent / ".git" / "HEAD", "def456\n")
    if revision is not None:
        write(package / "REVISION", revision)
    assert documentation_url("1.2.3", package).endswith("/tree/main/docs")
