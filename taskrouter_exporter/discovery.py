"""Discovery: the workspaces and TaskChannels that the API lists, and the queries that follow from them."""

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, count, islice
from types import MappingProxyType
from typing import Annotated, Any, Final, Generic, Protocol, TypeVar
from urllib.parse import parse_qsl, urlsplit

import structlog
from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from taskrouter_exporter.api.client import Call
from taskrouter_exporter.api.errors import ApiError, Reason
from taskrouter_exporter.api.executor import Claim, Standing
from taskrouter_exporter.api.transport import HttpAnswer
from taskrouter_exporter.config.loader import MAX_QUERIES, Config, WorkspaceDiscovery, queries_of
from taskrouter_exporter.config.schema import AUTO, is_one_line
from taskrouter_exporter.queries import ALL_CHANNELS, Query
from taskrouter_exporter.sids import is_sid, sid_key, sid_pattern

log = structlog.get_logger()

WORKSPACES_PATH: Final = "/v1/Workspaces"

_PAGE_SIZE: Final = 250
"""A listed workspace takes some 1.5 KB: a page of 1,000, which the API allows, would exceed the limit."""

_MAX_PAGES: Final = 100
_MAX_ITEMS: Final = 100_000
_PAGE_SECONDS: Final = 30.0
_SECONDS_UNTIL_ANOTHER_TRY: Final = 60.0
_LISTS_AT_ONCE: Final = 4
_ALL_ATTEMPTS: Final = 1000
_LONGEST_NAME: Final = 200
_LIKE_CHANNEL_SID: Final = re.compile("TC[0-9A-Fa-f]{16,}")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_REPLACEMENT: Final = "\ufffd"


def _without_surrogates(value: object) -> object:
    return _SURROGATE.sub(_REPLACEMENT, value) if isinstance(value, str) else value


def _text_or_none(value: object) -> object:
    return _without_surrogates(value) if isinstance(value, str) else None


_ListedName = Annotated[str | None, BeforeValidator(_without_surrogates)]
_Time = Annotated[str | None, BeforeValidator(_text_or_none)]
"""It only orders what is listed: of any other type, it is as good as none."""


class _Listed(BaseModel):
    """Something of the API's. Attributes that are of no use here may be anything."""

    model_config = ConfigDict(frozen=True, strict=True, hide_input_in_errors=True)


class DiscoveredWorkspace(_Listed):
    """A workspace as the API lists it."""

    sid: Annotated[str, Field(pattern=sid_pattern("WS"))]
    friendly_name: _ListedName = None
    date_created: _Time = None


class DiscoveredChannel(_Listed):
    """A TaskChannel as the API lists it."""

    sid: Annotated[str, Field(pattern=sid_pattern("TC"))]
    unique_name: _ListedName = None
    date_created: _Time = None


class _Meta(_Listed):
    next_page_url: Annotated[str, Field(max_length=4096)] | None = None


_Item = TypeVar("_Item", DiscoveredWorkspace, DiscoveredChannel)
_Parsed = TypeVar("_Parsed")


class _Page(_Listed):
    meta: _Meta
    items: list[Any] = Field(validation_alias=AliasChoices("workspaces", "channels"))


@dataclass(frozen=True, slots=True)
class Listing(Generic[_Item]):
    """A list as it was read.

    Attributes:
        items: Those that could be read.
        skipped: What is wrong with each of the others, without what it contains.
    """

    items: tuple[_Item, ...]
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Discovered:
    """What the lists of one account held when each was last read.

    Attributes:
        workspaces: The account's workspaces, where it has `workspaces: auto`.
        channels: TaskChannels by workspace SID.
        refreshed: When the last refresh was over, in Unix seconds; None before the first one.
        failures: The lists that could not be read then, by path.
        skipped: What is wrong with the items that could not be read then, by the path of their list.
    """

    workspaces: tuple[DiscoveredWorkspace, ...] = ()
    channels: Mapping[str, tuple[DiscoveredChannel, ...]] = field(default_factory=dict)
    refreshed: float | None = None
    failures: Mapping[str, ApiError] = field(default_factory=dict)
    skipped: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def up(self) -> bool:
        """Whether every list was read at the last refresh."""
        return self.refreshed is not None and not self.failures


@dataclass(frozen=True, slots=True)
class _Adopted:
    """A workspace that discovery adds."""

    auto: WorkspaceDiscovery
    workspace: DiscoveredWorkspace


