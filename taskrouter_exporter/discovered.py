"""What discovery has found, and which of it the configuration asks for."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from taskrouter_exporter.api.errors import ApiError
from taskrouter_exporter.api.listed import DiscoveredChannel, DiscoveredRow, DiscoveredWorkspace
from taskrouter_exporter.config.model import Config, Selection, WorkspaceDiscovery
from taskrouter_exporter.sids import is_sid, sid_key
from taskrouter_exporter.statistics.kind import SubjectName

ROW_SIDS: Final[Mapping[SubjectName, str]] = {"queue": "WQ", "workflow": "WW"}
"""How the SIDs of each kind of row begin."""


@dataclass(frozen=True, slots=True)
class Discovered:
    """What the lists of one account contained when each was last read.

    Attributes:
        workspaces: The account's workspaces, where it has `workspaces: auto`.
        channels: TaskChannels by workspace SID.
        rows: Queues and workflows by workspace SID.
        refreshed: When the last refresh was over, in Unix seconds; None before the first one.
        failures: Why lists could not be read then, by path.
        skipped: What is wrong with the items that could not be read then, by the path of their list.
    """

    workspaces: tuple[DiscoveredWorkspace, ...] = ()
    channels: Mapping[str, tuple[DiscoveredChannel, ...]] = field(default_factory=dict)
    rows: Mapping[tuple[SubjectName, str], tuple[DiscoveredRow, ...]] = field(default_factory=dict)
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


def adopted_workspaces(config: Config, discovered: Mapping[str, Discovered]) -> list[AdoptedWorkspace]:
    """Return what discovery adds to the static workspaces, each once, by account and then by age."""
    static = {sid_key(workspace.sid) for workspace in config.workspaces}
    adopted: dict[str, AdoptedWorkspace] = {}
    for rule in config.workspace_discoveries:
        for workspace in sorted(discovered.get(rule.account, Discovered()).workspaces, key=age):
            key = sid_key(workspace.sid)
            if key not in static and rule.wants(workspace.friendly_name or ""):
                adopted.setdefault(key, AdoptedWorkspace(rule, workspace))
    return list(adopted.values())


def missing_rows(selection: Selection, account: Discovered, workspace_sid: str) -> Iterator[str]:
    """Yield the friendly names that the configuration names and that the lists, once read, do not have."""
    for subject, wanted in selection.rows.items():
        listed = account.rows.get((subject, workspace_sid))
        if listed is not None:
            names = {each.friendly_name for each in listed}
            prefix = ROW_SIDS[subject]
            yield from (name for name in wanted.named if name not in names and not is_sid(prefix, name))


def age(item: DiscoveredWorkspace | DiscoveredChannel | DiscoveredRow) -> tuple[str, str]:
    """Return a sort key: ISO 8601 times in UTC sort as text does, and what has none comes last."""
    return item.date_created or "~", item.sid
