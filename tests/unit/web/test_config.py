from pathlib import Path
from typing import Any

import pytest
import yaml

from taskrouter_exporter.config.loader import parse_config
from taskrouter_exporter.config.model import Config
from taskrouter_exporter.web.config import SECRET, config_yaml

PASSWORD = "a-secret-of-the-account"
USERNAME, SID = "AC" + "0" * 32, "WS" + "0" * 32
ENVIRONMENT = {"TWILIO_ACCOUNT_SID": USERNAME, "TWILIO_AUTH_TOKEN": PASSWORD}
EVERYTHING = {
    "accounts": {
        "main": {"username": USERNAME, "password": PASSWORD, "region": "ie1"},
        "found": {
            "username": USERNAME,
            "password_file": "auth_token",
            "workspaces": "auto",
            "include": ["support-*"],
            "exclude": ["*-test"],
            "channels": ["all", "auto"],
            "windows": ["4h"],
            "counters": "week",
            "timezone": "America/New_York",
        },
    },
    "polling": {"concurrency": 3, "attempts": 2, "request_timeout": "1500ms", "cache": "1m30s"},
    "discovery": {"interval": "1h"},
    "targets": [
        {"workspace": SID, "name": "支持: #1", "account": "main", "channels": ["voice", "auto"]},
        {"workspace": "WS" + "1" * 32, "account": "main", "windows": [], "counters": "day"},
    ],
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "auth_token").write_text(PASSWORD, encoding="utf-8")
    return tmp_path


def load(document: Any, directory: Path) -> Config:
    return parse_config(yaml.safe_dump(document), "config.yaml", directory, ENVIRONMENT)


@pytest.mark.parametrize("document", [EVERYTHING, {"targets": [{"workspace": SID}]}], ids=["all", "least"])
def test_the_text_is_a_configuration_that_does_the_same_once_its_passwords_are_set(
    document: Any, directory: Path
) -> None:
    config = load(document, directory)
    text = config_yaml(config).replace(SECRET, PASSWORD)
    assert parse_config(text, "effective.yaml", directory, {}) == config


def test_passwords_are_replaced(directory: Path) -> None:
    text = config_yaml(load(EVERYTHING, directory))
    assert PASSWORD not in text
    assert f"password: {SECRET}\n" in text
    assert f"password_file: {directory}/auth_token\n" in text


def test_defaults_and_the_account_of_the_environment_are_written_out(directory: Path) -> None:
    assert yaml.safe_load(config_yaml(load({"targets": [{"workspace": SID}]}, directory))) == {
        "accounts": {
            "default": {
                "username": USERNAME,
                "password": SECRET,
                "base_url": "https://taskrouter.twilio.com",
            }
        },
        "polling": {"concurrency": 16, "attempts": 4, "request_timeout": "5s", "cache": "0s"},
        "discovery": {"interval": "10m"},
        "targets": [
            {
                "workspace": SID,
                "name": SID,
                "account": "default",
                "channels": ["all"],
                "windows": ["15m"],
                "statistics": ["workers"],
            }
        ],
    }
