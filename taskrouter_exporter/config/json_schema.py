"""The configuration file's JSON Schema, for editors: `python -m taskrouter_exporter.config.json_schema`."""

import json
import sys
from typing import Any

from taskrouter_exporter.config.schema import FileModel


def json_schema() -> str:
    """The configuration file's JSON Schema, as it is committed in docs/."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **FileModel.model_json_schema()}
    return json.dumps(_tidied(schema), indent=2, ensure_ascii=False) + "\n"


def _tidied(schema: Any) -> Any:  # noqa: ANN401 - any JSON
    """Without what pydantic adds and says nothing: titles that repeat the key, a default that is none."""
    if isinstance(schema, list):
        return [_tidied(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _tidied(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str)) and not (key == "default" and value is None)
    }


if __name__ == "__main__":
    sys.stdout.write(json_schema())
