import re

from taskrouter_exporter.web.trend import trend_svg


def path(svg: str) -> str:
    (commands,) = re.findall('<path d="([^"]*)"/>', svg)
    return str(commands)


def test_less_than_two_points_are_no_trend() -> None:
    assert [trend_svg(shares) for shares in ([], [None] * 60, [None, 0.5])] == ["", "", ""]


def test_a_trend_names_its_lowest_and_highest_share_to_screen_readers() -> None:
    svg = trend_svg([0.015, None, 0.25])
    assert svg.startswith('<svg role="img" viewBox="0 -1 3 18"><title>1.5 to 25.0 % in the last hour</title>')
    assert "<title>0.0 % in the last hour</title>" in trend_svg([0.0, 0.0])


def test_the_line_reaches_from_no_share_at_the_bottom_to_the_highest_at_the_top() -> None:
    assert path(trend_svg([0.0, 0.5, 0.25])) == "M0 16h0l1 -16l1 8"


def test_small_shares_stay_at_the_bottom() -> None:
    assert path(trend_svg([0.0, 0.01])) == "M0 16h0l1 -2"


def test_minutes_of_the_same_height_are_one_line() -> None:
    assert path(trend_svg([0.5] * 30 + [0.25] * 30)) == "M0 0h0h29l1 8h29"


def test_the_line_crosses_short_gaps_and_ends_at_long_ones() -> None:
    assert path(trend_svg([0.5, None, None, None, None, 0.25])) == "M0 0h0l5 8"
    assert path(trend_svg([0.5, 0.5, *[None] * 5, 0.5, 0.5])) == "M0 0h0h1M7 0h0h1"
