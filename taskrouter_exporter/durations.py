"""Durations in the notation of Prometheus: `15m`, `1h30m`, `500ms`."""

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
    """Parse a duration in the notation of Prometheus: units from w down to ms, each at most once.

    Raises:
        ValueError: the text is not a duration, or the duration exceeds the range of timedelta.
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
        raise ValueError(f"{text!r} exceeds the longest possible duration") from error


def format_duration(duration: timedelta) -> str:
    """Format a duration canonically, as Prometheus does: 240 minutes are `4h`, 90 minutes `1h30m`.

    Weeks are used only for a whole number of weeks; smaller units are combined. Fractions of a millisecond
    are dropped.
    """
    if duration and not duration % _UNITS["w"]:
        return f"{duration // _UNITS['w']}w"
    parts = []
    for unit in ("d", "h", "m", "s", "ms"):
        amount, duration = divmod(duration, _UNITS[unit])
        if amount:
            parts.append(f"{amount}{unit}")
    return "".join(parts) or "0s"
