"""What Kubernetes does not let an upgrade change stays as it is."""

from pathlib import Path
from typing import Any

import helm_python
from support.chart import CHART, TARGETS, Object, render

SELECTOR = {"app.kubernetes.io/name": "taskrouter-exporter", "app.kubernetes.io/instance": "taskrouter"}
EVERYTHING_ON = {
    key: {"enabled": True}
    for key in (
        "serviceMonitor",
        "scrapeConfig",
        "prometheusRule",
        "grafanaDashboards",
        "networkPolicy",
        "podDisruptionBudget",
        "autoscaling",
        "podMonitoring",
    )
} | {
    "ingress": {"enabled": True, "hosts": [{"host": "exporter.example.com"}]},
    "httpRoute": {"enabled": True, "parentRefs": [{"name": "internal"}]},
    "verticalPodAutoscaler": {"enabled": True, "controlledResources": ["memory"]},
}
CHANGED: dict[str, Any] = {
    "image": {"tag": "9.9.9", "repository": "elsewhere/exporter"},
    "commonLabels": {"team": "a", **dict.fromkeys(SELECTOR, "hijacked")},
    "podLabels": {"tier": "b", **dict.fromkeys(SELECTOR, "hijacked")},
    "service": {"port": 9999, "labels": dict.fromkeys(SELECTOR, "hijacked")},
    "log": {"level": "debug"},
}


def _selector(each: Object) -> Any:
    spec = each.get("spec", {})
    return spec.get("selector", spec.get("podSelector"))


def test_names_and_selectors_do_not_change_with_the_version_or_values(tmp_path: Path) -> None:
    newer = helm_python.package(CHART, destination=tmp_path, version="7.0.0", app_version="9.9.9")
    before = render({**TARGETS, **EVERYTHING_ON})
    after = render({**TARGETS, **EVERYTHING_ON, **CHANGED}, chart=Path(newer))
    assert after.one("Deployment")["metadata"]["labels"]["app.kubernetes.io/version"] == "9.9.9"
    assert [(each["kind"], each["metadata"]["name"], _selector(each)) for each in before] == [
        (each["kind"], each["metadata"]["name"], _selector(each)) for each in after
    ]


def test_selectors_are_name_and_instance_and_match_only_the_exporters_pods() -> None:
    objects = render({**TARGETS, **EVERYTHING_ON, **CHANGED})
    selectors = {each["kind"]: _selector(each) for each in objects if _selector(each)}
    labels = {"matchLabels": SELECTOR}
    assert selectors == {
        "Deployment": labels,
        "Service": SELECTOR,
        "ServiceMonitor": labels,
        "NetworkPolicy": labels,
        "PodDisruptionBudget": labels,
        "PodMonitoring": labels,
    }
    pod_labels = objects.one("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert SELECTOR.items() <= pod_labels.items()
    assert SELECTOR.items() <= objects.one("Service")["metadata"]["labels"].items()
    assert not SELECTOR.items() <= objects.one("Pod")["metadata"]["labels"].items()


def test_two_releases_in_a_namespace_share_no_name() -> None:
    one, other = (
        {(each["kind"], each["metadata"]["name"]) for each in render({**TARGETS, **EVERYTHING_ON}, name=name)}
        for name in ("one", "other")
    )
    assert not one & other


def test_a_package_leaves_the_examples_out(tmp_path: Path) -> None:
    with helm_python.Chart.load(helm_python.package(CHART, destination=tmp_path)) as packaged:
        names = [each["name"] for each in packaged.files]
    assert "README.md" in names
    assert not [name for name in names if name.startswith("ci/")]
