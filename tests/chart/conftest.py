"""The chart's tests need Helm's engine, which not every platform has: without it they skip, or fail in CI."""

import importlib.util
import os
from pathlib import Path

import pytest

_found = importlib.util.find_spec("helm_python")
_HAS_ENGINE = bool(
    os.environ.get("HELM_C_LIB")
    or (_found and _found.origin and list((Path(_found.origin).parent / "lib").glob("*helm_c*")))
)


def pytest_make_collect_report(collector: pytest.Collector) -> pytest.CollectReport | None:
    # To import a test module without the engine is an error, which is what CI wants.
    if not isinstance(collector, pytest.Module) or _HAS_ENGINE or os.environ.get("CI") == "true":
        return None
    reason = "helm-python-sdk has no Helm engine for this platform (HELM_C_LIB can name one)"
    return pytest.CollectReport(collector.nodeid, "skipped", (str(collector.path), 0, reason), [])
