import asyncio
from collections.abc import Mapping

import pytest
from structlog.testing import capture_logs
from support.listed import (
    WORKSPACES,
    Api,
    channel,
    channel_item,
    configuration,
    item,
    page,
    tc,
    workspace,
    ws,
)
from support.virtual_clock import run_virtually

from taskrouter_exporter import expansion
from taskrouter_exporter.api.errors import ApiError, Reason
from taskrouter_exporter.api.fair_queue import Standing
from taskrouter_exporter.api.lists import channels_path, rows_path
from taskrouter_exporter.config.model import Config
from taskrouter_exporter.discovered import ROW_SIDS, Discovered
from taskrouter_exporter.discovery import Discovery
from taskrouter_exporter.metrics import ExporterMetrics
from taskrouter_exporter.poll_history import PollResult
from taskrouter_exporter.runtime import Runtime
from taskrouter_exporter.systemd import Notifier


class Recorder:
    """An observer of a discovery that also counts the changes."""

    def __init__(self) -> None:
        self.up: list[tuple[str, bool]] = []
        self.changes = 0

    def discovered(self, account: str, *, up: bool) -> None:
        self.up.append((account, up))

    async def changed(self) -> None:
        self.changes += 1


def discover(
    config: Config, told: Recorder, before: Mapping[str, Discovered] | None = None, **apis: Api
) -> Discovery:
    return Discovery(config, apis, observer=told, changed=told.changed, before=before or {})


def test_lists_wait_for_polls_and_have_short_attempts_once_they_hung() -> None:
    async def scenario() -> None:
        path = channels_path(ws(1))
        api = Api({path: page("channels")})
        config = configuration([{"workspace": ws(1), "account": "main", "channels": "auto"}], main={})
        subject = discover(config, Recorder(), main=api)
        short = []
        for answer in (page("channels"), ApiError(Reason.TIMEOUT, "no answer"), page("channels")) * 2:
            api.pages[path] = answer
            await subject.refresh("main")
            short.append(api.claimed[-1].short_attempts > 0)
            assert api.claimed[-1].claim.standing is Standing.LIST
        assert short == [False, False, True, False, False, True]

    run_virtually(scenario())


def test_a_failed_refresh_keeps_the_last_list_and_is_logged_when_it_starts_changes_and_ends() -> None:
    async def scenario() -> None:
        told, api = Recorder(), Api({WORKSPACES: page("workspaces", item(1))})
        subject = discover(configuration(), told, main=api)
        assert not subject.attempted
        errors = [ApiError(Reason.AUTH, "Authenticate", 401, 20003), ApiError(Reason.CONNECTION, "refused")]
        good = api.pages[WORKSPACES]
        with capture_logs() as logs:
            for answer in (good, errors[0], errors[0], errors[1], good, good):
                api.pages[WORKSPACES] = answer
                await subject.refresh("main")
                assert [each.sid for each in subject.discovered["main"].workspaces] == [ws(1)]
        assert [up for _, up in told.up] == [True, False, False, False, True, True]
        assert told.changes == 1
        assert subject.attempted
        assert [(each["log_level"], each.get("reason")) for each in logs] == [
            ("warning", "auth"),
            ("warning", "connection"),
            ("info", None),
        ]
        assert logs[0]["code"] == 20003
        assert logs[0]["list"] == WORKSPACES

    run_virtually(scenario())


def test_unreadable_items_are_logged_once_until_their_number_changes() -> None:
    async def scenario() -> None:
        told, secret = Recorder(), {"sid": "not-to-be-told"}
        bad = page("workspaces", item(1), secret)
        api, failed = Api(), ApiError(Reason.CONNECTION, "refused")
        subject = discover(configuration(), told, main=api)
        with capture_logs() as logs:
            for answer in (
                bad,
                page("workspaces", secret, item(1)),
                failed,
                bad,
                page("workspaces", item(1), secret, secret),
                page("workspaces", item(1)),
                bad,
            ):
                api.pages[WORKSPACES] = answer
                await subject.refresh("main")
                assert [each.sid for each in subject.discovered["main"].workspaces] == [ws(1)]
        assert [up for _, up in told.up] == [True, True, False, True, True, True, True]
        skipped = [each for each in logs if each["event"] == "list items skipped"]
        assert [each["items_skipped"] for each in skipped] == [1, 2, 1]
        assert skipped[0] == {
            "event": "list items skipped",
            "log_level": "warning",
            "account": "main",
            "list": WORKSPACES,
            "problem": "item 1 of page 1: sid.string_pattern_mismatch",
            "items_skipped": 1,
        }

    run_virtually(scenario())


