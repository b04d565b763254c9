"""The paths of the exporter's endpoints."""

from typing import Final

RESERVED_PATHS: Final = ("/", "/probe", "/sd", "/config", "/config.schema.json", "/api/v1/…", "/-/…")
RESERVED_PREFIXES: Final = ("/-/", "/api/v1/")
"""The paths that metrics cannot have."""
