"""Time zones by their names in the IANA database, and the name that was probably meant."""

import difflib
from datetime import UTC, tzinfo
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

UTC_NAME: Final = "UTC"

_NO_ZONES: Final = {"Factory", "localtime"}
"""Names that stand for a machine's own setting, or for none."""

_LONGEST_NAME: Final = 60


def is_time_zone(name: str) -> bool:
    """Return whether a name is one of the IANA database, spelled as there."""
    return name == UTC_NAME or name in _names()


def time_zone(name: str) -> tzinfo:
    """Return a time zone; UTC needs no database."""
    return UTC if name == UTC_NAME else ZoneInfo(name)


def similar_time_zone(name: str) -> str | None:
    """Return the time zone that an unknown name probably means: `Europe/Berlin` for `berlin`.

    None of `Etc/` is suggested, because `Etc/GMT+1` is an hour behind UTC.
    """
    by_spelling = {zone.lower(): zone for zone in sorted(_names()) if "/" in zone and zone[:4] != "Etc/"}
    spelling = name[:_LONGEST_NAME].lower().replace(" ", "_")
    city = spelling.rpartition("/")[2]
    near = [key for key in by_spelling if key.rpartition("/")[2] == city]
    near += difflib.get_close_matches(spelling, by_spelling, n=1, cutoff=0.75)
    return by_spelling[near[0]] if near else None


@cache
def _names() -> frozenset[str]:
    """Return all names: reading them from the file system takes long for a file with many targets."""
    return frozenset(available_timezones() - _NO_ZONES)
