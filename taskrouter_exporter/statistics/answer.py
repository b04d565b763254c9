"""The answers of the API: how their JSON is read, and what of it may be unreadable."""

import codecs
import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import reduce
from operator import getitem
from typing import Annotated, Any, ClassVar, Final, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_SID_IN_PATH: Final = re.compile("/(workspaces|taskqueues|workflows)/(w[a-z][0-9a-f]{32})(?=/|$)")
_STATISTICS_PATH: Final = re.compile(
    "/workspaces/ws[0-9a-f]{32}(/workers|/(taskqueues|workflows)/w[a-z][0-9a-f]{32})?"
    "/(cumulative|realtime)statistics$"
)
_IDENTITIES: Final = {
    "workspace_sid": "workspaces",
    "task_queue_sid": "taskqueues",
    "workflow_sid": "workflows",
}
"""Attributes that say what an answer is about, and the collection of each in a path, in lower case."""

_NOUNS: Final = {"workspaces": "workspace", "taskqueues": "queue", "workflows": "workflow"}
MOST_ACTIVITIES: Final = 1_000
"""TaskRouter allows 100 Activities in a workspace; many more are not statistics but a burden."""

_TEXTS: Final = ("sid", "friendly_name")
"""The texts of listed objects that become labels."""


def _unix_seconds(value: object) -> float | None:
    if value is None:
        return None
    moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    if moment is None or moment.tzinfo is None:
        raise ValueError("not an ISO 8601 time with its time zone")
    return moment.timestamp()


Labelled = tuple[tuple[str, ...], float]
"""A number of an answer, and the values of the labels that tell it from others."""

Number = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0)]
Timestamp = Annotated[float | None, BeforeValidator(_unix_seconds)]


class AnswerModel(BaseModel):
    """One JSON object of the API. Every attribute can be null or missing.

    A count or a duration below zero cannot be, and as a counter it would be a reset to nothing. Nothing else
    about the values is checked: the published example has a max below its min.

    Attributes:
        secondary: What cannot be read of these attributes is ignored; any other of the wrong type makes the
            answer a bad response.

    Source: Twilio's OpenAPI description of TaskRouter v1.
    """

    # Built at the first answer: most kinds are not polled, and all of them would take part of the startup.
    model_config = ConfigDict(frozen=True, defer_build=True)
    secondary: ClassVar[frozenset[str]] = frozenset()


class ActivityModel(AnswerModel):
    """An Activity in an answer: its identity."""

    sid: str | None = None
    friendly_name: str | None = None

    @property
    def labels(self) -> tuple[str, str]:
        """The values of the labels `activity` and `activity_sid`: one SID can have several names."""
        return self.friendly_name or "", self.sid or ""


class StatisticsModel(AnswerModel):
    """An answer with statistics, and what they are about."""

    workspace_sid: str | None = None
    task_queue_sid: str | None = None
    workflow_sid: str | None = None
    url: str | None = None


_Model = TypeVar("_Model", bound=StatisticsModel)


class BadStatisticsError(ValueError):
    """The body is not JSON, has no statistics, or has a count that is none.

    Its message names the attribute, never the body's content.
    """


def read_body(model: type[_Model], body: bytes) -> tuple[_Model, tuple[str, ...]]:
    """Return an answer, and its secondary attributes that could not be read, once per occurrence.

    Raises:
        BadStatisticsError: see there.
    """
    body = body.removeprefix(codecs.BOM_UTF8)  # RFC 8259, section 8.1: a parser may ignore it
    try:
        answer = model.model_validate_json(body)
    except ValidationError:
        return read_document(model, parse_json(body))
    return _with_statistics(answer), ()


def parse_json(body: bytes) -> Any:  # noqa: ANN401 -- any JSON value
    """Return the JSON value of a body, also where a part of it is not UTF-8.

    It takes twice to three times as long as pydantic's own reading of JSON, which accepts neither half a
    surrogate pair nor bytes that are not UTF-8.

    Raises:
        BadStatisticsError: the body is not JSON.
    """
    try:
        return json.loads(body.decode("utf-8", "surrogateescape"), parse_int=float)
    except (ValueError, RecursionError):
        raise BadStatisticsError("the body: json invalid") from None


