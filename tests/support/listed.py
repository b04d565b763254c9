"""An API with the workspaces and TaskChannels of a test, and configurations that discover them."""

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from taskrouter_exporter.api.call import Call, HttpAnswer
from taskrouter_exporter.api.listed import DiscoveredChannel, DiscoveredWorkspace
from taskrouter_exporter.config.loader import parse_config
from taskrouter_exporter.config.model import Config
from taskrouter_exporter.discovered import Discovered
from taskrouter_exporter.expansion import expand

Parsed = TypeVar("Parsed")

WORKSPACES = "/v1/Workspaces"
SK = "SK0123456789abcdef0123456789abcdef"


def ws(number: int) -> str:
    return f"WS{number:032x}"


def tc(number: int) -> str:
    return f"TC{number:032x}"


def workspace(number: int, name: str | None = "support", created: str | None = None) -> DiscoveredWorkspace:
    return DiscoveredWorkspace(sid=ws(number), friendly_name=name, date_created=created)


def channel(number: int, name: str | None = "voice", created: str | None = None) -> DiscoveredChannel:
    return DiscoveredChannel(sid=tc(number), unique_name=name, date_created=created)


def configuration(targets: Any = (), interval: str = "10m", **accounts: Any) -> Config:
    """Return a configuration; the arguments are each account's keys besides its credentials."""
    document = {
        "accounts": {
            name: {"username": SK, "password": "x", "base_url": "http://127.0.0.1:9", **keys}
            for name, keys in (accounts or {"main": {"workspaces": "auto"}}).items()
        },
        "targets": [*targets],
        "discovery": {"interval": interval},
    }
    return parse_config(json.dumps(document), "config.yaml", Path(), {})


def polled(config: Config, **found: Discovered) -> list[tuple[str, str, str, str]]:
    """Return account, workspace SID, workspace and channel of each query."""
    queries, _ = expand(config, found)
    return [
        (target.account, target.workspace_sid, target.workspace, target.channel)
        for target in (query.target for query in queries)
    ]


def page(key: str, *items: object, following: str | None = None) -> dict[str, Any]:
    return {"meta": {"next_page_url": following, "key": key}, key: [*items]}


def item(number: int, name: str = "support") -> dict[str, Any]:
    return {"sid": ws(number), "friendly_name": name, "date_created": None, "links": {}}


def channel_item(number: int, name: str = "voice") -> dict[str, Any]:
    return {"sid": tc(number), "unique_name": name}


class Api:
    """A client with an answer per path that the test chooses: a page, pages, an error, or a hang."""

    def __init__(self, pages: Mapping[str, Any] | None = None) -> None:
        self.pages: dict[str, Any] = dict(pages or {})
        self.calls: list[tuple[float, str, Mapping[str, str]]] = []
        self.claimed: list[Call] = []
        self.seconds = 0.0
        self.at_once = self.most_at_once = 0

    async def get(self, call: Call, read: Callable[[HttpAnswer], Parsed]) -> Parsed:
        self.claimed.append(call)
        self.calls.append((asyncio.get_running_loop().time(), call.path, call.parameters))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        call.requesting = True
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.at_once -= 1
        answer = self.pages[call.path]
        if callable(answer):
            answer = answer(call.parameters)
        if isinstance(answer, Exception):
            raise answer
        return read(HttpAnswer(200, {}, answer if isinstance(answer, bytes) else json.dumps(answer).encode()))
