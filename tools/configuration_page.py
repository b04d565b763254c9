"""Generator of docs/configuration.md from the configuration models (`make docs`)."""

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

The exporter reads a YAML file, `--config.file` (default: `config.yaml`), or [several](#several-files).
[config.example.yaml](../config.example.yaml) shows every key with comments.
[config.schema.json](config.schema.json) is the JSON Schema, which editors use for completion and validation.

- **Validation.** The file is validated strictly. An unknown key, a malformed SID, a value of the wrong type
  or a duplicate target is an error that names the file, the line, the key and what is allowed. At startup,
  the exporter exits with status 1.
- **Check.** `python exporter.py --config.file=config.yaml --config.check` validates the file, prints the
  queries and the number of API requests, and exits.
- **Reload.** `SIGHUP` or `POST /-/reload` reloads the file. If it is invalid, the exporter keeps the previous
  configuration, responds with status 500 and the errors, and sets
  `twilio_taskrouter_exporter_config_last_reload_successful` to 0. With `--config.auto-reload`, the exporter
  checks every 30 s whether the content has changed, and reloads it. A file that cannot be read or used is
  reported once, until its content, or the password file that it lacks, changes.
- **Durations** are written as in Prometheus: `500ms`, `5s`, `15m`, `4h`, `1d`, `1h30m`.
- **SIDs** consist of two letters and 32 hex digits. They are compared without regard to case. Labels contain
  a SID as written in the file.
- **Placeholders** such as `${TWILIO_AUTH_TOKEN}` are not expanded, and are rejected as credentials. Use
  `password_file`, or omit `accounts` and set the credentials in the environment.

This page is generated from the configuration models (`make docs`). TLS and basic authentication of the
exporter's HTTP server are configured in a separate file: see [Web configuration](web-configuration.md).

## Several files

`--config.file` can be repeated, and each can be a directory. Of a directory, the exporter reads all files
that end in `.yaml` or `.yml`, except hidden ones and those in other directories below it. So each team can
have a file of its own:

```
config/
  shared.yaml      accounts, polling, discovery
  sales.yaml       targets
  support.yaml     targets, and an account that only they use
```

- All files share the `accounts`, in whichever file they are. An account has one definition.
- `polling` and `discovery` can be in one of the files. They apply to all targets.
- `targets` can be in any number of files. The rules about duplicate targets and names apply to all files
  together, and an error names both places.
- A relative `password_file` is relative to the file that contains it.
- The environment's credentials are used if none of the files has `accounts`.
- A reload reads all files, and those that have been added to a directory. If one of them is invalid, the
  exporter keeps the previous configuration of all of them.

The JSON Schema describes a file that is complete on its own: in an editor, it reports missing `targets` in
a file that has only shared keys.

## Credentials from the environment

Without the key `accounts`, the exporter uses one account, `default`, with the environment variables of
Twilio's CLI:

| variable | description |
|---|---|
| `TWILIO_ACCOUNT_SID`, `TWILIO_AUTH_TOKEN` | account SID (`AC…`) and auth token |
| `TWILIO_API_KEY`, `TWILIO_API_SECRET` | alternatively, API key SID (`SK…`) and secret |
| `TWILIO_REGION`, `TWILIO_EDGE` | optional, like `region` and `edge` below |

An empty variable counts as unset. One newline at the end of a value is ignored.

The exporter also honours `HTTPS_PROXY` and `NO_PROXY` (HTTP and HTTPS proxies; not SOCKS). It trusts the
certificate authorities in `REQUESTS_CA_BUNDLE` or `CURL_CA_BUNDLE`, else those of the system (which
`SSL_CERT_FILE` and `SSL_CERT_DIR` replace), else those of certifi. These variables are checked at startup,
on reload and by `--config.check`.
"""


def configuration() -> str:
    """Return the page as Markdown."""
    schema = json.loads(json_schema())
    return "\n".join([_HEAD, *_keys(schema, schema, "", 2)])


def _keys(root: Schema, mapping: Schema, place: str, level: int) -> Iterator[str]:
    """Yield a section for each key of a mapping, followed by those of the keys in it."""
    required = mapping.get("required", ())
    for name, key in mapping["properties"].items():
        path = f"{place}.{name}" if place else name
        yield f"{'#' * level} `{path}`\n\n{_paragraph(root, key)}\n"
        default = _code(key["default"]) if "default" in key else "none"
        rows = [
            ("Type", _type(root, key)),
            ("Default", "none (required)" if name in required else default),
            *(("Example", _code(example)) for example in _examples(root, key)),
        ]
        yield "\n".join(f"- {label}: {text}" for label, text in rows) + "\n"
        for step, inner in _mappings(root, key):
            yield from _keys(root, inner, path + step, min(level + 1, 6))


def _examples(root: Schema, key: Schema) -> list[object]:
    """Return the examples of a key, its default, or an allowed value. Mappings have none: their keys do."""
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
    """Yield the mappings with fixed keys in a value, each with its path relative to the value."""
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
    """Return a value as inline YAML."""
    return (
        f"`{yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=1000).strip()[1:-1]}`"
    )


if __name__ == "__main__":
    sys.stdout.write(configuration())
