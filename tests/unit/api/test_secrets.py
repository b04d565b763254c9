import base64
import html
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskrouter_exporter.api.secrets import Secrets

USERNAME = "AC" + "0" * 32
PASSWORD = "p4ss/word+with&odd<characters>"
SECRETS = Secrets(USERNAME, PASSWORD)


@pytest.mark.parametrize(
    "echo",
    [
        PASSWORD,
        PASSWORD.upper(),
        PASSWORD[:12],
        PASSWORD[-8:],
        quote(PASSWORD, safe=""),
        quote_plus(PASSWORD),
        quote(quote(PASSWORD, safe=""), safe=""),
        quote(PASSWORD, safe="").lower(),
        html.escape(PASSWORD),
        html.escape(quote(PASSWORD)),
        "".join(f"&#{ord(character)};" for character in PASSWORD),
        "".join(f"%{ord(character):02x}" for character in PASSWORD),
        base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode(),
        base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()[60:76],
        base64.b64encode(PASSWORD.encode()).decode(),
        base64.b64encode(b"x" + PASSWORD.encode() + b"y").decode(),
        base64.b64encode(b"xy" + PASSWORD.encode() + b"yz").decode(),
    ],
)
def test_a_secret_is_noticed_however_it_is_spelled(echo: str) -> None:
    assert SECRETS.found_in(f"no access with {echo}, sorry")


@pytest.mark.parametrize(
    "text", ["", "Authenticate", USERNAME, PASSWORD[:7], "The requested resource /v1 was not found"]
)
def test_other_texts_contain_no_secret(text: str) -> None:
    assert not SECRETS.found_in(text)


def test_a_short_password_is_noticed_as_a_whole() -> None:
    secrets = Secrets(USERNAME, "abc")
    assert secrets.found_in("it is abc")
    assert not secrets.found_in("it is ab")


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_around_a_secret_does_not_hide_it(before: str, after: str) -> None:
    assert SECRETS.found_in(f"{before} {PASSWORD} {after}")
