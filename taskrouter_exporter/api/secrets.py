"""Credentials that a server echoes: how to notice them in a text, however they are spelled."""

import base64
import html
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote_plus

_PART_LENGTH: Final = 8
"""So many characters in a row of a secret are no coincidence."""

_ALIGNMENTS: Final = 3
"""Base64 spells a text in three ways, by what comes before it."""


class Secrets:
    """The password of an account, and what it looks like in base64."""

    def __init__(self, username: str, password: str) -> None:
        self._parts = frozenset(
            part
            for spelling in (password, *_base64_spellings(username, password))
            for part in _parts(spelling.lower())
        )

    def found_in(self, text: str) -> bool:
        """Return whether a text contains the password or a long part of it, in any of its spellings."""
        return any(
            part in self._parts
            for spelling in _decoded_spellings(text)
            for length in {len(part) for part in self._parts}
            for part in _windows(spelling.lower(), length)
        )


def _decoded_spellings(text: str) -> set[str]:
    """Return a text as it is, and with the escapes of HTML and URLs undone, up to two times."""
    spellings = {text}
    for _ in range(2):
        spellings |= {decode(each) for each in spellings for decode in (html.unescape, unquote_plus)}
    return spellings


def _base64_spellings(username: str, password: str) -> Iterator[str]:
    """Yield what the password looks like in base64, as a part of Basic authentication and at any offset."""
    secret = password.encode()
    for offset in range(_ALIGNMENTS):
        encoded = base64.b64encode(b"\0" * offset + secret).decode().rstrip("=")
        # The first characters depend on what comes before, the last one on what comes after.
        yield encoded[offset + (offset > 0) : len(encoded) - 1]
    yield base64.b64encode(f"{username}:{password}".encode()).decode().rstrip("=")


def _parts(spelling: str) -> Iterator[str]:
    if spelling:
        yield from _windows(spelling, min(_PART_LENGTH, len(spelling)))


def _windows(text: str, length: int) -> Iterator[str]:
    return (text[start : start + length] for start in range(len(text) - length + 1))
