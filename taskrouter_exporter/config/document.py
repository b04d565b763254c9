"""YAML, read safely into plain data whose values keep their place in the file."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

MAX_DEPTH: Final = 20
MAX_VALUES: Final = 500_000
"""Values that a document may have in all. One that is repeated by an alias counts each time."""

Path = tuple[str | int, ...]
"""Where a value is: `("targets", 1, "windows", 0)`."""

_TEXT_TAGS: Final = {"tag:yaml.org,2002:str", "tag:yaml.org,2002:value"}
_MERGE_TAG: Final = "tag:yaml.org,2002:merge"
_NULL_TAG: Final = "tag:yaml.org,2002:null"
_KINDS: Final = {
    "tag:yaml.org,2002:bool": "a boolean",
    "tag:yaml.org,2002:float": "a number",
    "tag:yaml.org,2002:int": "a number",
    "tag:yaml.org,2002:map": "a mapping",
    _NULL_TAG: "empty",
    "tag:yaml.org,2002:seq": "a list",
    "tag:yaml.org,2002:str": "text",
    "tag:yaml.org,2002:timestamp": "a date",
}
_SURROGATE: Final = re.compile("[\ud800-\udfff]")

# PyYAML's own messages quote the file, and so perhaps a password: they are recognised, never passed on.
_SYNTAX: Final = (
    ("found character '\\t'", "a tab cannot stand here: indent with spaces"),
    ("cannot start any token", "text that begins with @, % or a backtick must be quoted"),
    ("found undefined alias", "there is no anchor (&…) for this alias (*…). Quote text that begins with *"),
    (
        "mapping values are not allowed",
        "a second ': ' here. Check the indentation, quote text with ': ' in it",
    ),
    ("could not find expected ':'", "this is no 'key: value'. Check the indentation above and here"),
    ("unexpected end of stream", "a quotation mark opens here that nothing closes"),
    ("expected ',' or", "a bracket opens here that nothing closes, or a comma is missing after it"),
    ("expected <block end>", "the indentation does not fit the lines above"),
    ("but found another document", "a second document begins here: only one is read"),
    ("special characters are not allowed", "control characters cannot stand in YAML"),
)
_OTHER_SYNTAX: Final = "this is not valid YAML. Check indentation, quotation marks and brackets"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with a file.

    Attributes:
        line: Counted from 1.
        path: The value concerned. Empty for the document, and where its structure is not known.
        message: What is wrong and what is allowed, on one line.
    """

    line: int
    path: Path
    message: str


