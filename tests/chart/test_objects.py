"""Helm finds nothing to say of the chart, and Kubernetes and the Prometheus Operator take what it renders."""

import copy
from pathlib import Path
from typing import Any

import helm_python
import jsonschema
import pytest
import yaml
from support.chart import CHART, DEMO, KUBERNETES, TARGETS, VALUES_FILES, Objects, render, validate

values_files = pytest.mark.parametrize("file", VALUES_FILES, ids=lambda file: file.stem)


def read(file: Path) -> dict[str, Any]:
    values = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert isinstance(values, dict)
    return values


def test_the_schemas_cover_the_oldest_supported_and_a_recent_kubernetes() -> None:
    assert KUBERNETES[0] == "1.28"
    assert len(KUBERNETES) >= 10


@pytest.mark.parametrize("kubernetes", KUBERNETES)
@values_files
def test_every_object_fits_its_schema(file: Path, kubernetes: str) -> None:
    for each in render(read(file), kubernetes=kubernetes):
        validate(each, kubernetes)


@pytest.mark.parametrize("kubernetes", [KUBERNETES[0], KUBERNETES[-1]])
@values_files
def test_strict_lint_reports_nothing(file: Path, kubernetes: str) -> None:
    report = helm_python.lint(CHART, read(file), strict=True, kube_version=f"v{kubernetes}.0")
    assert report["errors"] == []
    assert report["messages"] == []


def test_strict_lint_passes_with_the_defaults() -> None:
    assert helm_python.lint(CHART, strict=True)["errors"] == []


@pytest.mark.parametrize("kubernetes", [KUBERNETES[0], KUBERNETES[-1]])
def test_the_kubernetes_schemas_refuse_unknown_keys_and_wrong_types(kubernetes: str) -> None:
    deployment = render(TARGETS).one("Deployment")
    for place, value in (("readOnlyRootFileSystem", True), ("runAsNonRoot", "yes")):
        bad = copy.deepcopy(deployment)
        bad["spec"]["template"]["spec"]["containers"][0]["securityContext"][place] = value
        with pytest.raises(jsonschema.ValidationError):
            validate(bad, kubernetes)


def _monitored() -> Objects:
    on = {"enabled": True}
    return render(
        {
            **TARGETS,
            "serviceMonitor": on,
            "scrapeConfig": on,
            "prometheusRule": on,
            "podMonitoring": on,
            "httpRoute": {**on, "parentRefs": [{"name": "internal"}]},
            "verticalPodAutoscaler": {**on, "minAllowed": {"memory": "96Mi"}},
            "web": {"tlsSecret": "tls"},
        }
    )


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("ServiceMonitor", ("spec", "endpoint"), []),
        ("ServiceMonitor", ("spec", "endpoints", 0, "scrape_interval"), "1m"),
        ("ServiceMonitor", ("spec", "endpoints", 0, "interval"), "1 minute"),
        ("ServiceMonitor", ("spec", "endpoints", 0, "interval"), 60),
        ("ServiceMonitor", ("spec", "endpoints", 0, "tlsConfig", "insecureSkipVerify"), "yes"),
        ("ScrapeConfig", ("spec", "httpSDConfigs", 0, "urls"), []),
        ("ScrapeConfig", ("spec", "relabelings", 0, "source_labels"), ["a"]),
        ("ScrapeConfig", ("spec", "scrapeTimeout"), 20),
        ("PrometheusRule", ("spec", "groups", 0, "rules", 0, "annotation"), {}),
        ("PrometheusRule", ("spec", "groups", 0, "rules", 0, "for"), "5 minutes"),
        ("PrometheusRule", ("spec", "rules"), []),
        ("PodMonitoring", ("spec", "endpoints", 0, "scrapeTimeout"), "30s"),
        ("PodMonitoring", ("spec", "endpoints", 0, "interval"), 60),
        ("PodMonitoring", ("spec", "endpoints", 0, "tls", "insecureSkipVerify"), "yes"),
        ("PodMonitoring", ("spec", "endpoints"), []),
        ("PodMonitoring", ("apiVersion",), "monitoring.googleapis.com/v1alpha1"),
        ("HTTPRoute", ("spec", "rules", 0, "backendRefs", 0, "port"), "http"),
        ("HTTPRoute", ("spec", "rules", 0, "backendRefs", 0, "ports"), 1),
        ("HTTPRoute", ("spec", "rules", 0, "matches", 0, "path", "type"), "Prefix"),
        ("HTTPRoute", ("spec", "parentRefs", 0, "name"), ""),
        ("HTTPRoute", ("spec", "hostnames"), ["a_b"]),
        ("VerticalPodAutoscaler", ("spec", "targetRef", "namespace"), "monitoring"),
        ("VerticalPodAutoscaler", ("spec", "updatePolicy"), {"updateMode": False}),
        (
            "VerticalPodAutoscaler",
            ("spec", "resourcePolicy", "containerPolicies", 0, "minAllowed", "memory"),
            "96MiB",
        ),
        ("VerticalPodAutoscaler", ("metadata", "namespaces"), "monitoring"),
    ],
)
def test_the_schemas_of_custom_resources_refuse_unknown_keys_and_wrong_types(
    kind: str, path: tuple[str | int, ...], value: object
) -> None:
    resource = _monitored().one(kind)
    validate(resource, KUBERNETES[-1])
    place: Any = resource
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        validate(resource, KUBERNETES[-1])


@values_files
def test_object_names_are_unique(file: Path) -> None:
    names = [(each["kind"], each["metadata"]["name"]) for each in render(read(file))]
    assert len(set(names)) == len(names)


@values_files
def test_pods_are_hardened(file: Path) -> None:
    objects = render(read(file))
    for spec in (objects.pod, objects.one("Pod")["spec"]):
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == 65532
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]
        for volume in spec.get("volumes", []):
            assert volume.get("projected", {}).get("defaultMode", 0o440) == 0o440
    assert all(not each["automountServiceAccountToken"] for each in objects.find("ServiceAccount"))


@pytest.mark.parametrize("values", [TARGETS, DEMO])
def test_a_disabled_feature_renders_nothing(values: dict[str, Any]) -> None:
    config = ["ConfigMap"] if values is TARGETS else []
    assert render(values).kinds() == [*config, "Deployment", "Pod", "Service", "ServiceAccount"]


def test_the_values_files_render_every_kind_of_object() -> None:
    kinds = {each["kind"] for file in VALUES_FILES for each in render(read(file))}
    templates = {
        line.removeprefix("kind: ")
        for template in CHART.glob("templates/**/*.yaml")
        for line in template.read_text(encoding="utf-8").splitlines()
        if line.startswith("kind: ")
    }
    assert kinds == templates
