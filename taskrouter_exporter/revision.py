"""Which commit this is: written into the package when it is built, else asked of the checkout."""

from pathlib import Path
from typing import Final

_PACKAGE: Final = Path(__file__).parent


def revision(package: Path = _PACKAGE) -> str:
    """The commit's hash, or `unknown`.

    A build writes the file `REVISION` into the package; a checkout has `.git` beside it.
    """
    try:
        return (package / "REVISION").read_text(encoding="ascii").strip()
    except OSError:
        return _checked_out(package.parent / ".git")


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
