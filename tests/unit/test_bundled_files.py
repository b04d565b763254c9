from pathlib import Path

import pytest
import yaml
from support.exporter import ROOT

from taskrouter_exporter.bundled_files import bundled_directory, example_configuration
from taskrouter_exporter.flags import parse_flags


def test_a_checkout_has_the_files_in_its_own_directory() -> None:
    assert bundled_directory() == ROOT
    assert "targets" in yaml.safe_load(example_configuration())


def test_an_installed_package_contains_the_files(tmp_path: Path) -> None:
    share = tmp_path / "taskrouter_exporter" / "share"
    share.mkdir(parents=True)
    (share / "config.example.yaml").write_text("targets: []\n", encoding="utf-8")
    assert bundled_directory(share.parent) == share
    assert example_configuration(share.parent) == "targets: []\n"


def test_the_flags_print_the_example_and_the_directory(capsys: pytest.CaptureFixture[str]) -> None:
    for flag, output in (
        ("--config.example", (ROOT / "config.example.yaml").read_text(encoding="utf-8")),
        ("--files.directory", f"{ROOT}\n"),
    ):
        with pytest.raises(SystemExit) as caught:
            parse_flags([flag], {"TASKROUTER_EXPORTER_LOG_LEVEL": "loud"})
        assert (caught.value.code, capsys.readouterr().out) == (0, output)


def test_a_missing_file_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> str:
        raise FileNotFoundError(2, "No such file or directory", "/share/config.example.yaml")

    monkeypatch.setattr("taskrouter_exporter.flags.example_configuration", missing)
    with pytest.raises(SystemExit) as caught:
        parse_flags(["--config.example"], {})
    assert caught.value.code == 1
    assert capsys.readouterr().err == (
        "taskrouter-exporter: --config.example: /share/config.example.yaml: No such file or directory\n"
    )
