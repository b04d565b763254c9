"""Long calculations that other tests cover: they take several times as long where coverage is measured."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import coverage

_OF_PROCESSES: Final = "COVERAGE_PROCESS_CONFIG"
"""The variable by which coverage.py finds its configuration in the processes that tests start."""


@contextmanager
def without_coverage() -> Iterator[None]:
    """Measure no coverage in this process for a while."""
    measurement = coverage.Coverage.current()
    if measurement is not None:
        measurement.stop()
    yield
    if measurement is not None:
        measurement.start()


@contextmanager
def processes_without_coverage() -> Iterator[None]:
    """Measure no coverage in processes that start meanwhile: it is half of the time that a start takes."""
    config = os.environ.pop(_OF_PROCESSES, None)
    yield
    if config is not None:
        os.environ[_OF_PROCESSES] = config
