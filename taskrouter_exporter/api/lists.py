"""The API's lists: workspaces, and the TaskChannels, queues and workflows of each, read page by page."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Final, Generic, Protocol, TypeVar
from urllib.parse import parse_qsl, urlsplit

from pydantic import AliasChoices, Field, ValidationError

from taskrouter_exporter.api.call import Call, HttpAnswer
from taskrouter_exporter.api.errors import ApiError, Reason
from taskrouter_exporter.api.fair_queue import Claim, Standing
from taskrouter_exporter.api.listed import (
    DiscoveredChannel,
    DiscoveredQueue,
    DiscoveredRow,
    DiscoveredWorkflow,
    DiscoveredWorkspace,
    Listed,
)
from taskrouter_exporter.statistics.kind import SubjectName

WORKSPACES_PATH: Final = "/v1/Workspaces"
_PAGE_SIZE: Final = 250
"""A listed workspace takes some 1.5 KB: a page of 1,000, which the API allows, would exceed the limit."""

_MAX_PAGES: Final = 100
_MAX_ITEMS: Final = 100_000
_PAGE_SECONDS: Final = 30.0
_ALL_ATTEMPTS: Final = 1000


_ROWS: Final[Mapping[SubjectName, tuple[str, type[DiscoveredRow]]]] = {
    "queue": ("TaskQueues", DiscoveredQueue),
    "workflow": ("Workflows", DiscoveredWorkflow),
}
"""The list of each kind of row, below a workspace, and the model of its items."""


class _Meta(Listed):
    next_page_url: Annotated[str, Field(max_length=4096)] | None = None


Item = TypeVar("Item", bound=Listed)
_Parsed = TypeVar("_Parsed")


class _Page(Listed):
    meta: _Meta
    items: list[Any] = Field(
        validation_alias=AliasChoices("workspaces", "channels", "task_queues", "workflows")
    )


@dataclass(frozen=True, slots=True)
class Listing(Generic[Item]):
    """A list as it was read.

    Attributes:
        items: Those that could be read.
        skipped: The problem of each of the others, without its content.
    """

    items: tuple[Item, ...]
    skipped: tuple[str, ...] = ()


class ListClient(Protocol):
    """The part of api.client.Client that reading a list needs."""

    async def get(self, call: Call, read: Callable[[HttpAnswer], _Parsed]) -> _Parsed:
        """See api.client.Client.get."""


async def list_workspaces(client: ListClient, *, has_hung: bool = False) -> Listing[DiscoveredWorkspace]:
    """Return every workspace that the account's credentials reach.

    Args:
        client: Of the account.
        has_hung: Whether the list had no answer in time when it was last read.

    Raises:
        ApiError: a page could not be read, or is not a page of workspaces.
    """
    return await _read(client, WORKSPACES_PATH, DiscoveredWorkspace, has_hung=has_hung)


async def list_channels(
    client: ListClient, workspace_sid: str, *, has_hung: bool = False
) -> Listing[DiscoveredChannel]:
    """Return every TaskChannel of a workspace.

    Args:
        client: Of the workspace's account.
        workspace_sid: `WS…`.
        has_hung: Whether the list had no answer in time when it was last read.

    Raises:
        ApiError: a page could not be read, or is not a page of TaskChannels.
    """
    return await _read(client, channels_path(workspace_sid), DiscoveredChannel, has_hung=has_hung)


def channels_path(workspace_sid: str) -> str:
    """Return the path of the list of a workspace's TaskChannels."""
    return f"{WORKSPACES_PATH}/{workspace_sid}/TaskChannels"


async def list_rows(
    client: ListClient, subject: SubjectName, workspace_sid: str, *, has_hung: bool = False
) -> Listing[DiscoveredRow]:
    """Return every queue, or every workflow, of a workspace.

    Args:
        client: Of the workspace's account.
        subject: `queue` or `workflow`.
        workspace_sid: `WS…`.
        has_hung: Whether the list had no answer in time when it was last read.

    Raises:
        ApiError: a page could not be read, or is not a page of such a list.
    """
    _, model = _ROWS[subject]
    return await _read(client, rows_path(subject, workspace_sid), model, has_hung=has_hung)


