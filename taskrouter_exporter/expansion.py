"""What is polled once workspaces and TaskChannels are known: queries whose labels are never equal."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, count, islice
from typing import Final

from taskrouter_exporter.api.errors import ApiError
from taskrouter_exporter.api.listed import REPLACEMENT, DiscoveredChannel, DiscoveredWorkspace
from taskrouter_exporter.config.fields import AUTO, is_one_line
from taskrouter_exporter.config.model import MAX_QUERIES, Config, WorkspaceDiscovery, queries_of
from taskrouter_exporter.queries import ALL_CHANNELS, Query
from taskrouter_exporter.sids import is_sid, sid_key

_LONGEST_NAME: Final = 200
_LIKE_CHANNEL_SID: Final = re.compile("TC[0-9A-Fa-f]{16,}")


@dataclass(frozen=True, slots=True)
class Discovered:
    """What the lists of one account contained when each was last read.

    Attributes:
        workspaces: The account's workspaces, where it has `workspaces: auto`.
        channels: TaskChannels by workspace SID.
        refreshed: When the last refresh was over, in Unix seconds; None before the first one.
        failures: Why lists could not be read then, by path.
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
class AdoptedWorkspace:
    """A workspace that discovery adds, and the part of the configuration that asks for it."""

    rule: WorkspaceDiscovery
    workspace: DiscoveredWorkspace


def expand(config: Config, discovered: Mapping[str, Discovered]) -> tuple[tuple[Query, ...], bool]:
    """Return the queries of a configuration and whether there were too many.

    No two have equal labels, whatever was discovered. A name that is taken, by a configured workspace or an
    older discovered one, is followed by the SID.

    Args:
        config: The static targets, and what to discover.
        discovered: By account.
    """
    queries = tuple(islice(_queries(config, discovered), MAX_QUERIES + 1))
    return queries[:MAX_QUERIES], len(queries) > MAX_QUERIES


def adopted_workspaces(config: Config, discovered: Mapping[str, Discovered]) -> list[AdoptedWorkspace]:
    """Return what discovery adds to the static workspaces, each once, by account and then by age."""
    static = {sid_key(workspace.sid) for workspace in config.workspaces}
    adopted: dict[str, AdoptedWorkspace] = {}
    for rule in config.workspace_discoveries:
        for workspace in sorted(discovered.get(rule.account, Discovered()).workspaces, key=_age):
            key = sid_key(workspace.sid)
            if key not in static and rule.wants(workspace.friendly_name or ""):
                adopted.setdefault(key, AdoptedWorkspace(rule, workspace))
    return list(adopted.values())


def _queries(config: Config, discovered: Mapping[str, Discovered]) -> Iterator[Query]:
    named: dict[str, set[str]] = {}
    for static in config.workspaces:
        named.setdefault(static.sid, set()).update(static.selection.channels)
    for static in config.workspaces:
        yield from static.queries
        if static.selection.discover_channels:
            channels = _channels(discovered, static.account, static.sid)
            labels = _channel_labels(channels, named[static.sid])
            yield from queries_of(static.account, static.sid, static.name, labels, static.selection.periods)
    adopted = adopted_workspaces(config, discovered)
    names = _names((each.workspace for each in adopted), (static.name for static in config.workspaces))
    for rule, workspace in ((each.rule, each.workspace) for each in adopted):
        labels = list(rule.selection.channels)
        if rule.selection.discover_channels:
            labels += _channel_labels(_channels(discovered, rule.account, workspace.sid), labels)
        periods = rule.selection.periods
        yield from queries_of(rule.account, workspace.sid, names[workspace.sid], labels, periods)


def _names(workspaces: Iterable[DiscoveredWorkspace], configured: Iterable[str]) -> dict[str, str]:
    """Return the label `workspace` of each SID. The older of two namesakes keeps the plain name."""
    taken = {sid_key(name) for name in configured}
    names: dict[str, str] = {}
    for workspace in sorted(workspaces, key=_age):
        sid, friendly = workspace.sid, workspace.friendly_name or ""
        candidates = chain(
            (name for name in (friendly, f"{friendly} ({sid})") if _is_name(friendly) and _is_name(name)),
            (sid,),
            # Only where the configuration gives this SID to another workspace as its name.
            (f"{sid} ({number})" for number in count(2)),
        )
        names[sid] = next(name for name in candidates if sid_key(name) not in taken)
        taken.add(sid_key(names[sid]))
    return names


def _channel_labels(channels: Collection[DiscoveredChannel], named: Collection[str]) -> list[str]:
    """Return the label `channel` of each TaskChannel that is not named already; it is the parameter too."""
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


def _channels(discovered: Mapping[str, Discovered], account: str, sid: str) -> tuple[DiscoveredChannel, ...]:
    return discovered.get(account, Discovered()).channels.get(sid, ())


def _age(item: DiscoveredWorkspace | DiscoveredChannel) -> tuple[str, str]:
    """Return a sort key: ISO 8601 times in UTC sort as text does, and what has none comes last."""
    return item.date_created or "~", item.sid


def _is_name(text: str) -> bool:
    return len(text) <= _LONGEST_NAME and is_one_line(text) and not is_sid("WS", text)


def _is_channel_name(text: str) -> bool:
    # The API knows no channel by a name that could not be read in full.
    return _is_name(text) and REPLACEMENT not in text and not _LIKE_CHANNEL_SID.fullmatch(text)
