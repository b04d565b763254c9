"""The JSON Schema of the configuration file, for editors.

`python -m taskrouter_exporter.config.json_schema` writes it; `make docs` commits it to docs/.
"""

import json
import sys
from typing import Any, Final

from taskrouter_exporter import __version__
from taskrouter_exporter.config.schema import FileModel

SCHEMA_ID: Final = (
    "https://raw.githubusercontent.com/taskrouter-exporter/twilio-taskrouter-exporter/"
    f"v{__version__}/docs/config.schema.json"
)
"""The schema's `$id`: where the release publishes it."""


def json_schema() -> str:
    """Return the JSON Schema of the configuration file, as docs/config.schema.json contains it."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA_ID}
    return (
        json.dumps({**head, **_simplify(FileModel.model_json_schema())}, indent=2, ensure_ascii=False) + "\n"
    )


def _simplify(schema: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return the schema without titles that repeat their key, and without defaults of null."""
    if isinstance(schema, list):
        return [_simplify(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _simplify(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str)) and not (key == "default" and value is None)
    }


if __name__ == "__main__":
    sys.stdout.write(json_schema())
