"""Network settings of the environment that cannot be used: found at startup, in a check and at a reload."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import certifi
import pytest
from support.configurations import simulated
from support.exporter import ROOT, Exporter

from taskrouter_exporter.simulator import Simulator

CONFIG = {
    "accounts": {"default": {"username": "AC" + "0" * 32, "password": "a-secret"}},
    "targets": [{"workspace": "WS" + "0" * 32}],
}


@pytest.mark.parametrize("arguments", [[], ["--config.check"]], ids=["startup", "check"])
@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("REQUESTS_CA_BUNDLE", "/no/such.pem", "/no/such.pem: no such file or directory"),
        ("REQUESTS_CA_BUNDLE", "config.yaml", "config.yaml contains no certificate in PEM form"),
        ("CURL_CA_BUNDLE", os.devnull, "/dev/null is not a regular file"),
        ("HTTPS_PROXY", "socks5h://user:p4ss@127.0.0.1:1", "SOCKS proxies are not supported"),
        ("HTTPS_PROXY", "http://user:p4ss#w@proxy", "not the URL of a proxy"),
    ],
)
def test_a_network_setting_that_cannot_be_used_is_one_line_and_exit_status_1(
    name: str, value: str, problem: str, arguments: list[str], tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(json.dumps(CONFIG), encoding="utf-8")
    settings = ("_CA_BUNDLE", "_PROXY", "TWILIO_")
    clean = {
        key: text for key, text in os.environ.items() if not any(part in key.upper() for part in settings)
    }
    ended = subprocess.run(
        [sys.executable, str(ROOT / "exporter.py"), "--web.listen-address=127.0.0.1:0", *arguments],
        cwd=tmp_path,
        env={**clean, name: value},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"environment: {name}: ")
    assert problem in line
    assert "p4ss" not in line
    assert ended.stdout == ""


def test_a_bundle_that_is_gone_at_a_reload_keeps_the_previous_configuration(
    simulator: Simulator, tmp_path: Path, start_exporter: Callable[..., Exporter]
) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(Path(certifi.where()).read_bytes())
    exporter = start_exporter(simulated(simulator), environment={"REQUESTS_CA_BUNDLE": str(bundle)})
    bundle.unlink()
    answer = exporter.request("/-/reload", "POST")
    assert answer.status == 500
    assert f"environment: REQUESTS_CA_BUNDLE: {bundle}: no such file or directory" in answer.text
    assert set(exporter.scrape().find("up").values()) == {1}
