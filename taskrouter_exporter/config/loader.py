"""The configuration: what is polled, how, and with which credentials; or an error that names the place."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from taskrouter_exporter.config.accounts import (
    account_from,
    environment_account,
    password_file_problems,
    problems_between_keys,
)
from taskrouter_exporter.config.document import Document, Problem, YamlError, read_yaml
from taskrouter_exporter.config.document import Path as Place
from taskrouter_exporter.config.errors import ConfigError, error_line, read_text, schema_problems, shown
from taskrouter_exporter.config.model import (
    AUTO,
    DEFAULT_ACCOUNT,
    MAX_QUERIES,
    Config,
    Polling,
    Selection,
    StaticWorkspace,
    WorkspaceDiscovery,
)
from taskrouter_exporter.config.schema import AccountModel, DiscoveryModel, PollingModel, TargetModel
from taskrouter_exporter.queries import Anchored, Period, Target, Window
from taskrouter_exporter.sids import sid_key

MAX_FILE_BYTES: Final = 4 * 1024 * 1024

_Model = TypeVar("_Model", bound=BaseModel)
_Place = TypeVar("_Place")
_Asking = TargetModel | AccountModel


def load_config(path: Path, environ: Mapping[str, str]) -> Config:
    """Read and check a configuration file, and the password files that it names.

    Raises:
        ConfigError: the file cannot be read or used.
    """
    hint = "write one (config.example.yaml shows how), or start with --demo, which needs none"
    text = read_text(path, MAX_FILE_BYTES, hint)
    return parse_config(text, str(path), path.parent, environ)


def parse_config(text: str, source: str, directory: Path, environ: Mapping[str, str]) -> Config:
    """Check a configuration's text, and the password files that it names.

    Args:
        text: YAML.
        source: What error lines call the text: its file's name.
        directory: Where relative paths begin.
        environ: Has the credentials if the text has no `accounts`.

    Raises:
        ConfigError: with every problem of the text and of the environment.
    """
    try:
        document = read_yaml(text)
    except YamlError as error:
        raise ConfigError([error_line(source, error.problem)]) from None
    data = document.data if isinstance(document.data, dict) else {}
    account_entries = data["accounts"] if isinstance(data.get("accounts"), dict) else {}
    target_entries = data["targets"] if isinstance(data.get("targets"), list) else []

    # What the schema allows is looked at further even if other entries are wrong: all problems in one go.
    problems = [*document.problems, *schema_problems(document)]
    environment_problems: tuple[str, ...] = ()
    account_keys: dict[str, AccountModel] = {}
    if "accounts" in data:
        account_keys = _allowed(AccountModel, account_entries.items())
        accounts = {name: account_from(name, keys, directory) for name, keys in account_keys.items()}
        problems += problems_between_keys(account_entries, document)
        problems += password_file_problems(account_entries, directory, document)
    else:
        account_entries = {DEFAULT_ACCOUNT: None}
        try:
            accounts = {DEFAULT_ACCOUNT: environment_account(environ)}
        except ConfigError as error:
            environment_problems = error.problems
    targets = _with_one_spelling(_allowed(TargetModel, enumerate(target_entries)))
    asking: dict[Place, _Asking] = {("targets", n): keys for n, keys in targets.items()}
    asking |= {("accounts", name): keys for name, keys in account_keys.items()}
    problems += _nothing_to_poll(data, account_entries, document)
    problems += _windows_missing(asking, document)
    problems += _repetitions(asking, document)
    for find in (_ambiguous_names, _repeated_targets, _too_many_queries):
        problems += find(targets, document)
    problems += _unknown_accounts(targets, account_entries, document)
    if problems or environment_problems:
        problems.sort(key=attrgetter("line"))
        raise ConfigError([*(error_line(source, problem) for problem in problems), *environment_problems])

    polling = PollingModel.model_validate(data.get("polling", {}))
    workspaces = tuple(
        StaticWorkspace(keys.account, keys.workspace, _name(keys), _selection(keys))
        for keys in targets.values()
    )
    return Config(
        accounts=MappingProxyType(accounts),
        polling=Polling(**polling.model_dump()),
        queries=tuple(query for each in workspaces for query in each.queries),
        workspaces=workspaces,
        workspace_discoveries=tuple(
            WorkspaceDiscovery(
                name,
                tuple(keys.include) if keys.include else None,
                tuple(keys.exclude or ()),
                _selection(keys),
            )
            for name, keys in account_keys.items()
            if keys.workspaces
        ),
        discovery_interval=DiscoveryModel.model_validate(data.get("discovery", {})).interval,
    )


def _allowed(model: type[_Model], entries: Iterable[tuple[_Place, object]]) -> dict[_Place, _Model]:
    """The entries that the schema allows."""
    allowed = {}
    for place, entry in entries:
        with suppress(ValidationError):
            allowed[place] = model.model_validate(entry)
    return allowed


def _with_one_spelling(targets: Mapping[int, TargetModel]) -> dict[int, TargetModel]:
    """Return the targets with each workspace's SID as its first target has it: it may be a label."""
    spellings: dict[str, str] = {}
    return {
        n: keys.model_copy(
            update={"workspace": spellings.setdefault(sid_key(keys.workspace), keys.workspace)}
        )
        for n, keys in targets.items()
    }


