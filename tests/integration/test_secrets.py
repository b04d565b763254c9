"""Known secrets are planted wherever one can be, everything is made to fail, and no output has them."""

import base64
import json
import re
import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import bcrypt
import pytest
from integration.test_faults import FAULTS
from support.configurations import simulated
from support.exporter import Exporter, run_exporter
from support.faults import Fault, FaultySimulator

from taskrouter_exporter.simulator import ContactCentre, Simulator

StartExporter = Callable[..., Exporter]

PASSWORD: Final = "planted-Passw0rd-5f3a9c71e8d2"
OTHER_PASSWORD: Final = "planted-Rotated-77b1c0ffee42"
PROXY_PASSWORD: Final = "planted-Pr0xy-9d8c7b6a5f4e"
WEB_PASSWORD: Final = "planted-Web-0a1b2c3d4e5f"
USER_NAMES: Final = ("proxy-user", "web-user")
SID: Final = "WS" + "0" * 32


class Outputs:
    """All log messages, answers and outputs, with their source."""

    def __init__(self, *secrets: str) -> None:
        self._texts: list[tuple[str, str]] = []
        users = [*USER_NAMES, ContactCentre(seed=7).account_sid, "SK" + "1" * 32]
        plain = [*secrets, *(f"{user}:{secret}" for user in users for secret in secrets)]
        # The end of a base64 text depends on what follows it.
        encoded = [base64.b64encode(each.encode()).decode().rstrip("=")[:-1] for each in plain]
        self._spellings = {*secrets, *encoded, *map(quote, secrets), *(each.lower() for each in secrets)}

    def add(self, where: str, *texts: str | bytes) -> None:
        for text in texts:
            self._texts.append((where, text if isinstance(text, str) else text.decode(errors="replace")))

    def ask(self, exporter: Exporter, path: str, method: str = "GET", **headers: str) -> int:
        """Keep an answer with its headers, and return its status."""
        answer = exporter.request(path, method, headers)
        self.add(f"{method} {path}", repr(dict(answer.headers)), answer.body)
        return answer.status

    def ask_for_everything(self, exporter: Exporter, **headers: str) -> None:
        """Request every page, the metrics first, so that the other pages show the results of the polls."""
        headers["X-Prometheus-Scrape-Timeout-Seconds"] = "1"
        self.ask(exporter, "/metrics", **headers)
        for workspace in ContactCentre(seed=7).workspaces:
            probe = f"/probe?workspace={workspace.friendly_name}&channel=all"
            self.ask(exporter, f"{probe}&debug=true", **headers)
        for path in (
            "/", "/sd", "/api/v1/failures", "/config", "/nowhere", "/probe", "/metrics?collect[]=exporter",
        ):  # fmt: skip
            self.ask(exporter, path, **headers)

    def assert_no_secret(self) -> None:
        assert self._texts
        assert all(text.strip() for _, text in self._texts), "an output is empty: nothing was searched"
        for where, text in self._texts:
            for spelling in self._spellings:
                assert spelling not in text, f"{spelling} in {where}:\n{text}"
            assert "Traceback" not in text, f"{where}:\n{text}"


@pytest.fixture
def centre() -> ContactCentre:
    """A contact centre that accepts the planted password."""
    centre = ContactCentre(seed=7)
    centre.auth_token = PASSWORD
    return centre


def echo(status: int) -> Fault:
    """Answer with the credentials that were sent, in every place that an error has."""
    user = ContactCentre(seed=7).account_sid
    told = f"{PASSWORD} {base64.b64encode(f'{user}:{PASSWORD}'.encode()).decode()}"
    told += f" {base64.b64encode(PASSWORD.encode()).decode()} {quote(PASSWORD)}"
    body = {"code": told, "message": f"{'x' * 180} {told}", "detail": told, "title": told, "status": told}
    names = ("X-Rate-Limit-Limit", "X-Rate-Limit-Remaining", "Retry-After", "Location", "Set-Cookie")
    headers = tuple((name, told) for name in names)
    content = json.dumps(body).encode()
    return Fault("echo", rewrite=lambda answer: replace(answer, status=status, body=content, headers=headers))


