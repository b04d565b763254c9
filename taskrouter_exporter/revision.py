"""The commit of this package, from the build or from the checkout, and its documentation."""

from pathlib import Path
from typing import Final

_PACKAGE: Final = Path(__file__).parent
_REPOSITORY: Final = "https://github.com/taskrouter-exporter/twilio-taskrouter-exporter"


def revision(package: Path = _PACKAGE) -> str:
    """Return the commit's hash, or `unknown`.

    A build writes the file `REVISION` into the package; a checkout has `.git` beside it.
    """
    return _built(package) or _checked_out(package.parent / ".git")


def documentation_url(version: str, package: Path = _PACKAGE) -> str:
    """Return the URL of this version's documentation: at its tag for a build, on `main` for a checkout."""
    ref = f"v{version}" if _built(package) not in ("", "unknown") else "main"
    return f"{_REPOSITORY}/tree/{ref}/docs"


def _built(package: Path) -> str:
    """Return the revision that the build wrote, or an empty text."""
    try:
        return (package / "REVISION").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _checked_out(git: Path) -> str:
    try:
        head = (git / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref: "):
            return head
        name = head.removeprefix("ref: ")
        loose = git / name
        if loose.exists():
            return loose.read_text(encoding="ascii").strip()
        packed = (git / "packed-refs").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown"
    return next((line.split()[0] for line in packed if line.endswith(f" {name}")), "unknown")