def expand(config: Config, found: Mapping[str, Discovered]) -> tuple[tuple[Query, ...], bool]:
    """The queries of a configuration once it is known what there is, and whether there were too many.

    No two have equal labels, whatever was found. A name that somebody else has already, a configured
    workspace or an older one that was found, is followed by the SID.

    Args:
        config: What is configured.
        found: By account.
    """
    queries = tuple(islice(_queries(config, found), MAX_QUERIES + 1))
    return queries[:MAX_QUERIES], len(queries) > MAX_QUERIES


def _queries(config: Config, found: Mapping[str, Discovered]) -> Iterator[Query]:
    named: dict[str, set[str]] = {}
    for each in config.workspaces:
        named.setdefault(each.sid, set()).update(each.selection.channels)
    for each in config.workspaces:
        yield from each.queries
        if each.selection.discover_channels:
            channels = _channels(found, each.account, each.sid)
            labels = _channel_labels(channels, named[each.sid])
            yield from queries_of(each.account, each.sid, each.name, labels, each.selection.periods)
    adopted = _adopted(config, found)
    names = _names((each.workspace for each in adopted), (each.name for each in config.workspaces))
    for auto, workspace in ((each.auto, each.workspace) for each in adopted):
        labels = list(auto.selection.channels)
        if auto.selection.discover_channels:
            labels += _channel_labels(_channels(found, auto.account, workspace.sid), labels)
        periods = auto.selection.periods
        yield from queries_of(auto.account, workspace.sid, names[workspace.sid], labels, periods)


def _adopted(config: Config, found: Mapping[str, Discovered]) -> list[_Adopted]:
    """What discovery adds to the configured workspaces, each once, by account and then by age."""
    configured = {sid_key(each.sid) for each in config.workspaces}
    adopted: dict[str, _Adopted] = {}
    for auto in config.workspace_discoveries:
        for workspace in sorted(found.get(auto.account, Discovered()).workspaces, key=_age):
            key = sid_key(workspace.sid)
            if key not in configured and auto.wants(workspace.friendly_name or ""):
                adopted.setdefault(key, _Adopted(auto, workspace))
    return list(adopted.values())


def _names(workspaces: Iterable[DiscoveredWorkspace], configured: Iterable[str]) -> dict[str, str]:
    """The label `workspace` of each SID. The older of two namesakes keeps the plain name."""
    taken = {sid_key(name) for name in configured}
    names: dict[str, str] = {}
    for workspace in sorted(workspaces, key=_age):
        sid, friendly = workspace.sid, workspace.friendly_name or ""
        candidates = chain(
            (name for name in (friendly, f"{friendly} ({sid})") if _is_name(friendly) and _is_name(name)),
            (sid,),
            # Only where somebody gave another workspace this one's SID as its name.
            (f"{sid} ({number})" for number in count(2)),
        )
        names[sid] = next(name for name in candidates if sid_key(name) not in taken)
        taken.add(sid_key(names[sid]))
    return names


def _channel_labels(channels: Collection[DiscoveredChannel], named: Collection[str]) -> list[str]:
    """The label `channel`, and the parameter, of each TaskChannel that is not named already."""
    listed = {sid_key(name) for name in named} - {ALL_CHANNELS}
    taken = {*listed, ALL_CHANNELS, AUTO}
    labels: list[str] = []
    for channel in sorted(channels, key=_age):
        name = channel.unique_name or ""
        if listed & {sid_key(channel.sid), sid_key(name)}:
            continue
        label = channel.sid
        if name not in taken and _is_channel_name(name):
            label = name
        if sid_key(label) not in taken:
            taken.add(sid_key(label))
            labels.append(label)
    return labels


def _channels(found: Mapping[str, Discovered], account: str, sid: str) -> tuple[DiscoveredChannel, ...]:
    return found.get(account, Discovered()).channels.get(sid, ())


def _age(item: DiscoveredWorkspace | DiscoveredChannel) -> tuple[str, str]:
    """Sorts by ISO 8601 times in UTC, which sort as text does; what has none comes last."""
    return item.date_created or "~", item.sid


def _is_name(text: str) -> bool:
    return len(text) <= _LONGEST_NAME and is_one_line(text) and not is_sid("WS", text)


def _is_channel_name(text: str) -> bool:
    # The API knows no channel by a name that could not be read in full.
    return _is_name(text) and _REPLACEMENT not in text and not _LIKE_CHANNEL_SID.fullmatch(text)


