"""The data that a configuration file results in, after all checks."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from taskrouter_exporter.periods import Period
from taskrouter_exporter.sids import sid_key
from taskrouter_exporter.statistics.kind import StatisticsName, SubjectName

DEFAULT_ACCOUNT: Final = "default"


DISCOVERY_SECONDS: Final = 600.0
"""Default of discovery.interval."""

MAX_QUERIES: Final = 100_000
"""Limit for the static queries of a configuration."""


@dataclass(frozen=True)
class Account:
    """One set of Twilio credentials and the API host they belong to.

    Attributes:
        name: Value of the label `account`.
        base_url: Scheme and host, with an optional port and path, without a slash at the end.
        username: Account SID or API key SID.
        password: The password, or None if it is in `password_file`.
        password_file: Absolute path. Symbolic links are resolved each time the file is read.
    """

    name: str
    base_url: str
    username: str
    password: SecretStr | None = None
    password_file: Path | None = None


@dataclass(frozen=True)
class Polling:
    """How the exporter polls the API. Durations are in seconds."""

    concurrency: int = 16
    attempts: int = 4
    request_timeout: float = 5.0
    cache: float = 0.0


@dataclass(frozen=True, slots=True)
class RowSelection:
    """Which queues, or which workflows, of a workspace to poll.

    Attributes:
        named: Friendly names and SIDs that the configuration names.
        discover: Whether to poll the others as well (`auto`).
        include: Patterns (fnmatch) of the friendly names to discover, or None for all.
        exclude: Patterns of friendly names; they take precedence over `include`.
    """

    named: tuple[str, ...] = ()
    discover: bool = False
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether there may be any."""
        return self.discover or bool(self.named)

    def wants(self, sid: str, name: str) -> bool:
        """Return whether to poll the queue or workflow with this SID and friendly name."""
        if name in self.named or sid_key(sid) in map(sid_key, self.named):
            return True
        return self.discover and _is_included(name, self.include, self.exclude)


@dataclass(frozen=True, slots=True)
class Selection:
    """What to poll in a workspace.

    Attributes:
        channels: The channels that the configuration names.
        discover_channels: Whether to poll all other TaskChannels of the workspace as well (`auto`).
        periods: The windows, and the anchored period of the counters.
        statistics: The statistics to poll.
        rows: The queues and workflows to poll.
        service_levels: Seconds by which the tasks of a window are split.
    """

    channels: tuple[str, ...]
    discover_channels: bool
    periods: tuple[Period, ...]
    statistics: tuple[StatisticsName, ...] = ("workers",)
    rows: Mapping[SubjectName, RowSelection] = field(default_factory=dict)
    service_levels: tuple[int, ...] = ()

    @property
    def discovers(self) -> bool:
        """Whether anything in the workspace is found at run time."""
        return self.discover_channels or any(self.rows.values())


@dataclass(frozen=True, slots=True)
class StaticWorkspace:
    """A workspace that the configuration names: an entry of `targets`.

    Attributes:
        account: Name of the account.
        sid: Workspace SID.
        name: Value of the label `workspace`.
        selection: What to poll in the workspace.
    """

    account: str
    sid: str
    name: str
    selection: Selection


@dataclass(frozen=True, slots=True)
class WorkspaceDiscovery:
    """An account whose workspaces are discovered at run time.

    Attributes:
        account: Name of the account.
        include: Patterns (fnmatch) of friendly names, or None to include all.
        exclude: Patterns of friendly names; they take precedence over `include`.
        selection: What to poll in each workspace.
    """

    account: str
    include: tuple[str, ...] | None
    exclude: tuple[str, ...]
    selection: Selection

    def wants(self, name: str) -> bool:
        """Return whether to poll a workspace with this friendly name."""
        return _is_included(name, self.include, self.exclude)


@dataclass(frozen=True)
class Config:
    """What to poll, how, and with which credentials.

    Attributes:
        accounts: The accounts by name.
        polling: How to poll the API.
        workspaces: The entries of `targets`, in file order.
        workspace_discoveries: The accounts whose workspaces are discovered at run time, in file order.
        discovery_interval: Seconds between two refreshes of what is discovered.
    """

    accounts: Mapping[str, Account]
    polling: Polling
    workspaces: tuple[StaticWorkspace, ...] = ()
    workspace_discoveries: tuple[WorkspaceDiscovery, ...] = ()
    discovery_interval: float = DISCOVERY_SECONDS

    @property
    def discovering_accounts(self) -> tuple[str, ...]:
        """Names of the accounts for which something is discovered at run time."""
        of_workspaces = (discovery.account for discovery in self.workspace_discoveries)
        of_others = (workspace.account for workspace in self.workspaces if workspace.selection.discovers)
        return tuple(dict.fromkeys([*of_workspaces, *of_others]))


def _is_included(name: str, include: Collection[str] | None, exclude: Collection[str]) -> bool:
    included = include is None or any(fnmatchcase(name, pattern) for pattern in include)
    return included and not any(fnmatchcase(name, pattern) for pattern in exclude)
