"""Names that YAML would read as a number, a boolean, a date or null arrive as the strings they are."""

import base64
import re
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from support.chart import CHART, VALUES_FILES, Objects, read_documents, render

RELEASES: Final = ("123", "0123", "1e3", "0x1f", "true", "null", "yes", "off", "2026-01-01")
"""Names that Helm accepts for a release, and Kubernetes for a namespace."""
NAMES: Final = (
    *RELEASES,
    "~",
    "1_000",
    "+1",
    ".5",
    "1:20",
    ".inf",
    "Yes",
    "!x",
    "- x",
    "a: b",
    "a #b",
    '"',
    "'",
)
"""Values that need not be names of Kubernetes objects, such as those of annotations."""
PLAIN: Final = "\N{SECTION SIGN}"
"""A character that needs no quotes and occurs nowhere else in the chart."""


def _merge(below: Any, above: Any) -> Any:
    if isinstance(below, dict) and isinstance(above, dict):
        return {**below, **{key: _merge(below.get(key), value) for key, value in above.items()}}
    return above


def _named(name: str) -> dict[str, Any]:
    """Return values that use a name wherever one can be given."""
    labels = {"example.com/name": name}
    more = {"example.com/additional": name}
    secret = {"secretKeyRef": {"name": name, "key": name}}
    return {
        "web": {
            "config": {"basic_auth_users": {name: name}},
            "tlsSecret": name,
            "basicAuthSecret": name,
        },
        "global": {"imageRegistry": name, "imagePullSecrets": [name]},
        "service": {"annotations": labels, "labels": labels},
        "serviceMonitor": {"enabled": True, "labels": labels, "additionalLabels": more, "namespace": name},
        "scrapeConfig": {"enabled": True, "labels": labels},
        "podMonitoring": {"enabled": True, "labels": labels, "additionalLabels": more, "username": name},
        "prometheusRule": {"enabled": True, "labels": labels, "alertLabels": {"name": name}},
        "grafanaDashboards": {"enabled": True, "labels": labels, "annotations": labels},
        "ingress": {
            "enabled": True,
            "className": name,
            "annotations": labels,
            "hosts": [{"host": name, "paths": [{"path": f"/{name}"}]}],
            "tls": [{"hosts": [name], "secretName": name}],
        },
        "httpRoute": {
            "enabled": True,
            "labels": labels,
            "parentRefs": [{"name": name}],
            "hostnames": [name],
            "rules": [{"name": name}],
        },
        "strategy": {"type": name},
        "podDisruptionBudget": {"enabled": True, "maxUnavailable": name, "minAvailable": None},
        "verticalPodAutoscaler": {
            "enabled": True,
            "recommenders": [{"name": name}],
            "controlledResources": ["memory"],
            "minAllowed": {"memory": name},
        },
        "startupProbe": {"exec": {"command": [name]}},
        "networkPolicy": {"enabled": True, "from": [{"podSelector": {"matchLabels": labels}}]},
        "priorityClassName": name,
        "nodeSelector": labels,
        "tolerations": [{"key": name, "value": name}],
        "image": {"repository": name, "tag": name, "digest": ""},
        "imagePullSecrets": [{"name": name}],
        "namespaceOverride": name,
        "deploymentAnnotations": labels,
        "nameOverride": name,
        "fullnameOverride": name,
        "commonLabels": labels,
        "podAnnotations": labels,
        "podLabels": labels,
        "serviceAccount": {"create": True, "name": name, "annotations": labels},
        "extraArgs": [name],
        "extraEnv": [{"name": name, "value": name}, {"name": "SECRET", "valueFrom": secret}],
        "extraEnvFrom": [{"secretRef": {"name": name}}, {"configMapRef": {"name": name}}],
        "extraVolumes": [{"name": name, "secret": {"secretName": name}}],
        "extraVolumeMounts": [{"name": name, "mountPath": name}],
        "extraContainers": [{"name": name, "image": name}],
        "initContainers": [{"name": name, "image": name}],
        "hostAliases": [{"ip": name, "hostnames": [name]}],
        "dnsConfig": {"searches": [name]},
        "extraManifests": [{"kind": "Secret", "metadata": {"name": name}}],
        "extraObjects": [{"kind": "ConfigMap", "metadata": {"name": name}, "data": labels}],
    }


def _content(objects: Objects) -> list[Any]:
    """Return the objects with the files in ConfigMaps and Secrets read, and without checksums."""
    content = list(objects)
    for each in content:
        for name, text in each.get("data", {}).items():
            plain = base64.b64decode(text).decode() if each["kind"] == "Secret" else text
            each["data"][name] = yaml.safe_load(plain) if name.endswith(("yaml", "yml")) else plain
        if each["kind"] in ("Deployment", "Job"):
            each["spec"]["template"]["metadata"].get("annotations", {}).pop("checksum/config", None)
        if each["kind"] == "Job":
            each["metadata"]["name"] = re.sub("-[0-9a-f]{8}$", "", each["metadata"]["name"])
    return content


def _replaced(node: Any, old: str, new: str) -> Any:
    if isinstance(node, dict):
        return {_replaced(key, old, new): _replaced(value, old, new) for key, value in node.items()}
    if isinstance(node, list):
        return [_replaced(value, old, new) for value in node]
    return node.replace(old, new) if isinstance(node, str) else node


values_files = pytest.mark.parametrize("file", VALUES_FILES, ids=lambda file: file.stem)


def _values(file: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(file.read_text(encoding="utf-8")))


@values_files
def test_release_and_namespace_arrive_as_given(file: Path) -> None:
    values = {**_values(file), "nameOverride": "exporter", "fullnameOverride": ""}

    @cache
    def plain(length: int) -> list[Any]:
        name = "q" * length  # Helm accepts letters only
        return _content(render(values, name=name, namespace=name))

    for name in RELEASES:
        expected = _replaced(plain(len(name)), "q" * len(name), name)
        assert _content(render(values, name=name, namespace=name)) == expected, name


@values_files
def test_names_in_values_arrive_as_given(file: Path) -> None:
    @cache
    def plain(length: int) -> list[Any]:
        return _content(render(_merge(_values(file), _named(PLAIN * length))))

    for name in NAMES:
        expected = _replaced(plain(len(name)), PLAIN * len(name), name)
        assert _content(render(_merge(_values(file), _named(name)))) == expected, name


def test_the_name_of_the_credentials_secret_and_of_its_files_arrive_as_given() -> None:
    values = _values(CHART / "ci/replicas-values.yaml")
    for name in RELEASES:
        objects = render({**values, "credentials": {"existingSecret": name}})
        (config,) = (volume for volume in objects.pod["volumes"] if volume["name"] == "config")
        assert config["projected"]["sources"][-1] == {"secret": {"name": name}}
        files = {"auth_token": "x", "ireland": "x", name: name}
        mounted = render({**values, "credentials": {"files": files}}).mounted("config", {})
        assert mounted.items() >= files.items()


def test_manifests_are_read_as_kubernetes_does() -> None:
    assert read_documents("[1e3, 0123, true, ~, 2026-01-01, '1e3']")[0][:4] == [1000.0, 83, True, None]
