"""The generator of docs/configuration.md, from the JSON Schema of the configuration file (`make docs`)."""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

import yaml
from pydantic import TypeAdapter

from taskrouter_exporter.config.fields import Minutes
from taskrouter_exporter.config.json_schema import json_schema

Schema = Mapping[str, Any]

_DURATION: Final = TypeAdapter(Minutes).json_schema()["pattern"]
_EXAMPLE_PASSWORD: Final = "0123456789abcdef0123456789abcdef"  # noqa: S105 -- an example

_HEAD: Final = """\
# Configuration

The exporter is configured with a YAML file, `--config.file` (default: `config.yaml`).
[config.example.yaml](../config.example.yaml) is an example with comments. Editors can complete and validate
the file with its JSON Schema, [config.schema.json](config.schema.json).

- The file is parsed strictly. An unknown key, a malformed SID, a value of the wrong type or a duplicate
  target is an error that names the file, the line, the key and what is expected. At startup, the exporter
  exits with status 1.
- `python exporter.py --config.file=config.yaml --config.check` checks the file, prints what would be polled,
  and exits.
- `SIGHUP` or `POST /-/reload` reloads the file. If it is invalid, the exporter keeps the last valid
  configuration, the response has status 500 and the errors, and
  `twilio_taskrouter_exporter_config_last_reload_successful` is 0.
- Durations use the notation of Prometheus: `500ms`, `5s`, `15m`, `4h`, `1d`, `1h30m`.
- A SID is two letters and 32 hex digits. The exporter ignores the case of the digits when it compares SIDs;
  labels contain a SID as it is written in the file.
- Placeholders such as `${TWILIO_AUTH_TOKEN}` are not expanded, and are rejected as credentials. Use
  `password_file`, or omit `accounts` and use the environment.

This page is generated (`make docs`). TLS and basic authentication for the exporter's own endpoints are
configured in another file, see [web-configuration.md](web-configuration.md).

## Credentials from the environment

Without `accounts`, there is one account, `default`. Its credentials are in the variables that Twilio's own
command line uses:

| Variable | Description |
|---|---|
| `TWILIO_ACCOUNT_SID`, `TWILIO_AUTH_TOKEN` | Account SID (`AC…`) and its auth token |
| `TWILIO_API_KEY`, `TWILIO_API_SECRET` | Alternatively, API key SID (`SK…`) and its secret |
| `TWILIO_REGION`, `TWILIO_EDGE` | Optional, see `region` and `edge` below |

An empty variable counts as not set. One newline at the end of a value is ignored.

`HTTPS_PROXY` and `NO_PROXY` configure a proxy, `REQUESTS_CA_BUNDLE` or `CURL_CA_BUNDLE` a custom CA bundle.
"""


def configuration() -> str:
    """Return the page as Markdown."""
    schema = json.loads(json_schema())
    return "\n".join([_HEAD, *_keys(schema, schema, "", 2)])


def _keys(root: Schema, mapping: Schema, place: str, level: int) -> Iterator[str]:
    """Yield a section for each key of a mapping, followed by the sections of the keys within it."""
    required = mapping.get("required", ())
    for name, key in mapping["properties"].items():
        path = f"{place}.{name}" if place else name
        yield f"{'#' * level} `{path}`\n\n{_paragraph(root, key)}\n"
        default = _code(key["default"]) if "default" in key else "none"
        rows = [
            ("Type", _type(root, key)),
            ("Default", "none, the key is required" if name in required else default),
            *(("Example", _code(example)) for example in _examples(root, key)),
        ]
        yield "\n".join(f"- {label}: {text}" for label, text in rows) + "\n"
        for step, inner in _mappings(root, key):
            yield from _keys(root, inner, path + step, min(level + 1, 6))


def _examples(root: Schema, key: Schema) -> list[object]:
    """Return the examples of a key, or values that can serve as one. Mappings have none: their keys do."""
    if list(_mappings(root, key)):
        return []
    if "examples" in key or "default" in key:
        return list(key.get("examples", ())) or [key["default"]]
    for option in _alternatives(root, key):
        if "enum" in option or "const" in option:
            return [option.get("const") or option["enum"][0]]
        if option.get("format") == "password":
            return [_EXAMPLE_PASSWORD]
    return []


def _paragraph(root: Schema, key: Schema) -> str:
    text = key.get("description") or _resolved(root, key).get("description", "")
    return " ".join(text.split()).replace("<", "\\<")


def _resolved(root: Schema, schema: Schema) -> Schema:
    while "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    return schema


def _alternatives(root: Schema, schema: Schema) -> list[Schema]:
    schema = _resolved(root, schema)
    return [
        each
        for option in schema.get("anyOf", schema.get("oneOf", ()) if "type" not in schema else ()) or [schema]
        for each in ([schema] if option is schema else _alternatives(root, option))
    ]


def _mappings(root: Schema, schema: Schema) -> Iterator[tuple[str, Schema]]:
    """Yield the mappings within a value, each with the suffix of its path."""
    for option in _alternatives(root, schema):
        if "properties" in option:
            yield "", option
        elif option.get("type") == "array":
            yield from ((f"[]{step}", inner) for step, inner in _mappings(root, option["items"]))
        elif isinstance(values := option.get("additionalProperties"), dict):
            yield from ((f".<name>{step}", inner) for step, inner in _mappings(root, values))


def _type(root: Schema, schema: Schema) -> str:
    return " or ".join(dict.fromkeys(_plain_type(root, option) for option in _alternatives(root, schema)))


def _plain_type(root: Schema, schema: Schema) -> str:
    if "const" in schema or "enum" in schema:
        return " or ".join(map(_code, schema.get("enum") or [schema["const"]]))
    if schema.get("pattern") == _DURATION:
        return "duration"
    match schema.get("type"):
        case "array":
            some = ", at least one" if schema.get("minItems") else ""
            entries = re.sub("^[a-z]+", r"\g<0>s", _type(root, schema["items"]))
            text = f"list of {entries}{some}"
        case "object":
            named = isinstance(schema.get("additionalProperties"), dict)
            text = "mapping of names to mappings" if named else "mapping"
        case "string":
            longest = f" of up to {schema['maxLength']} characters" if "maxLength" in schema else ""
            text = f"string{longest}" + (
                f" that matches `{schema['pattern']}`" if "pattern" in schema else ""
            )
        case "integer" | "number" as kind:
            least, most = schema.get("minimum"), schema.get("maximum")
            text = kind
            text += "" if least is None or most is None else f" from {least} to {most}"
        case kind:
            text = str(kind)
    return text


def _code(value: object) -> str:
    """Return a value in YAML on one line."""
    return (
        f"`{yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=1000).strip()[1:-1]}`"
    )


if __name__ == "__main__":
    sys.stdout.write(configuration())
