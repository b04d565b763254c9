"""Discovery: the refresh loop that keeps the lists of what is polled up to date."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Final, Protocol, TypeVar

import structlog

from taskrouter_exporter.api.errors import ApiError, Reason
from taskrouter_exporter.api.lists import (
    WORKSPACES_PATH,
    Item,
    ListClient,
    Listing,
    channels_path,
    list_channels,
    list_rows,
    list_workspaces,
    rows_path,
)
from taskrouter_exporter.config.model import Config, WorkspaceDiscovery
from taskrouter_exporter.discovered import Discovered, adopted_workspaces, missing_rows

log = structlog.get_logger()

_SECONDS_UNTIL_ANOTHER_TRY: Final = 60.0
_LISTS_AT_ONCE: Final = 4
_MOST_NAMED: Final = 5

_Key = TypeVar("_Key")
_Read = TypeVar("_Read")


class DiscoveryObserver(Protocol):
    """Receives the result of each refresh."""

    def discovered(self, account: str, *, up: bool) -> None:
        """Take note that a refresh ended, and whether every list was read."""


class Discovery:
    """Reads the lists that one configuration asks for, in the background, again and again.

    Args:
        config: Says what to discover.
        clients: By account.
        before: What an earlier configuration's discovery has found.
        observer: Receives the result of each refresh.
        changed: Awaited when a list has changed; the account counts as attempted afterwards.

    Attributes:
        discovered: By account.
    """

    def __init__(
        self,
        config: Config,
        clients: Mapping[str, ListClient],
        *,
        observer: DiscoveryObserver,
        changed: Callable[[], Awaitable[None]],
        before: Mapping[str, Discovered] = MappingProxyType({}),
    ) -> None:
        self.discovered = {name: before.get(name, Discovered()) for name in config.discovering_accounts}
        self._config = config
        self._clients = clients
        self._observer = observer
        self._changed = changed
        self._lists_at_once = asyncio.Semaphore(_LISTS_AT_ONCE)
        self._missing: dict[str, set[str]] = {}
        self._publishing: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def attempted(self) -> bool:
        """Whether every account has had a refresh, successful or not, and its queries are polled."""
        refreshed = all(account.refreshed is not None for account in self.discovered.values())
        return refreshed and not self._publishing

    def start(self) -> None:
        """Refresh each account at once, and every interval from then on."""
        self._tasks = [asyncio.create_task(self._keep_up_to_date(account)) for account in self.discovered]

    def cancel(self) -> None:
        """Stop refreshing."""
        for task in self._tasks:
            task.cancel()

    async def ended(self) -> None:
        """Wait until the tasks of a cancelled discovery have ended."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep_up_to_date(self, account: str) -> None:
        interval = self._config.discovery_interval
        while True:
            await self.refresh(account)
            up = self.discovered[account].up
            await asyncio.sleep(interval if up else min(interval, _SECONDS_UNTIL_ANOTHER_TRY))

    async def refresh(self, account: str) -> None:
        """Reread the account's lists; one that cannot be read stays as it was."""
        before = self.discovered[account]
        refresh = _Refresh()
        wanted = [
            (static.sid, static.selection) for static in self._config.workspaces if static.account == account
        ]
        for rule in self._config.workspace_discoveries:
            if rule.account == account:
                workspaces = await self._try(
                    WORKSPACES_PATH,
                    list_workspaces(self._clients[account], has_hung=_hung(before, WORKSPACES_PATH)),
                    refresh,
                )
                if workspaces is not None:
                    # At once: the lists in many workspaces take their time.
                    await self._keep(account, replace(self.discovered[account], workspaces=workspaces))
                    wanted += [(sid, rule.selection) for sid in self._adopted_sids(rule)]
        # A workspace can be in several entries; each of its lists is read once.
        with_channels = dict.fromkeys(sid for sid, selection in wanted if selection.discover_channels)
        with_rows = dict.fromkeys(
            (subject, sid) for sid, selection in wanted for subject, rows in selection.rows.items() if rows
        )
        client, in_turn = self._clients[account], partial(self._try_in_turn, account, refresh)
        channels, rows = await asyncio.gather(
            _a_few_at_a_time(
                partial(
                    in_turn,
                    channels_path(sid),
                    partial(list_channels, client, sid),
                    before.channels.get(sid),
                )
                for sid in with_channels
            ),
            _a_few_at_a_time(
                partial(in_turn, rows_path(*each), partial(list_rows, client, *each), before.rows.get(each))
                for each in with_rows
            ),
        )
        failures, skipped = refresh.failures, refresh.skipped
        skipped |= {path: before.skipped[path] for path in failures if path in before.skipped}
        # Nothing is kept of a workspace that has gone, unless the list of workspaces could not be read.
        update = partial(_updated, keep_all=WORKSPACES_PATH in failures)
        await self._keep(
            account,
            replace(
                self.discovered[account],
                channels=update(before.channels, dict(zip(with_channels, channels, strict=True))),
                rows=update(before.rows, dict(zip(with_rows, rows, strict=True))),
                refreshed=time.time(),
                failures=failures,
                skipped=skipped,
            ),
        )
        self._observer.discovered(account, up=not failures)
        _log_failures(account, before.failures, failures)
        _log_skipped(account, before.skipped, skipped)
        self._log_missing(account)

    def _log_missing(self, account: str) -> None:
        """Log the names that the configuration has and the lists lack, whenever they change."""
        missing = {
            f"{static.name}/{name}"
            for static in self._config.workspaces
            if static.account == account
            for name in missing_rows(static.selection, self.discovered[account], static.sid)
        }
        if missing != self._missing.get(account, set()):
            self._missing[account] = missing
            if missing:
                names = ", ".join(sorted(missing)[:_MOST_NAMED])
                log.warning(
                    "configured queues or workflows not found",
                    account=account,
                    names=names,
                    number=len(missing),
                )

    def _adopted_sids(self, rule: WorkspaceDiscovery) -> list[str]:
        adopted = adopted_workspaces(self._config, self.discovered)
        return [each.workspace.sid for each in adopted if each.rule.account == rule.account]

    async def _try_in_turn(
        self,
        account: str,
        refresh: "_Refresh",
        path: str,
        read: Callable[..., Awaitable[Listing[Item]]],
        known: tuple[Item, ...] | None,
    ) -> tuple[Item, ...] | None:
        """Return a list of a workspace, or None where it could not be read; a few are read at a time.

        Where nothing has changed, it is `known` itself: to compare 5,000 lists at the end of a refresh would
        stop everything else for 0.2 s.
        """
        has_hung = _hung(self.discovered[account], path)
        async with self._lists_at_once:
            items = await self._try(path, read(has_hung=has_hung), refresh)
        return known if items == known else items

    async def _try(
        self,
        path: str,
        reading: Awaitable[Listing[Item]],
        refresh: "_Refresh",
    ) -> tuple[Item, ...] | None:
        """Return a list, or None where it could not be read."""
        try:
            listing = await reading
        except ApiError as error:
            refresh.failures[path] = error
        except Exception as error:  # noqa: BLE001 -- a fault of ours must not end the discovery for good
            message = f"unexpected {type(error).__name__}"
            refresh.failures[path] = ApiError(Reason.BAD_RESPONSE, message, status=200)
        else:
            if listing.skipped:
                refresh.skipped[path] = listing.skipped
            return listing.items
        return None

    async def _keep(self, account: str, current: Discovered) -> None:
        previous = self.discovered[account]
        self.discovered[account] = current
        # After the first refresh, SIDs of queues are polled that no list has, or could be read.
        is_first = previous.refreshed is None and current.refreshed is not None and self._names_rows(account)
        if is_first or _lists(previous) != _lists(current):
            self._publishing.add(account)
            try:
                await self._changed()
            finally:
                self._publishing.discard(account)

    def _names_rows(self, account: str) -> bool:
        return any(
            rows.named
            for static in self._config.workspaces
            if static.account == account
            for rows in static.selection.rows.values()
        )