DEBUG: Final = ("--log.level=debug",)
ECHOES: Final = {f"{status} that echoes": echo(status) for status in (200, 302, 400, 401, 407, 429, 500)}
FAILURES: Final = {**{name: fault for name, (fault, _) in FAULTS.items()}, **ECHOES}


class JsonExporter(Exporter):
    """An exporter that logs JSON."""

    def wait_for_log(self, pattern: str) -> re.Match[str]:
        del pattern
        return super().wait_for_log(r'"address": "127\.0\.0\.1:(\d+)"')


def by_file(config: dict[str, Any], directory: Path) -> dict[str, str]:
    account = config["accounts"]["default"]
    del account["password"]
    account["password_file"] = "auth_token"
    (directory / "auth_token").write_text(PASSWORD + "\n", encoding="utf-8")
    return {}


def by_environment(config: dict[str, Any], _directory: Path) -> dict[str, str]:
    """Configure the account by the environment, with a proxy that does not exist before Twilio's own API."""
    account = config.pop("accounts")["default"]
    return {
        "TWILIO_ACCOUNT_SID": account["username"],
        "TWILIO_AUTH_TOKEN": PASSWORD,
        "HTTPS_PROXY": f"http://proxy-user:{PROXY_PASSWORD}@127.0.0.1:9",
        "NO_PROXY": "",
    }


def by_key(_config: dict[str, Any], _directory: Path) -> dict[str, str]:
    return {}


@pytest.mark.parametrize("log_format", ["logfmt", "json"])
@pytest.mark.parametrize(
    ("plant", "failures"),
    [(by_key, FAILURES), (by_file, ECHOES), (by_environment, {"nothing but the proxy": None})],
    ids=["password", "password file", "environment"],
)
def test_no_failure_of_the_api_shows_the_credentials(
    plant: Callable[[dict[str, Any], Path], dict[str, str]],
    failures: Mapping[str, Fault | None],
    log_format: str,
    simulator: FaultySimulator,
    tmp_path: Path,
) -> None:
    config = simulated(simulator, attempts=2, request_timeout="200ms")
    environment = plant(config, tmp_path)
    (tmp_path / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
    start = JsonExporter if log_format == "json" else Exporter
    arguments = ["--config.file=config.yaml", "--log.level=debug", f"--log.format={log_format}"]
    exporter = start(arguments, tmp_path / "log", environment)
    outputs = Outputs(PASSWORD, PROXY_PASSWORD)
    try:
        outputs.ask_for_everything(exporter)
        workspaces = simulator.centre.workspaces
        for three in batched([fault for fault in failures.values() if fault], len(workspaces)):
            for workspace, fault in zip(workspaces, three, strict=False):
                simulator.faults.set(workspace.sid, fault)
            # Refused queries are polled less often until the next reload.
            outputs.ask(exporter, "/-/reload", "POST")
            outputs.ask_for_everything(exporter)
        simulator.faults.clear()
        exporter.request("/-/reload", "POST")  # queries refused repeatedly would be polled less often
        reached = plant is not by_environment
        assert set(exporter.scrape().find("up").values()) == {float(reached)}
    finally:
        assert exporter.stop() == 0
    assert "poll failed" in exporter.log
    outputs.add("log", exporter.log)
    outputs.assert_no_secret()


def batched(faults: Sequence[Fault], size: int) -> Iterator[Sequence[Fault]]:
    yield from (faults[begin : begin + size] for begin in range(0, len(faults), size))


BAD_ACCOUNTS: Final = {
    "a number": '{username: "USER", password: 123PASSWORD, password_file: 5}',
    "a list": '{username: "USER", password: ["PASSWORD"]}',
    "a mapping": '{username: "USER", password: {PASSWORD: "PASSWORD"}}',
    "with a space": '{username: "USER", password: "PASSWORD with a space"}',
    "not ASCII": '{username: "USER", password: "PASSWORD…"}',
    "too long": f'{{username: "USER", password: "PASSWORD{"x" * 600}"}}',
    "as the user name": '{username: "PASSWORD", password: "x"}',
    "as a key": '{username: "USER", PASSWORD: "x"}',
    "without a blank": "{username: USER, password:PASSWORD}",
    "under a misspelt key": '{username: "USER", pasword: "PASSWORD"}',
    "in the address": '{username: "USER", password: x, base_url: "https://user:PASSWORD@127.0.0.1"}',
    "as the region": '{username: "USER", password: x, region: "PASSWORD"}',
    "twice": '{username: "USER", password: "PASSWORD", password: "PASSWORD"}',
    "beside a file": '{username: "USER", password: "PASSWORD", password_file: auth_token}',
    "as the account": '"PASSWORD"',
    "a list of accounts": '["PASSWORD"]',
    "an open quotation mark": '{username: "USER", password: "PASSWORD}',
    "an open bracket": '{username: "USER", password: PASSWORD',
    "an alias": '{username: "USER", password: *PASSWORD}',
    "a tag": '{username: "USER", password: !PASSWORD PASSWORD}',
    "a second colon": "{username: USER, password: PASSWORD: PASSWORD}",
    "an at sign": "{username: USER, password: @PASSWORD}",
    "a control character": '{username: USER, password: "PASSWORD\x07"}',
    "an escape that is none": '{username: USER, password: "\\PASSWORD"}',
    "a surrogate": '{username: USER, password: "PASSWORD\\ud800"}',
    "a merge": "{username: USER, <<: PASSWORD}",
}


def bad_text(account: str) -> str:
    text = account.replace("PASSWORD", OTHER_PASSWORD).replace("USER", "SK" + "1" * 32)
    return f"accounts:\n  default: {text}\ntargets:\n- workspace: {SID}\n"


BAD_FILES: Final = {
    **{name: bad_text(account) for name, account in BAD_ACCOUNTS.items()},
    "nothing but a password": OTHER_PASSWORD,
    "a list with a password": f"- {OTHER_PASSWORD}\n",
    "accounts that are a password": f"accounts: {OTHER_PASSWORD}\ntargets: []\n",
    "not UTF-8": bad_text('{username: USER, password: "PASSWORD"}') + "\udcff",
    "two documents": bad_text('{username: USER, password: "PASSWORD"}') + f"---\n{OTHER_PASSWORD}\n",
}


def write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="surrogateescape")


