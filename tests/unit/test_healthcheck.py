import base64
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp
from support.certificates import Authority
from support.serving import Serving

from taskrouter_exporter import healthcheck
from taskrouter_exporter.healthcheck import check

PATH = "/-/healthy"


def app(answer: Callable[[Request], Response]) -> ASGIApp:
    return Starlette(routes=[Route(PATH, answer)])


def url(serving: Serving, scheme: str = "http") -> str:
    return f"{scheme}://127.0.0.1:{serving.port}{PATH}"


@pytest.mark.parametrize("status", [200, 401, 404, 429])
def test_any_status_below_500_is_healthy(status: int) -> None:
    with Serving(app(lambda _: PlainTextResponse("", status))) as serving:
        assert check(url(serving)) == ""


@pytest.mark.parametrize("status", [500, 503])
def test_a_server_error_is_unhealthy(status: int) -> None:
    with Serving(app(lambda _: PlainTextResponse("", status))) as serving:
        assert check(url(serving)) == f"{url(serving)}: HTTP {status}"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_server_with_tls_is_healthy_under_either_scheme(scheme: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue("server")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    with Serving(app(lambda _: PlainTextResponse("OK")), tls) as serving:
        assert check(url(serving, scheme)) == ""


def test_the_login_is_sent_as_basic_authentication(tmp_path: Path) -> None:
    (tmp_path / "username").write_bytes(b"alice")
    (tmp_path / "password").write_bytes(b"a:password")
    received: list[str] = []

    def answer(request: Request) -> Response:
        received.append(request.headers.get("Authorization", ""))
        return PlainTextResponse("OK")

    with Serving(app(answer)) as serving:
        assert check(url(serving), tmp_path) == ""
    assert received == [f"Basic {base64.b64encode(b'alice:a:password').decode()}"]


def test_a_missing_login_is_unhealthy(tmp_path: Path) -> None:
    assert "No such file or directory" in check(f"http://127.0.0.1:9{PATH}", tmp_path)


def test_a_server_that_hangs_is_unhealthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(healthcheck, "_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        assert check(f"http://127.0.0.1:{hanging.getsockname()[1]}{PATH}").endswith(": timed out")


def test_a_closed_port_is_unhealthy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert "Connection refused" in check(f"http://127.0.0.1:{port}{PATH}")
