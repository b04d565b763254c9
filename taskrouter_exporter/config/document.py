"""The YAML reader: plain data, and the line and path of every value in the file."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

MAX_DEPTH: Final = 20
MAX_VALUES: Final = 500_000
"""Limit for a whole document. A value that is repeated by an alias counts each time."""

KeyPath = tuple[str | int, ...]
"""The keys and indexes that lead to a value: `("targets", 1, "windows", 0)`."""

_STRING_TAGS: Final = {"tag:yaml.org,2002:str", "tag:yaml.org,2002:value"}
_MERGE_TAG: Final = "tag:yaml.org,2002:merge"
_NULL_TAG: Final = "tag:yaml.org,2002:null"
_KINDS: Final = {
    "tag:yaml.org,2002:bool": "a boolean",
    "tag:yaml.org,2002:float": "a number",
    "tag:yaml.org,2002:int": "a number",
    "tag:yaml.org,2002:map": "a mapping",
    _NULL_TAG: "an empty value",
    "tag:yaml.org,2002:seq": "a list",
    "tag:yaml.org,2002:str": "a string",
    "tag:yaml.org,2002:timestamp": "a date",
}
_SURROGATE: Final = re.compile("[\ud800-\udfff]")

# PyYAML's own messages quote the file, which may contain a password: they are translated, never passed on.
_SYNTAX_MESSAGES: Final = (
    ("found character '\\t'", "tabs are not allowed here; indent with spaces"),
    ("cannot start any token", "values that start with @, % or a backtick must be quoted"),
    ("found undefined alias", "undefined alias (*…); quote values that start with *"),
    (
        "mapping values are not allowed",
        "unexpected ': '; check the indentation, quote values that contain ': '",
    ),
    (
        "could not find expected ':'",
        "expected 'key: value'; check the indentation of this and the previous line",
    ),
    ("unexpected end of stream", "the quotation mark opened here is never closed"),
    ("expected ',' or", "the bracket opened here is never closed, or a comma is missing after an entry"),
    ("expected <block end>", "the indentation does not match the lines above"),
    ("but found another document", "a second document starts here; only one is allowed"),
    ("special characters are not allowed", "control characters are not allowed"),
)
"""Parts of PyYAML's messages, and the message for each."""
_OTHER_SYNTAX: Final = "invalid YAML; check indentation, quotation marks and brackets"


@dataclass(frozen=True, slots=True)
class Problem:
    """An error in a file.

    Attributes:
        line: Line number, from 1.
        path: Path of the value. Empty for the whole document, and if the YAML could not be parsed.
        message: What is wrong and what is expected, on one line.
        source: Name of the file, where there may be several.
    """

    line: int
    path: KeyPath
    message: str
    source: str = ""