def test_no_reload_of_an_invalid_file_shows_a_password_and_the_previous_configuration_is_kept(
    simulator: Simulator, start_exporter: StartExporter, tmp_path: Path
) -> None:
    exporter = start_exporter(simulated(simulator), ["--log.level=debug"])
    outputs = Outputs(PASSWORD, OTHER_PASSWORD)
    for name, text in BAD_FILES.items():
        write(tmp_path / "config.yaml", text)
        assert outputs.ask(exporter, "/-/reload", "POST") >= 400, name
        assert "The last reload failed" in exporter.request("/").text
        outputs.ask(exporter, "/")
    outputs.ask_for_everything(exporter)
    assert set(exporter.scrape().find("up").values()) == {1}
    assert exporter.stop() == 0
    outputs.add("log", exporter.log)
    outputs.assert_no_secret()


def test_no_rotation_of_the_password_file_shows_a_password(
    simulator: Simulator, start_exporter: StartExporter, tmp_path: Path
) -> None:
    config = simulated(simulator, attempts=1)
    by_file(config, tmp_path)
    exporter = start_exporter(config, ["--log.level=debug"])
    outputs = Outputs(PASSWORD, OTHER_PASSWORD)
    token = tmp_path / "auth_token"
    for content in (
        OTHER_PASSWORD,
        "",
        f"{OTHER_PASSWORD} and more",
        f"{OTHER_PASSWORD}\n{OTHER_PASSWORD}\n",
        f"{OTHER_PASSWORD}\udcff",
        OTHER_PASSWORD * 100,
    ):
        write(token, content)
        outputs.ask_for_everything(exporter)
        outputs.ask(exporter, "/-/reload", "POST")
    token.unlink()
    outputs.ask_for_everything(exporter)
    outputs.ask(exporter, "/-/reload", "POST")
    assert exporter.stop() == 0
    assert "invalid password file; keeping the previous password" in exporter.log
    outputs.add("log", exporter.log)
    outputs.assert_no_secret()


