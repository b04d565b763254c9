"""`--config.auto-reload`: reloads the configuration when its files have changed."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import structlog

log = structlog.get_logger()

AUTO_RELOAD_SECONDS: Final = 30.0


async def reload_on_change(
    changed: Callable[[], bool], reload: Callable[[], Awaitable[None]], seconds: float = AUTO_RELOAD_SECONDS
) -> NoReturn:
    """Reload the configuration whenever its files have changed, until the task is cancelled.

    Args:
        changed: Returns whether they differ from those last loaded, be it in vain. Runs in a thread.
        reload: Reloads the configuration.
        seconds: From one check to the next.
    """
    while True:
        await asyncio.sleep(seconds)
        if await asyncio.to_thread(changed):
            log.info("configuration files changed; reloading them")
            await reload()
