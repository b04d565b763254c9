"""Targets and queries: what the exporter asks TaskRouter for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from taskrouter_exporter.lines import label_text
from taskrouter_exporter.periods import Period
from taskrouter_exporter.statistics.kind import Kind
from taskrouter_exporter.statistics.workers import WORKERS

ALL_CHANNELS: Final = "all"
"""The `channel` of a target for statistics over all TaskChannels."""


@dataclass(frozen=True, slots=True)
class Target:
    """A workspace and one TaskChannel, or `all` for every channel.

    Attributes:
        account: Name of the account that has access to the workspace. Not compared: a target that moves to
            another account remains the same target.
        workspace_sid: Workspace SID (`WS…`).
        workspace: Value of the label `workspace`: the configured name, by default the SID.
        channel: Value of the label `channel`: unique name or SID of a TaskChannel, or `all`.
    """

    account: str = field(compare=False)
    workspace_sid: str
    workspace: str
    channel: str


@dataclass(frozen=True, slots=True)
class Row:
    """A queue or a workflow whose statistics are asked for.

    Attributes:
        sid: `WQ…` or `WW…`.
        name: Value of the label `queue` or `workflow`.
    """

    sid: str
    name: str


@dataclass(frozen=True, slots=True)
class Query:
    """One target, one kind of statistics and one period, optionally one queue or workflow.

    Attributes:
        target: Whose statistics are asked for.
        period: The period that they cover.
        kind: What is asked.
        row: The queue or workflow that the kind is about, None where it is about the workspace.
        service_levels: Seconds of waiting by which the API splits the counts of a window. Not compared: they
            change the answer, not whose it is.
        path: The path of the API resource.
        label_text: Its `labels`, as they stand between the braces of a sample line.
        statistics_label_text: Its `statistics_labels` likewise.
    """

    target: Target
    period: Period
    kind: Kind = WORKERS
    row: Row | None = None
    service_levels: tuple[int, ...] = field(default=(), compare=False)
    path: str = field(init=False, compare=False, repr=False)
    label_text: str = field(init=False, compare=False, repr=False)
    statistics_label_text: str = field(init=False, compare=False, repr=False)
    _hash: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Prepare what every poll needs."""
        prepared = {
            "path": self.kind.path(self.target.workspace_sid, self.row.sid if self.row else ""),
            "label_text": label_text(self.labels.items()),
            "statistics_label_text": label_text(self.statistics_labels.items()),
            "_hash": hash((self.target, self.period, self.kind, self.row)),
        }
        for name, value in prepared.items():
            object.__setattr__(self, name, value)

    def __hash__(self) -> int:
        """Return the hash, which a poll needs a dozen times."""
        return self._hash

    @property
    def labels(self) -> dict[str, str]:
        """The labels of everything that is published of this query itself, such as `up`."""
        labels = {"workspace": self.target.workspace, "channel": self.target.channel}
        if self.period.label:
            labels["window"] = self.period.label
        labels["statistics"] = self.kind.name
        if self.row is not None:
            labels[self.kind.subject] = self.row.name
        return labels

    @property
    def statistics_labels(self) -> dict[str, str]:
        """The labels of the query's statistics, without those of single samples."""
        labels = {"workspace": self.target.workspace, "channel": self.target.channel}
        if self.row is not None:
            labels[self.kind.subject] = self.row.name
        if self.period.role == "window":
            labels["window"] = self.period.label
        return labels

    def parameters(self, start: datetime | None = None, end: datetime | None = None) -> Mapping[str, str]:
        """Return the URL parameters.

        Args:
            start: Of an anchored period, or of a window in the past.
            end: Of a period in the past; by default it is now.
        """
        parameters = self.period.parameters(start, end)
        if self.target.channel != ALL_CHANNELS:
            parameters["TaskChannel"] = self.target.channel
        if self.service_levels and self.kind.splits and self.period.role == "window":
            parameters["SplitByWaitTime"] = ",".join(map(str, self.service_levels))
        return parameters
