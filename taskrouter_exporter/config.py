"""The configuration: what is polled, how, and with which credentials; or an error that names the place."""

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from taskrouter_exporter.accounts import (
    Account,
    PasswordError,
    account_from,
    environment_account,
    password_file_problems,
    problems_between_keys,
    read_password,
)
from taskrouter_exporter.config_problems import ConfigError, error_line, schema_problems, shown
from taskrouter_exporter.config_schema import (
    DEFAULT_ACCOUNT,
    AccountKeys,
    Polling,
    PollingKeys,
    TargetKeys,
)
from taskrouter_exporter.queries import Anchored, Period, Query, Target, Window
from taskrouter_exporter.yaml_positions import Document, Problem, YamlError, read_yaml

__all__ = [
    "Account",
    "Config",
    "ConfigError",
    "PasswordError",
    "Polling",
    "load_config",
    "parse_config",
    "read_password",
]

MAX_FILE_BYTES: Final = 4 * 1024 * 1024
MAX_QUERIES: Final = 100_000

_Keys = TypeVar("_Keys", bound=BaseModel)
_Place = TypeVar("_Place")


@dataclass(frozen=True)
class Config:
    """What is polled, how, and with which credentials.

    Attributes:
        accounts: By name.
        polling: How the API is asked.
        queries: Each target's channels, and for each channel its windows and counters, in file order.
    """

    accounts: Mapping[str, Account]
    polling: Polling
    queries: tuple[Query, ...]

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        """The targets, in file order."""
        return tuple(dict.fromkeys(query.target for query in self.queries))


def load_config(path: Path, environ: Mapping[str, str]) -> Config:
    """Read and check a configuration file, and the password files that it names.

    Raises:
        ConfigError: the file cannot be read or used.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        hint = "write one (config.example.yaml shows how), or start with --demo, which needs none"
        raise ConfigError([f"{path}: no such file: {hint}"]) from None
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from None
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError([f"{path}: larger than {MAX_FILE_BYTES // 1024**2} MiB"])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        byte = f"byte 0x{error.object[error.start]:02x}"
        raise ConfigError([f"{path}:{line}: {byte} is not UTF-8: save the file as UTF-8"]) from None
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
    if "accounts" in data:
        accounts = {
            name: account_from(name, keys, directory)
            for name, keys in _allowed(AccountKeys, account_entries.items()).items()
        }
        problems += problems_between_keys(account_entries, document)
        problems += password_file_problems(account_entries, directory, document)
    else:
        account_entries = {DEFAULT_ACCOUNT: None}
        try:
            accounts = {DEFAULT_ACCOUNT: environment_account(environ)}
        except ConfigError as error:
            environment_problems = error.problems
    targets = _allowed(TargetKeys, enumerate(target_entries))
    for find in (_windows_missing, _repetitions, _ambiguous_names, _repeated_targets, _too_many_queries):
        problems += find(targets, document)
    problems += _unknown_accounts(targets, account_entries, document)
    if problems or environment_problems:
        problems.sort(key=attrgetter("line"))
        raise ConfigError([*(error_line(source, problem) for problem in problems), *environment_problems])

    polling = PollingKeys.model_validate(data.get("polling", {}))
    return Config(
        accounts=MappingProxyType(accounts),
        polling=Polling(**polling.model_dump()),
        queries=tuple(query for keys in targets.values() for query in _queries(keys)),
    )


def _allowed(model: type[_Keys], entries: Iterable[tuple[_Place, object]]) -> dict[_Place, _Keys]:
    """The entries that the schema allows."""
    allowed = {}
    for place, entry in entries:
        with suppress(ValidationError):
            allowed[place] = model.model_validate(entry)
    return allowed


def _name(keys: TargetKeys) -> str:
    return keys.name or keys.workspace


def _targets(keys: TargetKeys) -> list[Target]:
    return [Target(keys.account, keys.workspace, _name(keys), channel) for channel in keys.channels]


def _periods(keys: TargetKeys) -> list[Period]:
    counters = [Anchored(keys.counters)] if keys.counters else []
    return [*map(Window, keys.windows), *counters]


def _queries(keys: TargetKeys) -> Iterator[Query]:
    return itertools.starmap(Query, itertools.product(_targets(keys), _periods(keys)))


def _unknown_accounts(
    targets: Mapping[int, TargetKeys], accounts: Collection[str], document: Document
) -> Iterator[Problem]:
    names = ", ".join(map(shown, accounts))
    for n, keys in targets.items():
        if accounts and keys.account not in accounts:
            path = ("targets", n, "account")
            yield document.problem(path, f"there is no account {shown(keys.account)}, only {names}")


def _windows_missing(targets: Mapping[int, TargetKeys], document: Document) -> Iterator[Problem]:
    for n, keys in targets.items():
        if not _periods(keys):
            message = "empty, must have at least one entry where there are no counters"
            yield document.problem(("targets", n, "windows"), message)


def _repetitions(targets: Mapping[int, TargetKeys], document: Document) -> Iterator[Problem]:
    """Channels and windows that an entry has twice, though perhaps written differently (`240m`, `4h`)."""
    for n, keys in targets.items():
        for key, values in (("channels", keys.channels), ("windows", keys.windows)):
            first: dict[object, int] = {}
            for i, value in enumerate(values):
                if first.setdefault(value, i) != i:
                    path = ("targets", n, key)
                    again, before = (shown(document.written((*path, index))) for index in (i, first[value]))
                    message = (
                        f"{again} is given twice" if again == before else f"{again} is the same as {before}"
                    )
                    yield document.problem((*path, i), message)


def _ambiguous_names(targets: Mapping[int, TargetKeys], document: Document) -> Iterator[Problem]:
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
        first = by_name.setdefault(_name(keys), n)
        if targets[first].workspace != keys.workspace:
            line = document.line(("targets", first, "name"))
            message = (
                f"{shown(_name(keys))} names another workspace on line {line}: their series would be equal"
            )
            yield document.problem(("targets", n, "name"), message)


def _repeated_targets(targets: Mapping[int, TargetKeys], document: Document) -> Iterator[Problem]:
    first: dict[Target, int] = {}
    for n, keys in targets.items():
        for target in _targets(keys):
            if first.setdefault(target, n) != n:
                line = document.line(("targets", first[target]))
                message = (
                    f"channel {shown(target.channel)} of this workspace is a target on line {line} already"
                )
                yield document.problem(("targets", n), message)


def _too_many_queries(targets: Mapping[int, TargetKeys], document: Document) -> Iterator[Problem]:
    queries = sum(len(keys.channels) * len(_periods(keys)) for keys in targets.values())
    if queries > MAX_QUERIES:
        yield document.problem(
            ("targets",), f"{queries:,} queries in all, at most {MAX_QUERIES:,} are possible"
        )
