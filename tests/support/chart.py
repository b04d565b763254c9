"""The Helm chart, rendered by Helm's own engine, and the schemas that its objects must fit."""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import helm_python
import jsonschema
import kubernetes_validate  # type: ignore[import-untyped]  # it has no stubs
import pytest
import yaml
from cloudcoil.models.prometheus_operator import v1, v1alpha1
from helm_python import _native

from support import custom_resources
from support.exporter import ROOT

CHART: Final = ROOT / "helm/taskrouter-exporter"
VALUES_FILES: Final = sorted(CHART.glob("ci/*-values.yaml"))
KUBERNETES: Final = sorted(
    {
        version.removesuffix(".0")
        for version in kubernetes_validate.utils.all_versions()
        if int(version.split(".")[1]) >= 28
    }
)

Values = Mapping[str, Any]
Object = dict[str, Any]

NAMESPACE: Final = "monitoring"
TARGETS: Final[Values] = {
    "config": {
        "accounts": {"default": {"username": f"SK{'0' * 32}", "password_file": "auth_token"}},
        "targets": [{"workspace": f"WS{'0' * 32}"}],
    },
    "credentials": {"existingSecret": "twilio"},
}
"""The least that polls Twilio."""

DEMO: Final[Values] = {"demo": {"enabled": True}}


class _Loader(yaml.CSafeLoader):
    """Reads YAML as Kubernetes does: a plain `1e3` is a number, which PyYAML takes for a string."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def read_documents(text: str) -> list[Any]:
    """Return the documents of a manifest that are not empty, read as Kubernetes does."""
    documents = yaml.load_all(text, _Loader)
    return [document for document in documents if document is not None]


class Objects:
    """What a release consists of."""

    def __init__(self, manifests: Mapping[str, str]) -> None:
        self.manifests = manifests
        self.notes = next(text for path, text in manifests.items() if path.endswith("NOTES.txt"))
        self.all: list[Object] = [
            each
            for path, text in manifests.items()
            if path.endswith(".yaml")
            for each in read_documents(text)
        ]

    def __iter__(self) -> Iterator[Object]:
        return iter(self.all)

    def kinds(self) -> list[str]:
        """The kinds of all objects, in order of the alphabet."""
        return sorted(each["kind"] for each in self.all)

    def find(self, kind: str, suffix: str = "") -> list[Object]:
        """The objects of that kind whose name ends like this."""
        return [each for each in self if each["kind"] == kind and each["metadata"]["name"].endswith(suffix)]

    def one(self, kind: str, suffix: str = "") -> Object:
        """The only object of that kind."""
        (found,) = self.find(kind, suffix)
        return found

    @property
    def pod(self) -> Object:
        """The specification of the exporter's Pods."""
        return dict(self.one("Deployment")["spec"]["template"]["spec"])

    @property
    def container(self) -> Object:
        """The exporter's container."""
        (container,) = (each for each in self.pod["containers"] if each["name"] == "exporter")
        return dict(container)

    def mounted(self, volume: str, others: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
        """The files of a projected volume; `others` are Secrets that are not the chart's."""
        files: dict[str, str] = {}
        (found,) = (each for each in self.pod["volumes"] if each["name"] == volume)
        for source in found["projected"]["sources"]:
            ((kind, reference),) = source.items()
            data = self._data(kind, reference["name"], others)
            paths = {item["key"]: item["path"] for item in reference.get("items", [])} or {
                key: key for key in data
            }
            assert not files.keys() & set(paths.values()), "two files of one name"
            files |= {path: data[key] for key, path in paths.items()}
        return files

    def _data(self, kind: str, name: str, others: Mapping[str, Mapping[str, str]]) -> Mapping[str, str]:
        if name in others:
            return others[name]
        if kind == "configMap":
            (found,) = (each for each in self.find("ConfigMap") if each["metadata"]["name"] == name)
            return dict(found["data"])
        (found,) = (each for each in self.find("Secret") if each["metadata"]["name"] == name)
        return {key: base64.b64decode(value).decode() for key, value in found["data"].items()}


def render(
    values: Values,
    name: str = "taskrouter",
    kubernetes: str = KUBERNETES[-1],
    chart: Path = CHART,
    namespace: str = NAMESPACE,
) -> Objects:
    """Render the chart as `helm template` would."""
    options = {"name": name, "namespace": namespace, "kube_version": f"v{kubernetes}.0"}
    with helm_python.Chart.load(chart) as loaded:
        # Chart.render does not hand the version of Kubernetes on, which the library below it takes.
        text = _native.call_string("helm_render", loaded._raw(), json.dumps(values), json.dumps(options))
    return Objects(json.loads(text))


def refusal(values: Values) -> str:
    """Render the chart with values that it refuses, and return the error message."""
    with pytest.raises((helm_python.HelmRenderError, helm_python.HelmValuesError)) as refused:
        render(values)
    return str(refused.value)


def validate(each: Object, kubernetes: str) -> None:
    """Hold an object against its schema; unknown fields are errors.

    Raises:
        jsonschema.ValidationError: it does not fit.
    """
    if each["apiVersion"].startswith("monitoring.coreos.com/"):
        _operator_schema(each["apiVersion"], each["kind"]).validate(each)
    elif each["kind"] in custom_resources.SCHEMAS:
        custom_resources.validator(each["kind"]).validate(each)
    else:
        kubernetes_validate.validate(each, kubernetes, strict=True)


@cache
def _operator_schema(api_version: str, kind: str) -> jsonschema.Draft202012Validator:
    """The schema of one of the Prometheus Operator's resources, out of cloudcoil's models.

    The models let unknown fields pass and take "yes" for true. Their JSON Schema, closed, does neither.
    """
    module = {"monitoring.coreos.com/v1": v1, "monitoring.coreos.com/v1alpha1": v1alpha1}[api_version]
    return jsonschema.Draft202012Validator(_closed(getattr(module, kind).model_json_schema()))


def _closed(node: Any) -> Any:
    if isinstance(node, list):
        return [_closed(each) for each in node]
    if not isinstance(node, dict):
        return node
    closed = {key: _closed(value) for key, value in node.items()}
    if isinstance(node.get("properties"), dict):
        closed.setdefault("additionalProperties", False)
    return closed