@dataclass(slots=True)
class _Refresh:
    """What one refresh could not read: lists, and items of lists, by path."""

    failures: dict[str, ApiError] = field(default_factory=dict)
    skipped: dict[str, tuple[str, ...]] = field(default_factory=dict)


async def _a_few_at_a_time(reads: Iterable[Callable[[], Awaitable[_Read]]]) -> list[_Read]:
    """Return what is read, in order; a task for each of 5,000 lists would stop everything else for 0.1 s."""
    waiting = enumerate(reads)
    results: dict[int, _Read] = {}

    async def work() -> None:
        for place, read in waiting:
            results[place] = await read()

    await asyncio.gather(*(work() for _ in range(_LISTS_AT_ONCE)))
    return [results[place] for place in range(len(results))]


def _lists(account: Discovered) -> tuple[object, ...]:
    return account.workspaces, account.channels, account.rows


def _hung(account: Discovered, path: str) -> bool:
    """Return whether a list had no answer in time at the last refresh."""
    failure = account.failures.get(path)
    return failure is not None and failure.reason is Reason.TIMEOUT


def _updated(
    before: Mapping[_Key, tuple[Item, ...]],
    now: Mapping[_Key, tuple[Item, ...] | None],
    *,
    keep_all: bool,
) -> dict[_Key, tuple[Item, ...]]:
    """Return the lists, those that could not be read as they were before."""
    kept = {key: items for key, items in before.items() if keep_all or key in now}
    return kept | {key: items for key, items in now.items() if items is not None}


def _log_failures(account: str, before: Mapping[str, ApiError], now: Mapping[str, ApiError]) -> None:
    """Log where failures begin, change or end: one line, however many lists they concern."""
    logger = log.bind(account=account)
    if not now:
        if before:
            logger.info("discovery recovered")
        return
    if {path: error.reason for path, error in before.items()} != {
        path: error.reason for path, error in now.items()
    }:
        path, error = next(iter(now.items()))
        logger.warning(
            "discovery failed; keeping what was discovered before",
            list=path,
            lists_failed=len(now),
            reason=error.reason,
            status=error.status,
            code=error.code,
            message=error.message,
        )


def _log_skipped(
    account: str, before: Mapping[str, tuple[str, ...]], now: Mapping[str, tuple[str, ...]]
) -> None:
    """Log where the number of a list's unreadable items changes: one line, however many they are."""
    path = next((path for path, problems in now.items() if len(problems) != len(before.get(path, ()))), None)
    if path is not None:
        items = sum(map(len, now.values()))
        log.warning(
            "list items skipped", account=account, list=path, problem=now[path][0], items_skipped=items
        )
