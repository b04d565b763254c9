import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
import structlog
from structlog.typing import EventDict

from taskrouter_exporter.auto_reload import AUTO_RELOAD_SECONDS, reload_on_change
from taskrouter_exporter.config.errors import ConfigError
from taskrouter_exporter.config.files import ConfigFiles
from taskrouter_exporter.metrics import ExporterMetrics
from taskrouter_exporter.runtime import Runtime
from taskrouter_exporter.systemd import Notifier

SUCCESSFUL = "twilio_taskrouter_exporter_config_last_reload_successful"


def config(workspaces: int) -> str:
    account = {"username": "AC" + "0" * 32, "password": "x", "base_url": "http://127.0.0.1:9"}
    targets = [{"workspace": f"WS{number:032}"} for number in range(workspaces)]
    return json.dumps({"accounts": {"default": account}, "targets": targets})


def write(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


def move(path: Path, to: Path) -> Path:
    return path.rename(to)


class Watched:
    """A runtime whose configuration file is checked all the time, and how often it was."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checks = 0
        self._files = ConfigFiles([path], {})
        self.runtime = Runtime(self._files.load, ExporterMetrics("1", "abc"), Notifier({}))

    def changed(self) -> bool:
        self.checks += 1
        return self._files.changed()

    async def reload(self) -> None:
        with suppress(ConfigError):
            await self.runtime.reload()

    async def checked_twice(self) -> None:
        """Wait until a check that began after this call has ended, its reload included."""
        checks = self.checks
        while self.checks < checks + 3:  # noqa: ASYNC110 -- the checks are in another thread
            await asyncio.sleep(0.001)

    @property
    def successful(self) -> float | None:
        return self.runtime.metrics.registry.get_sample_value(SUCCESSFUL)


def watch(path: Path, test: Callable[[Watched], Awaitable[None]]) -> list[EventDict]:
    """Run a test while the file is watched; return what is logged."""

    async def run() -> None:
        watched = Watched(path)
        task = asyncio.create_task(reload_on_change(watched.changed, watched.reload, seconds=0.001))
        await test(watched)
        task.cancel()
        await watched.runtime.stop()

    with structlog.testing.capture_logs() as lines:
        asyncio.run(run())
    return lines


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(config(1), encoding="utf-8")
    return path


def test_a_file_that_changes_is_reloaded_once(path: Path) -> None:
    async def test(watched: Watched) -> None:
        await watched.checked_twice()
        write(path, config(3))
        await watched.checked_twice()
        assert len(watched.runtime.snapshot.queries) == 3
        await watched.checked_twice()

    assert [line["event"] for line in watch(path, test)] == [
        "configuration files changed; reloading them",
        "configuration reloaded",
    ]


def test_a_file_that_cannot_be_read_or_used_is_reported_once_and_loaded_when_it_can(path: Path) -> None:
    async def test(watched: Watched) -> None:
        away = move(path, path.with_suffix(".away"))
        for _ in range(3):
            await watched.checked_twice()
        assert (watched.successful, len(watched.runtime.snapshot.queries)) == (0, 1)
        move(away, path)
        await watched.checked_twice()
        assert watched.successful == 1
        write(path, "targets: [")
        for _ in range(3):
            await watched.checked_twice()
        assert (watched.successful, len(watched.runtime.snapshot.queries)) == (0, 1)

    changed = "configuration files changed; reloading them"
    invalid = "invalid configuration; keeping the previous one"
    assert [line["event"] for line in watch(path, test)] == [
        *(changed, invalid),
        *(changed, "configuration reloaded"),
        *(changed, invalid),
    ]


def test_files_are_checked_every_30_s_by_default() -> None:
    assert AUTO_RELOAD_SECONDS == 30
    assert reload_on_change.__defaults__ == (30,)
