"""Checks between keys of the configuration, for what the schema of a single key cannot express."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Final, get_args

from taskrouter_exporter.config.document import Document, KeyPath, Problem
from taskrouter_exporter.config.errors import quote
from taskrouter_exporter.config.fields import AUTO
from taskrouter_exporter.config.model import MAX_QUERIES
from taskrouter_exporter.config.schema import SELECTION_KEYS, SelectionModel, TargetModel
from taskrouter_exporter.queries import Target
from taskrouter_exporter.sids import sid_key
from taskrouter_exporter.statistics import KINDS
from taskrouter_exporter.statistics.kind import StatisticsName

_LISTS_WITHOUT_REPETITION: Final = (
    "channels", "windows", "statistics", "queues", "workflows", "service_levels",
)  # fmt: skip


def check_targets_present(
    root: Mapping[str, object], accounts: Mapping[str, object], document: Document
) -> Iterator[Problem]:
    """Yield a problem if there is neither a target nor an account that discovers its workspaces."""
    if any(isinstance(account, dict) and "workspaces" in account for account in accounts.values()):
        return
    exception = f"unless an account has workspaces: {AUTO}"
    if isinstance(document.data, dict) and "targets" not in root:
        yield document.problem(("targets",), f"missing; required {exception}")
    elif root.get("targets") == []:
        yield document.problem(("targets",), f"must have at least one entry {exception}")


def check_account_keys(accounts: Mapping[str, object], document: Document) -> Iterator[Problem]:
    """Yield the keys of accounts that require or exclude each other, even if their values are invalid."""
    for name, account in accounts.items():
        if not isinstance(account, dict):
            continue
        keys, path = account.keys(), ("accounts", name)
        if not keys & {"password", "password_file"}:
            yield document.problem(path, "either password or password_file is required")
        for key, message, is_wrong in (
            ("password_file", "mutually exclusive with password", "password" in keys),
            ("edge", "requires region", "region" not in keys),
            ("base_url", "mutually exclusive with region and edge", bool(keys & {"region", "edge"})),
            *(
                (key, f"requires workspaces: {AUTO}", "workspaces" not in keys)
                for key in ("include", "exclude", *SELECTION_KEYS)
            ),
        ):
            if key in keys and is_wrong:
                yield document.problem((*path, key), message)


def check_selections(selections: Mapping[KeyPath, SelectionModel], document: Document) -> Iterator[Problem]:
    """Yield the keys that require others, the entries without a period, and what an entry's lists repeat."""
    for path, selection in selections.items():
        yield from _check_requirements(path, selection, document)
    for path, selection in selections.items():
        for key in _LISTS_WITHOUT_REPETITION:
            yield from _check_repetitions((*path, key), getattr(selection, key) or [], document)


def _check_requirements(path: KeyPath, selection: SelectionModel, document: Document) -> Iterator[Problem]:
    statistics, keys = set(selection.statistics), selection.model_fields_set
    if statistics != {"realtime"} and not selection.windows and not selection.counters:
        yield document.problem((*path, "windows"), "must have at least one entry unless counters is set")
    if "timezone" in keys and not selection.counters:
        yield document.problem((*path, "timezone"), "requires counters")
    for key, needed in (
        ("counters", {"workers", "tasks"}),
        ("queues", {"tasks", "realtime"}),
        ("workflows", {"tasks", "realtime"}),
        ("service_levels", {"tasks"}),
    ):
        if key in keys and not statistics & needed:
            alternatives = " or ".join(name for name in get_args(StatisticsName) if name in needed)
            yield document.problem((*path, key), f"requires {alternatives} in statistics")
    for rows in ("queues", "workflows"):
        for key in (f"include_{rows}", f"exclude_{rows}"):
            if key in keys and AUTO not in (getattr(selection, rows) or ()):
                yield document.problem((*path, key), f"requires {rows}: {AUTO}")


