"""The loader: reads a configuration file and returns a Config, or every problem with its place."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from taskrouter_exporter.config.accounts import account_from, check_password_files, environment_account
from taskrouter_exporter.config.checks import (
    check_account_keys,
    check_selections,
    check_targets,
    check_targets_present,
)
from taskrouter_exporter.config.document import KeyPath, YamlError, read_yaml
from taskrouter_exporter.config.errors import ConfigError, Schema, check_schema, problem_lines, read_text
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

MAX_FILE_BYTES: Final = 4 * 1024 * 1024

_Model = TypeVar("_Model", bound=BaseModel)
_Key = TypeVar("_Key")


def load_config(path: Path, environ: Mapping[str, str]) -> Config:
    """Read and check a configuration file, and the password files that it names.

    Raises:
        ConfigError: the file cannot be read or used.
    """
    hint = "create it (config.example.yaml is an example), or start with --demo, which needs no configuration"
    text = read_text(path, MAX_FILE_BYTES, hint)
    return parse_config(text, str(path), path.parent, environ)


def parse_config(text: str, source: str, directory: Path, environ: Mapping[str, str]) -> Config:
    """Parse and check the text of a configuration file, and the password files that it names.

    Args:
        text: YAML.
        source: Name of the file in error messages.
        directory: Directory of relative paths.
        environ: Environment variables, the credentials if the text has no `accounts`.

    Raises:
        ConfigError: with every problem of the text and of the environment.
    """
    try:
        document = read_yaml(text)
    except YamlError as error:
        raise ConfigError(problem_lines(source, [error.problem], _SCHEMA)) from None
    root = _mapping(document.data)
    account_entries = _mapping(root.get("accounts"))
    target_entries = root["targets"] if isinstance(root.get("targets"), list) else []

    # The checks take the entries that are valid on their own, so that all problems are reported at once.
    account_models = _valid(AccountModel, account_entries.items())
    targets = _with_one_spelling(_valid(TargetModel, enumerate(target_entries)))
    selections: dict[KeyPath, SelectionModel] = {
        ("targets", index): model for index, model in targets.items()
    }
    selections |= {("accounts", name): model for name, model in account_models.items()}
    problems = [*document.problems, *check_schema(document, _SCHEMA)]
    environment_problems: tuple[str, ...] = ()
    if "accounts" in root:
        accounts = {name: account_from(name, model, directory) for name, model in account_models.items()}
        account_names = tuple(account_entries)
        problems += check_account_keys(account_entries, document)
        problems += check_password_files(account_entries, directory, document)
    else:
        account_names = (DEFAULT_ACCOUNT,)
        try:
            accounts = {DEFAULT_ACCOUNT: environment_account(environ)}
        except ConfigError as error:
            environment_problems = error.problems
    problems += check_targets_present(root, account_entries, document)
    problems += check_selections(selections, document)
    problems += check_targets(targets, account_names, document)
    if problems or environment_problems:
        raise ConfigError([*problem_lines(source, problems, _SCHEMA), *environment_problems])

    polling = PollingModel.model_validate(root.get("polling", {}))
    discovery = DiscoveryModel.model_validate(root.get("discovery", {}))
    return Config(
        accounts=MappingProxyType(accounts),
        polling=Polling(**polling.model_dump()),
        workspaces=tuple(map(_static_workspace, targets.values())),
        workspace_discoveries=tuple(
            _workspace_discovery(name, model) for name, model in account_models.items() if model.workspaces
        ),
        discovery_interval=discovery.interval,
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _valid(model: type[_Model], entries: Iterable[tuple[_Key, object]]) -> dict[_Key, _Model]:
    """Return the entries that the schema allows."""
    valid = {}
    for key, entry in entries:
        with suppress(ValidationError):
            valid[key] = model.model_validate(entry)
    return valid


def _with_one_spelling(targets: Mapping[int, TargetModel]) -> dict[int, TargetModel]:
    """Return the targets with every workspace SID in its first spelling, because it may be a label."""
    spellings: dict[str, str] = {}
    return {
        index: target.model_copy(
            update={"workspace": spellings.setdefault(sid_key(target.workspace), target.workspace)}
        )
        for index, target in targets.items()
    }


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
