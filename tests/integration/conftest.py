"""Fixtures of the tests that start the exporter."""

from collections.abc import Iterator

import pytest
from support.exporter import Exporter


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    exporter = Exporter(["--demo"], tmp_path_factory.mktemp("demo") / "log")
    yield exporter
    exporter.stop()
    exporter.assert_clean_log()
