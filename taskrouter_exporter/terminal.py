"""Text on a terminal: what it cannot show, and how wide the rest is."""

import unicodedata


def printable(text: str) -> str:
    """Return the text with what would split a line or control a terminal escaped."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def width(text: str) -> int:
    """Return the columns that a terminal needs: Chinese characters take two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
