"""SIDs, the identifiers of Twilio resources: two capital letters and 32 hex digits of either case."""

import re
from typing import Final

_HEX_DIGITS: Final = "[0-9a-fA-F]{32}"
_SID: Final = re.compile(f"[A-Z]{{2}}{_HEX_DIGITS}")


def sid_pattern(*prefixes: str) -> str:
    """Return a regular expression for a SID with one of the prefixes.

    The digits match the patterns in Twilio's OpenAPI description.
    """
    prefix = prefixes[0] if len(prefixes) == 1 else f"({'|'.join(prefixes)})"
    return f"^{prefix}{_HEX_DIGITS}$"


def is_sid(prefix: str, text: str) -> bool:
    """Return whether the text is a SID with this prefix."""
    return text.startswith(prefix) and _SID.fullmatch(text) is not None


def sid_key(text: str) -> str:
    """Return a key that is equal for two spellings of one SID. Any other text is its own key."""
    return text[:2] + text[2:].lower() if _SID.fullmatch(text) else text
