import asyncio
import threading
from collections.abc import Iterator, Sequence

import pytest
from prometheus_client import Metric

from taskrouter_exporter.web.exposition import Collector, Exposition
from taskrouter_exporter.web.rendering import Renderings

THREADS = 2


class Gauge:
    """A collector of one gauge, whose rendering waits for `allowed`."""

    def __init__(self, value: float, allowed: threading.Event) -> None:
        self.rendered = 0
        self._value = value
        self._allowed = allowed

    def collect(self) -> Iterator[Metric]:
        assert self._allowed.wait(20)
        self.rendered += 1
        metric = Metric("queue_tasks", "Tasks.", "gauge")
        metric.add_sample("queue_tasks", {}, self._value)
        yield metric


class Broken:
    """A collector that fails."""

    def collect(self) -> Iterator[Metric]:
        raise ArithmeticError


async def ask(renderings: Renderings, same: str, collectors: Sequence[Collector]) -> str:
    return (await renderings.render(same, Exposition("", ""), collectors)).decode().splitlines()[-1]


async def occupy(renderings: Renderings, allowed: threading.Event) -> list[asyncio.Task[str]]:
    """Begin as many renderings as there are threads."""
    begun = [
        asyncio.create_task(ask(renderings, f"other {number}", [Gauge(0, allowed)]))
        for number in range(THREADS)
    ]
    await asyncio.sleep(0.01)
    return begun


def test_scrapes_that_wait_for_the_same_are_rendered_once_with_the_latest_statistics() -> None:
    async def run() -> None:
        renderings, allowed = Renderings(), threading.Event()
        begun = await occupy(renderings, allowed)
        gauges = [Gauge(number, allowed) for number in range(40)]
        waiting = [asyncio.create_task(ask(renderings, "same", [gauge])) for gauge in gauges]
        different = asyncio.create_task(ask(renderings, "different", [Gauge(99, allowed)]))
        await asyncio.sleep(0.01)
        allowed.set()
        assert await asyncio.gather(*waiting) == ["queue_tasks 39.0"] * 40
        assert [gauge.rendered for gauge in gauges] == [0] * 39 + [1]
        assert await different == "queue_tasks 99.0"
        assert await asyncio.gather(*begun) == ["queue_tasks 0.0"] * THREADS

    asyncio.run(run())


def test_a_scrape_never_gets_a_rendering_that_started_before_its_polls_ended() -> None:
    async def run() -> None:
        renderings, allowed = Renderings(), threading.Event()
        first = asyncio.create_task(ask(renderings, "same", [Gauge(1, allowed)]))
        await asyncio.sleep(0.01)
        second = asyncio.create_task(ask(renderings, "same", [Gauge(2, allowed)]))
        await asyncio.sleep(0.01)
        allowed.set()
        assert [await first, await second] == ["queue_tasks 1.0", "queue_tasks 2.0"]

    asyncio.run(run())


def test_a_client_that_goes_away_takes_nobodys_answer_with_it() -> None:
    async def run() -> None:
        renderings, allowed = Renderings(), threading.Event()
        begun = await occupy(renderings, allowed)
        gone, stays = (asyncio.create_task(ask(renderings, "same", [Gauge(1, allowed)])) for _ in range(2))
        await asyncio.sleep(0.01)
        gone.cancel()
        await asyncio.sleep(0.01)
        allowed.set()
        assert await stays == "queue_tasks 1.0"
        await asyncio.gather(*begun)

    asyncio.run(run())


def test_an_error_reaches_each_scrape_and_the_next_one_is_rendered() -> None:
    async def run() -> None:
        renderings, allowed = Renderings(), threading.Event()
        begun = await occupy(renderings, allowed)
        failing = [asyncio.create_task(ask(renderings, "same", [Broken()])) for _ in range(2)]
        await asyncio.sleep(0.01)
        allowed.set()
        for each in failing:
            with pytest.raises(ArithmeticError):
                await each
        assert await ask(renderings, "same", [Gauge(3, allowed)]) == "queue_tasks 3.0"
        await asyncio.gather(*begun)

    asyncio.run(run())
