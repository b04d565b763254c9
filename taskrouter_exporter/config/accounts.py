"""Accounts from the configuration file or the environment, and their passwords."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from taskrouter_exporter.config.document import Document, Problem
from taskrouter_exporter.config.errors import ConfigError, message_without_value
from taskrouter_exporter.config.fields import (
    EDGES,
    has_quotation_marks,
    is_one_line,
    without_newline,
)
from taskrouter_exporter.config.model import DEFAULT_ACCOUNT, Account
from taskrouter_exporter.config.passwords import PasswordError, read_password_file
from taskrouter_exporter.config.schema import AccountModel

_ACCOUNT_SID: Final = "TWILIO_ACCOUNT_SID"
_AUTH_TOKEN: Final = "TWILIO_AUTH_TOKEN"  # noqa: S105 - the name of a variable
_API_KEY: Final = "TWILIO_API_KEY"
_API_SECRET: Final = "TWILIO_API_SECRET"  # noqa: S105 - the name of a variable
_REGION: Final = "TWILIO_REGION"
_EDGE: Final = "TWILIO_EDGE"


def account_from(name: str, model: AccountModel, directory: Path) -> Account:
    """Return the account that the model describes. Relative paths are relative to the directory."""
    edge = model.edge or EDGES.get(model.region or "")
    host = f"taskrouter.{edge}.{model.region}.twilio.com" if model.region else "taskrouter.twilio.com"
    return Account(
        name=name,
        base_url=model.base_url or f"https://{host}",
        username=model.username,
        password=model.password,
        password_file=_absolute(directory, model.password_file) if model.password_file else None,
    )


def _absolute(directory: Path, file: str) -> Path:
    return directory.absolute() / file


def check_password_files(
    accounts: Mapping[str, object], directory: Path, document: Document
) -> Iterator[Problem]:
    """Yield the password files without a password, even if other keys of the account are invalid."""
    for name, account in accounts.items():
        file = account.get("password_file") if isinstance(account, dict) else None
        if not isinstance(file, str) or not is_one_line(file):  # the schema reports these
            continue
        try:
            read_password_file(_absolute(directory, file))
        except PasswordError as error:
            yield document.problem(("accounts", name, "password_file"), str(error))


def environment_account(environ: Mapping[str, str]) -> Account:
    """Return the account "default" from the environment variables of Twilio's own command line.

    An empty variable counts as not set. One newline at the end of a value is ignored: `$(…)` strips it, but
    Kubernetes Secrets and env files may contain it.

    Raises:
        ConfigError: with the variables that are missing, invalid or exclude each other, without their values.
    """
    variables = (_ACCOUNT_SID, _AUTH_TOKEN, _API_KEY, _API_SECRET, _REGION, _EDGE)
    values = {name: value for name in variables if (value := without_newline(environ.get(name, "")))}
    quoted = [name for name, value in values.items() if has_quotation_marks(value)]
    if quoted:
        message = "remove the quotation marks around the value; they would be part of it"
        raise ConfigError(f"environment: {name}: {message}" for name in quoted)
    if not values.keys() & {_ACCOUNT_SID, _AUTH_TOKEN, _API_KEY, _API_SECRET}:
        pairs = f"{_ACCOUNT_SID} and {_AUTH_TOKEN}, or {_API_KEY} and {_API_SECRET}"
        raise ConfigError([f"environment: no credentials; set {pairs}, or add accounts to the file"])
    problems = list(_check_variables(values))
    # An account SID may accompany an API key, as for Twilio's own command line; it is not needed here.
    has_key = bool(values.keys() & {_API_KEY, _API_SECRET})
    username, password = (_API_KEY, _API_SECRET) if has_key else (_ACCOUNT_SID, _AUTH_TOKEN)
    variable_of = {"username": username, "password": password, "region": _REGION, "edge": _EDGE}
    fields = {field: values[variable] for field, variable in variable_of.items() if variable in values}
    if "password" in fields:
        fields["password"] = environ[password]  # the schema removes one newline, and must not remove two
    try:
        model = AccountModel.model_validate(fields)
    except ValidationError as error:
        problems += (
            f"{variable_of[str(details['loc'][0])]}: {_message(details)}"
            for details in error.errors(include_url=False, include_input=False)
            if details["type"] != "missing"  # _check_variables reports these
        )
    else:
        prefix, kind = ("SK", "an API key SID") if has_key else ("AC", "an account SID")
        if not model.username.startswith(prefix):
            problems.append(f"{username}: the value is not {kind} (expected {prefix} and 32 hex digits)")
        if not problems:
            return account_from(DEFAULT_ACCOUNT, model, Path())
    raise ConfigError(f"environment: {problem}" for problem in problems)


def _check_variables(values: Mapping[str, str]) -> Iterator[str]:
    """Yield a message for each variable that another one requires or excludes."""
    has_key = bool(values.keys() & {_API_KEY, _API_SECRET})
    requirements = [
        (_API_KEY, _API_SECRET),
        (_API_SECRET, _API_KEY),
        (_AUTH_TOKEN, _ACCOUNT_SID),
        (_EDGE, _REGION),
        *([] if has_key else [(_ACCOUNT_SID, _AUTH_TOKEN)]),
    ]
    for variable, required in requirements:
        if variable in values and required not in values:
            yield f"{required}: required because {variable} is set"
    if has_key and _AUTH_TOKEN in values:
        yield f"{_AUTH_TOKEN}: mutually exclusive with {_API_KEY}; unset one of them"


def _message(error: ErrorDetails) -> str:
    if error["type"] == "placeholder":
        return "placeholders are not expanded; set the value itself"
    return message_without_value(error)