class ListClient(Protocol):
    """What discovery needs of api.Client."""

    async def get(self, call: Call, read: Callable[[HttpAnswer], _Parsed]) -> _Parsed:
        """See api.Client.get."""


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
    """Path of the list of a workspace's TaskChannels."""
    return f"{WORKSPACES_PATH}/{workspace_sid}/TaskChannels"


async def _read(client: ListClient, path: str, model: type[_Item], *, has_hung: bool) -> Listing[_Item]:
    """Read a list, page by page. Half a list is none: what it lacks would seem to have gone away.

    An item that cannot be read is left out, unless they all are: then the list is not what it should be.
    """
    items: list[_Item] = []
    skipped: list[str] = []
    parameters: Mapping[str, str] | None = {"PageSize": str(_PAGE_SIZE)}
    asked: list[Mapping[str, str]] = []
    while parameters is not None:
        if parameters in asked:
            raise _bad(f"the list {path} comes back to a page that was read already")
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
        raise _bad(f"no item of {path} can be read, the first is {skipped[0]}")
    return Listing(tuple(items), tuple(skipped))


def _parse_page(path: str, answer: HttpAnswer) -> _Page:
    """Parse a page of a list, whatever its items are. Bytes that are not UTF-8 become U+FFFD."""
    try:
        return _Page.model_validate(json.loads(answer.body.decode("utf-8-sig", errors="replace")))
    except (ValueError, RecursionError) as error:
        where = _where(error) if isinstance(error, ValidationError) else "not JSON"
        raise _bad(f"this is no page of {path}: {where}") from None