def test_an_unreadable_list_of_channels_is_kept_and_the_others_are_read() -> None:
    async def scenario() -> None:
        one, two = channels_path(ws(1)), channels_path(ws(2))
        told, api = Recorder(), Api({WORKSPACES: page("workspaces", item(1), item(2))})
        api.pages |= {one: page("channels", channel_item(1)), two: page("channels", channel_item(2))}
        subject = discover(configuration(main={"workspaces": "auto", "channels": "auto"}), told, main=api)
        await subject.refresh("main")
        api.pages[one] = ApiError(Reason.SERVER_ERROR, "no", 500)
        api.pages[two] = page("channels", channel_item(2), channel_item(3, "chat"))
        await subject.refresh("main")
        found = subject.discovered["main"]
        assert {sid: [each.sid for each in channels] for sid, channels in found.channels.items()} == {
            ws(1): [tc(1)],
            ws(2): [tc(2), tc(3)],
        }
        assert list(found.failures) == [one]
        assert told.up == [("main", True), ("main", False)]
        api.pages[WORKSPACES] = page("workspaces", item(2))
        await subject.refresh("main")
        assert list(subject.discovered["main"].channels) == [ws(2)]
        assert told.up[-1] == ("main", True)

    run_virtually(scenario())


def test_without_a_list_of_workspaces_their_channels_are_kept_and_not_requested() -> None:
    async def scenario() -> None:
        told = Recorder()
        api = Api({WORKSPACES: ApiError(Reason.AUTH, "no", 401)})
        before = Discovered((workspace(1),), {ws(1): (channel(1),)}, refreshed=1.0)
        config = configuration(main={"workspaces": "auto", "channels": "auto"})
        subject = discover(config, told, {"main": before}, main=api)
        await subject.refresh("main")
        assert subject.discovered["main"].channels == before.channels
        assert [path for _, path, _ in api.calls] == [WORKSPACES]

    run_virtually(scenario())


def test_only_the_lists_that_are_needed_are_read_and_few_at_once() -> None:
    async def scenario() -> None:
        told = Recorder()
        api = Api({channels_path(ws(number)): page("channels", channel_item(number)) for number in range(20)})
        api.seconds = 1
        config = configuration(
            [{"workspace": ws(number), "channels": "auto", "account": "main"} for number in range(19)]
            + [{"workspace": ws(19), "account": "main"}],
            main={},
            other={},
        )
        subject = discover(config, told, main=api, other=Api())
        assert list(subject.discovered) == ["main"]
        await subject.refresh("main")
        assert {path for _, path, _ in api.calls} == {channels_path(ws(number)) for number in range(19)}
        assert api.most_at_once == 4

    run_virtually(scenario())


def test_workspaces_are_published_before_all_channels_are_known() -> None:
    async def scenario() -> None:
        seen: list[tuple[int, int]] = []
        api = Api(
            {WORKSPACES: page("workspaces", item(1)), channels_path(ws(1)): page("channels", channel_item(1))}
        )

        async def changed() -> None:
            found = subject.discovered["main"]
            seen.append((len(found.workspaces), len(found.channels)))
            assert not subject.attempted, "a scrape now would lack what was found"

        config = configuration(main={"workspaces": "auto", "channels": "auto"})
        subject = Discovery(config, {"main": api}, observer=Recorder(), changed=changed)
        await subject.refresh("main")
        assert seen == [(1, 0), (1, 1)]
        assert subject.attempted

    run_virtually(scenario())