class YamlError(Exception):
    """A text that cannot be read as one YAML document."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.problem = Problem(line, (), message)


@dataclass(frozen=True, slots=True)
class Document:
    """A YAML document.

    Attributes:
        data: dict, list, str, int, float, bool, date, datetime or None, within each other. Keys are str.
        problems: What was left out of the data: repeated keys, and keys that are not text.
    """

    data: Any
    problems: tuple[Problem, ...]
    _root: Node

    def line(self, path: Path) -> int:
        """Line of the value, counted from 1, or of the innermost value around it that exists."""
        return self._find(path)[0]

    def written(self, path: Path) -> str:
        """A scalar as it stands in the file (`15:00`, not 900), or "" where there is no scalar."""
        _, node = self._find(path)
        return node.value if isinstance(node, ScalarNode) else ""

    def kind(self, path: Path) -> str:
        """What YAML takes the value for: "a mapping", "a number", "empty" and so on."""
        return _KINDS.get(self._find(path)[1].tag, "text")

    def problem(self, path: Path, message: str) -> Problem:
        """Something wrong with the value at the path."""
        return Problem(self.line(path), path, message)

    def _find(self, path: Path) -> tuple[int, Node]:
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


def _nowhere(_path: Path) -> bool:
    return False


def read_yaml(text: str, is_text: Callable[[Path], bool] = _nowhere) -> Document:
    """Read one YAML 1.1 document, of no more than MAX_VALUES values and nested no deeper than MAX_DEPTH.

    Not supported, though safe YAML: tags (`!!str`) and merge keys (`<<`).

    Args:
        text: The document.
        is_text: Whether a scalar at a path, and the key before it, is text as it is written, and null the
            empty text. Go reads a `map[string]string` like this: `on` and `12345` are text there.

    Raises:
        YamlError: the text is empty, not YAML, more than one document, too large or too deep.
    """
    try:
        loader = _Loader(text, is_text)
        root = loader.get_single_node()
        if root is None:
            raise YamlError(1, "the file is empty")
        data = loader.build(root, ())
    except yaml.reader.ReaderError as error:
        raise YamlError(text.count("\n", 0, error.position) + 1, _explained(error.reason)) from None
    except yaml.MarkedYAMLError as error:
        message = _explained(error.problem or "")
        marks = (error.context_mark, error.problem_mark)
        mark = next(filter(None, marks if "opens here" in message else reversed(marks)), None)
        raise YamlError(mark.line + 1 if mark else 1, message) from None
    return Document(data, tuple(loader.problems), root)


def _explained(problem: str) -> str:
    return next((message for sign, message in _SYNTAX if sign in problem), _OTHER_SYNTAX)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe reader, bounded. It composes nodes; the plain data is built here, problem by problem."""

    def __init__(self, text: str, is_text: Callable[[Path], bool]) -> None:
        super().__init__(text)
        self._is_text = is_text
        self.problems: list[Problem] = []
        self._depth = 0
        self._values = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs have no types here
        line = event.start_mark.line + 1
        if getattr(event, "tag", None):
            raise YamlError(line, "tags (!…) are not supported. Quote text that begins with !")
        if self._depth > MAX_DEPTH:
            raise YamlError(line, f"this is nested more than {MAX_DEPTH} levels deep")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def build(self, node: Node, path: Path, around: tuple[Node, ...] = ()) -> Any:  # noqa: ANN401 - any YAML
        line = node.start_mark.line + 1
        self._values += 1
        if node in around:
            raise YamlError(line, "an alias (*…) stands within its own anchor (&…)")
        if self._values > MAX_VALUES:
            raise YamlError(line, f"more than {MAX_VALUES:,} values, those repeated by aliases (*…) included")
        if len(path) > MAX_DEPTH:
            raise YamlError(line, f"this is nested more than {MAX_DEPTH} levels deep by aliases (*…)")
        if isinstance(node, SequenceNode):
            return [self.build(item, (*path, n), (*around, node)) for n, item in enumerate(node.value)]
        if isinstance(node, MappingNode):
            return self._mapping(node, path, (*around, node))
        if self._is_text(path):
            return "" if node.tag == _NULL_TAG else self._text(node)
        return self._scalar(node)

    def _mapping(self, node: MappingNode, path: Path, around: tuple[Node, ...]) -> dict[str, Any]:
        data: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.tag == _MERGE_TAG:
                self._refuse(line, path, "merge keys (<<) are not supported. Repeat the keys")
            elif key.tag not in _TEXT_TAGS and not self._is_text_key(key, path):
                kind = _KINDS[key.tag]
                message = f"a key must be text, and here it is {kind} in YAML: quote it"
                if node.flow_style and isinstance(key, MappingNode):
                    message = "{{ … }} is a mapping in a mapping to YAML, and nothing is filled in here"
                self._refuse(line, path, message)
            elif key.value in lines:
                message = f"this key is given twice, first on line {lines[key.value]}"
                self._refuse(line, (*path, key.value), message)
            else:
                text = self._text(key)
                lines[text] = line
                data[text] = self.build(value, (*path, text), around)
        return data

    def _is_text_key(self, key: Node, path: Path) -> bool:
        return isinstance(key, ScalarNode) and self._is_text((*path, key.value))

    def _scalar(self, node: Node) -> Any:  # noqa: ANN401 - any scalar
        if node.tag in _TEXT_TAGS or node.tag == _MERGE_TAG:
            return self._text(node)
        try:
            return self.construct_object(node)
        except (ValueError, OverflowError):
            kind, line = _KINDS[node.tag], node.start_mark.line + 1
            raise YamlError(
                line, f"this is {kind} in YAML, but no valid one: quote it to make it text"
            ) from None

    @staticmethod
    def _text(node: Node) -> str:
        """Return a scalar as it is written."""
        text: str = node.value
        if _SURROGATE.search(text):
            line = node.start_mark.line + 1
            raise YamlError(line, "half a character (\\ud800 to \\udfff): write the character itself")
        return text

    def _refuse(self, line: int, path: Path, message: str) -> None:
        self.problems.append(Problem(line, path, message))
