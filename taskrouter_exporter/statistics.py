"""Workers' cumulative statistics: the only room that knows the attributes of the API's answer."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

OUTCOMES: Final = ("accepted", "rejected", "timed_out", "canceled", "rescinded")
"""How a reservation ends, in the API's own words (`reservations_…`)."""


def _unix_seconds(value: object) -> float:
    moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    if moment is None or moment.tzinfo is None:
        raise ValueError("not an ISO 8601 time with its time zone")
    return moment.timestamp()


_WORKSPACE_IN_URL: Final = re.compile(r"/Workspaces/(WS[0-9a-fA-F]{32})(?:/|$)")

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Timestamp = Annotated[float, BeforeValidator(_unix_seconds)]


class _Answer(BaseModel):
    """One JSON object of the API. Every attribute can be null or missing, none of another type.

    Source: Twilio's OpenAPI description of TaskRouter v1, `WorkersCumulativeStatistics`.
    """

    model_config = ConfigDict(frozen=True)


class _ActivityAnswer(_Answer):
    sid: str | None = None
    friendly_name: str | None = None
    min: Number | None = None
    avg: Number | None = None
    max: Number | None = None
    total: Number | None = None


class _StatisticsAnswer(_Answer):
    workspace_sid: str | None = None
    url: str | None = None
    reservations_created: Number | None = None
    reservations_accepted: Number | None = None
    reservations_rejected: Number | None = None
    reservations_timed_out: Number | None = None
    reservations_canceled: Number | None = None
    reservations_rescinded: Number | None = None
    activity_durations: list[_ActivityAnswer] | None = None
    start_time: Timestamp | None = None
    end_time: Timestamp | None = None


class BadStatisticsError(ValueError):
    """The body is not JSON, not an object, or has an attribute of another type."""


@dataclass(frozen=True, slots=True)
class ActivityDurations:
    """Seconds that Workers spent in one Activity; None where the API said nothing."""

    name: str
    sid: str
    min: float | None = None
    avg: float | None = None
    max: float | None = None
    total: float | None = None


@dataclass(frozen=True, slots=True)
class WorkersStatistics:
    """What the API says of one query.

    Attributes:
        created: Reservations created, None where the API said nothing.
        outcomes: Reservations by how they ended; an outcome of which the API said nothing is absent.
        activities: Durations per Activity, each name and sid once.
        start: Begin of the interval that the API says it covers, in Unix seconds.
        end: Its end, in Unix seconds.
    """

    created: float | None = None
    outcomes: dict[str, float] = field(default_factory=dict)
    activities: tuple[ActivityDurations, ...] = ()
    start: float | None = None
    end: float | None = None


def parse_statistics(body: bytes, workspace_sid: str) -> WorkersStatistics:
    """Parse the body of a `Workers/CumulativeStatistics` answer for a workspace.

    Raises:
        BadStatisticsError: its message names the attribute, never the body's content. An answer that names
            another workspace belongs to another request.
    """
    try:
        answer = _StatisticsAnswer.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the body"
        raise BadStatisticsError(f"{place}: {first['type'].replace('_', ' ')}") from None
    _check_workspace(answer, workspace_sid)
    counts = {outcome: getattr(answer, f"reservations_{outcome}") for outcome in OUTCOMES}
    return WorkersStatistics(
        created=answer.reservations_created,
        outcomes={outcome: count for outcome, count in counts.items() if count is not None},
        activities=tuple(_distinct_activities(answer.activity_durations or [])),
        start=answer.start_time,
        end=answer.end_time,
    )


def _check_workspace(answer: _StatisticsAnswer, workspace_sid: str) -> None:
    """Raise BadStatisticsError where the answer says that it is about another workspace."""
    expected = workspace_sid.lower()
    if answer.workspace_sid and answer.workspace_sid.lower() != expected:
        raise BadStatisticsError("workspace_sid: the answer is about another workspace")
    if answer.url and (named := _WORKSPACE_IN_URL.search(answer.url)) and named[1].lower() != expected:
        raise BadStatisticsError("url: the answer is about another workspace")


def _distinct_activities(answers: list[_ActivityAnswer]) -> Iterator[ActivityDurations]:
    """Yield each name and sid once: a second one would be the same series twice and spoil the scrape."""
    seen = set()
    for answer in answers:
        identity = (answer.friendly_name or "", answer.sid or "")
        if identity not in seen:
            seen.add(identity)
            yield ActivityDurations(*identity, answer.min, answer.avg, answer.max, answer.total)


@dataclass(frozen=True, slots=True)
class CounterFloor:
    """The highest values seen of one query's counters since an anchor.

    Statistics come from several machines at Twilio's, and a later answer can be lower than an earlier one.
    Published as it is, `increase()` would take it for a reset and count everything twice.
    """

    created: float = 0
    outcomes: dict[str, float] = field(default_factory=dict)
    totals: dict[tuple[str, str], float] = field(default_factory=dict)

    def raised_by(self, statistics: WorkersStatistics) -> "CounterFloor":
        """The floor after these statistics."""
        return CounterFloor(
            max(self.created, statistics.created or 0),
            {**self.outcomes, **self._held_outcomes(statistics)},
            {
                **self.totals,
                **{
                    (each.name, each.sid): each.total
                    for each in self._held_activities(statistics)
                    if each.total
                },
            },
        )

    def hold(self, statistics: WorkersStatistics) -> WorkersStatistics:
        """The statistics with no counter below the floor. What the API did not say stays absent."""
        return replace(
            statistics,
            created=None if statistics.created is None else max(self.created, statistics.created),
            outcomes=self._held_outcomes(statistics),
            activities=tuple(self._held_activities(statistics)),
        )

    def _held_outcomes(self, statistics: WorkersStatistics) -> dict[str, float]:
        return {key: max(value, self.outcomes.get(key, 0)) for key, value in statistics.outcomes.items()}

    def _held_activities(self, statistics: WorkersStatistics) -> Iterator[ActivityDurations]:
        for each in statistics.activities:
            floor = self.totals.get((each.name, each.sid), 0)
            yield each if each.total is None else replace(each, total=max(each.total, floor))
