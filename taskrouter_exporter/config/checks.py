"""Checks between keys of the configuration, for what the schema of a single key cannot express."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args

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


@dataclass(frozen=True, slots=True)
class TargetEntry:
    """An entry of `targets` that is valid on its own.

    Attributes:
        document: The file that has it.
        index: Its place in the list there.
        model: Its keys.
    """

    document: Document
    index: int
    model: TargetModel

    def problem(self, message: str, *keys: str) -> Problem:
        """Return a problem of the entry, or of a value in it."""
        return self.document.problem(("targets", self.index, *keys), message)

    def place_for(self, reader: "TargetEntry", *keys: str) -> str:
        """Return where the entry, or a value in it, is, as an entry of any file refers to it."""
        return _place(self.document, ("targets", self.index, *keys), reader.document)


def _place(document: Document, path: KeyPath, reader: Document) -> str:
    line = f"line {document.line(path)}"
    return line if document is reader else f"{line} of {document.source}"


def check_targets_present(documents: Sequence[Document]) -> Iterator[Problem]:
    """Yield a problem if no file has a target or an account that discovers its workspaces."""
    roots = [document.data for document in documents if isinstance(document.data, dict)]
    accounts = [account for root in roots for account in _mapping(root.get("accounts")).values()]
    if any(isinstance(account, dict) and "workspaces" in account for account in accounts):
        return
    if not roots or any(root.get("targets", []) != [] for root in roots):
        return
    document, missing = documents[0], not any("targets" in root for root in roots)
    exception = f"unless an account has workspaces: {AUTO}"
    everywhere = " in all files" if len(documents) > 1 else ""
    wrong = f"missing{everywhere}; required" if missing else f"must have at least one entry{everywhere}"
    yield document.problem(("targets",), f"{wrong} {exception}")


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def check_shared_keys(documents: Sequence[Document]) -> Iterator[Problem]:
    """Yield what only one of several files may have: an account of a name, `polling` and `discovery`."""
    first: dict[KeyPath, Document] = {}
    for document in documents:
        root = _mapping(document.data)
        paths: list[KeyPath] = [("accounts", name) for name in _mapping(root.get("accounts"))]
        paths += ((key,) for key in ("polling", "discovery") if key in root)
        for path in paths:
            other = first.setdefault(path, document)
            if other is not document:
                place = _place(other, path, document)
                yield document.problem(path, f"already set on {place}; all files share it")


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


def check_targets(targets: Sequence[TargetEntry], accounts: Collection[str]) -> Iterator[Problem]:
    """Yield the problems between targets of all files, and between targets and the names of accounts."""
    yield from _check_names(targets)
    yield from _check_duplicates(targets)
    yield from _check_number_of_queries(targets)
    yield from _check_accounts(targets, accounts)


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


def _check_names(targets: Iterable[TargetEntry]) -> Iterator[Problem]:
    """Yield workspaces with two names or accounts, and names of two workspaces: their series would clash."""
    by_workspace: dict[str, TargetEntry] = {}
    by_label: dict[str, TargetEntry] = {}
    for entry in targets:
        target = entry.model
        first = by_workspace.setdefault(target.workspace, entry)
        label, account = first.model.label, first.model.account
        if (label, account) != (target.label, target.account):
            message = (
                f"workspace {target.workspace} must have the same name and account in every target "
                f"({first.place_for(entry, 'workspace')}: name {quote(label)}, account {quote(account)})"
            )
            yield entry.problem(message, "workspace")
        first = by_label.setdefault(sid_key(target.label), entry)
        if first.model.workspace != target.workspace:
            message = (
                f"{quote(target.label)} is already the name of another workspace on "
                f"{first.place_for(entry, 'name')}; their series would have the same labels"
            )
            yield entry.problem(message, "name")


def _check_duplicates(targets: Iterable[TargetEntry]) -> Iterator[Problem]:
    first_entry: dict[Target, TargetEntry] = {}
    for entry in targets:
        model = entry.model
        for channel in model.channels:
            target = Target(model.account, model.workspace, model.label, sid_key(channel))
            first = first_entry.setdefault(target, entry)
            if first is not entry:
                place = first.place_for(entry)
                yield entry.problem(
                    f"channel {quote(channel)} of this workspace is already a target on {place}"
                )


def _check_number_of_queries(targets: Sequence[TargetEntry]) -> Iterator[Problem]:
    queries = sum(_number_of_queries(entry.model) for entry in targets)
    if queries > MAX_QUERIES:
        message = f"too many queries: {queries:,} (maximum {MAX_QUERIES:,})"
        yield targets[0].document.problem(("targets",), message)


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


def _check_accounts(targets: Iterable[TargetEntry], accounts: Collection[str]) -> Iterator[Problem]:
    known = ", ".join(map(quote, accounts))
    for entry in targets:
        account = entry.model.account
        if accounts and account not in accounts:
            yield entry.problem(f"unknown account {quote(account)}; known accounts: {known}", "account")
