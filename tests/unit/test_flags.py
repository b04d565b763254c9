import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from prometheus_client import metrics

from taskrouter_exporter.command_line import VARIABLE_PREFIX, variable_of
from taskrouter_exporter.flags import DISABLE_CREATED, HEALTH_URL, _parser, misspelled_variables, parse_flags
from taskrouter_exporter.server.listen import ListenAddress

FLAGS = _parser().variables
VALUES = {
    "--config.file": "some.yaml",
    "--web.config.file": "web.yml",
    "--web.listen-address": "127.0.0.1:1",
    "--web.health-address": "127.0.0.1:2",
    "--web.telemetry-path": "/other",
    "--web.external-url": "https://exporter.example",
    "--web.max-requests": "7",
    "--web.max-scrape-timeout": "7s",
    "--timeout-offset": "7",
    "--log.level": "debug",
    "--log.format": "json",
    "--demo.scenario": "outage",
}


def variables(**values: str) -> dict[str, str]:
    return {VARIABLE_PREFIX + name: value for name, value in values.items()}


@pytest.mark.parametrize(
    ("level", "parsed"), [("debug", "debug"), ("info", "info"), ("warn", "warn"), ("warning", "warn")]
)
def test_the_log_level_may_be_warn_or_warning(level: str, parsed: str) -> None:
    assert parse_flags([f"--log.level={level}"], {}).log_level == parsed


def test_flags_have_defaults() -> None:
    flags = parse_flags([], {})
    assert (flags.telemetry_path, flags.max_requests, flags.timeout_offset) == ("/metrics", 40, 0.5)
    assert (flags.log_level, flags.log_format, flags.demo) == ("info", "logfmt", False)
    assert (flags.auto_reload, flags.systemd_socket, flags.health_address) == (False, False, None)


def test_listen_addresses_and_configuration_files_may_be_repeated() -> None:
    flags = parse_flags(["--web.listen-address=:1", "--web.listen-address=[::1]:2"], {})
    assert flags.listen_addresses == [ListenAddress("", 1), ListenAddress("::1", 2)]
    flags = parse_flags(["--config.file", "a.yaml", "--config.file=teams"], {})
    assert flags.config_files == [Path("a.yaml"), Path("teams")]


def test_every_help_text_is_a_sentence() -> None:
    for action in _parser()._actions:
        assert action.help is not None
        text = action.help.partition(" (default:")[0]
        assert text[0].isupper(), text
        assert text.endswith("."), text


@pytest.mark.parametrize("flag", FLAGS)
def test_every_flag_can_be_set_by_its_variable(flag: str) -> None:
    argument = f"{flag}={VALUES[flag]}" if flag in VALUES else flag
    value = VALUES.get(flag, "true")
    expected = vars(parse_flags([argument], {}))
    assert vars(parse_flags([], {FLAGS[flag]: value})) == expected
    assert expected != vars(parse_flags([], {}))


def test_variables_are_named_after_their_flags() -> None:
    assert variable_of("--web.listen-address") == "TASKROUTER_EXPORTER_WEB_LISTEN_ADDRESS"
    assert all(variable == variable_of(flag) for flag, variable in FLAGS.items())
    without = {"--config.example", "--files.directory", "--help", "--version"}
    assert {action.option_strings[-1] for action in _parser()._actions} - FLAGS.keys() == without


def test_no_variable_is_that_of_the_health_check_or_one_that_kubernetes_sets_for_a_service() -> None:
    assert len(set(FLAGS.values())) == len(FLAGS)
    assert VARIABLE_PREFIX + HEALTH_URL not in FLAGS.values()
    of_services = re.compile("_(SERVICE_HOST|SERVICE_PORT.*|PORT|PORT_[0-9].*)$")
    assert [variable for variable in FLAGS.values() if of_services.search(variable)] == []


