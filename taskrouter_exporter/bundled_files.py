"""The files that come with the exporter: example configuration, rules, dashboards, units and JSON Schema."""

from pathlib import Path
from typing import Final

_PACKAGE: Final = Path(__file__).parent
_BUNDLE: Final = "share"
"""The folder of the wheel's package with these files, in the layout of the repository (pyproject.toml)."""


def bundled_directory(package: Path = _PACKAGE) -> Path:
    """Return the directory with the files: that of an installed wheel, or the checkout."""
    installed = package / _BUNDLE
    return installed if installed.is_dir() else package.parent


def example_configuration(package: Path = _PACKAGE) -> str:
    """Return the example configuration, which contains every key.

    Raises:
        OSError: the installation lacks the file.
    """
    return (bundled_directory(package) / "config.example.yaml").read_text(encoding="utf-8")
