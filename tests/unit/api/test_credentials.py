import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from taskrouter_exporter.api.credentials import Credentials
from taskrouter_exporter.config.model import Account


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "auth_token"
    path.write_text("first\n", encoding="utf-8")
    return path


def of(file: Path) -> Credentials:
    return Credentials(Account("a", "https://x.test", "AC" + "0" * 32, None, file))


def test_a_configured_password_does_not_change() -> None:
    account = Account("a", "https://x.test", "AC" + "0" * 32, SecretStr("fixed"), None)
    assert Credentials(account).password() == "fixed"


def test_a_changed_file_is_reread(file: Path) -> None:
    credentials = of(file)
    assert credentials.password() == "first"
    file.write_text("second-longer\n", encoding="utf-8")
    assert credentials.password() == "second-longer"


def test_a_file_replaced_by_one_of_the_same_size_and_time_is_reread(file: Path) -> None:
    credentials = of(file)
    before = file.stat()
    replacement = file.with_name("new")
    replacement.write_text("other\n", encoding="utf-8")
    os.utime(replacement, ns=(before.st_atime_ns, before.st_mtime_ns))
    replacement.replace(file)
    assert credentials.password() == "other"


@pytest.mark.parametrize("state", ["missing", "empty", "not UTF-8"])
def test_an_unusable_file_keeps_the_last_password(file: Path, state: str) -> None:
    credentials = of(file)
    if state == "missing":
        file.unlink()
    else:
        file.write_bytes(b"" if state == "empty" else b"\xff\xfe\xfd")
    assert credentials.password() == "first"
    file.write_text("second\n", encoding="utf-8")
    assert credentials.password() == "second"


def test_the_generation_counts_the_reread_passwords(file: Path) -> None:
    credentials = of(file)
    credentials.password()
    assert credentials.generation == 0
    file.write_text("", encoding="utf-8")
    credentials.password()
    assert credentials.generation == 0, "it is not usable"
    file.write_text("second\n", encoding="utf-8")
    credentials.password()
    assert credentials.generation == 1
