"""What the API lists: workspaces, TaskChannels, queues and workflows, as far as the exporter uses them."""

import re
from typing import Annotated, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from taskrouter_exporter.sids import sid_pattern

REPLACEMENT: Final = "\ufffd"
"""Stands for each character of a name that could not be read."""

_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def _without_surrogates(value: object) -> object:
    return _SURROGATE.sub(REPLACEMENT, value) if isinstance(value, str) else value


def _text_or_none(value: object) -> object:
    return _without_surrogates(value) if isinstance(value, str) else None


_ListedName = Annotated[str | None, BeforeValidator(_without_surrogates)]
_Time = Annotated[str | None, BeforeValidator(_text_or_none)]
"""Only orders what is listed; of any other type it counts as missing."""


class Listed(BaseModel):
    """An object that the API lists. Attributes that the exporter does not use may be anything."""

    # Built at the first list: see statistics.answer.
    model_config = ConfigDict(frozen=True, strict=True, hide_input_in_errors=True, defer_build=True)


class DiscoveredWorkspace(Listed):
    """A workspace as the API lists it."""

    sid: Annotated[str, Field(pattern=sid_pattern("WS"))]
    friendly_name: _ListedName = None
    date_created: _Time = None


class DiscoveredChannel(Listed):
    """A TaskChannel as the API lists it."""

    sid: Annotated[str, Field(pattern=sid_pattern("TC"))]
    unique_name: _ListedName = None
    date_created: _Time = None


class DiscoveredRow(Listed):
    """A queue or a workflow as the API lists it."""

    sid: str
    friendly_name: _ListedName = None
    date_created: _Time = None


class DiscoveredQueue(DiscoveredRow):
    """A TaskQueue as the API lists it."""

    sid: Annotated[str, Field(pattern=sid_pattern("WQ"))]


class DiscoveredWorkflow(DiscoveredRow):
    """A Workflow as the API lists it."""

    sid: Annotated[str, Field(pattern=sid_pattern("WW"))]
