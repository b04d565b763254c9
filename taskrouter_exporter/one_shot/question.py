"""What the flags ask, before it is known whether the names in it exist."""

from dataclasses import dataclass
from datetime import datetime

from taskrouter_exporter.periods import Current, Window
from taskrouter_exporter.statistics.kind import StatisticsName, SubjectName


@dataclass(frozen=True, slots=True)
class Question:
    """One question to TaskRouter.

    Attributes:
        statistics: The kind of statistics.
        period: The window that ends now, or the length of a range; or this moment.
        workspace: Name or SID, None for the only one.
        channel: Unique name or SID of a TaskChannel, or `all`.
        subject: What the statistics are about.
        row: Name or SID of the queue or workflow, None where the subject is the workspace.
        start: Start of a range, None where the period ends now.
        end: End of a range.
    """

    statistics: StatisticsName
    period: Window | Current
    workspace: str | None = None
    channel: str = "all"
    subject: SubjectName = "workspace"
    row: str | None = None
    start: datetime | None = None
    end: datetime | None = None


class QuestionError(ValueError):
    """A question that cannot be asked: flags that contradict each other, or a name that is unknown.

    Its message is one line.
    """
