"""Durations as Prometheus writes them: `15m`, `1h30m`, `500ms`."""

import re
from datetime import timedelta
from typing import Final

_UNITS: Final = {
    "w": timedelta(weeks=1),
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
}
_DURATION: Final = re.compile("".join(rf"(?:(?P<{unit}>[0-9]{{1,9}}){unit})?" for unit in _UNITS))


def parse_duration(text: str) -> timedelta:
    """Parse a duration in Prometheus's notation: units from w down to ms, each at most once.

    Raises:
        ValueError: the text is not such a duration, or longer than a timedelta can hold.
    """
    match = _DURATION.fullmatch(text)
    if text == "0":
        return timedelta()
    if not text or match is None:
        raise ValueError(f"{text!r} is not a duration")
    try:
        return sum(
            (int(amount) * _UNITS[unit] for unit, amount in match.groupdict(default="0").items()),
            start=timedelta(),
        )
    except OverflowError as error:
        raise ValueError(f"{text!r} is too long a duration") from error


def format_duration(duration: timedelta) -> str:
    """Write a duration canonically, as Prometheus does: `240m` is `4h`, `90m` is `1h30m`.

    Weeks are used only where nothing is left over, days and below are combined. Milliseconds are the
    smallest unit; what is below is dropped.
    """
    if duration and not duration % _UNITS["w"]:
        return f"{duration // _UNITS['w']}w"
    parts = []
    for unit in ("d", "h", "m", "s", "ms"):
        amount, duration = divmod(duration, _UNITS[unit])
        if amount:
            parts.append(f"{amount}{unit}")
    return "".join(parts) or "0s"
