import asyncio
import base64
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import bcrypt
import pytest
import structlog
import yaml
from starlette.responses import PlainTextResponse

from taskrouter_exporter.config.errors import ConfigError
from taskrouter_exporter.server.basic_auth import BasicAuth, TooManyAttemptsError
from taskrouter_exporter.server.security import TokenBucket, WebSecurity
from taskrouter_exporter.server.web_config import RequestLimit

ALICE = {"basic_auth_users": {"alice": bcrypt.hashpw(b"a-password", bcrypt.gensalt(4)).decode()}}


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: str


class File:
    """A web configuration file, each time with another stamp."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seconds = 1_700_000_000

    def write(self, content: Any) -> None:
        self.path.write_text(
            content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8"
        )
        self._seconds += 1
        os.utime(self.path, (self._seconds, self._seconds))


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path / "web.yml")


def request(guard: WebSecurity, authorization: str = "", headers: Sequence[tuple[str, str]] = ()) -> Answer:
    """Send one request through the guard to an app with the given response headers."""
    app = guard.protect(PlainTextResponse("hello\n", headers=dict(headers)))
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("nothing to receive")

    async def send(message: Any) -> None:
        sent.append(message)

    given = [(b"authorization", authorization.encode())] if authorization else []
    scope = {"type": "http", "method": "GET", "path": "/", "headers": given, "client": ("127.0.0.1", 1)}

    async def answer() -> None:
        await app(scope, receive, send)

    asyncio.run(answer())
    decoded = [(name.decode(), value.decode()) for name, value in sent[0]["headers"]]
    assert len(dict(decoded)) == len(decoded), "a header is repeated"
    return Answer(sent[0]["status"], dict(decoded), sent[1]["body"].decode())


def basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def test_an_empty_configuration_serves_everybody(file: File) -> None:
    file.write("{}\n")
    guard = WebSecurity(file.path)
    assert guard.tls is None
    assert request(guard).status == 200


def test_an_invalid_configuration_is_an_error_at_startup(file: File) -> None:
    file.write({"unknown": 1})
    with pytest.raises(ConfigError, match="unknown"):
        WebSecurity(file.path)


@pytest.mark.parametrize(
    "authorization", ["", "Bearer x", basic("alice", "wrong"), basic("bob", "a-password")]
)
def test_a_request_without_the_password_is_unauthorized(authorization: str, file: File) -> None:
    file.write(ALICE)
    refusal = request(WebSecurity(file.path), authorization)
    assert (refusal.status, refusal.body) == (401, "Unauthorized\n")
    assert refusal.headers["www-authenticate"].startswith("Basic realm=")


def test_a_request_with_the_password_is_served(file: File) -> None:
    file.write(ALICE)
    assert request(WebSecurity(file.path), basic("alice", "a-password")).body == "hello\n"


def test_too_many_attempts_are_answered_503(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> bool:
        raise TooManyAttemptsError

    monkeypatch.setattr(BasicAuth, "accepts", refuse)
    file.write(ALICE)
    refusal = request(WebSecurity(file.path), basic("alice", "x"))
    assert (refusal.status, refusal.body) == (503, "Too many authentication attempts.\n")
    assert refusal.headers["retry-after"] == "1"


def test_a_request_above_the_rate_limit_is_refused(file: File) -> None:
    file.write({"rate_limit": {"interval": "1h", "burst": 2}})
    guard = WebSecurity(file.path)
    assert [request(guard).status for _ in range(3)] == [200, 200, 429]


def test_headers_are_added_unless_the_response_has_them(file: File) -> None:
    file.write({"http_server_config": {"headers": {"X-Frame-Options": "deny"}}})
    guard = WebSecurity(file.path)
    assert request(guard).headers["x-frame-options"] == "deny"
    assert (
        request(guard, headers=[("X-Frame-Options", "sameorigin")]).headers["x-frame-options"] == "sameorigin"
    )


def test_a_changed_file_applies_to_the_next_request(file: File) -> None:
    file.write("{}\n")
    guard = WebSecurity(file.path)
    file.write(ALICE)
    with structlog.testing.capture_logs() as lines:
        assert [request(guard).status for _ in range(2)] == [401, 401]
    assert [line["event"] for line in lines] == ["web configuration reloaded"]


@pytest.mark.parametrize("content", ["unknown: 1\n", None], ids=["invalid", "missing"])
def test_an_invalid_or_missing_file_keeps_the_previous_configuration(content: str | None, file: File) -> None:
    file.write(ALICE)
    guard = WebSecurity(file.path)
    if content is None:
        file.path.unlink()
    else:
        file.write(content)
    with structlog.testing.capture_logs() as lines:
        assert [request(guard).status for _ in range(2)] == [401, 401]
    assert [(line["event"], line["log_level"]) for line in lines] == [
        ("invalid web configuration; keeping the previous one", "warning")
    ]


def test_a_changed_rate_limit_applies_and_an_unchanged_one_keeps_its_tokens(file: File) -> None:
    limit = {"rate_limit": {"interval": "1h", "burst": 1}}
    file.write(limit)
    guard = WebSecurity(file.path)
    assert request(guard).status == 200
    file.write(limit)
    assert request(guard).status == 429
    file.write({"rate_limit": {"interval": "1h", "burst": 2}})
    request(guard)  # reloads the file, after the bucket of before was asked
    assert request(guard).status == 200


def test_a_bucket_without_a_limit_is_never_empty() -> None:
    bucket = TokenBucket(None)
    assert all(bucket.take() for _ in range(1_000))


def test_a_bucket_gains_a_token_each_interval_up_to_its_burst(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    bucket = TokenBucket(RequestLimit(interval=2.0, burst=3))
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    now += 1.0
    assert not bucket.take()
    now += 1.0
    assert [bucket.take() for _ in range(2)] == [True, False]
    now += 60.0
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
