"""A kind of statistics: what is asked, how the answer reads, and what is published of it."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

StatisticsName = Literal["workers", "tasks", "realtime"]
SubjectName = Literal["workspace", "queue", "workflow"]
Role = Literal["window", "anchored", "current"]
"""What statistics are about: a sliding window, an anchored period, or this moment."""

_WORKSPACE_PATH: Final = "/v1/Workspaces/{workspace}/"


Sample = tuple[tuple[str, ...], float]
"""Values of the family's own labels, and the sample's value."""

ACTIVITY_LABELS: Final = ("activity", "activity_sid")

SLIDING: Final = "The window slides: do not use rate(). No series while up is 0."
ANCHORED: Final = "since the start of the day (or week), by default in UTC. No series while up is 0."
CURRENT: Final = "No series while up is 0."


@dataclass(frozen=True, slots=True)
class Family:
    """A metric family that is published of one kind of statistics.

    Attributes:
        name: Without the exporter's prefix and the subject's, and without `_total` where it is a counter.
        type: The metric type. A counter does not fall within an anchored period.
        text: The HELP text.
        samples: Returns the samples of an answer; what the answer lacks has none.
        labels: Beside those of the query.
        unit: As in OpenMetrics; the name ends in it.
    """

    name: str
    type: Literal["gauge", "counter"]
    text: str
    samples: Callable[[Any], Iterable[Sample]]
    labels: tuple[str, ...] = ()
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What the API says of one query.

    Attributes:
        families: What is published of such an answer.
        samples: Those of each family, in the same order.
        ignored: Attributes that could not be read, such as `activity_durations[].min`, once per occurrence.
        held: Number of counters that have an earlier, higher value in place of the answer's.
    """

    families: tuple[Family, ...]
    samples: tuple[tuple[Sample, ...], ...]
    ignored: tuple[str, ...] = ()
    held: int = 0

    def value(self, family: str, *labels: str) -> float | None:
        """Return one sample's value, None where the answer does not have it.

        Args:
            family: Its name without `window_`.
            labels: Values of its own labels.
        """
        for definition, samples in zip(self.families, self.samples, strict=True):
            if definition.name.removeprefix("window_") == family:
                return dict(samples).get(labels)
        return None

    def only(self, families: Collection[str]) -> "Statistics":
        """Return the statistics without the samples of other families.

        Args:
            families: Their names without `window_`.
        """
        kept = [
            (definition, samples)
            for definition, samples in zip(self.families, self.samples, strict=True)
            if definition.name.removeprefix("window_") in families
        ]
        return Statistics(
            tuple(definition for definition, _ in kept),
            tuple(samples for _, samples in kept),
            self.ignored,
            self.held,
        )


@dataclass(frozen=True, slots=True)
class Bulk:
    """A request for the current statistics of several subjects, without a TaskChannel.

    Attributes:
        rate_limited_as: Name of the API's resource, which has a rate limit of its own.
        resource: Path below the workspace.
        most: Number of subjects that one request may name.
        names: Attribute of the request's body with their SIDs.
        items: Attribute of the answer with the statistics of each.
        sid: Attribute of each that says whose they are.
    """

    rate_limited_as: str
    resource: str
    most: int
    names: str
    items: str
    sid: str


@dataclass(frozen=True, slots=True)
class Column:
    """A number of the landing page: its heading, and the sample that it is.

    Attributes:
        heading: Of the column.
        family: The sample's family, without `window_`.
        labels: Values of the family's own labels.
        unit: Follows the number.
        whole: Family of the sample that this one is a part of, where the share is shown.
    """

    heading: str
    family: str
    labels: tuple[str, ...] = ()
    unit: str = ""
    whole: str = ""

    def value(self, statistics: Statistics) -> float | None:
        """Return the number, None where the answer does not have it."""
        return statistics.value(self.family, *self.labels)

    def share(self, statistics: Statistics) -> float | None:
        """Return the number's share of the whole, at most 1: what is counted may belong to an earlier window.

        It is None where it is unknown, or the whole is nothing.
        """
        whole = statistics.value(self.whole) if self.whole else None
        part = self.value(statistics) if whole else None
        return None if part is None or not whole else min(part / whole, 1.0)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Kind:
    """One kind of statistics about one kind of subject.

    Attributes:
        name: Value of the key `statistics` and of the label of that name.
        subject: What the statistics are about. Unless it is the workspace, its name is a label, and the
            prefix of the families.
        resource: Path below the workspace, with `{sid}` for the subject's SID.
        model: Reads the answer: a subclass of `answer.StatisticsModel`.
        families: What is published of a sliding window, of an anchored period, or of this moment.
        columns: What the landing page shows.
        splits: Whether the API splits the counts of a window by wait time.
        bulk: How to ask about several subjects at once.
    """

    name: StatisticsName
    subject: SubjectName
    resource: str
    model: type[Any]
    families: Mapping[Role, tuple[Family, ...]]
    columns: tuple[Column, ...] = ()
    splits: bool = False
    bulk: Bulk | None = None

    def __repr__(self) -> str:
        """Name the kind: the families would fill a page."""
        return f"Kind({self.name!r}, {self.subject!r})"

    @property
    def shares(self) -> tuple[Column, ...]:
        """The columns of which the share is shown."""
        return tuple(column for column in self.columns if column.whole)

    @property
    def prefix(self) -> str:
        """The prefix of the families' names."""
        return "" if self.subject == "workspace" else f"{self.subject}_"

    @property
    def rate_limited_as(self) -> str:
        """The API's resource without SIDs: all requests for it share a rate limit in each workspace."""
        return self.resource.replace("{sid}/", "")

    def path(self, workspace_sid: str, sid: str = "") -> str:
        """Return the path of the API resource of one subject."""
        return (_WORKSPACE_PATH + self.resource).format(workspace=workspace_sid, sid=sid)

    def bulk_path(self, workspace_sid: str) -> str:
        """Return the path of the API resource of several subjects."""
        resource = self.bulk.resource if self.bulk else ""
        return (_WORKSPACE_PATH + resource).format(workspace=workspace_sid)