def rows_path(subject: SubjectName, workspace_sid: str) -> str:
    """Return the path of the list of a workspace's queues or workflows."""
    resource, _ = _ROWS[subject]
    return f"{WORKSPACES_PATH}/{workspace_sid}/{resource}"


async def _read(client: ListClient, path: str, model: type[Item], *, has_hung: bool) -> Listing[Item]:
    """Return a list, read page by page, or nothing of it: what half a list lacks would seem to have gone.

    An item that cannot be read is left out, unless they all are: then the list is not what it should be.
    """
    items: list[Item] = []
    skipped: list[str] = []
    parameters: Mapping[str, str] | None = {"PageSize": str(_PAGE_SIZE)}
    asked: list[Mapping[str, str]] = []
    while parameters is not None:
        if parameters in asked:
            raise _bad(f"the list {path} returns to a page that was read already")
        if len(asked) == _MAX_PAGES or len(items) + len(skipped) > _MAX_ITEMS:
            raise _bad(f"the list {path} does not end")
        asked.append(parameters)
        call = _call(path, parameters, has_hung=has_hung)
        page = await _get(client, call, partial(_parse_page, path))
        for number, content in enumerate(page.items):
            try:
                items.append(model.model_validate(content))
            except ValidationError as error:
                skipped.append(f"item {number} of page {len(asked)}: {_where(error)}")
        parameters = _parameters_of(page.meta.next_page_url, path)
    if skipped and not items:
        raise _bad(f"no item of {path} can be read; the first problem: {skipped[0]}")
    return Listing(tuple(items), tuple(skipped))


def _parse_page(path: str, answer: HttpAnswer) -> _Page:
    """Parse a page of a list, whatever its items are. Bytes that are not UTF-8 become U+FFFD."""
    try:
        return _Page.model_validate(json.loads(answer.body.decode("utf-8-sig", errors="replace")))
    except (ValueError, RecursionError) as error:
        where = _where(error) if isinstance(error, ValidationError) else "not JSON"
        raise _bad(f"not a page of {path}: {where}") from None


def _call(path: str, parameters: Mapping[str, str], *, has_hung: bool) -> Call:
    """Return the call for a page. A list known to hang gets the full timeout for its last attempt only."""
    claim = Claim(path, path, Standing.LIST, limited=True)
    short_attempts = _ALL_ATTEMPTS if has_hung else 0
    return Call(path, parameters, time.monotonic() + _PAGE_SECONDS, claim, short_attempts)


async def _get(client: ListClient, call: Call, read: Callable[[HttpAnswer], _Parsed]) -> _Parsed:
    try:
        async with asyncio.timeout(_PAGE_SECONDS):
            return await client.get(call, read)
    except TimeoutError:
        raise call.failure_when_given_up() from None


def _parameters_of(next_page_url: str | None, path: str) -> dict[str, str] | None:
    """Return the parameters of the next page, None after the last one.

    Only the query is taken from the URL: the host, and with it the receiver of the credentials, stays the
    account's own whatever the answer says. The path may have the prefix of a proxy before it, and its SID in
    another case.
    """
    if next_page_url is None:
        return None
    try:
        url = urlsplit(next_page_url)
        parameters = dict(parse_qsl(url.query, keep_blank_values=True, max_num_fields=20))
    except ValueError:
        raise _bad(f"the next page of {path} has no valid URL") from None
    if not url.path.lower().endswith(path.lower()):
        raise _bad(f"the next page of {path} belongs to another list")
    return parameters


def _where(error: ValidationError) -> str:
    """Return the place and kind of the first problem, without the value."""
    first = error.errors(include_url=False, include_input=False)[0]
    return ".".join([*map(str, first["loc"]), first["type"]])


def _bad(message: str) -> ApiError:
    return ApiError(Reason.BAD_RESPONSE, message, status=200)