@pytest.mark.parametrize(("interval", "retry"), [("10m", 60), ("20s", 20)])
def test_a_refresh_starts_every_interval_and_sooner_after_a_failure(interval: str, retry: float) -> None:
    async def scenario() -> None:
        told, api = Recorder(), Api({WORKSPACES: page("workspaces", item(1))})
        config = configuration(interval=interval)
        subject = discover(config, told, main=api)
        begin = asyncio.get_running_loop().time()
        subject.start()
        await asyncio.sleep(1)
        assert subject.attempted
        api.pages[WORKSPACES] = ApiError(Reason.CONNECTION, "refused")
        await asyncio.sleep(config.discovery_interval + 2 * retry)
        subject.cancel()
        await subject.ended()
        times = [time - begin for time, _, _ in api.calls]
        first = config.discovery_interval
        assert times == pytest.approx([0, first, first + retry, first + 2 * retry])

    run_virtually(scenario())


def test_a_hanging_account_does_not_delay_another_and_can_be_cancelled() -> None:
    async def scenario() -> None:
        told, good, slow = Recorder(), Api({WORKSPACES: page("workspaces", item(1))}), Api()
        slow.seconds = 1000
        config = configuration(slow={"workspaces": "auto"}, good={"workspaces": "auto"})
        subject = discover(config, told, slow=slow, good=good)
        subject.start()
        await asyncio.sleep(1)
        assert told.up == [("good", True)]
        assert not subject.attempted
        subject.cancel()
        await subject.ended()
        assert told.up == [("good", True)]
        assert len(asyncio.all_tasks()) == 1

    run_virtually(scenario())


def test_an_unexpected_error_does_not_end_the_discovery() -> None:
    async def scenario() -> None:
        told, api = Recorder(), Api({WORKSPACES: KeyError("secret")})
        subject = discover(configuration(interval="10s"), told, main=api)
        with capture_logs() as logs:
            subject.start()
            await asyncio.sleep(15)
            api.pages[WORKSPACES] = page("workspaces", item(1))
            await asyncio.sleep(15)
        subject.cancel()
        await subject.ended()
        assert {True, False} == {up for _, up in told.up}
        assert "unexpected KeyError" in logs[0]["message"]
        assert "secret" not in str(logs)

    run_virtually(scenario())


def test_results_from_before_a_reload_are_known_at_once() -> None:
    before = {"main": Discovered((workspace(1),), refreshed=5.0), "gone": Discovered()}
    subject = discover(configuration(), Recorder(), before, main=Api())
    assert subject.discovered == {"main": before["main"]}
    assert subject.attempted


# What becomes of it


def test_scrapes_from_then_on_have_what_was_found_and_what_went_away_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(expansion, "MAX_QUERIES", 2)

    async def scenario() -> None:
        runtime = Runtime(configuration, ExporterMetrics("1", "x"), Notifier({}))
        before = runtime.snapshot
        assert not runtime.ready
        with capture_logs() as logs:
            for names in (("a", "b"), ("b", "c", "d"), ("c", "d", "e")):
                workspaces = tuple(workspace(number, name) for number, name in enumerate(names))
                runtime.discovery.discovered["main"] = Discovered(workspaces, refreshed=1.0)
                await runtime._update_discovered()
                assert [each.workspace for each in runtime.snapshot.targets] == [*names[:2]]
                for query in runtime.snapshot.queries:
                    runtime.history.record(PollResult(query, finished=0, duration=0))
        assert runtime.ready
        assert before.queries == ()
        assert runtime.snapshot.poller is before.poller
        assert {query.target.workspace for query in runtime.history._last} == {"c", "d"}
        assert [each["event"] for each in logs] == [
            "discovered queries changed",
            "too many queries discovered; the rest is not polled",
            "discovered queries changed",
            "discovered queries changed",
        ]
        await runtime.stop()

    asyncio.run(scenario())


def test_a_reload_does_not_make_a_ready_exporter_unready() -> None:
    async def scenario() -> None:
        configs = [configuration([{"workspace": ws(1), "account": "main"}], main={}), configuration()]
        runtime = Runtime(lambda: configs.pop(0), ExporterMetrics("1", "x"), Notifier({}))
        await runtime.reload()
        assert not runtime.discovery.attempted
        assert runtime.ready
        await runtime.stop()

    asyncio.run(scenario())


