"""Rendering of expositions in threads: those that wait for the same one share it."""

import asyncio
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from taskrouter_exporter.web.exposition import Collector, Exposition

_THREADS: Final = 2
"""Compression runs beside Python's code, so that two keep a core busy."""


@dataclass(slots=True)
class _Waiting:
    """A rendering that has not started, and its result."""

    exposition: Exposition
    collectors: Sequence[Collector]
    text: asyncio.Future[bytes] = field(default_factory=asyncio.Future)


class Renderings:
    """Renders expositions one after the other.

    Scrapes of the same targets that end while others are rendered are rendered once, with the statistics of
    the last of them: forty clients that ask at once take the memory and the time of a few.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="rendering")
        self._free = asyncio.Semaphore(_THREADS)
        self._waiting: dict[Hashable, _Waiting] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def render(self, same: Hashable, exposition: Exposition, collectors: Sequence[Collector]) -> bytes:
        """Return the exposition.

        Args:
            same: Equal where one rendering serves several scrapes.
            exposition: The format.
            collectors: What is rendered, unless a later scrape replaces it before the rendering starts.
        """
        waiting = self._waiting.get(same)
        if waiting is None:
            waiting = self._waiting[same] = _Waiting(exposition, collectors)
            task = asyncio.create_task(self._render(same, waiting))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            waiting.collectors = collectors
        del collectors
        # A client that goes away must not take the others' answer with it.
        return await asyncio.shield(waiting.text)

    async def _render(self, same: Hashable, waiting: _Waiting) -> None:
        async with self._free:
            del self._waiting[same]
            collectors, waiting.collectors = waiting.collectors, ()
            loop = asyncio.get_running_loop()
            try:
                text = await loop.run_in_executor(self._threads, waiting.exposition.render, collectors)
            except Exception as error:  # noqa: BLE001 -- each scrape that waits for it raises it
                waiting.text.set_exception(error)
            else:
                waiting.text.set_result(text)