def test_a_flag_takes_precedence_over_its_variable_even_over_a_bad_value() -> None:
    environ = variables(WEB_LISTEN_ADDRESS=":1", LOG_LEVEL="loud", DEMO="false")
    flags = parse_flags(["--web.listen-address=:2", "--log.level", "warn", "--demo"], environ)
    assert flags.listen_addresses == [ListenAddress("", 2)]
    assert (flags.log_level, flags.demo) == ("warn", True)


def test_the_values_of_a_repeatable_flag_are_separated_by_commas() -> None:
    flags = parse_flags([], variables(WEB_LISTEN_ADDRESS=":1, [::1]:2", CONFIG_FILE="a.yaml,teams\n"))
    assert flags.listen_addresses == [ListenAddress("", 1), ListenAddress("::1", 2)]
    assert flags.config_files == [Path("a.yaml"), Path("teams")]


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("False", False), ("0", False)])
def test_a_switch_is_true_or_false(text: str, value: bool) -> None:  # noqa: FBT001 -- a parameter of the test
    assert parse_flags([], variables(CONFIG_AUTO_RELOAD=text)).auto_reload is value


def test_an_empty_variable_is_not_set() -> None:
    environ = variables(WEB_LISTEN_ADDRESS="", DEMO="", LOG_LEVEL="\n")
    assert vars(parse_flags([], environ)) == vars(parse_flags([], {}))


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (variables(LOG_LEVEL="loud"), "TASKROUTER_EXPORTER_LOG_LEVEL: invalid choice: 'loud'"),
        (variables(WEB_LISTEN_ADDRESS=":1,2"), "TASKROUTER_EXPORTER_WEB_LISTEN_ADDRESS: '2' is not an addr"),
        (variables(CONFIG_FILE="a,,b"), "TASKROUTER_EXPORTER_CONFIG_FILE: 'a,,b' has an empty value"),
        (variables(DEMO="yes"), "TASKROUTER_EXPORTER_DEMO: 'yes' is not true or false"),
        (
            variables(WEB_MAX_REQUESTS="many\nlines"),
            "TASKROUTER_EXPORTER_WEB_MAX_REQUESTS: 'many\\nlines' is",
        ),
        (
            variables(WEB_SYSTEMD_SOCKET="true", WEB_LISTEN_ADDRESS=":1"),
            "TASKROUTER_EXPORTER_WEB_SYSTEMD_SOCKET and TASKROUTER_EXPORTER_WEB_LISTEN_ADDRESS are mutually",
        ),
    ],
)
def test_a_bad_value_names_its_variable_on_one_line(
    environ: Mapping[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_flags([], environ)
    errors = capsys.readouterr().err
    assert caught.value.code == 2
    assert errors.startswith(f"taskrouter-exporter: {message}")
    assert errors.count("\n") == 1


@pytest.mark.parametrize("text", ["true", "True", "1", "t", "T", "false", "0", "yes", ""])
def test_the_variable_of_prometheus_client_means_what_it_means_there(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DISABLE_CREATED, text)
    assert parse_flags([], os.environ).disable_created is not metrics._get_use_created()


def test_flags_that_exclude_each_other_are_named_as_they_were_set(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_flags(["--web.systemd-socket"], variables(WEB_LISTEN_ADDRESS=":1"))
    assert "--web.systemd-socket and TASKROUTER_EXPORTER_WEB_LISTEN_ADDRESS are" in capsys.readouterr().err


def test_a_misspelled_variable_is_found_and_those_of_others_are_not() -> None:
    others = variables(HEALTH_URL="x", PORT="x", SERVICE_HOST="x", PORT_10142_TCP_ADDR="x", DEMO_PORT="x")
    assert list(misspelled_variables({**others, **variables(WEB_LISTEN_ADDRES=":1", DEMO="1")})) == [
        ("TASKROUTER_EXPORTER_WEB_LISTEN_ADDRES", "TASKROUTER_EXPORTER_WEB_LISTEN_ADDRESS")
    ]
