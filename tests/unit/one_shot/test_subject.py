import asyncio
from typing import Any

import pytest
from support.listed import WORKSPACES, Api, channel_item, configuration, item, page, tc, ws

from taskrouter_exporter.api.errors import ApiError, Reason
from taskrouter_exporter.config.model import Config
from taskrouter_exporter.one_shot.question import Question, QuestionError
from taskrouter_exporter.one_shot.subject import find_query
from taskrouter_exporter.periods import Window
from taskrouter_exporter.queries import Query, Row

CHANNELS = f"{WORKSPACES}/{ws(1)}/TaskChannels"
QUEUES = f"{WORKSPACES}/{ws(1)}/TaskQueues"
FAILURE = ApiError(Reason.AUTH, "refused", 401)


def wq(number: int) -> str:
    return f"WQ{number:032x}"


def queue_item(number: int, name: str) -> dict[str, Any]:
    return {"sid": wq(number), "friendly_name": name, "date_created": f"20{number:02}-01-01T00:00:00Z"}


def target(number: int, name: str, **keys: Any) -> dict[str, Any]:
    return {"workspace": ws(number), "name": name, "account": "main", **keys}


STATIC = configuration([target(1, "support", channels=["voice", "all"]), target(2, "sales")], main={})


def find(config: Config = STATIC, apis: dict[str, Api] | None = None, **asked: Any) -> Query:
    question = Question(**{"statistics": "workers", "period": Window(15), **asked})
    return asyncio.run(find_query(config, question, apis or {"main": Api()}))


def message(config: Config = STATIC, apis: dict[str, Api] | None = None, **asked: Any) -> str:
    with pytest.raises(QuestionError) as error:
        find(config, apis, **asked)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("asked", ["support", ws(1), ws(1)[:2] + ws(1)[2:].upper()])
def test_a_workspace_is_found_by_its_name_or_sid_without_a_request(asked: str) -> None:
    api = Api()
    query = find(apis={"main": api}, workspace=asked)
    assert (query.target.workspace, query.target.workspace_sid) == ("support", ws(1))
    assert api.calls == []


def test_a_name_that_is_the_sid_of_another_workspace_is_a_name() -> None:
    config = configuration([target(1, "support"), target(2, ws(1))], main={})
    assert find(config, workspace=ws(1)).target.workspace_sid == ws(2)


def test_the_only_workspace_needs_no_name() -> None:
    config = configuration([target(1, "support"), target(1, "support", channels=["voice"])], main={})
    assert find(config).target.workspace == "support"


def test_one_of_several_workspaces_must_be_named() -> None:
    assert message() == "--workspace: needed, there are 2 (expected 'support', 'sales')"


def test_an_unknown_workspace_is_an_error_with_a_few_names_the_nearest_first() -> None:
    names = ("one", "two", "three", "four", "five", "six", "support")
    config = configuration([target(number, name) for number, name in enumerate(names)], main={})
    assert message(config, workspace="supports") == (
        "--workspace: no workspace 'supports' (expected 'support', 'one', 'two', 'three', 'four' or 2 more)"
    )


def test_an_unknown_name_is_shortened_and_quoted() -> None:
    assert message(workspace="\x1b" + "x" * 100).startswith(
        "--workspace: no workspace '\\x1b" + "x" * 59 + "…' (expected "
    )


@pytest.mark.parametrize("asked", ["support", ws(1), None])
def test_a_workspace_that_is_only_discovered_is_found(asked: str | None) -> None:
    api = Api({WORKSPACES: page("workspaces", item(1))})
    query = find(configuration(), {"main": api}, workspace=asked)
    assert (query.target.workspace, query.target.workspace_sid) == ("support", ws(1))


def test_a_discovered_workspace_has_the_label_of_its_live_series() -> None:
    config = configuration([target(9, "support")], main={"workspaces": "auto"})
    api = Api({WORKSPACES: page("workspaces", item(1))})
    label = f"support ({ws(1)})"
    assert find(config, {"main": api}, workspace=ws(1)).target.workspace == label
    assert find(config, {"main": api}, workspace=label).target.workspace_sid == ws(1)
    assert find(config, {"main": api}, workspace="support").target.workspace_sid == ws(9)


