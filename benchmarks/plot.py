"""The plot of the requests that are under way over a scrape, as SVG."""

from collections.abc import Sequence
from typing import Final

_WIDTH: Final = 720
_HEIGHT: Final = 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 16, 16, 36
_STYLE: Final = (
    "text{font:12px sans-serif;fill:#555}path{fill:none}"
    ".grid{stroke:#8886}.busy{stroke:#2a78d6;stroke-width:1.5}"
    "@media(prefers-color-scheme:dark){text{fill:#bbb}.busy{stroke:#6aa8f0}}"
)


def busy_plot(busy: Sequence[tuple[float, int]], concurrency: int) -> str:
    """Return a plot of the number of requests under way.

    Args:
        busy: Seconds since an unspecified time, and the number from then on.
        concurrency: The most that may be under way.
    """
    begin, end = busy[0][0], busy[-1][0]
    across = (_WIDTH - _LEFT - _RIGHT) / (end - begin)
    up = (_HEIGHT - _TOP - _BOTTOM) / concurrency
    floor = _HEIGHT - _BOTTOM

    def x(seconds: float) -> str:
        return f"{_LEFT + seconds * across:.1f}"

    def y(number: float) -> str:
        return f"{floor - number * up:.1f}"

    line = f"M{x(0)},{y(0)}" + "".join(f"H{x(at - begin)}V{y(number)}" for at, number in busy)
    grid, labels = [], []
    for number in (0, concurrency // 2, concurrency):
        grid.append(f"M{x(0)},{y(number)}H{_WIDTH - _RIGHT}")
        labels.append(f'<text x="{_LEFT - 8}" y="{y(number)}" dy="4" text-anchor="end">{number}</text>')
    for half_seconds in range(int(2 * (end - begin)) + 1):
        seconds = half_seconds / 2
        labels.append(f'<text x="{x(seconds)}" y="{floor + 16}" text-anchor="middle">{seconds:g} s</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">'
        f"<title>Requests under way during a scrape</title><style>{_STYLE}</style>"
        f'<path class="grid" d="{"".join(grid)}"/><path class="busy" d="{line}"/>{"".join(labels)}</svg>\n'
    )
