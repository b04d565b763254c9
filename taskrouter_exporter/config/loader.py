"""The loader: from the texts of configuration files to a Config, or every problem with its place."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from taskrouter_exporter.config.accounts import account_from, check_password_files, environment_account
from taskrouter_exporter.config.checks import (
    TargetEntry,
    check_account_keys,
    check_selections,
    check_shared_keys,
    check_targets,
    check_targets_present,
)
from taskrouter_exporter.config.document import Document, KeyPath, Problem, YamlError, read_yaml
from taskrouter_exporter.config.errors import ConfigError, Schema, check_schema, problem_lines
from taskrouter_exporter.config.fields import AUTO
from taskrouter_exporter.config.model import (
    DEFAULT_ACCOUNT,
    Config,
    Polling,
    RowSelection,
    Selection,
    StaticWorkspace,
    WorkspaceDiscovery,
)
from taskrouter_exporter.config.schema import (
    AccountModel,
    DiscoveryModel,
    FileModel,
    PollingModel,
    SelectionModel,
    TargetModel,
)
from taskrouter_exporter.config.time_zones import time_zone
from taskrouter_exporter.periods import Anchored, Window
from taskrouter_exporter.sids import sid_key
from taskrouter_exporter.statistics.kind import SubjectName

_Model = TypeVar("_Model", bound=BaseModel)
_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True)
class SourceText:
    """The text of a configuration file.

    Attributes:
        text: YAML.
        source: Name of the file in error messages.
        directory: Directory of relative paths.
    """

    text: str
    source: str
    directory: Path


@dataclass(frozen=True, slots=True)
class _Part:
    """One of the files: its document, and the entries that are valid on their own."""

    document: Document
    directory: Path
    accounts: Mapping[str, Any]
    account_models: Mapping[str, AccountModel]
    targets: Sequence[TargetEntry]

    @property
    def root(self) -> Mapping[str, Any]:
        return _mapping(self.document.data)

    def problems(self) -> Iterator[Problem]:
        """Yield the problems that the file has on its own."""
        yield from self.document.problems
        yield from check_schema(self.document, _SCHEMA)
        yield from check_account_keys(self.accounts, self.document)
        yield from check_password_files(self.accounts, self.directory, self.document)
        selections: dict[KeyPath, SelectionModel] = {
            ("targets", entry.index): entry.model for entry in self.targets
        }
        selections |= {("accounts", name): model for name, model in self.account_models.items()}
        yield from check_selections(selections, self.document)


def parse_config(text: str, source: str, directory: Path, environ: Mapping[str, str]) -> Config:
    """Parse and check the text of the only configuration file, as `parse_configs` does."""
    return parse_configs([SourceText(text, source, directory)], environ)


def parse_configs(texts: Sequence[SourceText], environ: Mapping[str, str]) -> Config:
    """Parse and check the texts of the configuration files, and the password files that they name.

    The files share their accounts, and one of them may have `polling` and `discovery`.

    Args:
        texts: One or more.
        environ: Environment variables, the credentials if no text has `accounts`.

    Raises:
        ConfigError: with every problem of the texts and of the environment.
    """
    parts = _parts(texts)
    documents = [part.document for part in parts]
    # The checks take the entries that are valid on their own, so that all problems are reported at once.
    targets = _with_one_spelling([entry for part in parts for entry in part.targets])
    problems = [problem for part in parts for problem in part.problems()]
    problems += check_shared_keys(documents)
    environment_problems: tuple[str, ...] = ()
    account_names: tuple[str, ...] = tuple(name for part in parts for name in part.accounts)
    if any("accounts" in part.root for part in parts):
        accounts = {
            name: account_from(name, model, part.directory)
            for part in parts
            for name, model in part.account_models.items()
        }
    else:
        account_names = (DEFAULT_ACCOUNT,)
        try:
            accounts = {DEFAULT_ACCOUNT: environment_account(environ)}
        except ConfigError as error:
            environment_problems = error.problems
    problems += check_targets_present(documents)
    problems += check_targets(targets, account_names)
    if problems or environment_problems:
        raise ConfigError([*_lines(texts, problems), *environment_problems])

    polling = PollingModel.model_validate(_shared(parts, "polling"))
    discovery = DiscoveryModel.model_validate(_shared(parts, "discovery"))
    return Config(
        accounts=MappingProxyType(accounts),
        polling=Polling(**polling.model_dump()),
        workspaces=tuple(_static_workspace(entry.model) for entry in targets),
        workspace_discoveries=tuple(
            _workspace_discovery(name, model)
            for part in parts
            for name, model in part.account_models.items()
            if model.workspaces
        ),
        discovery_interval=discovery.interval,
    )


def _parts(texts: Iterable[SourceText]) -> list[_Part]:
    """Parse the files.

    Raises:
        ConfigError: with the files that are not YAML; what the others lack may be in them.
    """
    parts, problems = [], []
    for file in texts:
        try:
            document = read_yaml(file.text, source=file.source)
        except YamlError as error:
            problems += problem_lines(file.source, [error.problem], _SCHEMA)
            continue
        root = _mapping(document.data)
        accounts = _mapping(root.get("accounts"))
        entries = root["targets"] if isinstance(root.get("targets"), list) else []
        models = _valid(TargetModel, enumerate(entries))
        targets = [TargetEntry(document, index, model) for index, model in models.items()]
        valid_accounts = _valid(AccountModel, accounts.items())
        parts.append(_Part(document, file.directory, accounts, valid_accounts, targets))
    if problems:
        raise ConfigError(problems)
    return parts


def _lines(texts: Iterable[SourceText], problems: Sequence[Problem]) -> Iterator[str]:
    """Yield the problems in the order of the files and of their lines."""
    for file in texts:
        yield from problem_lines(
            file.source, [each for each in problems if each.source == file.source], _SCHEMA
        )


def _shared(parts: Iterable[_Part], key: str) -> object:
    """Return the value of a key that one file at most has."""
    return next((part.root[key] for part in parts if key in part.root), {})


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _valid(model: type[_Model], entries: Iterable[tuple[_Key, object]]) -> dict[_Key, _Model]:
    """Return the entries that the schema allows."""
    valid = {}
    for key, entry in entries:
        with suppress(ValidationError):
            valid[key] = model.model_validate(entry)
    return valid


def _with_one_spelling(targets: Iterable[TargetEntry]) -> list[TargetEntry]:
    """Return the targets with every workspace SID in its first spelling, because it may be a label."""
    spellings: dict[str, str] = {}
    return [
        replace(
            entry,
            model=entry.model.model_copy(
                update={
                    "workspace": spellings.setdefault(sid_key(entry.model.workspace), entry.model.workspace)
                }
            ),
        )
        for entry in targets
    ]


def _static_workspace(target: TargetModel) -> StaticWorkspace:
    return StaticWorkspace(target.account, target.workspace, target.label, _selection(target))


def _workspace_discovery(account: str, model: AccountModel) -> WorkspaceDiscovery:
    return WorkspaceDiscovery(
        account,
        tuple(model.include) if model.include else None,
        tuple(model.exclude or ()),
        _selection(model),
    )


def _selection(model: SelectionModel) -> Selection:
    channels = tuple(channel for channel in model.channels if channel != AUTO)
    counters = [Anchored(model.counters, time_zone(model.timezone))] if model.counters else []
    return Selection(
        channels,
        AUTO in model.channels,
        (*map(Window, model.windows), *counters),
        tuple(model.statistics),
        {subject: rows for subject, rows in _rows(model) if rows},
        tuple(model.service_levels or ()),
    )


def _rows(model: SelectionModel) -> Iterator[tuple[SubjectName, RowSelection]]:
    """Yield what to poll of each kind of row, by the keys that are named after it."""
    subjects: tuple[SubjectName, ...] = ("queue", "workflow")
    for subject in subjects:
        names, include, exclude = (
            getattr(model, f"{prefix}{subject}s") for prefix in ("", "include_", "exclude_")
        )
        named = tuple(name for name in names or () if name != AUTO)
        selected = RowSelection(
            named, AUTO in (names or ()), tuple(include) if include else None, tuple(exclude or ())
        )
        yield subject, selected


def _model_at(path: KeyPath) -> type[BaseModel]:
    match path:
        case ("accounts", *_):
            return AccountModel
        case ("polling", *_):
            return PollingModel
        case ("discovery", *_):
            return DiscoveryModel
        case ("targets", *_):
            return TargetModel
        case _:
            return FileModel


def _may_quote(path: KeyPath) -> bool:
    """Return whether no secret belongs here: not under accounts, nor in a file that is only a password."""
    return path[:1] in {("targets",), ("polling",), ("discovery",)}


def _redact(path: KeyPath) -> KeyPath:
    """Return the path without keys of accounts that may be secrets.

    A password in braces, or after a colon without a space, is a key in YAML.
    """
    if path[:1] != ("accounts",):
        return path
    redacted = path[:2] + tuple(takewhile(_is_known_not_secret, path[2:]))
    return redacted[: redacted.index("password", 2) + 1] if "password" in redacted[2:] else redacted


def _is_known_not_secret(step: str | int) -> bool:
    return isinstance(step, int) or re.fullmatch("[a-z_]{1,20}", step) is not None


_SCHEMA: Final = Schema(FileModel, _model_at, _may_quote, _redact)
