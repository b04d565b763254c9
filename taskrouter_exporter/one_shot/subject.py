"""The names of a question: which workspace, TaskChannel, queue or workflow they mean, and its labels."""

import asyncio
import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from taskrouter_exporter.api.errors import ApiError
from taskrouter_exporter.api.lists import ListClient, list_channels, list_rows, list_workspaces
from taskrouter_exporter.config.model import Config, StaticWorkspace
from taskrouter_exporter.discovered import Discovered
from taskrouter_exporter.expansion import channel_labels, labelled_workspaces, unique_labels
from taskrouter_exporter.one_shot.question import Question, QuestionError
from taskrouter_exporter.queries import ALL_CHANNELS, Query, Row, Target
from taskrouter_exporter.sids import sid_key
from taskrouter_exporter.statistics import KINDS

_MOST_NAMES: Final = 5
_LONGEST_NAME: Final = 60


async def find_query(config: Config, question: Question, clients: Mapping[str, ListClient]) -> Query:
    """Return the query that asks the question, with the labels of the live series.

    Lists are read only where a name is not one of the configuration.

    Args:
        config: Names workspaces, or says where to discover them.
        question: What to ask.
        clients: By account.

    Raises:
        QuestionError: a name means nothing, or a workspace must be named.
        ApiError: a list could not be read.
    """
    entries = await _workspace_entries(config, question.workspace, clients)
    workspace, client = entries[0], clients[entries[0].account]
    channel = await _channel(entries, question.channel, client)
    kind = next(
        kind for kind in KINDS if (kind.name, kind.subject) == (question.statistics, question.subject)
    )
    return Query(
        Target(workspace.account, workspace.sid, workspace.name, channel),
        question.period,
        kind,
        await _row(workspace, question, client),
        _service_levels(entries, channel),
    )


async def _workspace_entries(
    config: Config, asked: str | None, clients: Mapping[str, ListClient]
) -> Sequence[StaticWorkspace]:
    """Return every entry about the workspace that is meant; the configuration can have several."""
    if asked is not None and (entries := _entries(config.workspaces, asked)):
        return entries
    discovered, failure = await _list_workspaces(config, clients)
    known = labelled_workspaces(config, discovered)
    if asked is not None and (entries := _entries(known, asked)):
        return entries
    if failure is not None:  # the name may be in the list that could not be read
        raise failure
    names = list(dict.fromkeys(workspace.name for workspace in known))
    if not names:
        raise QuestionError("--workspace: no workspace is configured, and none was discovered")
    if asked is not None:
        raise QuestionError(f"--workspace: no workspace {_quoted(asked)} ({_expected(asked, names)})")
    if len(names) > 1:
        raise QuestionError(f"--workspace: needed, there are {len(names)} ({_expected('', names)})")
    return known


async def _list_workspaces(
    config: Config, clients: Mapping[str, ListClient]
) -> tuple[dict[str, Discovered], ApiError | None]:
    """Return the workspaces of each account that discovers them, and why one of the lists is missing."""
    accounts = [rule.account for rule in config.workspace_discoveries]
    listings = await asyncio.gather(
        *(list_workspaces(clients[account]) for account in accounts), return_exceptions=True
    )
    discovered: dict[str, Discovered] = {}
    failure: ApiError | None = None
    for account, listing in zip(accounts, listings, strict=True):
        if isinstance(listing, ApiError):
            failure = failure or listing
        elif isinstance(listing, BaseException):
            raise listing
        else:
            discovered[account] = Discovered(workspaces=listing.items)
    return discovered, failure


def _entries(workspaces: Iterable[StaticWorkspace], asked: str) -> list[StaticWorkspace]:
    """Return the entries with this name or SID. A name that is another workspace's SID stays a name."""
    key, workspaces = sid_key(asked), list(workspaces)
    by_name = [workspace for workspace in workspaces if sid_key(workspace.name) == key]
    return by_name or [workspace for workspace in workspaces if sid_key(workspace.sid) == key]


async def _channel(entries: Sequence[StaticWorkspace], asked: str, client: ListClient) -> str:
    """Return the label of a TaskChannel: as the configuration spells it, or as discovery names it."""
    named = {sid_key(name): name for entry in entries for name in entry.selection.channels}
    named.setdefault(ALL_CHANNELS, ALL_CHANNELS)
    key = sid_key(asked)
    if key in named:
        return named[key]
    listed = (await list_channels(client, entries[0].sid)).items
    labels = channel_labels(listed, named.values())
    for channel in listed:
        spellings = (sid_key(channel.sid), channel.unique_name)
        if key in spellings:
            label = next((named[each] for each in spellings if each in named), None)
            return label or next(label for label in labels if sid_key(label) in spellings)
    names = [ALL_CHANNELS, *(channel.unique_name or channel.sid for channel in listed)]
    raise QuestionError(f"--channel: no TaskChannel {_quoted(asked)} ({_expected(asked, names)})")


async def _row(workspace: StaticWorkspace, question: Question, client: ListClient) -> Row | None:
    """Return the queue or workflow that is meant, None where the question is about the workspace."""
    if question.row is None:
        return None
    labels = unique_labels((await list_rows(client, question.subject, workspace.sid)).items, ())
    key = sid_key(question.row)
    for sid, label in labels.items():
        if key in (sid_key(sid), label):
            return Row(sid, label)
    raise QuestionError(
        f"--{question.subject}: no {question.subject} {_quoted(question.row)} in workspace "
        f"{workspace.name!r} ({_expected(question.row, list(labels.values()))})"
    )


def _service_levels(entries: Sequence[StaticWorkspace], channel: str) -> tuple[int, ...]:
    """Return the service levels of the workspace, rather those of an entry with the TaskChannel."""
    ordered = sorted(entries, key=lambda entry: channel not in entry.selection.channels)
    return next((levels for entry in ordered if (levels := entry.selection.service_levels)), ())


def _expected(asked: str, names: Sequence[str]) -> str:
    """Return a few of the names that are allowed, those like the one that was asked for first."""
    if not names:
        return "there are none"
    near = difflib.get_close_matches(asked, names, _MOST_NAMES)
    shown = list(dict.fromkeys([*near, *names]))
    few = ", ".join(map(_quoted, shown[:_MOST_NAMES]))
    more = len(shown) - _MOST_NAMES
    return f"expected {few}" + (f" or {more} more" if more > 0 else "")


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_NAME else f"{text[:_LONGEST_NAME]}…")
