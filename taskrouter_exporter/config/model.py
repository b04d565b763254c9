"""The configuration as the exporter reads it: accounts, polling, targets and what is discovered."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from taskrouter_exporter.queries import Period, Query, Target

DEFAULT_ACCOUNT: Final = "default"

AUTO: Final = "auto"
"""In place of workspaces or TaskChannels: those that the API lists at run time."""

DISCOVERY_SECONDS: Final = 600.0
"""Default of discovery.interval."""

MAX_QUERIES: Final = 100_000


@dataclass(frozen=True)
class Account:
    """One set of Twilio credentials and the API host they belong to.

    Attributes:
        name: The label `account`.
        base_url: Scheme, host and perhaps port and path, without a slash at the end.
        username: Account SID or API key SID.
        password: Either this or `password_file`.
        password_file: Absolute. Symbolic links in it are followed at each reading.
    """

    name: str
    base_url: str
    username: str
    password: SecretStr | None = None
    password_file: Path | None = None


@dataclass(frozen=True)
class Polling:
    """How the API is asked. Durations are seconds."""

    concurrency: int = 16
    attempts: int = 4
    request_timeout: float = 5.0
    cache: float = 0.0


@dataclass(frozen=True, slots=True)
class Selection:
    """What is asked about a workspace.

    Attributes:
        channels: Those that the configuration names.
        discover_channels: Whether every other TaskChannel that the workspace has is asked about too (`auto`).
        periods: Windows and counters.
    """

    channels: tuple[str, ...]
    discover_channels: bool
    periods: tuple[Period, ...]


@dataclass(frozen=True, slots=True)
class StaticWorkspace:
    """An entry of `targets`."""

    account: str
    sid: str
    name: str
    selection: Selection

    @property
    def queries(self) -> tuple[Query, ...]:
        """Those about the channels that the configuration names."""
        channels, periods = self.selection.channels, self.selection.periods
        return tuple(queries_of(self.account, self.sid, self.name, channels, periods))


@dataclass(frozen=True, slots=True)
class WorkspaceDiscovery:
    """An account whose workspaces are found at run time.

    Attributes:
        account: Its name.
        include: Patterns (fnmatch) of friendly names, None for all.
        exclude: Patterns of friendly names that are left out even so.
        selection: What is asked about each.
    """

    account: str
    include: tuple[str, ...] | None
    exclude: tuple[str, ...]
    selection: Selection

    def wants(self, name: str) -> bool:
        """Whether a workspace of this friendly name is polled."""
        included = self.include is None or any(fnmatchcase(name, pattern) for pattern in self.include)
        return included and not any(fnmatchcase(name, pattern) for pattern in self.exclude)


@dataclass(frozen=True)
class Config:
    """What is polled, how, and with which credentials.

    Attributes:
        accounts: By name.
        polling: How the API is asked.
        queries: The static ones: each target's named channels, and for each its windows and counters, in
            file order.
        workspaces: The targets as they are configured.
        workspace_discoveries: The accounts whose workspaces are found at run time, in file order.
        discovery_interval: Seconds after which what is found at run time is looked for again.
    """

    accounts: Mapping[str, Account]
    polling: Polling
    queries: tuple[Query, ...]
    workspaces: tuple[StaticWorkspace, ...] = ()
    workspace_discoveries: tuple[WorkspaceDiscovery, ...] = ()
    discovery_interval: float = DISCOVERY_SECONDS

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        """The targets, in file order."""
        return tuple(dict.fromkeys(query.target for query in self.queries))

    @property
    def discovering_accounts(self) -> tuple[str, ...]:
        """The accounts that have something to be found at run time."""
        channels = (each.account for each in self.workspaces if each.selection.discover_channels)
        return tuple(dict.fromkeys([*(auto.account for auto in self.workspace_discoveries), *channels]))


def queries_of(
    account: str, sid: str, name: str, channels: Iterable[str], periods: Collection[Period]
) -> Iterator[Query]:
    """Each channel of a workspace with each period."""
    for channel in channels:
        target = Target(account, sid, name, channel)
        yield from (Query(target, period) for period in periods)