def _name(keys: TargetModel) -> str:
    return keys.name or keys.workspace


def _targets(keys: TargetModel) -> list[Target]:
    return [Target(keys.account, keys.workspace, _name(keys), channel) for channel in keys.channels]


def _selection(keys: _Asking) -> Selection:
    named = tuple(channel for channel in keys.channels if channel != AUTO)
    return Selection(named, AUTO in keys.channels, tuple(_periods(keys)))


def _periods(keys: _Asking) -> list[Period]:
    counters = [Anchored(keys.counters)] if keys.counters else []
    return [*map(Window, keys.windows), *counters]


def _nothing_to_poll(
    data: Mapping[str, object], accounts: Mapping[str, object], document: Document
) -> Iterator[Problem]:
    if any(isinstance(entry, dict) and "workspaces" in entry for entry in accounts.values()):
        return
    unless = f"unless an account has workspaces: {AUTO}"
    if isinstance(document.data, dict) and "targets" not in data:
        yield document.problem(("targets",), f"missing, must be a list, {unless}")
    elif data.get("targets") == []:
        yield document.problem(("targets",), f"empty, must have at least one entry, {unless}")


def _unknown_accounts(
    targets: Mapping[int, TargetModel], accounts: Collection[str], document: Document
) -> Iterator[Problem]:
    names = ", ".join(map(shown, accounts))
    for n, keys in targets.items():
        if accounts and keys.account not in accounts:
            path = ("targets", n, "account")
            yield document.problem(path, f"there is no account {shown(keys.account)}, only {names}")


def _windows_missing(entries: Mapping[Place, _Asking], document: Document) -> Iterator[Problem]:
    for place, keys in entries.items():
        if not _periods(keys):
            message = "empty, must have at least one entry where there are no counters"
            yield document.problem((*place, "windows"), message)


def _repetitions(entries: Mapping[Place, _Asking], document: Document) -> Iterator[Problem]:
    """Channels and windows that an entry has twice, though perhaps written differently (`240m`, `4h`)."""
    for place, keys in entries.items():
        for key, values in (("channels", keys.channels), ("windows", keys.windows)):
            first: dict[object, int] = {}
            for i, value in enumerate(values):
                same = sid_key(value) if isinstance(value, str) else value
                if first.setdefault(same, i) != i:
                    path = (*place, key)
                    again, before = (shown(document.written((*path, index))) for index in (i, first[same]))
                    if place[0] == "accounts":  # nothing is quoted from there
                        again = before = "this"
                    message = (
                        f"{again} is given twice" if again == before else f"{again} is the same as {before}"
                    )
                    yield document.problem((*path, i), message)


def _ambiguous_names(targets: Mapping[int, TargetModel], document: Document) -> Iterator[Problem]:
    """Names that stand for two workspaces, and workspaces with two names or accounts: series would clash."""
    by_workspace: dict[str, int] = {}
    by_name: dict[str, int] = {}
    for n, keys in targets.items():
        first = by_workspace.setdefault(keys.workspace, n)
        name, account = _name(targets[first]), targets[first].account
        if (name, account) != (_name(keys), keys.account):
            line = document.line(("targets", first, "workspace"))
            has = f"has the name {shown(name)} and the account {shown(account)} on line {line}"
            message = f"{keys.workspace} {has}: a workspace has one name and one account"
            yield document.problem(("targets", n, "workspace"), message)
        first = by_name.setdefault(sid_key(_name(keys)), n)
        if targets[first].workspace != keys.workspace:
            line = document.line(("targets", first, "name"))
            message = (
                f"{shown(_name(keys))} names another workspace on line {line}: their series would be equal"
            )
            yield document.problem(("targets", n, "name"), message)


def _repeated_targets(targets: Mapping[int, TargetModel], document: Document) -> Iterator[Problem]:
    first: dict[Target, int] = {}
    for n, keys in targets.items():
        for target in _targets(keys):
            same = replace(target, channel=sid_key(target.channel))
            if first.setdefault(same, n) != n:
                line = document.line(("targets", first[same]))
                message = (
                    f"channel {shown(target.channel)} of this workspace is a target on line {line} already"
                )
                yield document.problem(("targets", n), message)


def _too_many_queries(targets: Mapping[int, TargetModel], document: Document) -> Iterator[Problem]:
    queries = sum(
        len([channel for channel in keys.channels if channel != AUTO]) * len(_periods(keys))
        for keys in targets.values()
    )
    if queries > MAX_QUERIES:
        yield document.problem(
            ("targets",), f"{queries:,} queries in all, at most {MAX_QUERIES:,} are possible"
        )