@pytest.mark.parametrize("arguments", [[], ["--config.check"]], ids=["start", "check"])
@pytest.mark.parametrize(
    "name", ["a number", "a mapping", "an open quotation mark", "nothing but a password"]
)
def test_no_failed_startup_and_no_failed_check_shows_a_password(
    name: str, arguments: list[str], tmp_path: Path
) -> None:
    write(tmp_path / "config.yaml", BAD_FILES[name])
    ended = run_exporter(*DEBUG, *arguments, cwd=tmp_path)
    assert ended.returncode == 1
    outputs = Outputs(OTHER_PASSWORD)
    outputs.add("stdout and stderr", ended.stdout + ended.stderr)
    outputs.assert_no_secret()


def test_a_successful_check_shows_no_password(simulator: Simulator, tmp_path: Path) -> None:
    config = simulated(simulator)
    config["accounts"]["more"] = {"username": "SK" + "1" * 32, "password_file": "auth_token"}
    (tmp_path / "auth_token").write_text(OTHER_PASSWORD, encoding="utf-8")
    (tmp_path / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
    ended = run_exporter(*DEBUG, "--config.check", cwd=tmp_path)
    assert ended.returncode == 0
    outputs = Outputs(PASSWORD, OTHER_PASSWORD)
    outputs.add("stdout and stderr", ended.stdout + ended.stderr)
    outputs.assert_no_secret()


@pytest.mark.parametrize(
    "environment",
    [
        {"TWILIO_AUTH_TOKEN": PASSWORD},
        {"TWILIO_ACCOUNT_SID": PASSWORD, "TWILIO_AUTH_TOKEN": PASSWORD},
        {"TWILIO_ACCOUNT_SID": "AC" + "0" * 32, "TWILIO_AUTH_TOKEN": f"{PASSWORD} and more"},
        {"TWILIO_API_KEY": "SK" + "1" * 32, "TWILIO_API_SECRET": f"{PASSWORD}\n\n"},
        {"TWILIO_API_KEY": "SK" + "1" * 32, "TWILIO_API_SECRET": f'"{PASSWORD}"'},
        {"TWILIO_API_KEY": "SK" + "1" * 32, "TWILIO_API_SECRET": f"${{{PASSWORD}}}"},
        {"TWILIO_API_KEY": PASSWORD, "TWILIO_API_SECRET": PASSWORD, "TWILIO_AUTH_TOKEN": PASSWORD},
        {"TWILIO_API_KEY": "SK" + "1" * 32, "TWILIO_API_SECRET": PASSWORD, "TWILIO_REGION": PASSWORD},
    ],
    ids=[
        "half a pair",
        "as the user name",
        "with a space",
        "with two newlines",
        "in quotation marks",
        "as a placeholder",
        "everywhere",
        "as the region",
    ],
)
def test_no_wrong_environment_shows_a_password(environment: Mapping[str, str], tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(f"targets:\n- workspace: {SID}\n", encoding="utf-8")
    ended = run_exporter(*DEBUG, cwd=tmp_path, **environment)
    assert ended.returncode == 1
    outputs = Outputs(PASSWORD)
    outputs.add("stdout and stderr", ended.stdout + ended.stderr)
    outputs.assert_no_secret()


@contextmanager
def proxy(answer: bytes) -> Iterator[int]:
    """A proxy that answers every request or CONNECT with these bytes; its port."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield int(server.server_address[1])
        server.shutdown()
        thread.join()


_ECHOED: Final = (
    f"proxy-user:{PROXY_PASSWORD} {base64.b64encode(f'proxy-user:{PROXY_PASSWORD}'.encode()).decode()}"
)
PROXY_ANSWERS: Final = {
    "refuses the password": b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
    "echoes the password": f"HTTP/1.1 407 {_ECHOED}\r\nX: {_ECHOED}\r\nContent-Length: 0\r\n\r\n".encode(),
    "is none": f"SSH-2.0-{_ECHOED}\r\n".encode(),
    "answers with an echo": f"HTTP/1.1 502 {_ECHOED}\r\n\r\n<html>{_ECHOED}</html>".encode(),
    "hangs up": b"",
}


def test_no_failing_proxy_shows_its_password(simulator: Simulator, start_exporter: StartExporter) -> None:
    config = simulated(simulator, attempts=1, request_timeout="500ms")
    config["accounts"]["default"]["base_url"] = "https://api.invalid"
    outputs = Outputs(PASSWORD, PROXY_PASSWORD)
    for number, answer in enumerate(PROXY_ANSWERS.values()):
        with proxy(answer) as port:
            url = f"http://proxy-user:{PROXY_PASSWORD}@127.0.0.1:{port}"
            environment = {"HTTPS_PROXY": url, "https_proxy": url, "NO_PROXY": "", "no_proxy": ""}
            exporter = start_exporter(config, ["--log.level=debug"], environment)
            outputs.ask_for_everything(exporter)
            assert set(exporter.scrape(1.5).find("up").values()) == {0}, number
            assert exporter.stop() == 0
            outputs.add(f"log {number}", exporter.log)
    outputs.assert_no_secret()


@pytest.mark.parametrize(
    "url",
    [
        f"http://proxy-user:{PROXY_PASSWORD}@127.0.0.1:port",
        f"http://proxy-user:{PROXY_PASSWORD}@127.0.0.1:99999",
        f"http://proxy-user:{PROXY_PASSWORD}@",
        f"http://proxy-user:{PROXY_PASSWORD}#@127.0.0.1:9",
        f"http://proxy-user:{PROXY_PASSWORD}@[::1",
        f"socks5://proxy-user:{PROXY_PASSWORD}@127.0.0.1:9",
        f"gopher://proxy-user:{PROXY_PASSWORD}@127.0.0.1:9",
    ],
    ids=["port", "high port", "no host", "fragment", "open bracket", "SOCKS", "scheme"],
)
def test_a_malformed_proxy_is_refused_at_startup_without_its_password(
    url: str, simulator: Simulator, tmp_path: Path
) -> None:
    config = simulated(simulator)
    config["accounts"]["default"]["base_url"] = "https://api.invalid"
    (tmp_path / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
    ended = run_exporter("--config.file=config.yaml", cwd=tmp_path, **proxy_environment(url))
    assert ended.returncode == 1
    assert "HTTPS_PROXY: " in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert PROXY_PASSWORD not in ended.stderr + ended.stdout


@pytest.mark.parametrize(
    "url",
    [
        f"http://proxy-user:{PROXY_PASSWORD}@{'a' * 70}.example:1",
        f"proxy-user:{PROXY_PASSWORD}@127.0.0.1:9",
        PROXY_PASSWORD,
    ],
    ids=["long label", "no scheme", "one word"],
)
def test_no_proxy_that_cannot_be_reached_shows_its_password_or_harms_the_process(
    url: str, simulator: Simulator, start_exporter: StartExporter
) -> None:
    config = simulated(simulator, attempts=1, request_timeout="500ms")
    config["accounts"]["default"]["base_url"] = "https://api.invalid"
    exporter = start_exporter(config, ["--log.level=debug"], proxy_environment(url))
    outputs = Outputs(PASSWORD, PROXY_PASSWORD)
    outputs.ask_for_everything(exporter)
    scrape = exporter.scrape(1.5)
    assert set(scrape.find("up").values()) == {0}
    counted = scrape.find("poll_errors_total").items()
    reasons = {dict(labels)["reason"] for labels, count in counted if count}
    assert reasons <= {"connection", "timeout", "bad_response"}
    assert exporter.stop() == 0
    outputs.add("log", exporter.log)
    outputs.assert_no_secret()


def proxy_environment(url: str) -> dict[str, str]:
    return {"HTTPS_PROXY": url, "https_proxy": url, "NO_PROXY": "", "no_proxy": ""}


@pytest.fixture
def has_web_config(tmp_path: Path) -> None:
    if "--web.config.file" not in run_exporter("--help", cwd=tmp_path).stdout:
        pytest.skip("there is no --web.config.file yet")


@pytest.mark.usefixtures("has_web_config")
def test_no_answer_shows_the_password_of_the_exporters_own_pages(
    simulator: Simulator, tmp_path: Path
) -> None:
    hashed = bcrypt.hashpw(WEB_PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    config, web = tmp_path / "config.yaml", tmp_path / "web.yaml"
    config.write_text(json.dumps(simulated(simulator)), encoding="utf-8")
    web.write_text(json.dumps({"basic_auth_users": {"web-user": hashed}}), encoding="utf-8")
    arguments = [f"--config.file={config}", f"--web.config.file={web}", "--log.level=debug"]
    exporter = Exporter(arguments, tmp_path / "log")
    outputs = Outputs(PASSWORD, WEB_PASSWORD, hashed)

    def authorization(password: str) -> str:
        return f"Basic {base64.b64encode(f'web-user:{password}'.encode()).decode()}"

    try:
        assert outputs.ask(exporter, "/metrics", Authorization=authorization(WEB_PASSWORD)) == 200
        outputs.ask_for_everything(exporter, Authorization=authorization(WEB_PASSWORD))
        for wrong in (f"Basic {WEB_PASSWORD}", f"Bearer {WEB_PASSWORD}", authorization(WEB_PASSWORD + "x")):
            assert outputs.ask(exporter, "/metrics", Authorization=wrong) == 401
            outputs.ask_for_everything(exporter, Authorization=wrong)
        web.write_text(
            json.dumps({"basic_auth_users": {"web-user": [hashed, WEB_PASSWORD]}}), encoding="utf-8"
        )
        outputs.ask_for_everything(exporter, Authorization=authorization(WEB_PASSWORD))
    finally:
        exporter.stop()
    outputs.add("log", exporter.log)
    outputs.assert_no_secret()


@pytest.mark.usefixtures("has_web_config")
@pytest.mark.parametrize(
    "text",
    [
        f"basic_auth_users: {{web-user: {WEB_PASSWORD}}}",
        f"basic_auth_users: {{web-user: [{WEB_PASSWORD}]}}",
        f"basic_auth_users: {WEB_PASSWORD}",
        f"basic_auth_user: {{web-user: {WEB_PASSWORD}}}",
        f"basic_auth_users: {{web-user: '{WEB_PASSWORD}}}",
        WEB_PASSWORD,
    ],
    ids=["not hashed", "a list", "no mapping", "misspelt", "open quotation mark", "nothing else"],
)
def test_no_wrong_web_configuration_shows_a_password(text: str, simulator: Simulator, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(json.dumps(simulated(simulator)), encoding="utf-8")
    (tmp_path / "web.yaml").write_text(text, encoding="utf-8")
    ended = run_exporter(
        *DEBUG, "--web.config.file=web.yaml", "--web.listen-address=127.0.0.1:0", cwd=tmp_path
    )
    assert ended.returncode == 1
    outputs = Outputs(PASSWORD, WEB_PASSWORD)
    outputs.add("stdout and stderr", ended.stdout + ended.stderr)
    outputs.assert_no_secret()


def test_the_search_would_find_a_secret_in_each_of_its_forms() -> None:
    for form in (
        PASSWORD,
        base64.b64encode(PASSWORD.encode()).decode(),
        base64.b64encode(f"proxy-user:{PASSWORD}".encode()).decode(),
    ):
        outputs = Outputs(PASSWORD)
        outputs.add("somewhere", f"before {form} after")
        with pytest.raises(AssertionError, match=re.escape("in somewhere")):
            outputs.assert_no_secret()
