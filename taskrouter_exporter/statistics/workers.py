"""Workers' cumulative statistics: the attributes of the API's answer, and how an answer is read."""

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import reduce
from operator import getitem
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

OUTCOMES: Final = ("accepted", "rejected", "timed_out", "canceled", "rescinded")
"""How a reservation ends, in the API's own words (`reservations_…`)."""

_MOST_ACTIVITIES: Final = 1_000
"""TaskRouter allows 100 Activities in a workspace; many more are not statistics but a burden."""

_WORKSPACE_IN_URL: Final = re.compile(r"/Workspaces/(WS[0-9a-fA-F]{32})(?:/|$)")
_SURROGATES: Final = re.compile("[\ud800-\udfff]")


def _unix_seconds(value: object) -> float | None:
    if value is None:
        return None
    moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    if moment is None or moment.tzinfo is None:
        raise ValueError("not an ISO 8601 time with its time zone")
    return moment.timestamp()


Number = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0)]
Timestamp = Annotated[float | None, BeforeValidator(_unix_seconds)]


class _AnswerModel(BaseModel):
    """One JSON object of the API. Every attribute can be null or missing.

    A count or a duration below zero cannot be, and as a counter it would be a reset to nothing. Nothing else
    about the values is checked: the published example has a max below its min.

    Source: Twilio's OpenAPI description of TaskRouter v1, `WorkersCumulativeStatistics`.
    """

    model_config = ConfigDict(frozen=True)


class _ActivityModel(_AnswerModel):
    sid: str | None = None
    friendly_name: str | None = None
    min: Number | None = None
    avg: Number | None = None
    max: Number | None = None
    total: Number | None = None


class _StatisticsModel(_AnswerModel):
    workspace_sid: str | None = None
    url: str | None = None
    reservations_created: Number | None = None
    reservations_accepted: Number | None = None
    reservations_rejected: Number | None = None
    reservations_timed_out: Number | None = None
    reservations_canceled: Number | None = None
    reservations_rescinded: Number | None = None
    activity_durations: Annotated[list[_ActivityModel], Field(max_length=_MOST_ACTIVITIES)] | None = None
    start_time: Timestamp = None
    end_time: Timestamp = None


_STATISTICS: Final = frozenset(_StatisticsModel.model_fields) - {"workspace_sid", "url"}
"""An answer without any of these attributes is not about statistics."""

_EXPENDABLE: Final = frozenset({"activity_durations", "start_time", "end_time"})
"""What cannot be read of these attributes is ignored; any other of the wrong type is a bad response."""


class BadStatisticsError(ValueError):
    """The body is not JSON, has no statistics, or has a count that is none."""


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
        ignored: Attributes that could not be read, such as `activity_durations[].min`, once per occurrence.
        held: Number of counters that have an earlier, higher value in place of the answer's.
    """

    created: float | None = None
    outcomes: dict[str, float] = field(default_factory=dict)
    activities: tuple[ActivityDurations, ...] = ()
    start: float | None = None
    end: float | None = None
    ignored: tuple[str, ...] = ()
    held: int = 0


def parse_statistics(body: bytes, workspace_sid: str) -> WorkersStatistics:
    """Parse the body of a `Workers/CumulativeStatistics` answer for a workspace.

    Raises:
        BadStatisticsError: its message names the attribute, never the body's content. An answer that names
            another workspace belongs to another request.
    """
    body = body.removeprefix(codecs.BOM_UTF8)  # RFC 8259, section 8.1: a parser may ignore it
    ignored: tuple[str, ...] = ()
    try:
        answer = _StatisticsModel.model_validate_json(body)
    except ValidationError:
        answer, ignored = _read_leniently(body)
    _check_workspace(answer, workspace_sid)
    if answer.model_fields_set.isdisjoint(_STATISTICS):
        raise BadStatisticsError("the body: no attribute of statistics")
    counts = {outcome: getattr(answer, f"reservations_{outcome}") for outcome in OUTCOMES}
    return WorkersStatistics(
        created=answer.reservations_created,
        outcomes={outcome: count for outcome, count in counts.items() if count is not None},
        activities=tuple(_distinct_activities(answer.activity_durations or [])),
        start=answer.start_time,
        end=answer.end_time,
        ignored=ignored,
    )


def _read_leniently(body: bytes) -> tuple[_StatisticsModel, tuple[str, ...]]:
    """Return the answer without what cannot be read of its expendable attributes, and the names of those.

    It takes twice to three times as long as pydantic's own reading of JSON, which accepts neither half a
    surrogate pair nor bytes that are not UTF-8.
    """
    try:
        document = json.loads(body.decode("utf-8", "surrogateescape"), parse_int=float)
    except (ValueError, RecursionError):
        raise BadStatisticsError("the body: json invalid") from None
    problems: list[ErrorDetails] = []
    try:
        _StatisticsModel.model_validate(document)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
    ignored = [_ignore(document, problem) for problem in problems]
    if document.get("activity_durations"):
        activities = [each for each in document["activity_durations"] if each is not None]
        document["activity_durations"] = activities
        ignored += (attribute for each in activities for attribute in _replace_surrogates(each))
    return _StatisticsModel.model_validate(document), tuple(ignored)


def _ignore(document: dict[str, Any], problem: ErrorDetails) -> str:
    """Set an unreadable value of the document to null and return its attribute, without positions in lists.

    Raises:
        BadStatisticsError: the value cannot be ignored.
    """
    location = problem["loc"]
    if not location or location[0] not in _EXPENDABLE or problem["type"] == "too_long":
        place = ".".join(map(str, location)) or "the body"
        raise BadStatisticsError(f"{place}: {problem['type'].replace('_', ' ')}")
    *path, last = location
    parent: Any = reduce(getitem, path, document)  # type: ignore[arg-type] # the path says what is a list
    parent[last] = None
    return "".join("[]" if isinstance(step, int) else f".{step}" for step in location).removeprefix(".")


def _replace_surrogates(activity: dict[str, Any]) -> Iterator[str]:
    """Replace what has no encoding in an Activity's texts by U+FFFD; yield the attributes concerned."""
    for name in ("sid", "friendly_name"):
        text, replaced = _SURROGATES.subn("\ufffd", activity.get(name) or "")
        if replaced:
            activity[name] = text
            yield f"activity_durations[].{name}"


def _check_workspace(answer: _StatisticsModel, workspace_sid: str) -> None:
    """Raise BadStatisticsError where the answer says that it is about another workspace."""
    expected = workspace_sid.lower()
    if answer.workspace_sid and answer.workspace_sid.lower() != expected:
        raise BadStatisticsError("workspace_sid: the answer is about another workspace")
    if answer.url and (named := _WORKSPACE_IN_URL.search(answer.url)) and named[1].lower() != expected:
        raise BadStatisticsError("url: the answer is about another workspace")


def _distinct_activities(answers: list[_ActivityModel]) -> Iterator[ActivityDurations]:
    """Yield each name and sid once: a second one would be the same series twice and spoil the scrape."""
    seen = set()
    for answer in answers:
        identity = (answer.friendly_name or "", answer.sid or "")
        if identity not in seen:
            seen.add(identity)
            yield ActivityDurations(*identity, answer.min, answer.avg, answer.max, answer.total)
