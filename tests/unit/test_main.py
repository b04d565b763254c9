from importlib import import_module

import pytest

from taskrouter_exporter import __main__, flags


def test_every_command_has_a_main_function_and_is_in_the_help() -> None:
    help_text = flags._parser().format_help()
    for name, module in __main__._COMMANDS.items():
        assert callable(import_module(module).main)
        assert f"{name} (" in help_text


@pytest.mark.parametrize("name", __main__._COMMANDS)
def test_the_first_argument_selects_a_command(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["taskrouter-exporter", name, "--help"])
    with pytest.raises(SystemExit) as exit_:
        __main__.main()
    assert exit_.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: taskrouter-exporter {name} ")
