"""The stack of compose.yaml without containers: each file by its own tool, and the programs from Debian."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

import pytest
import yaml
from support.alertmanager import Alertmanager
from support.exporter import ROOT, Exporter
from support.prometheus import Prometheus
from support.waiting import wait_until

COMPOSE: Final = ROOT / "compose.yaml"
SETTINGS: Final = ROOT / ".env.example"
MONITORING: Final = ROOT / "monitoring"
PROVISIONING: Final = MONITORING / "grafana" / "provisioning"
BIN: Final = Path(sys.executable).parent

StartExporter = Callable[..., Exporter]
FindProgram = Callable[[str, str], str]
Services = Mapping[str, Mapping[str, Any]]


def read(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def services() -> Services:
    services: Services = read(COMPOSE)["services"]
    return services


def binds(service: Mapping[str, Any]) -> dict[str, Path]:
    """What is mounted from the repository, by its path in the container."""
    return {
        each["target"]: ROOT / re.sub(r"\$\{\w+:-(.+)\}", r"\1", each["source"])
        for each in service["volumes"]
        if isinstance(each, dict)
    }


def run(*command: str | Path) -> tuple[int, str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


def check_schema(file: Path) -> tuple[int, str]:
    # Beside this Python, as the tests run without an activated environment.
    program = shutil.which("check-jsonschema", path=BIN)
    assert program
    return run(program, "--builtin-schema", "vendor.compose-spec", file)


def test_the_compose_file_follows_the_compose_specification() -> None:
    assert check_schema(COMPOSE) == (0, "ok -- validation done\n")


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("cap_drop:", "cap_dropp:"),
        ("condition: service_healthy", "condition: service_heathy"),
        ("create_host_path", "create_hostpath"),
        ("start_period", "startperiod"),
        ("services:", "servces:"),
    ],
)
def test_a_misspelled_key_in_the_compose_file_is_found(right: str, wrong: str, tmp_path: Path) -> None:
    text = COMPOSE.read_text(encoding="utf-8")
    assert right in text
    broken = tmp_path / "compose.yaml"
    broken.write_text(text.replace(right, wrong), encoding="utf-8")
    status, said = check_schema(broken)
    assert status == 1, said


def test_every_image_that_is_not_built_here_has_a_version(services: Services) -> None:
    pulled = {name: each["image"] for name, each in services.items() if "build" not in each}
    assert set(pulled) == {"prometheus", "alertmanager", "grafana"}
    for image in pulled.values():
        assert re.fullmatch(r"[a-z/]+:v?[0-9]+\.[0-9]+\.[0-9]+", image)
    assert (ROOT / services["exporter"]["build"] / "Dockerfile").is_file()


def test_every_service_is_confined_restarted_and_health_checked(services: Services) -> None:
    for service in services.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_mounted_files_exist_and_are_read_only(services: Services) -> None:
    for service in services.values():
        for mount in service["volumes"]:
            assert isinstance(mount, str) or mount["read_only"] is True
        assert all(source.exists() for source in binds(service).values()), binds(service)


def test_each_program_reads_the_files_mounted_for_it(services: Services) -> None:
    config, rules = binds(services["prometheus"])
    assert f"--config.file={config}" in services["prometheus"]["command"]
    rule_files = read(MONITORING / "prometheus.yml")["rule_files"]
    assert [str(PurePosixPath(config).parent / each) for each in rule_files] == [f"{rules}/*.yaml"]
    (config,) = binds(services["alertmanager"])
    assert f"--config.file={config}" in services["alertmanager"]["command"]
    (config,) = binds(services["exporter"])
    assert f"--config.file={config}\n" in SETTINGS.read_text(encoding="utf-8")
    *provisioning, dashboards = binds(services["grafana"])
    # Grafana's default
    assert provisioning == [f"/etc/grafana/provisioning/{each}" for each in ("datasources", "dashboards")]
    (provider,) = read(PROVISIONING / "dashboards" / "taskrouter.yaml")["providers"]
    assert provider["options"]["path"] == dashboards


def test_every_setting_of_the_stack_is_documented_and_every_documented_one_is_read(
    services: Services,
) -> None:
    told = set(re.findall(r"^#?(\w+)=", SETTINGS.read_text(encoding="utf-8"), re.MULTILINE))
    filled_in = set(re.findall(r"\$\{(\w+):-", COMPOSE.read_text(encoding="utf-8")))
    assert told == filled_in | services["exporter"]["environment"].keys()
    assert set(services["exporter"]["environment"].values()) == {None}


def test_the_volumes_are_where_the_programs_keep_their_data(services: Services) -> None:
    named = {
        name: dict(each.split(":") for each in service["volumes"] if isinstance(each, str))
        for name, service in services.items()
    }
    assert named == {
        "exporter": {},
        "prometheus": {"prometheus": "/prometheus"},
        "alertmanager": {"alertmanager": "/alertmanager"},
        "grafana": {"grafana": "/var/lib/grafana"},
    }
    assert "--storage.tsdb.path=/prometheus" in services["prometheus"]["command"]
    assert "--storage.path=/alertmanager" in services["alertmanager"]["command"]
    assert set(read(COMPOSE)["volumes"]) == {"prometheus", "alertmanager", "grafana"}


@pytest.mark.parametrize(
    ("service", "program_name", "package"),
    [
        ("prometheus", "prometheus", "prometheus"),
        ("alertmanager", "prometheus-alertmanager", "prometheus-alertmanager"),
    ],
)
def test_every_flag_of_a_command_is_one_that_the_program_has(
    service: str, program_name: str, package: str, services: Services, program: FindProgram
) -> None:
    _, usage = run(program(program_name, package), "--help")
    known = set(re.findall(r"--[a-z.-]+", usage))
    assert {flag.partition("=")[0] for flag in services[service]["command"]} <= known


def test_the_mounted_files_pass_the_checks_of_their_programs(
    services: Services, program: FindProgram, tmp_path: Path
) -> None:
    for service in ("prometheus", "alertmanager"):
        for target, source in binds(services[service]).items():
            here = tmp_path / target.removeprefix("/")
            here.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copy)(source, here)
    status, said = run(
        program("promtool", "prometheus"),
        "check",
        "config",
        "--lint-fatal",
        tmp_path / "etc/prometheus/prometheus.yml",
    )
    assert status == 0, said
    assert "1 rule files found" in said
    status, said = run(
        program("amtool", "prometheus-alertmanager"),
        "check-config",
        tmp_path / "etc/alertmanager/alertmanager.yml",
    )
    assert status == 0, said


def test_grafana_is_provisioned_with_this_prometheus_and_every_dashboard(services: Services) -> None:
    (source,) = read(PROVISIONING / "datasources" / "prometheus.yaml")["datasources"]
    assert (source["uid"], source["type"]) == ("prometheus", "prometheus")
    assert source["url"] == "http://prometheus:9090"
    (scraped,) = read(MONITORING / "prometheus.yml")["scrape_configs"]
    assert source["jsonData"]["timeInterval"] == scraped["scrape_interval"]
    dashboards = binds(services["grafana"])["/etc/grafana/dashboards"]
    assert list(dashboards.glob("*.json"))


@pytest.fixture
def alertmanager(program: FindProgram, tmp_path: Path) -> Iterator[Alertmanager]:
    path = program("prometheus-alertmanager", "prometheus-alertmanager")
    alertmanager = Alertmanager(path, read(MONITORING / "alertmanager.yml"), tmp_path / "alertmanager")
    yield alertmanager
    alertmanager.stop()
    alertmanager.assert_clean_log()


def evaluated_often(directory: Path) -> Path:
    """Return a directory with the rules, of which no group waits for a quarter of an hour."""
    copies = directory / "rules"
    copies.mkdir()
    for file in (MONITORING / "rules").glob("*.yaml"):
        rules = read(file)
        for group in rules["groups"]:
            group.pop("interval", None)
        (copies / file.name).write_text(json.dumps(rules), encoding="utf-8")
    return copies


@pytest.fixture
def prometheus(
    start_exporter: StartExporter, alertmanager: Alertmanager, program: FindProgram, tmp_path: Path
) -> Iterator[Prometheus]:
    exporter = start_exporter(arguments=["--demo"])
    # What is different from the container: three addresses and paths.
    here = {
        "exporter:10142": exporter.address,
        "alertmanager:9093": alertmanager.address,
        "rules/": f"{evaluated_often(tmp_path)}/",
    }
    text = (MONITORING / "prometheus.yml").read_text(encoding="utf-8")
    for there, address in here.items():
        assert there in text
        text = text.replace(there, address)
    path = program("prometheus", "prometheus")
    prometheus = Prometheus(path, yaml.safe_load(text), tmp_path / "prometheus")
    yield prometheus
    prometheus.stop()
    prometheus.assert_clean_log()


@pytest.mark.timeout(600)
def test_the_stack_scrapes_evaluates_its_rules_and_knows_its_alertmanager(
    services: Services, prometheus: Prometheus, alertmanager: Alertmanager, program: FindProgram
) -> None:
    # The first scrape comes at some time of the first minute.
    prometheus.wait_for("up", lambda series: list(series.values()) == [1], seconds=150)
    prometheus.wait_for("taskrouter:reservations:recent", lambda series: len(series) == 12, seconds=150)

    def rules() -> list[dict[str, Any]]:
        return [rule for group in prometheus.api("rules")["groups"] for rule in group["rules"]]

    wait_until("every rule evaluated", lambda: all(rule["health"] != "unknown" for rule in rules()))
    assert {(rule["health"], rule.get("lastError")) for rule in rules()} == {("ok", None)}
    in_file = read(MONITORING / "rules" / "taskrouter.yaml")["groups"]
    assert len(rules()) == sum(len(group["rules"]) for group in in_file)
    managers = prometheus.api("alertmanagers")
    assert [each["url"] for each in managers["activeAlertmanagers"]] == [
        f"http://{alertmanager.address}/api/v2/alerts"
    ]
    assert managers["droppedAlertmanagers"] == []

    # Debian's promtool is older than `promtool check ready`, by which Prometheus is asked in its container.
    _, _, *arguments = services["alertmanager"]["healthcheck"]["test"]
    amtool = program("amtool", "prometheus-alertmanager")
    for address, status in ((alertmanager.address, 0), ("127.0.0.1:1", 1)):
        asked = [each.replace("127.0.0.1:9093", address) for each in arguments]
        assert run(amtool, *asked)[0] == status


def alert(name: str, severity: str = "warning", **labels: str) -> dict[str, str]:
    return {"alertname": name, "severity": severity, "job": "taskrouter", **labels}


VOICE: Final = {"workspace": "support", "channel": "voice"}
CHAT: Final = {"workspace": "support", "channel": "chat"}
SPIKE: Final = alert("TaskRouterRejectionSpike", **VOICE)
QUEUE: Final = {**VOICE, "queue": "first"}
QUEUE_SPIKE: Final = alert("TaskRouterQueueRejectionSpike", **QUEUE)
WAITING: Final = alert("TaskRouterTasksWaiting", **QUEUE)
NEAR_LIMIT: Final = alert("TaskRouterRateLimitNear", workspace="support")
RELOAD_FAILED: Final = alert("TaskRouterConfigReloadFailed", instance="a:10142")


@pytest.mark.parametrize(
    ("cause", "silent", "told"),
    [
        (
            alert("TaskRouterRejectionSpike", "critical", **VOICE),
            [SPIKE],
            [alert("TaskRouterRejectionSpike", **CHAT), alert("TaskRouterTimeoutSpike", **VOICE)],
        ),
        (
            alert("TaskRouterExporterDown", "critical", instance="a:10142"),
            [RELOAD_FAILED],
            # Another replica may know of them.
            [SPIKE, {**RELOAD_FAILED, "instance": "b:10142"}],
        ),
        (
            {"alertname": "TaskRouterExporterDown", "severity": "critical"},
            [SPIKE, NEAR_LIMIT, RELOAD_FAILED],
            [alert("SomebodyElses")],
        ),
        (
            alert("TaskRouterTargetDown", reason="rate_limited", **VOICE),
            [NEAR_LIMIT],
            [{**NEAR_LIMIT, "workspace": "sales"}, SPIKE],
        ),
        (alert("TaskRouterTargetDown", reason="timeout", **VOICE), [], [NEAR_LIMIT, SPIKE]),
        (
            SPIKE,
            [QUEUE_SPIKE],
            [
                {**QUEUE_SPIKE, "severity": "critical", "queue": "second"},
                {**QUEUE_SPIKE, **CHAT},
                alert("TaskRouterQueueTimeoutSpike", **QUEUE),
            ],
        ),
        (
            alert("TaskRouterTimeoutSpike", "critical", **VOICE),
            [
                alert("TaskRouterQueueTimeoutSpike", severity, **VOICE, queue=queue)
                for severity, queue in (("warning", "first"), ("critical", "second"))
            ],
            [QUEUE_SPIKE],
        ),
        (
            alert("TaskRouterNoAvailableWorkers", "critical", **QUEUE),
            [WAITING],
            [{**WAITING, "queue": "second"}, QUEUE_SPIKE],
        ),
    ],
    ids=[
        *("critical", "one exporter down", "no exporter", "rate limited", "timed out"),
        *("spike of a channel", "critical spike of a channel", "no Workers"),
    ],
)
def test_an_alert_that_follows_from_another_is_not_notified(
    cause: dict[str, str],
    silent: list[dict[str, str]],
    told: list[dict[str, str]],
    alertmanager: Alertmanager,
) -> None:
    def inhibited() -> list[dict[str, str]]:
        return [each["labels"] for each in alertmanager.alerts() if each["status"]["inhibitedBy"]]

    alertmanager.add(cause, *silent, *told)
    assert len(alertmanager.alerts()) == 1 + len(silent) + len(told)
    # Alertmanager learns of a cause a moment after it shows it.
    wait_until("inhibition", lambda: len(inhibited()) >= len(silent))
    assert sorted(json.dumps(each, sort_keys=True) for each in inhibited()) == sorted(
        json.dumps(each, sort_keys=True) for each in silent
    )