def test_a_workspace_that_the_configuration_excludes_is_unknown() -> None:
    config = configuration(main={"workspaces": "auto", "exclude": ["*-test"]})
    api = Api({WORKSPACES: page("workspaces", item(1), item(2, "support-test"))})
    assert message(config, {"main": api}, workspace="support-test").endswith("(expected 'support')")


def test_without_any_workspace_the_message_says_so() -> None:
    api = Api({WORKSPACES: page("workspaces")})
    assert message(configuration(), {"main": api}) == (
        "--workspace: no workspace is configured, and none was discovered"
    )


def test_a_list_that_cannot_be_read_matters_only_where_the_name_may_be_in_it() -> None:
    config = configuration(one={"workspaces": "auto"}, two={"workspaces": "auto"})
    apis = {"one": Api({WORKSPACES: FAILURE}), "two": Api({WORKSPACES: page("workspaces", item(1))})}
    assert find(config, apis, workspace="support").target.account == "two"
    with pytest.raises(ApiError, match="refused"):
        find(config, apis, workspace="sales")


def test_a_configured_channel_needs_no_request() -> None:
    api = Api()
    assert find(apis={"main": api}, workspace="support", channel="voice").target.channel == "voice"
    assert find(apis={"main": api}, workspace="sales", channel="all").target.channel == "all"
    assert api.calls == []


@pytest.mark.parametrize(
    ("asked", "label"), [("chat", "chat"), (tc(2), "chat"), (tc(1), "voice"), (tc(3), tc(3))]
)
def test_another_channel_has_the_label_of_its_live_series(asked: str, label: str) -> None:
    channels = (channel_item(1), channel_item(2, "chat"), channel_item(3, "auto"))
    api = Api({CHANNELS: page("channels", *channels)})
    assert find(apis={"main": api}, workspace="support", channel=asked).target.channel == label


def test_an_unknown_channel_is_an_error_with_those_that_exist() -> None:
    api = Api({CHANNELS: page("channels", channel_item(1))})
    assert message(apis={"main": api}, workspace="support", channel="vice") == (
        "--channel: no TaskChannel 'vice' (expected 'voice', 'all')"
    )


@pytest.mark.parametrize(
    ("asked", "row"),
    [
        ("Calls", Row(wq(1), "Calls")),
        (wq(1), Row(wq(1), "Calls")),
        (f"Calls ({wq(2)})", Row(wq(2), f"Calls ({wq(2)})")),
        (wq(2), Row(wq(2), f"Calls ({wq(2)})")),
    ],
)
def test_a_queue_is_found_by_name_or_sid_and_has_its_label(asked: str, row: Row) -> None:
    api = Api({QUEUES: page("task_queues", queue_item(1, "Calls"), queue_item(2, "Calls"))})
    query = find(apis={"main": api}, workspace="support", statistics="tasks", subject="queue", row=asked)
    assert (query.row, query.kind.subject) == (row, "queue")


def test_an_unknown_queue_is_an_error_with_those_that_exist() -> None:
    asked: dict[str, Any] = {"workspace": "support", "statistics": "tasks", "subject": "queue"}
    api = Api({QUEUES: page("task_queues", queue_item(1, "Calls"))})
    for name in ("Call", wq(7)):
        assert message(apis={"main": api}, row=name, **asked) == (
            f"--queue: no queue '{name}' in workspace 'support' (expected 'Calls')"
        )
    empty = Api({QUEUES: page("task_queues")})
    assert message(apis={"main": empty}, row="Calls", **asked).endswith("(there are none)")


def test_the_service_levels_are_those_of_the_channel_or_else_of_the_workspace() -> None:
    tasks = {"statistics": ["tasks"]}
    config = configuration(
        [
            target(1, "support", channels=["all"], service_levels=["20s"], **tasks),
            target(1, "support", channels=["voice"], service_levels=["1m"], **tasks),
            target(1, "support", channels=["chat"], **tasks),
        ],
        main={},
    )
    levels = {
        channel: find(config, channel=channel, statistics="tasks").service_levels
        for channel in ("all", "voice", "chat")
    }
    assert levels == {"all": (20,), "voice": (60,), "chat": (20,)}
