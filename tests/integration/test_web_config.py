"""What the web configuration file asks for, seen by clients; and how a change of it applies."""

import base64
import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import bcrypt
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from structlog.testing import capture_logs
from support.certificates import Authority, Identity
from support.configurations import simulated
from support.exporter import ROOT, Exporter, request
from support.serving import Serving

from taskrouter_exporter.server.http import limit_concurrency
from taskrouter_exporter.server.security import WebSecurity
from taskrouter_exporter.simulator import Simulator

StartExporter = Callable[..., Exporter]
LARGE = 16 * 1024 * 1024
PASSWORD = "correct-horse-battery"
TLS = {"cert_file": "server.pem", "key_file": "server.key"}


def hashed(password: str, cost: int = 4) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode()


def login(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


ALICE = login("alice", PASSWORD)


class Guarded:
    """A small app behind a web configuration file that a test rewrites."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "web.yml"
        self._serving: Serving | None = None

    def write(self, **sections: object) -> None:
        """Replace the file at once, as deployment tools do."""
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps(sections), encoding="utf-8")
        new.rename(self.file)

    @property
    def serving(self) -> Serving:
        assert self._serving is not None
        return self._serving

    def start(self, most: int = 0) -> Serving:
        security = WebSecurity(self.file)
        own = {"X-Frame-Options": "sameorigin"}
        app = Starlette(
            routes=[
                Route("/", lambda _: PlainTextResponse("hello\n")),
                Route("/large", lambda _: Response(bytes(LARGE))),
                Route("/own", lambda _: PlainTextResponse("mine\n", headers=own)),
                Route("/-/healthy", lambda _: PlainTextResponse("OK\n")),
            ]
        )
        self._serving = Serving(security.protect(limit_concurrency(app, most)), security.tls)
        return self._serving.__enter__()

    def stop(self) -> None:
        if self._serving:
            self._serving.__exit__(None, None, None)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    guarded = Guarded(tmp_path)
    yield guarded
    guarded.stop()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def server(authority: Authority) -> Identity:
    return authority.issue("server")


@pytest.mark.parametrize("path", ["/", "/-/healthy", "/nowhere"])
def test_every_path_needs_the_password(path: str, guarded: Guarded) -> None:
    guarded.write(basic_auth_users={"alice": hashed(PASSWORD)})
    serving = guarded.start()
    for headers in ({}, login("alice", "wrong"), login("bob", PASSWORD), {"Authorization": "Bearer x"}):
        refused = serving.request(path, headers=headers)
        assert refused.status == 401
        assert refused.headers["www-authenticate"].startswith("Basic realm=")
        assert refused.text == "Unauthorized\n"
    assert serving.request(path, headers=ALICE).status == (404 if path == "/nowhere" else 200)


def test_a_password_of_any_length_gets_a_response(guarded: Guarded) -> None:
    guarded.write(basic_auth_users={"alice": hashed("x" * 72)})
    serving = guarded.start()
    for length, status in ((71, 401), (72, 200), (73, 401), (9000, 401)):
        assert serving.request(headers=login("alice", "x" * length)).status == status


def test_a_flood_of_wrong_passwords_does_not_starve_scrapes(guarded: Guarded) -> None:
    guarded.write(basic_auth_users={"alice": hashed(PASSWORD, 12)})
    serving = guarded.start(most=4)
    assert serving.request(headers=ALICE).status == 200
    statuses: list[int] = []

    def attack(n: int) -> None:
        statuses.append(serving.request(headers=login("alice", f"wrong-{n}")).status)

    attackers = [threading.Thread(target=attack, args=[n]) for n in range(60)]
    for each in attackers:
        each.start()
    while not statuses:  # the bound of attempts is reached
        time.sleep(0.01)
    answers = [serving.request(headers=ALICE) for _ in range(10)]
    assert {answer.status for answer in answers} == {200}
    for each in attackers:
        each.join(60)
    assert set(statuses) == {401, 503}


def test_headers_are_on_every_response_once(guarded: Guarded) -> None:
    headers = {"X-Frame-Options": "deny", "Strict-Transport-Security": "max-age=60", "X-XSS-Protection": ""}
    guarded.write(basic_auth_users={"alice": hashed(PASSWORD)}, http_server_config={"headers": headers})
    serving = guarded.start()
    for path, login_headers in (("/", ALICE), ("/", {}), ("/nowhere", ALICE)):
        answer = serving.request(path, headers=login_headers)
        assert answer.headers["x-frame-options"] == "deny"
        assert answer.headers["strict-transport-security"] == "max-age=60"
        assert "x-xss-protection" not in answer.headers
    assert serving.request("/own", headers=ALICE).headers["x-frame-options"] == "sameorigin"


def test_users_and_headers_apply_as_soon_as_the_file_changes(guarded: Guarded) -> None:
    guarded.write(basic_auth_users={"alice": hashed(PASSWORD)})
    serving = guarded.start()
    assert serving.request(headers=ALICE).status == 200
    guarded.write(
        basic_auth_users={"bob": hashed("b")}, http_server_config={"headers": {"X-Frame-Options": "deny"}}
    )
    assert serving.request(headers=ALICE).status == 401
    assert serving.request(headers=login("bob", "b")).headers["x-frame-options"] == "deny"
    guarded.write()
    assert serving.request().status == 200


def test_an_invalid_or_missing_file_keeps_the_previous_one_and_is_logged_once(guarded: Guarded) -> None:
    guarded.write(basic_auth_users={"alice": hashed(PASSWORD)})
    serving = guarded.start()
    with capture_logs() as logs:
        guarded.write(basic_auth_users={"alice": "a-planted-secret"})
        for _ in range(3):
            assert serving.request(headers=ALICE).status == 200
            assert serving.request().status == 401
        guarded.file.unlink()
        assert serving.request().status == 401
    warnings = [each for each in logs if each["log_level"] == "warning"]
    assert [each["event"] for each in warnings] == ["invalid web configuration; keeping the previous one"] * 2
    assert f"{guarded.file}:1: basic_auth_users.alice: the value is not a bcrypt hash" in warnings[0]["error"]
    assert "no such file" in warnings[1]["error"]
    assert "a-planted-secret" not in str(logs)


def test_a_rate_limit_refuses_requests_above_it(guarded: Guarded) -> None:
    guarded.write(rate_limit={"interval": "1h", "burst": 3})
    serving = guarded.start()
    answers = [serving.request() for _ in range(5)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
    guarded.write()
    assert serving.request().status == 200


@pytest.mark.usefixtures("server")
def test_only_https_is_served_with_tls(guarded: Guarded, authority: Authority) -> None:
    guarded.write(tls_server_config=TLS, http_server_config={"http2": True})
    serving = guarded.start()
    assert serving.request(tls=authority.client()).text == "hello\n"
    with pytest.raises((ConnectionError, http.client.BadStatusLine)):
        serving.request()


@pytest.mark.usefixtures("server")
def test_a_renewed_certificate_is_served_without_a_restart(guarded: Guarded, authority: Authority) -> None:
    guarded.write(tls_server_config=TLS)
    serving = guarded.start()

    def serial() -> object:
        with (
            serving.connect() as plain,
            authority.client().wrap_socket(plain, server_hostname="127.0.0.1") as connection,
        ):
            return (connection.getpeercert() or {})["serialNumber"]

    first = serial()
    assert serial() == first
    authority.issue("server")
    second = serial()
    assert second != first
    with capture_logs() as logs:
        (guarded.file.parent / "server.key").write_text("half a key", encoding="utf-8")
        assert [serial(), serial()] == [second, second]
    assert [each["log_level"] for each in logs] == ["warning"]


@pytest.mark.parametrize("missing", ["other.pem", "other.key", "both"])
@pytest.mark.usefixtures("server")
def test_a_certificate_that_appears_after_its_configuration_is_served(
    missing: str, guarded: Guarded, authority: Authority
) -> None:
    guarded.write(tls_server_config=TLS)
    serving = guarded.start()
    tls = authority.client()
    directory = guarded.file.parent
    with capture_logs() as logs:
        guarded.write(
            tls_server_config={"cert_file": "other.pem", "key_file": "other.key"},
            basic_auth_users={"alice": hashed(PASSWORD)},
        )
        assert [serving.request(tls=tls).status for _ in range(3)] == [200] * 3
        (directory / "unrelated.pem").write_bytes((directory / "server.pem").read_bytes())
        assert serving.request(tls=tls).status == 200
        authority.issue("other")
        if missing != "both":
            late = directory / missing
            content = late.read_bytes()
            late.unlink()
            assert serving.request(tls=tls).status == 200
            late.write_bytes(content)
        assert serving.request(tls=tls).status == 401
        assert serving.request(tls=tls, headers=ALICE).status == 200
    assert logs[-1]["event"] == "web configuration reloaded"
    assert len(logs) <= 3


@pytest.mark.usefixtures("server")
def test_an_open_connection_outlives_a_renewed_certificate(guarded: Guarded, authority: Authority) -> None:
    guarded.write(tls_server_config=TLS)
    serving = guarded.start()
    client = http.client.HTTPSConnection("127.0.0.1", serving.port, timeout=20, context=authority.client())
    for _ in range(2):
        client.request("GET", "/")
        assert client.getresponse().read() == b"hello\n"
        authority.issue("server")
    client.close()


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("at_first", [True, False])
def test_tls_is_not_enabled_or_disabled_without_a_restart_and_this_is_logged(
    at_first: bool,  # noqa: FBT001 -- a parameter
    guarded: Guarded,
    authority: Authority,
) -> None:
    sections: list[dict[str, object]] = [{"tls_server_config": TLS}, {}]
    before, after = sections if at_first else sections[::-1]
    guarded.write(**before)
    serving = guarded.start()
    tls = authority.client() if at_first else None
    assert serving.request(tls=tls).status == 200
    with capture_logs() as logs:
        guarded.write(**after, basic_auth_users={"alice": hashed(PASSWORD)})
        assert serving.request(tls=tls).status == 401
        assert serving.request(tls=tls, headers=ALICE).status == 200
    assert logs[0]["event"].startswith("TLS cannot be enabled or disabled without a restart")


@pytest.mark.usefixtures("server")
def test_only_clients_with_an_allowed_certificate_are_served(guarded: Guarded, authority: Authority) -> None:
    more = {
        "client_auth_type": "RequireAndVerifyClientCert",
        "client_ca_file": "ca.pem",
        "client_allowed_sans": ["prometheus.example"],
    }
    guarded.write(tls_server_config={**TLS, **more})
    serving = guarded.start()
    allowed = authority.client(authority.issue("client", "prometheus.example"))
    assert serving.request(tls=allowed).status == 200
    for other in (authority.client(), authority.client(authority.issue("other", "elsewhere.example"))):
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.BadStatusLine)):
            serving.request(tls=other)
    assert serving.request(tls=allowed).status == 200


@pytest.mark.usefixtures("server")
def test_a_large_response_is_sent_completely_over_tls(guarded: Guarded, authority: Authority) -> None:
    guarded.write(tls_server_config=TLS)
    assert len(guarded.start().request("/large", tls=authority.client()).body) == LARGE


@pytest.mark.usefixtures("server")
def test_a_request_counts_until_its_response_is_sent_over_tls(guarded: Guarded, authority: Authority) -> None:
    guarded.write(tls_server_config=TLS)
    serving = guarded.start(most=1)
    with (
        serving.connect(4096) as plain,
        authority.client().wrap_socket(plain, server_hostname="127.0.0.1") as silent,
    ):
        silent.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        assert silent.recv(15).startswith(b"HTTP/1.1 200")
        assert serving.request(tls=authority.client()).status == 503


@pytest.mark.usefixtures("server")
def test_an_idle_client_does_not_delay_shutdown(guarded: Guarded, authority: Authority) -> None:
    guarded.write(tls_server_config=TLS)
    serving = guarded.start()
    with (
        serving.connect() as plain,
        authority.client().wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        serving.wait_until(lambda: serving.connections == 1)
        begin = time.monotonic()
        guarded.stop()
        assert time.monotonic() - begin < 4
        assert connection.version()


@pytest.mark.usefixtures("server")
def test_failed_handshakes_are_not_logged(
    guarded: Guarded, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    guarded.write(tls_server_config=TLS)
    serving = guarded.start()
    for rubbish in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello", os.urandom(500)):
        with serving.connect() as connection:
            connection.sendall(rubbish)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1000):
                pass
    with pytest.raises(ssl.SSLError):
        serving.request(tls=ssl.create_default_context())  # a client that trusts other authorities
    assert serving.request(tls=authority.client()).status == 200
    assert [record for record in caplog.records if record.levelname != "DEBUG"] == []


def test_a_check_validates_the_web_configuration_too(simulator: Simulator, guarded: Guarded) -> None:
    guarded.write(tls_server_config=TLS)
    config = guarded.file.with_name("config.yaml")
    config.write_text(json.dumps(simulated(simulator)), encoding="utf-8")
    command = [
        sys.executable,
        str(ROOT / "exporter.py"),
        "--config.check",
        f"--web.config.file={guarded.file}",
    ]
    ended = subprocess.run(
        command, cwd=config.parent, capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr == (
        f"{guarded.file}:1: tls_server_config.cert_file: {config.with_name('server.pem')} cannot be read: "
        "No such file or directory\n"
    )


def test_the_real_exporter_is_scraped_over_https_with_a_password(
    simulator: Simulator, start_exporter: StartExporter, guarded: Guarded, authority: Authority
) -> None:
    authority.issue("server")
    guarded.write(tls_server_config=TLS, basic_auth_users={"alice": hashed(PASSWORD)})
    exporter = start_exporter(simulated(simulator), [f"--web.config.file={guarded.file}"])
    tls = authority.client()
    assert request(exporter.port, "/metrics", tls=tls).status == 401
    assert request(exporter.port, "/-/healthy", tls=tls).status == 401
    assert request(exporter.port, "/api/v1/failures", tls=tls).status == 401
    answer = request(exporter.port, "/metrics", headers=ALICE, tls=tls)
    assert answer.status == 200
    assert "twilio_taskrouter_up{" in answer.text
    guarded.write(tls_server_config=TLS, basic_auth_users={"bob": hashed("b")})
    assert request(exporter.port, "/metrics", headers=ALICE, tls=tls).status == 401
    exporter.wait_for_log("web configuration reloaded")
    exporter.assert_clean_log([PASSWORD, base64.b64encode(f"alice:{PASSWORD}".encode()).decode(), "$2b$"])
