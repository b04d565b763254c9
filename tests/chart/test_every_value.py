"""Every value that the schema accepts changes what the chart renders."""

import copy
import json
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import helm_python
import pytest
import yaml
from support.chart import CHART, DEMO, TARGETS, Object, Values, render

Place = tuple[str | int, ...]

HASH: Final = "$2b$04$abcdefghijklmnopqrstuuJ3DAcPXlXn1U3fPLv8ZBhzQ0PbA4Ory"
ON: Final = {"enabled": True}
BASE: Final[Values] = {
    **TARGETS,
    "web": {
        "config": {"basic_auth_users": {"prometheus": HASH, "sample": HASH}},
        "tlsSecret": "tls",
        "basicAuthSecret": "login",
    },
    "backfill": {**ON, "remoteWriteUrl": "http://prometheus/api/v1/write"},
    "serviceMonitor": ON,
    "scrapeConfig": ON,
    "podMonitoring": {**ON, "username": "prometheus"},
    "networkPolicy": ON,
    "ingress": {**ON, "hosts": [{"host": "a", "paths": [{"path": "/", "pathType": "Prefix"}]}]},
    "httpRoute": {**ON, "parentRefs": [{"name": "a"}]},
    "podDisruptionBudget": ON,
    "verticalPodAutoscaler": ON,
}
"""Everything is enabled, except for what takes long to render."""

CONTEXTS: Final[dict[str, Values]] = {
    "autoscaling": {"autoscaling": ON, "verticalPodAutoscaler": {"enabled": False}},
    "credentials.files": {"credentials": {"existingSecret": "", "files": {"auth_token": "a"}}},
    "demo": {"demo": ON, "backfill": {"enabled": False}},
    "grafanaDashboards": {"grafanaDashboards": ON},
    "prometheusRule": {"prometheusRule": ON},
}
"""What a value, or those below it, need to have an effect."""

SAMPLES: Final[dict[str, Any]] = {
    "backfill.prometheusUrl": "http://sample",
    "backfill.remoteWriteUrl": "http://sample",
    "backfill.step": "5m",
    "config": {**TARGETS["config"], "polling": {"concurrency": 7}},
    "credentials.files": {"auth_token": "b"},
    "image.digest": f"sha256:{'0' * 64}",
    "httpRoute.parentRefs": [{"name": "sample"}],
    "httpRoute.rules": [{"name": "sample"}],
    "ingress.hosts": [{"host": "sample"}],
    "ingress.hosts.0.paths": [{"path": "/sample"}],
    "ingress.hosts.0.paths.0.path": "/sample",
    "prometheusRule.runbookUrl": "https://example.com/runbooks",
    "web.config.basic_auth_users": {"prometheus": "b", "sample": "b"},
}
"""Other values of those for which the schema is too vague to find one."""

EXCEPTIONS: Final = {
    "enabled": "Helm evaluates it as the condition of a parent chart.",
    "demo.enabled": "Without the demo, there is nothing to export; see test_values.py.",
}


def _walk(schema: Object, definitions: Object, place: Place = ()) -> Iterator[tuple[Place, Object]]:
    """Yield the place and the schema of each value without known keys. `config` is the exporter's."""
    reference = schema.get("$ref", "").removeprefix("#/definitions/")
    schema = definitions[reference] if reference else schema
    items = schema.get("items", {})
    if schema.get("properties") and reference != "config":
        for key, value in schema["properties"].items():
            yield from _walk(value, definitions, (*place, key))
        return
    yield place, schema
    if items.get("properties"):
        yield from _walk(items, definitions, (*place, 0))


def _sample(schema: Object, current: Any) -> Any:
    """Return a value that the schema accepts and that differs from the current one."""
    if "enum" in schema:
        return next(value for value in schema["enum"] if value and value != current)
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if "boolean" in types:
        return not current
    if "number" in types or "integer" in types:
        return 7
    if "object" in types:
        return {"sample": "7"}
    if "array" in types:
        items = schema["items"]
        return [_sample(items, None)]
    return "7s" if schema.get("pattern", "").startswith("^([0-9]+(ms") else "sample"


def _merged(below: Any, above: Any) -> Any:
    if isinstance(below, dict) and isinstance(above, dict):
        return {**below, **{key: _merged(below.get(key), value) for key, value in above.items()}}
    return above


def _get(values: Any, place: Place) -> Any:
    for step in place:
        values = values.get(step) if isinstance(values, dict) else values[step]
    return values


def _with(values: Values, place: Place, value: Any) -> Values:
    changed = copy.deepcopy(dict(values))
    _get(changed, place[:-1])[place[-1]] = value
    return changed


def _context(name: str) -> str:
    """Return the key of the context of a value, or an empty string."""
    return next((key for key in CONTEXTS if name == key or name.startswith(f"{key}.")), "")


def unused_values(chart: Path) -> list[str]:
    """Return the values of a chart that the schema accepts and that change nothing."""
    schema = json.loads((chart / "values.schema.json").read_text(encoding="utf-8"))
    defaults = yaml.safe_load((chart / "values.yaml").read_text(encoding="utf-8"))

    @cache
    def base(context: str) -> tuple[Values, list[Object]]:
        values = _merged(defaults, {**BASE, "config": {}} if context == "demo" else BASE)
        values = _merged(values, CONTEXTS.get(context, {}))
        return values, list(render(values, chart=chart))

    unused = []
    for place, value in _walk(schema, schema["definitions"]):
        name = ".".join(str(step) for step in place)
        if name in EXCEPTIONS:
            continue
        values, objects = base(_context(name))
        changed = _with(values, place, SAMPLES.get(name, _sample(value, _get(values, place))))
        if list(render(changed, chart=chart)) == objects:
            unused.append(name)
    return unused


def test_every_value_changes_an_object() -> None:
    assert unused_values(CHART) == []


def test_exceptions_are_values_of_the_schema() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    names = {".".join(str(step) for step in place) for place, _ in _walk(schema, schema["definitions"])}
    assert EXCEPTIONS.keys() | SAMPLES.keys() <= names
    assert "ingress.hosts.0.paths.0.pathType" in names
    assert "prometheusRule.thresholds.spike_share.critical" in names


def test_a_value_that_no_template_uses_is_found(tmp_path: Path) -> None:
    chart = tmp_path / "taskrouter-exporter"
    shutil.copytree(CHART, chart)
    schema = {
        "type": "object",
        "properties": {"service": {"type": "object", "properties": {"unused": {"type": "string"}}}},
        "definitions": {},
    }
    (chart / "values.schema.json").write_text(json.dumps(schema), encoding="utf-8")
    assert unused_values(chart) == ["service.unused"]


def test_a_disabled_demo_is_refused_without_a_configuration() -> None:
    with pytest.raises(helm_python.HelmRenderError, match="nothing to export"):
        render(_with(DEMO, ("demo", "enabled"), value=False))
