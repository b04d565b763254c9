"""Statistics as the API would have to answer for them to be read."""

import json
from typing import Any

from taskrouter_exporter.statistics.kind import Kind, Role, Statistics
from taskrouter_exporter.statistics.parsing import parse
from taskrouter_exporter.statistics.workers import WORKERS

WORKSPACE_SID = "WS" + "0" * 32


def statistics(role: Role = "window", kind: Kind = WORKERS, **attributes: Any) -> Statistics:
    """Return what is read of an answer with these attributes."""
    body = json.dumps(attributes or dict.fromkeys(kind.model.model_fields)).encode()
    return parse(kind, body, role, kind.path(WORKSPACE_SID, "WQ" + "0" * 32))
