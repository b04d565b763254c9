"""A trend as a small inline SVG."""

from collections.abc import Iterator, Sequence
from typing import Final

_HEIGHT: Final = 16
_LOWEST_TOP: Final = 0.1
"""The top of the picture is at least this share: 1 % more must not look like an incident."""

_LONGEST_GAP: Final = 5
"""Minutes without a point that the line crosses, as Prometheus's graphs do: scrapes may be rarer."""


def trend_svg(shares: Sequence[float | None]) -> str:
    """Return the line of shares, one for each minute, or "" if there are not two of them."""
    known = [share for share in shares if share is not None]
    if len(known) <= 1:
        return ""
    top = max(*known, _LOWEST_TOP)
    heights = [None if share is None else round((1 - share / top) * _HEIGHT) for share in shares]
    low, high = f"{100 * min(known):.1f}", f"{100 * max(known):.1f}"
    title = f"{low} to {high} % in the last hour" if low != high else f"{low} % in the last hour"
    box = f"0 -1 {len(shares)} {_HEIGHT + 2}"
    path = "".join(_path(heights))
    return f'<svg role="img" viewBox="{box}"><title>{title}</title><path d="{path}"/></svg>'


def _path(heights: Sequence[int | None]) -> Iterator[str]:
    """Yield the commands of the path; minutes of the same height are one."""
    last = level = 0
    height: int | None = None
    for minute, here in enumerate(heights):
        if here is None:
            continue
        if height is None or minute - last > _LONGEST_GAP:
            if level:
                yield f"h{level}"
            yield f"M{minute} {here}h0"  # a point without neighbours is a dot
            level = 0
        elif here == height:
            level += minute - last
        else:
            if level:
                yield f"h{level}"
            yield f"l{minute - last} {here - height}"
            level = 0
        last, height = minute, here
    if level:
        yield f"h{level}"
