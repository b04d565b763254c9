"""What stands within the objects, as those read it for whom it is: the exporter, Prometheus, Grafana."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.certificates import Authority
from support.chart import CHART, DEMO, NAMESPACE, TARGETS, VALUES_FILES, Objects, Values, render
from support.exporter import ROOT, Exporter

from taskrouter_exporter.history.flags import parse

MONITORING = ROOT / "monitoring"
RULES = MONITORING / "rules/taskrouter.yaml"
PASSWORD = "invented-secret-of-an-api-key-00"


def _write(directory: Path, files: dict[str, str]) -> None:
    directory.mkdir()
    for name, content in files.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(content, encoding="utf-8")


@pytest.mark.parametrize(
    "file", [file for file in VALUES_FILES if file.stem != "demo-values"], ids=lambda file: file.stem
)
def test_the_exporter_accepts_its_arguments_and_configuration(file: Path, tmp_path: Path) -> None:
    identity = Authority(tmp_path).issue("server")
    secrets = {
        "twilio": {"auth_token": PASSWORD},
        "taskrouter-exporter-tls": {
            "tls.crt": identity.certificate.read_text(encoding="utf-8"),
            "tls.key": identity.key.read_text(encoding="utf-8"),
            "ca.crt": (tmp_path / "ca.pem").read_text(encoding="utf-8"),
        },
        "taskrouter-exporter-prometheus": {"username": "prometheus", "password": "right"},
    }
    objects = render(yaml.safe_load(file.read_text(encoding="utf-8")))
    _write(tmp_path / "run", secrets["twilio"])
    arguments = list(objects.container["args"])
    for volume, mount in {
        mount["name"]: mount["mountPath"] for mount in objects.container["volumeMounts"]
    }.items():
        if volume == "twilio":  # a CSI driver's
            continue
        files = objects.mounted(volume, secrets)
        _write(
            tmp_path / volume,
            {name: text.replace("/run/twilio", str(tmp_path / "run")) for name, text in files.items()},
        )
        arguments = [each.replace(f"={mount}/", f"={tmp_path / volume}/") for each in arguments]
    check = [sys.executable, str(ROOT / "exporter.py"), *arguments, "--config.check"]
    login = {"TWILIO_ACCOUNT_SID": f"AC{'0' * 32}", "TWILIO_AUTH_TOKEN": PASSWORD}
    done = subprocess.run(check, env=os.environ | login, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "config.yaml: valid" in done.stdout


def _backfill(**values: Any) -> dict[str, Any]:
    backfill = {"enabled": True, "existingClaim": "history", **values}
    return render({**TARGETS, "backfill": backfill}).one("Job")


def test_the_command_accepts_the_flags_of_the_backfill() -> None:
    labels, url = {"job": "a b", "instance": "x:1"}, "http://prometheus:9090/api/v1/write"
    job = _backfill(
        labels=labels, remoteWriteUrl=url, prometheusUrl="http://prometheus:9090", extraArgs=["--windows"]
    )
    command, *flags = job["spec"]["template"]["spec"]["containers"][0]["args"]
    assert command == "backfill"
    parsed = parse(flags, {})
    assert (parsed.labels, parsed.remote_write.url, parsed.windows, parsed.yes) == (labels, url, True, True)
    assert parsed.start.text == "now-29d"
    (container,) = _backfill()["spec"]["template"]["spec"]["containers"]
    assert parse(container["args"][1:], {}).output == Path("/backfill/history.om")


def test_a_backfill_with_another_pod_is_another_job_that_the_service_does_not_select() -> None:
    names = [_backfill(step=step)["metadata"]["name"] for step in ("5m", "5m", "15m")]
    assert names[0] == names[1] != names[2]
    objects = render({**TARGETS, "backfill": {"enabled": True, "existingClaim": "history"}})
    labels = objects.one("Job")["spec"]["template"]["metadata"]["labels"]
    assert not objects.one("Service")["spec"]["selector"].items() <= labels.items()


def test_the_demo_serves_with_its_arguments(start_exporter: Callable[..., Exporter]) -> None:
    exporter = start_exporter(arguments=render(DEMO).container["args"])
    exporter.wait_until_ready()
    assert exporter.scrape().find("up")


def _groups(**values: Any) -> list[dict[str, Any]]:
    rule = render({**TARGETS, "prometheusRule": {"enabled": True, **values}}).one("PrometheusRule")
    return list(rule["spec"]["groups"])


def _projects_groups(**alert_labels: str) -> list[dict[str, Any]]:
    """The project's rules, with more labels of the alerts."""
    groups: list[dict[str, Any]] = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    for group in groups:
        for rule in group["rules"]:
            if "alert" in rule:
                rule["labels"] = {**rule["labels"], **alert_labels}
    return groups