def read_document(model: type[_Model], document: Any) -> tuple[_Model, tuple[str, ...]]:  # noqa: ANN401 -- as above
    """Return an answer without what cannot be read of its secondary attributes, and the names of those.

    Args:
        model: The answer's.
        document: A JSON value; unreadable values in it are set to null.

    Raises:
        BadStatisticsError: an attribute that is not secondary cannot be read.
    """
    problems: list[ErrorDetails] = []
    try:
        model.model_validate(document)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
    ignored = [_ignore(document, problem, model.secondary) for problem in problems]
    for name in model.secondary & document.keys():
        if isinstance(document[name], list):
            document[name] = [item for item in document[name] if item is not None]
            ignored += (f"{name}[].{text}" for item in document[name] for text in _replace_surrogates(item))
    return _with_statistics(model.model_validate(document)), tuple(ignored)


def _with_statistics(answer: _Model) -> _Model:
    if answer.model_fields_set <= StatisticsModel.model_fields.keys():
        raise BadStatisticsError("the body: no attribute of statistics")
    return answer


def _ignore(document: Any, problem: ErrorDetails, secondary: frozenset[str]) -> str:  # noqa: ANN401 -- as above
    """Set an unreadable value of the document to null and return its attribute, without positions in lists.

    Raises:
        BadStatisticsError: the value cannot be ignored.
    """
    location = problem["loc"]
    if not location or location[0] not in secondary or problem["type"] == "too_long":
        place = ".".join(map(str, location)) or "the body"
        raise BadStatisticsError(f"{place}: {problem['type'].replace('_', ' ')}")
    *path, last = location
    parent: Any = reduce(getitem, path, document)
    parent[last] = None
    return "".join("[]" if isinstance(step, int) else f".{step}" for step in location).removeprefix(".")


def _replace_surrogates(item: Any) -> Iterator[str]:  # noqa: ANN401 -- as above
    """Replace what has no encoding in an object's texts by U+FFFD; yield the attributes concerned."""
    for name in _TEXTS:
        if isinstance(item, dict) and isinstance(item.get(name), str):
            item[name], replaced = _SURROGATES.subn("\ufffd", item[name])
            if replaced:
                yield name


def check_subject(answer: StatisticsModel, path: str) -> None:
    """Check that an answer does not say that it is about something else than what was asked.

    Args:
        answer: As read.
        path: Of the API resource that was asked.

    Raises:
        BadStatisticsError: the answer belongs to another request.
    """
    expected = _sids(path)
    for attribute, collection in _IDENTITIES.items():
        named = getattr(answer, attribute)
        if named and named.lower() != expected.get(collection):
            raise BadStatisticsError(f"{attribute}: the answer is about another {_NOUNS[collection]}")
    if not answer.url:
        return
    url = answer.url.partition("?")[0]
    for collection, named in _sids(url).items():
        if named != expected.get(collection):
            raise BadStatisticsError(f"url: the answer is about another {_NOUNS[collection]}")
    resource = _STATISTICS_PATH.search(url.lower())
    if resource and not path.lower().endswith(resource[0]):
        raise BadStatisticsError("url: the answer has other statistics than those asked for")


def _sids(path: str) -> dict[str, str]:
    """Return the SIDs that a path names, by their collection, in lower case."""
    return dict(_SID_IN_PATH.findall(path.lower()))


def value_of(attribute: str) -> Callable[[AnswerModel], Iterator[Labelled]]:
    """Return the extraction of one number; a dot leads into an object: `wait.avg`.

    An attribute that an answer's model does not have is one that such answers lack.
    """
    path = attribute.split(".")

    def samples(answer: AnswerModel) -> Iterator[Labelled]:
        value: Any = answer
        for name in path:
            value = getattr(value, name, None)
        if value is not None:
            yield (), value

    return samples


def by_label(attributes: Mapping[str, str]) -> Callable[[AnswerModel], Iterator[Labelled]]:
    """Return the extraction of numbers that a label tells apart, from the attribute of each of its values."""
    extractions = {label: value_of(attribute) for label, attribute in attributes.items()}

    def samples(answer: AnswerModel) -> Iterator[Labelled]:
        for label, extraction in extractions.items():
            for _, value in extraction(answer):
                yield (label,), value

    return samples
