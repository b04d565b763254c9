import re

import pytest

from taskrouter_exporter.sids import is_sid, sid_key, sid_pattern

SID = "WS0123456789abcdefABCDEF0123456789"


@pytest.mark.parametrize("text", ["", "WS", SID[:-1], SID + "0", SID + "\n", SID.lower(), SID[:-1] + "g"])
def test_text_that_is_not_a_sid_equals_only_itself(text: str) -> None:
    assert not is_sid("WS", text)
    assert not re.fullmatch(sid_pattern("WS"), text)
    assert sid_key(text) == text


def test_two_spellings_of_a_sid_have_one_key() -> None:
    assert sid_key(SID) == sid_key("WS" + SID[2:].upper()) == "WS" + SID[2:].lower()
    assert sid_key(SID) != sid_key("TC" + SID[2:])


def test_a_sid_has_one_of_the_prefixes() -> None:
    assert is_sid("WS", SID)
    assert not is_sid("TC", SID)
    assert sid_pattern("AC", "SK") == "^(AC|SK)[0-9a-fA-F]{32}$"
