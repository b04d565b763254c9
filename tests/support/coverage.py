"""Long calculations that other tests cover: they take several times as long where coverage is measured."""

from collections.abc import Iterator
from contextlib import contextmanager

import coverage


@contextmanager
def without_coverage() -> Iterator[None]:
    """Measure no coverage in this process for a while."""
    measurement = coverage.Coverage.current()
    if measurement is not None:
        measurement.stop()
    yield
    if measurement is not None:
        measurement.start()