def _call(path: str, parameters: Mapping[str, str], *, has_hung: bool) -> Call:
    """The call for a page. Where the list is known to hang, only its last attempt gets the full timeout."""
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
    """What to ask for the next page with, None after the last one.

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
        raise _bad(f"the next page of {path} is one of something else")
    return parameters


def _where(error: ValidationError) -> str:
    """The place and kind of the first thing wrong, without what was found there."""
    first = error.errors(include_url=False, include_input=False)[0]
    return ".".join([*map(str, first["loc"]), first["type"]])


def _bad(message: str) -> ApiError:
    return ApiError(Reason.BAD_RESPONSE, message, status=200)


class DiscoveryObserver(Protocol):
    """Who is told how a refresh went."""

    def discovered(self, account: str, *, up: bool) -> None:
        """A refresh is over, and was complete or not."""


class Discovery:
    """Keeps what there is up to date, in the background, for one configuration.

    Args:
        config: Says what is to be found.
        clients: By account.
        before: What was found for an earlier configuration.
        observer: Told of each refresh.
        changed: Called when something has been found.
    """

    def __init__(
        self,
        config: Config,
        clients: Mapping[str, ListClient],
        *,
        observer: DiscoveryObserver,
        changed: Callable[[], None],
        before: Mapping[str, Discovered] = MappingProxyType({}),
    ) -> None:
        self.discovered = {name: before.get(name, Discovered()) for name in config.discovering_accounts}
        self._config = config
        self._clients = clients
        self._observer = observer
        self._changed = changed
        self._lists_at_once = asyncio.Semaphore(_LISTS_AT_ONCE)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def attempted(self) -> bool:
        """Whether every account has had a refresh, successful or not."""
        return all(found.refreshed is not None for found in self.discovered.values())

    def start(self) -> None:
        """Refresh each account at once, and every interval from then on."""
        self._tasks = [asyncio.create_task(self._keep_up_to_date(account)) for account in self.discovered]

    def cancel(self) -> None:
        """Refresh nothing any more."""
        for task in self._tasks:
            task.cancel()

    async def ended(self) -> None:
        """Wait until a cancelled discovery has let go of everything."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep_up_to_date(self, account: str) -> None:
        interval = self._config.discovery_interval
        while True:
            await self.refresh(account)
            up = self.discovered[account].up
            await asyncio.sleep(interval if up else min(interval, _SECONDS_UNTIL_ANOTHER_TRY))

    async def refresh(self, account: str) -> None:
        """Read the account's lists again; what cannot be read stays as it was."""
        before = self.discovered[account]
        failures: dict[str, ApiError] = {}
        skipped: dict[str, tuple[str, ...]] = {}
        sids = [
            each.sid
            for each in self._config.workspaces
            if each.account == account and each.selection.discover_channels
        ]
        for auto in self._config.workspace_discoveries:
            if auto.account == account:
                workspaces = await self._try(
                    WORKSPACES_PATH,
                    list_workspaces(self._clients[account], has_hung=_hung(before, WORKSPACES_PATH)),
                    failures,
                    skipped,
                )
                if workspaces is not None:
                    # Told at once: the TaskChannels of many workspaces take their time.
                    self._keep(account, replace(self.discovered[account], workspaces=workspaces))
                    sids += self._adopted_sids(auto) if auto.selection.discover_channels else []
        lists = await asyncio.gather(*(self._try_channels(account, sid, failures, skipped) for sid in sids))
        channels = {sid: each for sid, each in zip(sids, lists, strict=True) if each is not None}
        skipped |= {path: before.skipped[path] for path in failures if path in before.skipped}
        # Of a workspace that has gone nothing is kept, unless it is not known what there is.
        kept = before.channels if WORKSPACES_PATH in failures else _only(before.channels, sids)
        self._keep(
            account,
            replace(
                self.discovered[account],
                channels={**kept, **channels},
                refreshed=time.time(),
                failures=failures,
                skipped=skipped,
            ),
        )
        self._observer.discovered(account, up=not failures)
        _tell(account, before.failures, failures)
        _tell_skipped(account, before.skipped, skipped)

    def _adopted_sids(self, auto: WorkspaceDiscovery) -> list[str]:
        adopted = _adopted(self._config, self.discovered)
        return [each.workspace.sid for each in adopted if each.auto.account == auto.account]

    async def _try_channels(
        self,
        account: str,
        sid: str,
        failures: dict[str, ApiError],
        skipped: dict[str, tuple[str, ...]],
    ) -> tuple[DiscoveredChannel, ...] | None:
        path = channels_path(sid)
        has_hung = _hung(self.discovered[account], path)
        async with self._lists_at_once:
            reading = list_channels(self._clients[account], sid, has_hung=has_hung)
            return await self._try(path, reading, failures, skipped)

    async def _try(
        self,
        path: str,
        reading: Awaitable[Listing[_Item]],
        failures: dict[str, ApiError],
        skipped: dict[str, tuple[str, ...]],
    ) -> tuple[_Item, ...] | None:
        """A list, or None where it could not be read."""
        try:
            listing = await reading
        except ApiError as error:
            failures[path] = error
        except Exception as error:  # noqa: BLE001 -- a fault of ours must not end the discovery for good
            failures[path] = _bad(f"unforeseen {type(error).__name__}")
        else:
            if listing.skipped:
                skipped[path] = listing.skipped
            return listing.items
        return None

    def _keep(self, account: str, found: Discovered) -> None:
        known = self.discovered[account]
        self.discovered[account] = found
        if (known.workspaces, known.channels) != (found.workspaces, found.channels):
            self._changed()


def _hung(found: Discovered, path: str) -> bool:
    """Whether a list had no answer in time at the last refresh."""
    failure = found.failures.get(path)
    return failure is not None and failure.reason is Reason.TIMEOUT


def _only(
    channels: Mapping[str, tuple[DiscoveredChannel, ...]], sids: Iterable[str]
) -> dict[str, tuple[DiscoveredChannel, ...]]:
    return {sid: channels[sid] for sid in sids if sid in channels}


def _tell(account: str, before: Mapping[str, ApiError], now: Mapping[str, ApiError]) -> None:
    """Log where failures begin, change or end: one line, however many lists they are."""
    told = log.bind(account=account)
    if not now:
        if before:
            told.info("discovery works again")
        return
    if {path: error.reason for path, error in before.items()} != {
        path: error.reason for path, error in now.items()
    }:
        path, error = next(iter(now.items()))
        told.warning(
            "discovery failed, what was found before stays",
            list=path,
            lists_failed=len(now),
            reason=error.reason,
            status=error.status,
            code=error.code,
            message=error.message,
        )


def _tell_skipped(
    account: str, before: Mapping[str, tuple[str, ...]], now: Mapping[str, tuple[str, ...]]
) -> None:
    """Log where another number of a list's items cannot be read: one line, however many they are."""
    path = next((path for path, problems in now.items() if len(problems) != len(before.get(path, ()))), None)
    if path is not None:
        items = sum(map(len, now.values()))
        log.warning(
            "list items skipped", account=account, list=path, problem=now[path][0], items_skipped=items
        )
