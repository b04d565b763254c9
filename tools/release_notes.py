"""A release's notes out of CHANGELOG.md, after a check that tag, version and changelog agree.

`python tools/release_notes.py v1.2.3`, in the project's directory, prints them.
"""

import re
import sys
from pathlib import Path


class ReleaseError(Exception):
    """The release cannot be made; the message says what to change."""


def release_notes(tag: str) -> str:
    """Return the text of the version's section, without its heading.

    Raises:
        ReleaseError: the tag is not that of this version, or the changelog says nothing about it.
    """
    package = Path("taskrouter_exporter", "__init__.py").read_text(encoding="utf-8")
    declared = re.search('^__version__ = "(.+)"$', package, re.MULTILINE)
    version = declared[1] if declared else "unknown"
    if tag != f"v{version}":
        raise ReleaseError(f"the tag is {tag}, but taskrouter_exporter.__version__ is {version}")
    changelog = Path("CHANGELOG.md").read_text(encoding="utf-8")
    # A section ends at the next one, or at the link definitions at the end of the file.
    section = re.search(
        rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d\n(.*?)(?=^## |^\[[^\]]+\]: |\Z)",
        changelog,
        re.MULTILINE | re.DOTALL,
    )
    if section is None:
        raise ReleaseError(f"CHANGELOG.md has no section '## [{version}] - YYYY-MM-DD'")
    notes = section[1].strip()
    if not notes:
        raise ReleaseError(f"the section of {version} in CHANGELOG.md is empty")
    return notes


if __name__ == "__main__":
    try:
        print(release_notes(*sys.argv[1:]))  # noqa: T201 -- the command's output
    except ReleaseError as error:
        sys.exit(str(error))
