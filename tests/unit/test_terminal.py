import pytest

from taskrouter_exporter.terminal import printable, width


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Zoë, 支持", "Zoë, 支持"),
        ("a\nb\x1b[2J", r"a\nb\x1b[2J"),
        ("\u202etxt", r"\u202etxt"),
        ("\ufeff", r"\ufeff"),
    ],
)
def test_what_would_control_a_terminal_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_chinese_characters_are_two_columns_wide() -> None:
    assert (width("support"), width("支持")) == (7, 4)
