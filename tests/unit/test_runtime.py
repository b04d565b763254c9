import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.faults import Fault, FaultySimulator

from taskrouter_exporter.api.errors import Reason
from taskrouter_exporter.api.transport import RequestsTransport
from taskrouter_exporter.config.errors import ConfigError
from taskrouter_exporter.config.loader import parse_config
from taskrouter_exporter.config.model import Config
from taskrouter_exporter.metrics import ExporterMetrics
from taskrouter_exporter.runtime import Runtime
from taskrouter_exporter.simulator import ContactCentre
from taskrouter_exporter.systemd import Notifier

CENTRE = ContactCentre(seed=3)
WORKSPACES = [workspace.sid for workspace in CENTRE.workspaces]


def written(base_url: str, workspaces: Sequence[str] = WORKSPACES, more: str = "") -> str:
    targets = "\n".join(
        f"- {{workspace: {sid}, name: n{WORKSPACES.index(sid)}, channels: [all, voice], windows: [15m, 4h]}}"
        for sid in workspaces
    )
    account = f"{{username: {CENTRE.account_sid}, password: {CENTRE.auth_token}, base_url: '{base_url}'}}"
    return f"accounts: {{default: {account}}}\n{more}\ntargets:\n{targets}\n"


def parsed(text: str) -> Config:
    return parse_config(text, "config.yaml", Path(), {})


class File:
    """The configuration file that the runtime loads; its text can be replaced."""

    def __init__(self, text: str) -> None:
        self.text = text

    def load(self) -> Config:
        return parsed(self.text)


def runtime_of(load: Callable[[], Config]) -> Runtime:
    return Runtime(load, ExporterMetrics("1.2.3", "abc"), Notifier({}))