class YamlError(Exception):
    """A text that is not one YAML document within the limits."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.problem = Problem(line, (), message)


@dataclass(frozen=True, slots=True)
class Document:
    """A YAML document.

    Attributes:
        data: dict, list, str, int, float, bool, date, datetime or None, nested. Keys are strings.
        problems: Entries that are missing from the data: duplicate keys, and keys that are not strings.
        source: Name of the file, where there may be several.
    """

    data: Any
    problems: tuple[Problem, ...]
    _root: Node
    source: str = ""

    def line(self, path: KeyPath) -> int:
        """Return the line of the value, from 1, or of the innermost value around it that exists."""
        return self._find(path)[0]

    def written(self, path: KeyPath) -> str:
        """Return a scalar as the file spells it (`15:00`, not 900), or "" if it is not a scalar."""
        _, node = self._find(path)
        return node.value if isinstance(node, ScalarNode) else ""

    def kind(self, path: KeyPath) -> str:
        """Return the YAML type of the value: "a mapping", "a number", "an empty value" and so on."""
        return _KINDS.get(self._find(path)[1].tag, "a string")

    def problem(self, path: KeyPath, message: str) -> Problem:
        """Return a problem of the value at the path."""
        return Problem(self.line(path), path, message, self.source)

    def _find(self, path: KeyPath) -> tuple[int, Node]:
        node, mark = self._root, self._root.start_mark
        for step in path:
            if isinstance(node, SequenceNode) and isinstance(step, int):
                node = node.value[step]
                mark = node.start_mark
            elif isinstance(node, MappingNode) and (
                pair := next((pair for pair in node.value if pair[0].value == step), None)
            ):
                mark = pair[0].start_mark
                node = pair[1]
            else:
                break
        return mark.line + 1, node


def _nowhere(_path: KeyPath) -> bool:
    return False


def read_yaml(text: str, is_string: Callable[[KeyPath], bool] = _nowhere, source: str = "") -> Document:
    """Parse one YAML 1.1 document of at most MAX_VALUES values, nested at most MAX_DEPTH levels deep.

    Tags (`!!str`) and merge keys (`<<`) are not supported.

    Args:
        text: The document.
        is_string: Returns whether the scalar at a path, and its key, are strings however they look, and null
            is the empty string. Go decodes a `map[string]string` in this way: `on` and `12345` are strings.
        source: Name of the file, where there may be several.

    Raises:
        YamlError: the text is empty, not YAML, more than one document, too large or too deep.
    """
    try:
        loader = _Loader(text, is_string)
        root = loader.get_single_node()
        if root is None:
            raise YamlError(1, "the file is empty")
        data = loader.build(root, ())
    except yaml.reader.ReaderError as error:
        raise YamlError(text.count("\n", 0, error.position) + 1, _message(error.reason)) from None
    except yaml.MarkedYAMLError as error:
        message = _message(error.problem or "")
        # PyYAML notices an unclosed quotation mark or bracket far below it; its context is where it opened.
        marks = (error.context_mark, error.problem_mark)
        mark = next(filter(None, marks if "opened here" in message else reversed(marks)), None)
        raise YamlError(mark.line + 1 if mark else 1, message) from None
    return Document(data, tuple(replace(each, source=source) for each in loader.problems), root, source)


def _message(problem: str) -> str:
    return next((message for part, message in _SYNTAX_MESSAGES if part in problem), _OTHER_SYNTAX)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with limits.

    PyYAML composes the nodes. The plain data are built here, so that every problem is reported, not only the
    first one.
    """

    def __init__(self, text: str, is_string: Callable[[KeyPath], bool]) -> None:
        super().__init__(text)
        self._is_string = is_string
        self.problems: list[Problem] = []
        self._depth = 0
        self._values = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs have no types here
        line = event.start_mark.line + 1
        if getattr(event, "tag", None):
            raise YamlError(line, "tags (!…) are not supported; quote values that start with !")
        if self._depth > MAX_DEPTH:
            raise YamlError(line, f"nested more than {MAX_DEPTH} levels deep")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def build(self, node: Node, path: KeyPath, ancestors: tuple[Node, ...] = ()) -> Any:  # noqa: ANN401 - any YAML
        line = node.start_mark.line + 1
        self._values += 1
        if node in ancestors:
            raise YamlError(line, "an alias (*…) refers to a value that contains it")
        if self._values > MAX_VALUES:
            raise YamlError(
                line, f"more than {MAX_VALUES:,} values, including those repeated by aliases (*…)"
            )
        if len(path) > MAX_DEPTH:
            raise YamlError(line, f"nested more than {MAX_DEPTH} levels deep, including aliases (*…)")
        if isinstance(node, SequenceNode):
            return [self.build(item, (*path, n), (*ancestors, node)) for n, item in enumerate(node.value)]
        if isinstance(node, MappingNode):
            return self._mapping(node, path, (*ancestors, node))
        if self._is_string(path):
            return "" if node.tag == _NULL_TAG else self._string(node)
        return self._scalar(node)

    def _mapping(self, node: MappingNode, path: KeyPath, ancestors: tuple[Node, ...]) -> dict[str, Any]:
        data: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.tag == _MERGE_TAG:
                self._add_problem(line, path, "merge keys (<<) are not supported; repeat the keys")
            elif key.tag not in _STRING_TAGS and not self._is_string_key(key, path):
                kind = _KINDS[key.tag]
                message = f"keys must be strings, but this key is {kind} in YAML; quote it"
                if node.flow_style and isinstance(key, MappingNode):
                    message = "{{ … }} is a nested mapping in YAML; placeholders are not expanded"
                self._add_problem(line, path, message)
            elif key.value in lines:
                message = f"duplicate key, first defined on line {lines[key.value]}"
                self._add_problem(line, (*path, key.value), message)
            else:
                text = self._string(key)
                lines[text] = line
                data[text] = self.build(value, (*path, text), ancestors)
        return data

    def _is_string_key(self, key: Node, path: KeyPath) -> bool:
        return isinstance(key, ScalarNode) and self._is_string((*path, key.value))

    def _scalar(self, node: Node) -> Any:  # noqa: ANN401 - any scalar
        if node.tag in _STRING_TAGS or node.tag == _MERGE_TAG:
            return self._string(node)
        try:
            return self.construct_object(node)
        except (ValueError, OverflowError):
            kind, line = _KINDS[node.tag].removeprefix("a "), node.start_mark.line + 1
            raise YamlError(line, f"invalid {kind}; quote it if it is meant as a string") from None

    @staticmethod
    def _string(node: Node) -> str:
        """Return a scalar as the file spells it."""
        text: str = node.value
        if _SURROGATE.search(text):
            line = node.start_mark.line + 1
            raise YamlError(line, "unpaired surrogate (\\ud800 to \\udfff); write the character itself")
        return text

    def _add_problem(self, line: int, path: KeyPath, message: str) -> None:
        self.problems.append(Problem(line, path, message))
