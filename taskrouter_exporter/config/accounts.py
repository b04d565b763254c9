"""Accounts: Twilio credentials, from the configuration file or the environment, and the API they are for."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import SecretStr, ValidationError
from pydantic_core import ErrorDetails

from taskrouter_exporter.config.document import Document, Problem
from taskrouter_exporter.config.errors import ConfigError
from taskrouter_exporter.config.schema import (
    AUTO,
    CREDENTIAL_FORMAT,
    DEFAULT_ACCOUNT,
    EDGES,
    AccountModel,
    is_one_line,
    is_placeholder,
    is_quoted,
    is_secret,
    without_newline,
)
from taskrouter_exporter.files import FileError, read_regular_file

_MAX_PASSWORD_BYTES: Final = 4096
_QUOTED: Final = "quotation marks around the value, which would be part of it: leave them out"


class PasswordError(ValueError):
    """A password file without a password. The message is one line, names the file and shows none of it."""


@dataclass(frozen=True)
class Account:
    """One set of Twilio credentials and the API host they belong to.

    Attributes:
        name: The label `account`.
        base_url: Scheme, host and perhaps port and path, without a slash at the end.
        username: Account SID or API key SID.
        password: Either this or `password_file`.
        password_file: Absolute. Symbolic links in it are followed at each reading.
    """

    name: str
    base_url: str
    username: str
    password: SecretStr | None = None
    password_file: Path | None = None


def read_password(account: Account) -> str:
    """The account's password: the configured one, or what its file holds now.

    Raises:
        PasswordError: there is no such file, or no password in it.
    """
    if account.password is not None:
        return account.password.get_secret_value()
    if account.password_file is None:
        raise PasswordError(f"account {account.name} has neither a password nor a password file")
    return _read(account.password_file)


def _read(path: Path) -> str:
    try:
        content = read_regular_file(path, _MAX_PASSWORD_BYTES)
    except FileError as error:
        raise PasswordError(f"{path} {error}") from None
    password = without_newline(content.decode("utf-8-sig", errors="replace"))
    if not password:
        raise PasswordError(f"{path} is empty")
    if is_placeholder(password):
        raise PasswordError(f"{path} holds a placeholder, and nothing is filled in there")
    if is_quoted(password):
        raise PasswordError(f"{path} has {_QUOTED}")
    if not is_secret(password):
        raise PasswordError(f"{path} must hold one line of {CREDENTIAL_FORMAT}")
    return password


def account_from(name: str, keys: AccountModel, directory: Path) -> Account:
    """The account that the keys of a configuration describe. Relative paths begin at the directory."""
    edge = keys.edge or EDGES.get(keys.region or "")
    host = f"taskrouter.{edge}.{keys.region}.twilio.com" if keys.region else "taskrouter.twilio.com"
    return Account(
        name=name,
        base_url=keys.base_url or f"https://{host}",
        username=keys.username,
        password=keys.password,
        password_file=_absolute(directory, keys.password_file) if keys.password_file else None,
    )


def _absolute(directory: Path, file: str) -> Path:
    return directory.absolute() / file


def problems_between_keys(entries: Mapping[str, object], document: Document) -> Iterator[Problem]:
    """Keys of an account that need or exclude each other, whatever their values."""
    for name, entry in entries.items():
        if not isinstance(entry, dict):
            continue
        keys, path = entry.keys(), ("accounts", name)
        if not keys & {"password", "password_file"}:
            yield document.problem(path, "password or password_file is missing, one of them is needed")
        for key, reason, wrong in (
            ("password_file", "not allowed together with password", "password" in keys),
            ("edge", "needs region as well", "region" not in keys),
            ("base_url", "not allowed together with region or edge", bool(keys & {"region", "edge"})),
            *(
                (key, f"needs workspaces: {AUTO} as well", "workspaces" not in keys)
                for key in ("include", "exclude", "channels", "windows", "counters")
            ),
        ):
            if key in keys and wrong:
                yield document.problem((*path, key), reason)


def password_file_problems(
    entries: Mapping[str, object], directory: Path, document: Document
) -> Iterator[Problem]:
    """Password files that hold no password now, whatever else is wrong with the account."""
    for name, entry in entries.items():
        file = entry.get("password_file") if isinstance(entry, dict) else None
        if not isinstance(file, str) or not is_one_line(file):  # the schema has its say about those
            continue
        try:
            _read(_absolute(directory, file))
        except PasswordError as error:
            yield document.problem(("accounts", name, "password_file"), str(error))


def environment_account(environ: Mapping[str, str]) -> Account:
    """Return the account "default", from the variables that Twilio's own command line uses; empty is not set.

    One newline at the end of a value is ignored: `$(…)` strips it, but Secrets and env files may have it.

    Raises:
        ConfigError: with the variables that are missing, too many or malformed; never with their values.
    """
    sid, token, key, secret, region, edge = variables = (
        "TWILIO_ACCOUNT_SID",
        "TWILIO_AUTH_TOKEN",
        "TWILIO_API_KEY",
        "TWILIO_API_SECRET",
        "TWILIO_REGION",
        "TWILIO_EDGE",
    )
    given = {name: value for name in variables if (value := without_newline(environ.get(name, "")))}
    if quoted := [f"environment: {name}: {_QUOTED}" for name, value in given.items() if is_quoted(value)]:
        raise ConfigError(quoted)
    has_key = key in given or secret in given
    if not has_key and sid not in given and token not in given:
        pairs = f"neither {sid} with {token} nor {key} with {secret} is set"
        raise ConfigError([f"environment: {pairs}, and the file has no accounts"])
    # An account SID may accompany an API key, as with Twilio's own command line: it is not needed here.
    needs = [(key, secret), (secret, key), (token, sid), (edge, region)] + ([] if has_key else [(sid, token)])
    problems = [
        f"{other}: not set, but {one} is" for one, other in needs if one in given and other not in given
    ]
    if token in given and has_key:
        problems.append(f"{token}: set together with {key}, unset one of them")
    username, password = (key, secret) if has_key else (sid, token)
    variable_of = {"username": username, "password": password, "region": region, "edge": edge}
    try:
        values = {name: given[variable] for name, variable in variable_of.items() if variable in given}
        if password in given:
            values["password"] = environ[password]  # of which the schema strips one newline
        keys = AccountModel.model_validate(values)
    except ValidationError as error:
        problems += (
            f"{variable_of[str(details['loc'][0])]}: {_message(details)}"
            for details in error.errors(include_url=False, include_input=False)
            if details["type"] != "missing"  # found above
        )
    else:
        kind, what = ("SK", "an API key SID (SK…)") if has_key else ("AC", "an account SID (AC…)")
        if not keys.username.startswith(kind):
            problems.append(f"{username}: must be {what}")
        if not problems:
            return account_from(DEFAULT_ACCOUNT, keys, Path())
    raise ConfigError(f"environment: {problem}" for problem in problems)


def _message(error: ErrorDetails) -> str:
    """Return what is wrong with a variable."""
    match error["type"]:
        case "placeholder":
            return "a placeholder, and nothing is filled in here: set the value itself"
        case "sentence":
            return error["msg"]
        case _:
            return f"must be {error['msg']}"
