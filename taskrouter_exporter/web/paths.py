"""The paths of the exporter's endpoints."""

from typing import Final

RESERVED_PATHS: Final = ("/", "/probe", "/sd", "/config", "/config.schema.json", "/-/…")
"""The paths that metrics cannot have."""
