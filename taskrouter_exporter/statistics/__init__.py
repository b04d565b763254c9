"""The kinds of statistics: what each asks, how its answer reads, and what is published of it."""

from typing import Final

from taskrouter_exporter.statistics import realtime, tasks
from taskrouter_exporter.statistics.kind import Kind
from taskrouter_exporter.statistics.workers import WORKERS

KINDS: Final[tuple[Kind, ...]] = (
    WORKERS,
    tasks.WORKSPACE,
    realtime.WORKSPACE,
    tasks.QUEUE,
    realtime.QUEUE,
    tasks.WORKFLOW,
    realtime.WORKFLOW,
)
"""All that can be asked for, in the order in which it is polled and published."""