@pytest.fixture(autouse=True)
def _closed_transports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close every connection at the end: no test here waits until a snapshot has retired."""
    transports: list[RequestsTransport] = []

    def transport(*arguments: Any, **named: Any) -> RequestsTransport:
        transports.append(RequestsTransport(*arguments, **named))
        return transports[-1]

    monkeypatch.setattr("taskrouter_exporter.api.client.RequestsTransport", transport)
    yield
    for each in transports:
        each.close()


def gauge(runtime: Runtime, name: str) -> float:
    value = runtime.metrics.registry.get_sample_value(f"twilio_taskrouter_exporter_config_last_reload_{name}")
    assert value is not None
    return value


@pytest.fixture
def file() -> File:
    return File(written("http://127.0.0.1:9"))


def test_a_target_is_found_by_its_name_or_sid_with_all_its_queries(file: File) -> None:
    async def scenario() -> None:
        snapshot = runtime_of(file.load).snapshot
        by_name = snapshot.find("n1", "voice")
        assert [each.period.label for each in by_name] == ["15m", "4h"]
        assert by_name == snapshot.find(WORKSPACES[1], "voice")
        assert {each.target.workspace_sid for each in by_name} == {WORKSPACES[1]}
        for workspace, channel in (("n1", "chat"), ("N1", "voice"), ("n9", "all"), ("", "all"), ("n1", "")):
            assert snapshot.find(workspace, channel) == ()

    asyncio.run(scenario())


def test_a_target_is_found_by_sids_in_any_case() -> None:
    async def scenario() -> None:
        workspace, channel = CENTRE.workspaces[0].sid, CENTRE.workspaces[0].channels[0].sid
        text = f"targets: [{{workspace: {workspace}, account: main, channels: [{channel}]}}]"
        account = f"{{username: {CENTRE.account_sid}, password: x, base_url: 'http://127.0.0.1:9'}}"
        snapshot = runtime_of(lambda: parsed(f"accounts: {{main: {account}}}\n{text}")).snapshot
        upper = [f"{sid[:2]}{sid[2:].upper()}" for sid in (workspace, channel)]
        assert upper != [workspace, channel]
        assert snapshot.find(*upper) == snapshot.find(workspace, channel) == [*snapshot.queries]

    asyncio.run(scenario())


def test_a_name_that_is_the_sid_of_another_workspace_finds_its_own() -> None:
    async def scenario() -> None:
        runtime = runtime_of(lambda: parsed(written("http://127.0.0.1:9", WORKSPACES[:1])))
        (query, *_) = runtime.snapshot.queries
        other = replace(query, target=replace(query.target, workspace_sid=WORKSPACES[1], workspace="x"))
        namesake = replace(query, target=replace(query.target, workspace=WORKSPACES[1]))
        snapshot = replace(runtime.snapshot, queries=(other, namesake))
        assert snapshot.find(WORKSPACES[1], "all") == [namesake]

    asyncio.run(scenario())


def test_each_workspace_and_channel_is_one_target_in_file_order(file: File) -> None:
    async def scenario() -> None:
        targets = runtime_of(file.load).snapshot.targets
        assert [(each.workspace, each.channel) for each in targets] == [
            (name, channel) for name in ("n0", "n1", "n2") for channel in ("all", "voice")
        ]

    asyncio.run(scenario())


def test_a_first_configuration_that_is_wrong_is_an_error() -> None:
    with pytest.raises(ConfigError):
        runtime_of(File("targets: []").load)


def test_a_reload_replaces_the_snapshot_and_a_failed_one_does_not(file: File) -> None:
    async def scenario() -> None:
        begin = time.time()
        runtime = runtime_of(file.load)
        first, loaded = runtime.snapshot, gauge(runtime, "success_timestamp_seconds")
        assert gauge(runtime, "successful") == 1
        assert begin <= loaded <= time.time()

        file.text = "targets: []"
        with pytest.raises(ConfigError) as refused:
            await runtime.reload()
        with pytest.raises(ConfigError) as at_start:
            parsed(file.text)
        assert refused.value.problems == at_start.value.problems
        assert runtime.snapshot is first
        assert gauge(runtime, "successful") == 0
        assert runtime.failed_reload is not None
        assert runtime.failed_reload.problems == tuple(at_start.value.problems)
        assert begin <= runtime.failed_reload.at <= time.time()
        assert gauge(runtime, "success_timestamp_seconds") == loaded

        file.text = written("http://127.0.0.1:9", WORKSPACES[:1])
        await runtime.reload()
        assert {each.target.workspace for each in runtime.snapshot.queries} == {"n0"}
        assert {each.target.workspace for each in first.queries} == {"n0", "n1", "n2"}
        assert gauge(runtime, "successful") == 1
        assert gauge(runtime, "success_timestamp_seconds") > loaded
        assert runtime.failed_reload is None

    asyncio.run(scenario())


def test_concurrent_reloads_run_one_after_the_other(file: File) -> None:
    loading = 0
    most = 0
    lock = threading.Lock()

    def load() -> Config:
        nonlocal loading, most
        with lock:
            loading += 1
            most = max(most, loading)
        time.sleep(0.01)
        with lock:
            loading -= 1
        return file.load()

    async def scenario() -> None:
        runtime = runtime_of(load)
        await asyncio.gather(*(runtime.reload() for _ in range(5)))

    asyncio.run(scenario())
    assert most == 1


def test_scrapes_are_answered_while_a_configuration_is_read(file: File) -> None:
    reading, go_on = threading.Event(), threading.Event()

    def load() -> Config:
        if reading.is_set():
            assert go_on.wait(20)
        return file.load()

    async def scenario() -> None:
        runtime = runtime_of(load)
        reading.set()
        reload = asyncio.create_task(runtime.reload())
        outcomes = await runtime.snapshot.poll(runtime.snapshot.queries[:1], time.monotonic() + 1)
        assert len(outcomes) == 1
        assert not reload.done()
        go_on.set()
        await reload

    asyncio.run(scenario())


def test_a_reload_keeps_the_history_of_remaining_queries_and_forgets_the_others() -> None:
    async def scenario(simulator: FaultySimulator) -> None:
        for sid in WORKSPACES:
            simulator.faults.set(sid, Fault.status(403))
        file = File(written(simulator.base_url))
        runtime = runtime_of(file.load)
        everything = runtime.snapshot.queries
        await runtime.snapshot.poll(everything, time.monotonic() + 10)
        assert all(runtime.history.errors(query)[Reason.FORBIDDEN] == 1 for query in everything)
        file.text = written(simulator.base_url, WORKSPACES[1:])
        await runtime.reload()
        for query in everything:
            kept = query.target.workspace_sid != WORKSPACES[0]
            assert (runtime.history.last(query) is not None) == kept
            assert runtime.history.errors(query)[Reason.FORBIDDEN] == kept
            failures = runtime.failures.of(query.target)
            assert [failure.status for failure in failures] == [403] * kept * len(failures)
            assert bool(failures) == kept

    with FaultySimulator(CENTRE) as simulator:
        asyncio.run(scenario(simulator))


def test_a_reload_resizes_the_executor_and_requests_in_flight_count(file: File) -> None:
    async def scenario(simulator: FaultySimulator) -> None:
        file.text = written(simulator.base_url, more="polling: {concurrency: 2}")
        runtime = runtime_of(file.load)
        polls = [asyncio.create_task(runtime.snapshot.poll(runtime.snapshot.queries, time.monotonic() + 60))]
        for _ in range(6):
            while simulator.requests.count() < 2:  # noqa: ASYNC110 -- it happens in threads
                await asyncio.sleep(0.005)
            await runtime.reload()
            polls.append(
                asyncio.create_task(runtime.snapshot.poll(runtime.snapshot.queries, time.monotonic() + 60))
            )
            await asyncio.sleep(0.02)
            most.append(threads())
        assert all(each.up for outcomes in await asyncio.gather(*polls) for each in outcomes)
        file.text = written(simulator.base_url, more="polling: {concurrency: 1}")
        await runtime.reload()
        async with asyncio.timeout(60):
            while threads() > 1:  # noqa: ASYNC110 -- likewise
                await asyncio.sleep(0.005)
        await runtime.stop()
        async with asyncio.timeout(60):
            while threads():  # noqa: ASYNC110 -- likewise
                await asyncio.sleep(0.005)

    def threads() -> int:
        return sum(thread.name.startswith("request-") for thread in threading.enumerate()) - before

    most: list[int] = []
    before = sum(thread.name.startswith("request-") for thread in threading.enumerate())
    with FaultySimulator(CENTRE, latency=0.1) as simulator:
        asyncio.run(scenario(simulator))
    assert max(most) == 2


def test_a_reload_and_a_change_by_discovery_retry_refused_queries() -> None:
    async def scenario(simulator: FaultySimulator) -> None:
        simulator.faults.set(WORKSPACES[0], Fault.status(404))
        runtime = runtime_of(File(written(simulator.base_url, WORKSPACES[:1])).load)

        async def requests() -> int:
            before = simulator.requests.count()
            outcomes = await runtime.snapshot.poll(runtime.snapshot.queries, time.monotonic() + 10)
            assert {each.error.reason for each in outcomes if each.error} == {Reason.NOT_FOUND}
            assert len(outcomes) == 4
            return simulator.requests.count() - before

        assert [await requests() for _ in range(3)] == [4, 4, 0]
        await runtime.reload()
        assert [await requests() for _ in range(3)] == [4, 4, 0]
        await runtime._update_discovered()
        assert await requests() == 0, "nothing has changed"
        runtime.snapshot = replace(runtime.snapshot, queries=())
        await runtime._update_discovered()
        assert await requests() == 4
        await runtime.stop()

    with FaultySimulator(CENTRE) as simulator:
        asyncio.run(scenario(simulator))


def test_a_new_password_retries_refused_queries(tmp_path: Path) -> None:
    async def scenario(simulator: FaultySimulator) -> None:
        password = tmp_path / "auth_token"
        password.write_text(CENTRE.auth_token, encoding="utf-8")
        simulator.faults.set(WORKSPACES[0], Fault.status(403))
        text = written(simulator.base_url, WORKSPACES[:1])
        text = text.replace(f"password: {CENTRE.auth_token}", f"password_file: {password}")
        runtime = runtime_of(File(text).load)

        async def poll() -> list[bool]:
            outcomes = await runtime.snapshot.poll(runtime.snapshot.queries, time.monotonic() + 10)
            return [each.up for each in outcomes]

        for _ in range(3):
            assert not any(await poll())
        simulator.faults.clear()
        assert not any(await poll()), "not asked"
        password.write_text(f"{CENTRE.auth_token}\n", encoding="utf-8")
        assert all(await poll())
        await runtime.stop()

    with FaultySimulator(CENTRE) as simulator:
        asyncio.run(scenario(simulator))


def test_the_pollers_caches_are_pruned_with_the_queries(file: File) -> None:
    async def scenario(simulator: FaultySimulator) -> None:
        file.text = written(simulator.base_url, more="polling: {cache: 1m}")
        runtime = runtime_of(file.load)
        await runtime.snapshot.poll(runtime.snapshot.queries, time.monotonic() + 10)
        assert len(runtime.snapshot.poller._cached) == 12
        assert len(runtime._standings._known) == 12
        runtime.snapshot = replace(
            runtime.snapshot, config=parsed(written(simulator.base_url, WORKSPACES[:1]))
        )
        await runtime._update_discovered()
        assert len(runtime.snapshot.poller._cached) == 4
        assert len(runtime._standings._known) == 4
        await runtime.stop()

    with FaultySimulator(CENTRE) as simulator:
        asyncio.run(scenario(simulator))
