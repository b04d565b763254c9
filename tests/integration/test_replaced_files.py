"""Files that are replaced by what is not a file while the exporter runs."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from support.configurations import simulated
from support.exporter import Exporter

from taskrouter_exporter.simulator import Simulator


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["config.yaml", "web.yaml", "auth_token"])
def test_a_file_replaced_by_a_pipe_blocks_neither_reload_nor_end(
    name: str, simulator: Simulator, tmp_path: Path, start_exporter: Callable[..., Exporter]
) -> None:
    config = simulated(simulator)
    account = config["accounts"]["default"]
    (tmp_path / "auth_token").write_text(account.pop("password"), encoding="utf-8")
    account["password_file"] = "auth_token"
    web = tmp_path / "web.yaml"
    web.write_text(
        json.dumps({"http_server_config": {"headers": {"X-Frame-Options": "deny"}}}), encoding="utf-8"
    )
    exporter = start_exporter(config, [f"--web.config.file={web}"])
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    exporter.process.send_signal(signal.SIGHUP)
    exporter.wait_for_log(
        f"{name}:? is not a regular file" if name != "web.yaml" else "configuration reloaded"
    )
    assert exporter.request("/").status == 200
    exporter.wait_for_log(f"{name}:? is not a regular file")
    assert exporter.stop(seconds=10) == 0
