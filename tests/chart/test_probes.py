"""The probes' commands, run against the real exporter as it is served by each web configuration."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bcrypt
import pytest
import yaml
from support.certificates import Authority
from support.chart import DEMO, TARGETS, Objects, Values, render
from support.exporter import ROOT, Exporter

USERS = {"prometheus": bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()}
TLS = {"cert_file": "tls.crt", "key_file": "tls.key"}
MUTUAL = {**TLS, "client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "ca.crt"}

Serve = Callable[..., "Served"]


class Served:
    """A release, and the exporter that serves as the release's web configuration says."""

    def __init__(self, objects: Objects, directory: Path, exporter: Exporter) -> None:
        self.objects = objects
        self._directory = directory
        self.exporter = exporter

    def probe(self, name: str) -> subprocess.CompletedProcess[str]:
        """Run a probe as the kubelet would in the container."""
        return self._run(self.objects.container[name]["exec"]["command"])

    def test(self) -> subprocess.CompletedProcess[str]:
        """Run what `helm test` runs."""
        return self._run(self.objects.one("Pod")["spec"]["containers"][0]["command"])

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        service = self.objects.one("Service")["metadata"]["name"]
        mine = [sys.executable, *command[1:]]
        for host in ("localhost", f"{service}.monitoring.svc"):
            mine = [each.replace(f"//{host}:10142/", f"//localhost:{self.exporter.port}/") for each in mine]
        mine = [each.replace("/etc/taskrouter-exporter-web", str(self._directory)) for each in mine]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}  # for the package that the image has installed
        return subprocess.run(mine, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def serve(tmp_path: Path, start_exporter: Callable[..., Exporter]) -> Serve:
    def serve(web: Values, password: str = "right", config: object = None) -> Served:
        objects = render({**(TARGETS if config else DEMO), "web": web})
        identity = Authority(tmp_path).issue("server")
        secrets = {
            "tls": {
                "tls.crt": identity.certificate.read_text(encoding="utf-8"),
                "tls.key": identity.key.read_text(encoding="utf-8"),
                "ca.crt": (tmp_path / "ca.pem").read_text(encoding="utf-8"),
            },
            "login": {"username": "prometheus", "password": password},
        }
        directory = tmp_path / "web"
        for name, content in objects.mounted("web-config", secrets).items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_text(content, encoding="utf-8")
        arguments = [f"--web.config.file={directory / 'web.yml'}", *([] if config else ["--demo"])]
        return Served(objects, directory, start_exporter(config, arguments))

    return serve


@pytest.mark.parametrize(
    "web",
    [
        {"tlsSecret": "tls"},
        {"config": {"basic_auth_users": USERS}},
        {"config": {"basic_auth_users": USERS}, "basicAuthSecret": "login"},
        {"config": {"basic_auth_users": USERS}, "basicAuthSecret": "login", "tlsSecret": "tls"},
        {"config": {"tls_server_config": MUTUAL}, "tlsSecret": "tls"},
        {"config": {"tls_server_config": {**MUTUAL, "max_version": "TLS12"}}, "tlsSecret": "tls"},
        {"config": {"rate_limit": {"interval": "1h", "burst": 1}}},
    ],
    ids=[
        "tls",
        "password",
        "password-known",
        "password-and-tls",
        "client-cert",
        "client-cert-1.2",
        "rate-limit",
    ],
)
def test_a_healthy_exporter_passes_and_a_stopped_one_fails(web: Values, serve: Serve) -> None:
    served = serve(web)
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        result = served.probe(name)
        assert result.returncode == 0, result.stderr
    assert served.test().returncode == 0
    served.exporter.stop()
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert served.probe(name).returncode != 0
    assert served.test().returncode != 0


@pytest.fixture
def discovering() -> dict[str, Any]:
    """Return a configuration whose discovery never succeeds: nothing listens on its address."""
    account = {
        "username": f"SK{'0' * 32}",
        "password": "invented-secret-of-an-api-key-00",
        "base_url": "http://127.0.0.1:9",
        "workspaces": "auto",
    }
    return {"accounts": {"default": account}}


def test_an_exporter_that_is_not_ready_is_alive_but_not_ready(
    serve: Serve, discovering: dict[str, Any]
) -> None:
    served = serve({"config": {"basic_auth_users": USERS}, "basicAuthSecret": "login"}, config=discovering)
    result = served.probe("readinessProbe")
    assert result.returncode == 1
    assert result.stderr.strip().endswith("/-/ready: HTTP 503")
    assert served.probe("livenessProbe").returncode == 0


@pytest.mark.parametrize(
    ("secret", "password"), [("", "right"), ("login", "wrong")], ids=["no-password", "wrong-password"]
)
def test_without_the_right_password_any_answer_passes(
    secret: str, password: str, serve: Serve, discovering: dict[str, Any]
) -> None:
    web = {"config": {"basic_auth_users": USERS}, "basicAuthSecret": secret}
    assert serve(web, password, config=discovering).probe("readinessProbe").returncode == 0


def test_the_password_is_in_no_command_and_liveness_needs_none() -> None:
    objects = render({**TARGETS, "web": {"config": {"basic_auth_users": USERS}, "basicAuthSecret": "login"}})
    commands = {
        name: objects.container[name]["exec"]["command"]
        for name in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert not [name for name, command in commands.items() if USERS["prometheus"] in yaml.safe_dump(command)]
    login = "/etc/taskrouter-exporter-web/probe"
    assert [name for name, command in commands.items() if login in command] == ["readinessProbe"]


def test_without_a_web_configuration_the_kubelet_sends_the_probes() -> None:
    container = render(TARGETS).container
    paths = {
        name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")
    }
    assert paths == {"startup": "/-/healthy", "liveness": "/-/healthy", "readiness": "/-/ready"}


@pytest.mark.parametrize(
    ("arguments", "port", "url"),
    [
        ([], 10142, ""),
        (["--web.listen-address=:9142"], 9142, ""),
        (["--web.listen-address=0.0.0.0:9142"], 9142, ""),
        (["--web.listen-address", "[::]:9142", "--web.listen-address=127.0.0.1:9143"], 9142, ""),
        (["--web.listen-address=127.0.0.1:9142"], 9142, "http://127.0.0.1:9142/-/ready"),
        (["--web.listen-address=[::1]:9142"], 9142, "http://[::1]:9142/-/ready"),
        (
            ["--timeout-offset=1", "--web.listen-address=localhost:9142"],
            9142,
            "http://localhost:9142/-/ready",
        ),
    ],
)
def test_port_service_and_probes_follow_the_listen_address(arguments: list[str], port: int, url: str) -> None:
    objects = render({**DEMO, "extraArgs": arguments})
    assert objects.container["ports"] == [{"name": "http", "containerPort": port}]
    assert objects.one("Service")["spec"]["ports"][0]["targetPort"] == "http"
    probe = objects.container["readinessProbe"]
    if url:
        assert probe["exec"]["command"][-1] == url
    else:
        assert probe["httpGet"] == {"path": "/-/ready", "port": "http"}


def test_probes_follow_the_listen_address_and_tls() -> None:
    web = {"tlsSecret": "tls"}
    objects = render({**DEMO, "extraArgs": ["--web.listen-address=:9142"], "web": web})
    assert objects.container["livenessProbe"]["exec"]["command"][-1] == "https://localhost:9142/-/healthy"
