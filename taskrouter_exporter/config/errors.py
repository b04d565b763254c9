"""Error messages about a file: one line for each problem, with its place, the value and what is expected.

What the file may contain, and which parts of it may be secrets, is described by a `Schema`.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from taskrouter_exporter.config.document import Document, KeyPath, Problem
from taskrouter_exporter.config.fields import Allowed
from taskrouter_exporter.files import FileError, MissingFileError, read_regular_file
from taskrouter_exporter.terminal import printable

_MAX_QUOTED_CHARACTERS: Final = 60
_NOT_SCALAR: Final = {"a list", "a mapping", "an empty value"}


class ConfigError(Exception):
    """A configuration that cannot be used.

    Attributes:
        problems: Every problem, one line each, in file order. What a terminal cannot show of them, such as
            the name of a file, is escaped.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(map(printable, problems))
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True, slots=True)
class Schema:
    """The format of a file, as far as error messages depend on it.

    Attributes:
        root: Model of the whole file.
        model_at: Returns the model of the mapping at a path.
        may_quote: Returns whether a message may quote the value at a path, because it cannot be a secret.
        redact: Returns a path without the steps that may be secrets.
    """

    root: type[BaseModel]
    model_at: Callable[[KeyPath], type[BaseModel]]
    may_quote: Callable[[KeyPath], bool]
    redact: Callable[[KeyPath], KeyPath]


@dataclass(frozen=True, slots=True)
class _Expected:
    """What a message expects of a value: a noun phrase, and optionally a format or an example."""

    what: str
    hint: str | None = None

    def __str__(self) -> str:
        return f"{self.what} ({self.hint})" if self.hint else self.what

    def complete(self, beginning: str) -> str:
        """Return the message that starts with these words, such as `'15 minutes' is not`."""
        return f"{beginning} {self.what}" + (f" (expected {self.hint})" if self.hint else "")


def check_schema(document: Document, schema: Schema) -> Iterator[Problem]:
    """Yield a problem for every key and value that the schema does not allow."""
    try:
        schema.root.model_validate(document.data)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            path = tuple(step for step in details["loc"] if step != "[key]")
            yield document.problem(path, _message(details, path, document, schema))


def problem_lines(source: str, problems: Iterable[Problem], schema: Schema) -> list[str]:
    """Return the problems in file order, each as `config.yaml:14: targets[1].windows[0]: …`."""
    return [
        ": ".join(
            filter(
                None, (f"{source}:{problem.line}", _format_path(schema.redact(problem.path)), problem.message)
            )
        )
        for problem in sorted(problems, key=attrgetter("line"))
    ]


def message_without_value(error: ErrorDetails) -> str:
    """Return the message about a value that may be a secret, such as an environment variable's."""
    is_noun = error["type"] in {"allowed", "string"}
    return _expected(error).complete("the value is not") if is_noun else error["msg"]


def quote(text: str) -> str:
    """Return the text in quotation marks, escaped to one line and shortened."""
    return repr(text if len(text) <= _MAX_QUOTED_CHARACTERS else f"{text[:_MAX_QUOTED_CHARACTERS]}…")


def read_text(path: Path, most_bytes: int, hint: str = "") -> str:
    """Return the text of a configuration file.

    Args:
        path: The file.
        most_bytes: Largest size that is accepted.
        hint: Added to the error if the file does not exist.

    Raises:
        ConfigError: the file cannot be read, is too large, or is not UTF-8.
    """
    try:
        content = read_regular_file(path, most_bytes)
    except MissingFileError:
        raise ConfigError([": ".join(filter(None, (f"{path}: no such file", hint)))]) from None
    except FileError as error:
        raise ConfigError([f"{path}: {error}"]) from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        byte = f"byte 0x{error.object[error.start]:02x}"
        raise ConfigError([f"{path}:{line}: {byte} is not valid UTF-8; save the file as UTF-8"]) from None


def _format_path(path: KeyPath) -> str:
    text = ""
    for step in path:
        if isinstance(step, str) and re.fullmatch(r"[\w-]{1,60}", step):
            text += f".{step}" if text else step
        else:
            text += f"[{quote(step) if isinstance(step, str) else step}]"
    return text


def _message(error: ErrorDetails, path: KeyPath, document: Document, schema: Schema) -> str:
    match error["type"]:
        case "extra_forbidden":
            message = _unknown_key(path, schema)
        case "missing":
            field = schema.model_at(path[:-1]).model_fields[str(path[-1])]
            allowed = next((data for data in field.metadata if isinstance(data, Allowed)), Allowed("a list"))
            message = f"missing, expected {_Expected(allowed.what, allowed.hint)}"
        case "too_short":
            message = "must have at least one entry"
        case "list_type":
            message = _wrong_kind(_Expected("a list"), path, document, schema)
        case "dict_type":
            message = _wrong_kind(_Expected("a mapping"), path, document, schema)
        case "model_type":
            expected = _Expected("a mapping", f"keys: {_key_names(schema.model_at(path))}")
            message = _wrong_kind(expected, path, document, schema)
        case "allowed" | "string" if error["loc"][-1:] == ("[key]",):
            message = _expected(error).complete("this key is not")
        case "allowed" | "string":
            message = _wrong_value(error, path, document, schema)
        case _:
            message = error["msg"]
    return message


def _wrong_kind(expected: _Expected, path: KeyPath, document: Document, schema: Schema) -> str:
    return f"expected {expected}, got {_quoted(path, document, schema) or document.kind(path)}"


def _wrong_value(error: ErrorDetails, path: KeyPath, document: Document, schema: Schema) -> str:
    kind, expected = document.kind(path), _expected(error)
    if kind in _NOT_SCALAR:
        return _wrong_kind(expected, path, document, schema)
    value = _quoted(path, document, schema) or "the value"
    if error["type"] == "string" and kind != "a string":
        return f"{value} is {kind} in YAML; quote it to make it a string"
    if kind == "a string" or re.fullmatch("-?[0-9]+", document.written(path)):
        return expected.complete(f"{value} is not")
    return expected.complete(f"{value} is {kind} in YAML, not")


def _quoted(path: KeyPath, document: Document, schema: Schema) -> str | None:
    """Return the scalar at the path as messages show it, None if there is none or it may be a secret."""
    kind = document.kind(path)
    if kind in _NOT_SCALAR or not schema.may_quote(path):
        return None
    written = document.written(path)
    return quote(written) if kind == "a string" else written[:_MAX_QUOTED_CHARACTERS]


def _expected(error: ErrorDetails) -> _Expected:
    return _Expected(error["msg"], error.get("ctx", {}).get("hint"))


def _unknown_key(path: KeyPath, schema: Schema) -> str:
    model = schema.model_at(path[:-1])
    near = difflib.get_close_matches(str(path[-1])[:_MAX_QUOTED_CHARACTERS], model.model_fields, n=1)
    suggestion = f" (did you mean {near[0]}?)" if near else ""
    return f"unknown key{suggestion}; allowed keys: {_key_names(model)}"


def _key_names(model: type[BaseModel]) -> str:
    return ", ".join(model.model_fields)
