"""The data that a configuration file results in, after all checks."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from taskrouter_exporter.queries import Period, Query, Target

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
class Selection:
    """What to poll in a workspace.

    Attributes:
        channels: The channels that the configuration names.
        discover_channels: Whether to poll all other TaskChannels of the workspace as well (`auto`).
        periods: The windows, and the anchored period of the counters.
    """

    channels: tuple[str, ...]
    discover_channels: bool
    periods: tuple[Period, ...]


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

    @property
    def queries(self) -> tuple[Query, ...]:
        """The queries for the channels that the configuration names."""
        channels, periods = self.selection.channels, self.selection.periods
        return tuple(queries_of(self.account, self.sid, self.name, channels, periods))


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
        included = self.include is None or any(fnmatchcase(name, pattern) for pattern in self.include)
        return included and not any(fnmatchcase(name, pattern) for pattern in self.exclude)


@dataclass(frozen=True)
class Config:
    """What to poll, how, and with which credentials.

    Attributes:
        accounts: The accounts by name.
        polling: How to poll the API.
        queries: The static queries in file order: for each target its named channels, and for each channel
            the windows and then the counters.
        workspaces: The entries of `targets`.
        workspace_discoveries: The accounts whose workspaces are discovered at run time, in file order.
        discovery_interval: Seconds between two refreshes of what is discovered.
    """

    accounts: Mapping[str, Account]
    polling: Polling
    queries: tuple[Query, ...]
    workspaces: tuple[StaticWorkspace, ...] = ()
    workspace_discoveries: tuple[WorkspaceDiscovery, ...] = ()
    discovery_interval: float = DISCOVERY_SECONDS

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        """The targets of the static queries, in file order."""
        return tuple(dict.fromkeys(query.target for query in self.queries))

    @property
    def discovering_accounts(self) -> tuple[str, ...]:
        """Names of the accounts whose workspaces or channels are discovered at run time."""
        of_workspaces = (discovery.account for discovery in self.workspace_discoveries)
        of_channels = (
            workspace.account for workspace in self.workspaces if workspace.selection.discover_channels
        )
        return tuple(dict.fromkeys([*of_workspaces, *of_channels]))


def queries_of(
    account: str, sid: str, name: str, channels: Iterable[str], periods: Collection[Period]
) -> Iterator[Query]:
    """Yield a query for each combination of a channel and a period of a workspace."""
    for channel in channels:
        target = Target(account, sid, name, channel)
        yield from (Query(target, period) for period in periods)
