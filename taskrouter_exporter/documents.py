"""The project's documents, as they came with this version."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

_PACKAGE: Final = Path(__file__).parent


def documents(package: Path = _PACKAGE) -> Mapping[str, Path]:
    """Markdown files by name: those that the build put into the package, or else a checkout's `docs/`."""
    built, checked_out = package / "docs", package.parent / "docs"
    directory = built if built.is_dir() else checked_out
    return {file.stem: file for file in sorted(directory.glob("*.md"))}
