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
    points = [(minute, share) for minute, share in enumerate(shares) if share is not None]
    if len(points) <= 1:
        return ""
    known = [share for _, share in points]
    lowest, highest = min(known), max(known)
    low, high = f"{100 * lowest:.1f}", f"{100 * highest:.1f}"
    title = f"{low} to {high} % in the last hour" if low != high else f"{low} % in the last hour"
    path = "".join(_path(points, max(highest, _LOWEST_TOP)))
    box = f"0 -1 {len(shares)} {_HEIGHT + 2}"
    return f'<svg role="img" viewBox="{box}"><title>{title}</title><path d="{path}"/></svg>'


def _path(points: Sequence[tuple[int, float]], top: float) -> Iterator[str]:
    """Yield the commands of the path; minutes of the same height are one.

    Args:
        points: Minutes and their shares.
        top: The share at the top.
    """
    scale = _HEIGHT / top
    last, height, level = -_LONGEST_GAP - 1, -1, 0
    for minute, share in points:
        here = round(_HEIGHT - share * scale)
        apart = minute - last
        if apart > _LONGEST_GAP:
            yield f"h{level}M{minute} {here}h0" if level else f"M{minute} {here}h0"  # alone, it is a dot
            level = 0
        elif here == height:
            level += apart
        else:
            yield f"h{level}l{apart} {here - height}" if level else f"l{apart} {here - height}"
            level = 0
        last, height = minute, here
    if level:
        yield f"h{level}"
