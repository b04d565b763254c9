"""What is wrong with a configuration, in words: the place, and what is allowed there."""

import difflib
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path as FilePath

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from taskrouter_exporter.config.document import Document, Path, Problem
from taskrouter_exporter.config.schema import (
    AUTO,
    AccountModel,
    Allowed,
    DiscoveryModel,
    FileModel,
    PollingModel,
    TargetModel,
)
from taskrouter_exporter.files import FileError, MissingFileError, read_file

_SHOWN_CHARACTERS = 60


class ConfigError(Exception):
    """A configuration that cannot be used.

    Attributes:
        problems: Everything that is wrong, a line each, in file order.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True, slots=True)
class Schema:
    """A file's schema, as far as it takes to say what is wrong with a file.

    Attributes:
        root: The model of the whole file.
        keys_of: The model of the mapping at a path.
        quotes: Whether the value at a path may be quoted, because it can be no secret.
    """

    root: type[BaseModel]
    keys_of: Callable[[Path], type[BaseModel]]
    quotes: Callable[[Path], bool]


def schema_problems(document: Document, schema: Schema | None = None) -> Iterator[Problem]:
    """Every key and value that the schema, by default that of the configuration, does not allow."""
    schema = schema or _CONFIGURATION
    try:
        schema.root.model_validate(document.data)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            path = tuple(step for step in details["loc"] if step != "[key]")
            yield document.problem(path, _message(details, path, document, schema))


def error_line(source: str, problem: Problem) -> str:
    """A problem as it is told: `config.yaml:14: targets[1].windows[0]: …`."""
    return ": ".join(filter(None, (f"{source}:{problem.line}", _place(problem.path), problem.message)))


def shown(text: str) -> str:
    """A text of the file's, quoted, on one line and not too long."""
    return repr(text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…")


def read_text(path: FilePath, most_bytes: int, hint: str = "") -> str:
    """The text of a configuration file.

    Args:
        path: The file.
        most_bytes: What is larger is refused.
        hint: Said of a file that does not exist.

    Raises:
        ConfigError: the file cannot be read, is too large, or is not UTF-8.
    """
    try:
        content = read_file(path, most_bytes)
    except MissingFileError:
        raise ConfigError([": ".join(filter(None, (f"{path}: no such file", hint)))]) from None
    except FileError as error:
        raise ConfigError([f"{path}: {error}"]) from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        byte = f"byte 0x{error.object[error.start]:02x}"
        raise ConfigError([f"{path}:{line}: {byte} is not UTF-8: save the file as UTF-8"]) from None


def _place(path: Path) -> str:
    if path[:1] == ("accounts",):
        # A password in braces, or after a colon without a blank, is a key to YAML.
        path = path[:2] + tuple(itertools.takewhile(_is_no_secret, path[2:]))
        if "password" in path[2:]:
            path = path[: path.index("password", 2) + 1]
    place = ""
    for step in path:
        if isinstance(step, str) and re.fullmatch(r"[\w-]{1,60}", step):
            place += f".{step}" if place else step
        else:
            place += f"[{shown(step) if isinstance(step, str) else step}]"
    return place


def _is_no_secret(step: str | int) -> bool:
    return isinstance(step, int) or re.fullmatch("[a-z_]{1,20}", step) is not None


def _message(error: ErrorDetails, path: Path, document: Document, schema: Schema) -> str:
    match error["type"]:
        case "sentence" | "placeholder":
            return error["msg"]
        case "extra_forbidden":
            return _unknown_key(path, schema)
        case "missing":
            field = schema.keys_of(path[:-1]).model_fields[str(path[-1])]
            allowed = next((data.what for data in field.metadata if isinstance(data, Allowed)), "a list")
            return f"missing, must be {allowed}"
        case "too_short":
            return "empty, must have at least one entry"
        case "list_type":
            what = f"a list or {AUTO}" if path[-1] == "channels" else "a list"
        case "dict_type":
            what = "a mapping"
        case "model_type":
            what = f"a mapping with the keys {_list(schema.keys_of(path))}"
        case _:
            what = error["msg"]
    if error["loc"][-1:] == ("[key]",):
        return f"this key is not {what}"
    return _not_allowed(what, path, document, schema, quotable=error["type"] == "text")


def _not_allowed(what: str, path: Path, document: Document, schema: Schema, *, quotable: bool) -> str:
    kind, written = document.kind(path), document.written(path)
    if kind in {"a list", "a mapping", "empty"}:
        return f"{kind}, must be {what}"
    value = "this"
    if schema.quotes(path):
        value = shown(written) if kind == "text" else written[:_SHOWN_CHARACTERS]
    if quotable and kind != "text":
        return f"{value} is {kind} in YAML, not text: quote it"
    if kind == "text" or re.fullmatch("-?[0-9]+", written):
        return f"{value} is not {what}"
    return f"{value} is {kind} in YAML, not {what}"


def _unknown_key(path: Path, schema: Schema) -> str:
    keys = schema.keys_of(path[:-1])
    near = difflib.get_close_matches(str(path[-1])[:_SHOWN_CHARACTERS], keys.model_fields, n=1)
    return "unknown key, " + (f"did you mean {near[0]}? " if near else "") + f"allowed: {_list(keys)}"


def _keys_of(path: Path) -> type[BaseModel]:
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


def _quotes(path: Path) -> bool:
    """Not what stands under accounts, nor a whole file that is a password."""
    return path[:1] in {("targets",), ("polling",), ("discovery",)}


def _list(keys: type[BaseModel]) -> str:
    return ", ".join(keys.model_fields)


_CONFIGURATION = Schema(FileModel, _keys_of, _quotes)