def check_targets(
    targets: Mapping[int, TargetModel], accounts: Collection[str], document: Document
) -> Iterator[Problem]:
    """Yield the problems between targets, and between targets and the names of accounts."""
    yield from _check_names(targets, document)
    yield from _check_duplicates(targets, document)
    yield from _check_number_of_queries(targets, document)
    yield from _check_accounts(targets, accounts, document)


def _check_repetitions(path: KeyPath, values: list[str] | list[int], document: Document) -> Iterator[Problem]:
    """Yield the values that repeat another one, perhaps in another spelling (`240m`, `4h`)."""
    first_index: dict[object, int] = {}
    for index, value in enumerate(values):
        key = sid_key(value) if isinstance(value, str) else value
        first = first_index.setdefault(key, index)
        if first == index:
            continue
        message = "duplicate entry"
        if path[0] != "accounts":  # a value under accounts may be a password that is in the wrong place
            spelling, other = (quote(document.written((*path, n))) for n in (index, first))
            message += f" {spelling}" + (f" (same as {other})" if spelling != other else "")
        yield document.problem((*path, index), message)


def _check_names(targets: Mapping[int, TargetModel], document: Document) -> Iterator[Problem]:
    """Yield workspaces with two names or accounts, and names of two workspaces: their series would clash."""
    by_workspace: dict[str, int] = {}
    by_label: dict[str, int] = {}
    for index, target in targets.items():
        first = by_workspace.setdefault(target.workspace, index)
        label, account = targets[first].label, targets[first].account
        if (label, account) != (target.label, target.account):
            line = document.line(("targets", first, "workspace"))
            message = (
                f"workspace {target.workspace} must have the same name and account in every target "
                f"(line {line}: name {quote(label)}, account {quote(account)})"
            )
            yield document.problem(("targets", index, "workspace"), message)
        first = by_label.setdefault(sid_key(target.label), index)
        if targets[first].workspace != target.workspace:
            line = document.line(("targets", first, "name"))
            message = (
                f"{quote(target.label)} is already the name of another workspace on line {line}; "
                "their series would have the same labels"
            )
            yield document.problem(("targets", index, "name"), message)


def _check_duplicates(targets: Mapping[int, TargetModel], document: Document) -> Iterator[Problem]:
    first_index: dict[Target, int] = {}
    for index, entry in targets.items():
        for channel in entry.channels:
            target = Target(entry.account, entry.workspace, entry.label, sid_key(channel))
            first = first_index.setdefault(target, index)
            if first != index:
                line = document.line(("targets", first))
                message = f"channel {quote(channel)} of this workspace is already a target on line {line}"
                yield document.problem(("targets", index), message)


def _check_number_of_queries(targets: Mapping[int, TargetModel], document: Document) -> Iterator[Problem]:
    queries = sum(map(_number_of_queries, targets.values()))
    if queries > MAX_QUERIES:
        message = f"too many queries: {queries:,} (maximum {MAX_QUERIES:,})"
        yield document.problem(("targets",), message)


def _number_of_queries(target: TargetModel) -> int:
    """Return the number of queries without what is discovered; each queue and workflow is named once."""
    periods = Counter({"window": len(target.windows), "anchored": target.counters is not None, "current": 1})
    subjects = {"workspace": 1, "queue": _number(target.queues), "workflow": _number(target.workflows)}
    return _number(target.channels) * sum(
        subjects[kind.subject] * sum(periods[role] for role in kind.families)
        for kind in KINDS
        if kind.name in target.statistics
    )


def _number(names: Collection[str] | None) -> int:
    return sum(name != AUTO for name in names or ())


def _check_accounts(
    targets: Mapping[int, TargetModel], accounts: Collection[str], document: Document
) -> Iterator[Problem]:
    known = ", ".join(map(quote, accounts))
    for index, target in targets.items():
        if accounts and target.account not in accounts:
            message = f"unknown account {quote(target.account)}; known accounts: {known}"
            yield document.problem(("targets", index, "account"), message)
