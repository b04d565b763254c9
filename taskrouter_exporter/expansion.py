"""What is polled once the lists are known: queries whose labels are never equal."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, count, islice
from typing import Final

from taskrouter_exporter.api.listed import (
    REPLACEMENT,
    DiscoveredChannel,
    DiscoveredRow,
    DiscoveredWorkspace,
)
from taskrouter_exporter.config.fields import AUTO, is_one_line
from taskrouter_exporter.config.model import MAX_QUERIES, Config, Selection, StaticWorkspace
from taskrouter_exporter.discovered import ROW_SIDS, Discovered, adopted_workspaces, age
from taskrouter_exporter.periods import Current
from taskrouter_exporter.queries import ALL_CHANNELS, Query, Row, Target
from taskrouter_exporter.sids import is_sid, sid_key
from taskrouter_exporter.statistics import KINDS
from taskrouter_exporter.statistics.kind import SubjectName

_LONGEST_NAME: Final = 200
_SIDS: Final = ("WS", *ROW_SIDS.values())
"""A friendly name that is a SID would be taken for another subject's label."""

_LIKE_CHANNEL_SID: Final = re.compile("TC[0-9A-Fa-f]{16,}")


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


def static_queries(config: Config) -> tuple[Query, ...]:
    """Return the queries for the channels that the configuration names, without queues and workflows.

    They are in file order; the queries of a channel are in the order of `statistics.KINDS`, a window before
    the counters.
    """
    return tuple(
        query
        for static in config.workspaces
        for query in selected_queries(static, static.selection.channels, {})
    )


def selected_queries(
    workspace: StaticWorkspace,
    channels: Iterable[str],
    rows: Mapping[SubjectName, Sequence[Row]],
) -> Iterator[Query]:
    """Yield every query about some channels of a workspace.

    Args:
        workspace: With what is selected in it.
        channels: Their labels.
        rows: The queues and workflows that are known.
    """
    selection = workspace.selection
    kinds = [kind for kind in KINDS if kind.name in selection.statistics]
    periods = (*selection.periods, Current())
    for channel in channels:
        target = Target(workspace.account, workspace.sid, workspace.name, channel)
        for kind in kinds:
            subjects: Sequence[Row | None] = rows.get(kind.subject, ())
            for row in (None,) if kind.subject == "workspace" else subjects:
                for period in periods:
                    if period.role in kind.families:
                        yield Query(target, period, kind, row, selection.service_levels)


def labelled_workspaces(config: Config, discovered: Mapping[str, Discovered]) -> list[StaticWorkspace]:
    """Return the workspaces that are polled: those of the configuration, and those that discovery adds."""
    adopted = adopted_workspaces(config, discovered)
    names = unique_labels((each.workspace for each in adopted), (static.name for static in config.workspaces))
    found = (
        StaticWorkspace(rule.account, workspace.sid, names[workspace.sid], rule.selection)
        for rule, workspace in ((each.rule, each.workspace) for each in adopted)
    )
    return [*config.workspaces, *found]


def _queries(config: Config, discovered: Mapping[str, Discovered]) -> Iterator[Query]:
    workspaces = labelled_workspaces(config, discovered)
    named: dict[str, set[str]] = {}
    for workspace in workspaces:
        named.setdefault(workspace.sid, set()).update(workspace.selection.channels)
    for workspace in workspaces:
        account, selection = discovered.get(workspace.account, Discovered()), workspace.selection
        labels = list(selection.channels)
        if selection.discover_channels:
            labels += channel_labels(account.channels.get(workspace.sid, ()), named[workspace.sid])
        yield from selected_queries(workspace, labels, _rows(selection, account, workspace.sid))


def _rows(selection: Selection, account: Discovered, workspace_sid: str) -> dict[SubjectName, list[Row]]:
    """Return the queues and workflows to poll in a workspace.

    A SID that the configuration names and that the list lacks is polled all the same: its failure shows that
    something is wrong. A name without a SID cannot be: see `missing_rows`.
    """
    rows: dict[SubjectName, list[Row]] = {}
    for subject, wanted in selection.rows.items():
        listed = account.rows.get((subject, workspace_sid), ())
        names = unique_labels(listed, ())
        rows[subject] = [
            Row(each.sid, names[each.sid])
            for each in listed
            if wanted.wants(each.sid, each.friendly_name or "")
        ]
        if account.refreshed is not None:
            known = {sid_key(each.sid) for each in listed}
            sids = (name for name in wanted.named if is_sid(ROW_SIDS[subject], name))
            rows[subject] += [Row(sid, sid) for sid in sids if sid_key(sid) not in known]
    return rows


def unique_labels(
    items: Iterable[DiscoveredWorkspace | DiscoveredRow], configured: Iterable[str]
) -> dict[str, str]:
    """Return the label that names each SID. The older of two namesakes keeps the plain name.

    Args:
        items: Workspaces, or the queues or workflows of one workspace.
        configured: Labels that the configuration gives to others.
    """
    taken = {sid_key(name) for name in configured}
    names: dict[str, str] = {}
    for item in sorted(items, key=age):
        sid, friendly = item.sid, item.friendly_name or ""
        candidates = chain(
            (name for name in (friendly, f"{friendly} ({sid})") if _is_name(friendly) and _is_name(name)),
            (sid,),
            # Only where the configuration gives this SID to another workspace as its name.
            (f"{sid} ({number})" for number in count(2)),
        )
        names[sid] = next(name for name in candidates if sid_key(name) not in taken)
        taken.add(sid_key(names[sid]))
    return names


def channel_labels(channels: Collection[DiscoveredChannel], named: Collection[str]) -> list[str]:
    """Return the label `channel` of each TaskChannel that is not named already; it is the parameter too."""
    listed = {sid_key(name) for name in named} - {ALL_CHANNELS}
    taken = {*listed, ALL_CHANNELS, AUTO}
    labels: list[str] = []
    for channel in sorted(channels, key=age):
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


def _is_name(text: str) -> bool:
    return (
        len(text) <= _LONGEST_NAME and is_one_line(text) and not any(is_sid(prefix, text) for prefix in _SIDS)
    )


def _is_channel_name(text: str) -> bool:
    # The API knows no channel by a name that could not be read in full.
    return _is_name(text) and REPLACEMENT not in text and not _LIKE_CHANNEL_SID.fullmatch(text)