def test_the_rules_are_the_projects_own_with_the_namespace_on_alerts() -> None:
    source = _projects_groups(namespace=NAMESPACE)
    assert "{{" in json.dumps(source), "no template of an alert to come through unharmed"
    assert _groups() == source


def test_alerts_can_have_additional_labels() -> None:
    assert _groups(alertLabels={"team": "voice"}) == _projects_groups(namespace=NAMESPACE, team="voice")


def test_a_threshold_changes_its_own_rule_and_nothing_else() -> None:
    source = _groups()
    changed = _groups(thresholds={"spike_excess_1h": {"critical": 500}, "spike_confidence": 1000000})
    pairs = [
        (old, new)
        for old_group, new_group in zip(source, changed, strict=True)
        for old, new in zip(old_group["rules"], new_group["rules"], strict=True)
        if old != new
    ]
    assert {(new["labels"]["threshold"], new["labels"].get("severity")): new["expr"] for _, new in pairs} == {
        ("spike_excess_1h", "critical"): "vector(500)",
        ("spike_confidence", None): "vector(1000000)",
    }
    assert all({**old, "expr": ""} == {**new, "expr": ""} for old, new in pairs)


def test_a_threshold_that_is_null_is_the_projects_own() -> None:
    assert _groups(thresholds={"spike_share": None, "spike_confidence": None}) == _groups()


@pytest.mark.parametrize("thresholds", [{}, {"spike_excess_15m": {"warning": 5}, "spike_multiple_1h": 3}])
def test_prometheus_accepts_the_rules(
    thresholds: Values, tmp_path: Path, program: Callable[[str, str], str]
) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": _groups(thresholds=thresholds)}), encoding="utf-8")
    promtool = program("promtool", "prometheus")
    done = subprocess.run(
        [promtool, "check", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "SUCCESS" in done.stdout


def _dashboards(**values: Any) -> list[dict[str, Any]]:
    objects: Objects = render({**TARGETS, "grafanaDashboards": {"enabled": True, **values}})
    return [each for each in objects.find("ConfigMap") if each["data"].keys() != {"config.yaml"}]


def test_each_dashboard_is_a_config_map_with_the_same_json_that_the_sidecar_finds() -> None:
    rendered = _dashboards(annotations={"grafana_folder": "Contact centre"})
    sources = sorted(MONITORING.glob("dashboards/*.json"))
    assert sources
    assert sorted(name for each in rendered for name in each["data"]) == [each.name for each in sources]
    for each in rendered:
        ((name, text),) = each["data"].items()
        assert json.loads(text) == json.loads((MONITORING / "dashboards" / name).read_text(encoding="utf-8"))
        assert each["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert each["metadata"]["annotations"] == {"grafana_folder": "Contact centre"}


def test_dashboards_fit_into_config_maps_and_all_into_the_releases_secret() -> None:
    sizes = [file.stat().st_size for file in CHART.glob("files/**/*") if file.is_file()]
    # Kubernetes takes 1 MiB of an object, and Helm keeps chart and manifests, compressed, in one Secret.
    assert max(sizes) < 2**20
    assert sum(sizes) < 3 * 2**20


def test_a_secret_contains_the_given_bytes() -> None:
    content = "line: 'one'\n\ttwo {{ three }}\n"
    files = {"auth_token": content}
    secret = render({**TARGETS, "credentials": {"files": files}}).one("Secret", "-credentials")
    assert {key: base64.b64decode(value).decode() for key, value in secret["data"].items()} == files