def row_item(prefix: str, number: int, name: str) -> dict[str, object]:
    return {"sid": f"{prefix}{number:032x}", "friendly_name": name, "date_created": None}


def with_rows(**keys: object) -> Config:
    target = {"workspace": ws(1), "name": "support", "account": "main", "statistics": ["realtime"], **keys}
    return configuration([target], main={})


QUEUES, WORKFLOWS = (rows_path(subject, ws(1)) for subject in ROW_SIDS)


def test_queues_and_workflows_are_listed_page_by_page() -> None:
    async def scenario() -> None:
        following = f"https://elsewhere.test{QUEUES}?PageSize=250&Page=1"

        def queues(parameters: Mapping[str, str]) -> object:
            if "Page" in parameters:
                return page("task_queues", row_item("WQ", 2, "Support"))
            return page("task_queues", row_item("WQ", 1, "Sales"), following=following)

        api = Api({QUEUES: queues, WORKFLOWS: page("workflows", row_item("WW", 1, "Assign"))})
        subject = discover(with_rows(queues="auto", workflows=["Assign"]), Recorder(), main=api)
        await subject.refresh("main")
        found = subject.discovered["main"].rows
        assert [each.friendly_name for each in found["queue", ws(1)]] == ["Sales", "Support"]
        assert [each.sid for each in found["workflow", ws(1)]] == [f"WW{1:032x}"]

    run_virtually(scenario())


def test_the_lists_of_all_entries_for_a_workspace_are_read_once() -> None:
    async def scenario() -> None:
        api = Api(
            {QUEUES: page("task_queues", row_item("WQ", 1, "Sales")), channels_path(ws(1)): page("channels")}
        )
        common = {"workspace": ws(1), "account": "main", "statistics": ["realtime"]}
        entries = [
            {**common, "channels": ["all"], "queues": "auto"},
            {**common, "channels": ["auto"], "queues": ["Sales"]},
            {**common, "channels": ["voice"]},
        ]
        subject = discover(configuration(entries, main={}), Recorder(), main=api)
        await subject.refresh("main")
        assert [path for _, path, _ in api.calls] == [channels_path(ws(1)), QUEUES]
        assert len(subject.discovered["main"].rows["queue", ws(1)]) == 1

    run_virtually(scenario())


def test_a_list_of_queues_that_cannot_be_read_stays_as_it_was() -> None:
    async def scenario() -> None:
        api, told = Api({QUEUES: page("task_queues", row_item("WQ", 1, "Sales"))}), Recorder()
        subject = discover(with_rows(queues="auto"), told, main=api)
        await subject.refresh("main")
        before = subject.discovered["main"].rows
        api.pages[QUEUES] = ApiError(Reason.FORBIDDEN, "no", 403)
        with capture_logs():
            await subject.refresh("main")
        assert subject.discovered["main"].rows == before
        assert told.up == [("main", True), ("main", False)]
        api.pages[QUEUES] = page("task_queues", row_item("WQ", 1, "Renamed"))
        with capture_logs():
            await subject.refresh("main")
        assert [each.friendly_name for each in subject.discovered["main"].rows["queue", ws(1)]] == ["Renamed"]
        assert told.changes == 2

    run_virtually(scenario())


def test_names_that_a_list_lacks_are_logged_when_they_change() -> None:
    async def scenario() -> None:
        api = Api({QUEUES: page("task_queues", row_item("WQ", 1, "Sales"))})
        subject = discover(with_rows(queues=["Sales", "Support"]), Recorder(), main=api)
        with capture_logs() as lines:
            for _ in range(3):
                await subject.refresh("main")
        event = "configured queues or workflows not found"
        assert [(line["event"], line["names"]) for line in lines] == [(event, "support/Support")]

    run_virtually(scenario())


def test_configured_sids_are_a_change_after_the_first_refresh_even_if_it_failed() -> None:
    async def scenario() -> None:
        told = Recorder()
        api = Api({QUEUES: ApiError(Reason.FORBIDDEN, "no", 403)})
        subject = discover(with_rows(queues=["WQ" + "0" * 32]), told, main=api)
        with capture_logs():
            for _ in range(2):
                await subject.refresh("main")
        assert told.changes == 1

    run_virtually(scenario())
