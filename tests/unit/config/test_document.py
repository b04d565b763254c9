import pytest
from support.config_files import (
    SECRET,
    SK,
    TARGETS,
    WS,
    WS2,
    Expectations,
    account,
    parse,
    problems_of,
    target,
)

from taskrouter_exporter.config.document import KeyPath, YamlError, read_yaml
from taskrouter_exporter.expansion import static_queries
from taskrouter_exporter.periods import Window

SID = "AC or SK and 32 hex digits"
PASSWORD = "1 to 512 printable ASCII characters without spaces or line breaks"
BROKEN = "invalid YAML; check indentation, quotation marks and brackets"
TOO_MANY = "more than 500,000 values, including those repeated by aliases (*…)"
BRACES = "{{ … }} is a nested mapping in YAML; placeholders are not expanded"


def multiplied_aliases() -> str:
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    return "\n".join(["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]", *levels])


PROBLEMS: Expectations = {
    "empty file": ("", ["1: the file is empty"]),
    "only comments": ("# nothing\n# here\n", ["1: the file is empty"]),
    "two documents": (f"{TARGETS}---\n{TARGETS}", ["3: a second document starts here; only one is allowed"]),
    "tab": ("targets:\n\t- workspace: x\n", ["2: tabs are not allowed here; indent with spaces"]),
    "wrong indentation": (
        f"targets:\n  - workspace: {WS}\n   name: support\n",
        ["3: the indentation does not match the lines above"],
    ),
    "no space after a colon": (
        f"targets:\n  - workspace:{WS}\n    name: x\n",
        ["3: unexpected ': '; check the indentation, quote values that contain ': '"],
    ),
    "line without a colon": (
        f"{TARGETS}polling\n",
        ["4: expected 'key: value'; check the indentation of this and the previous line"],
    ),
    "unclosed quotation mark": (
        account(f"username: {SK}", f"password: '{SECRET}"),
        ["6: the quotation mark opened here is never closed"],
    ),
    "unclosed bracket": (
        target("channels: [voice, chat", "windows: [15m]"),
        ["3: the bracket opened here is never closed, or a comma is missing after an entry"],
    ),
    "password that begins with @": (
        account(f"password: @{SECRET}"),
        ["5: values that start with @, % or a backtick must be quoted"],
    ),
    "password that begins with *": (
        account(f"password: *{SECRET}"),
        ["5: undefined alias (*…); quote values that start with *"],
    ),
    "password that begins with !": (
        account(f"password: !{SECRET}"),
        ["5: tags (!…) are not supported; quote values that start with !"],
    ),
    "password that begins with a tag handle": (account(f"password: !a!{SECRET}"), [f"5: {BROKEN}"]),
    "Python object": (
        "targets: !!python/object/apply:os.system [id]\n",
        ["1: tags (!…) are not supported; quote values that start with !"],
    ),
    "unknown escape": (target('name: "\\q"'), [f"3: {BROKEN}"]),
    "control character": (target("name: a\x07"), ["3: control characters are not allowed"]),
    "unpaired surrogate": (
        target('name: "\\ud83d"'),
        ["3: unpaired surrogate (\\ud800 to \\udfff); write the character itself"],
    ),
    "aliases that multiply": (multiplied_aliases(), [f"1: {TOO_MANY}"]),
    "alias within its own anchor": (
        "targets: &a\n  - *a\n",
        ["1: an alias (*…) refers to a value that contains it"],
    ),
    "deep nesting": ("targets: " + "[" * 100_000, ["1: nested more than 20 levels deep"]),
    "deep nesting by aliases": (
        "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 30)),
        ["1: nested more than 20 levels deep, including aliases (*…)"],
    ),
    "merge key": (
        f"targets:\n  - &a\n    workspace: {WS}\n  - <<: *a\n    workspace: {WS2}\n",
        ["4: targets[1]: merge keys (<<) are not supported; repeat the keys"],
    ),
    "duplicate keys": (
        f"polling:\n  cache: 1s\n{TARGETS}polling:\n  cache: 2s\n",
        ["5: polling: duplicate key, first defined on line 1"],
    ),
    "duplicate key in a target": (
        target("name: a", "name: b"),
        ["4: targets[0].name: duplicate key, first defined on line 3"],
    ),
    "keys that are not strings": (
        target("no: x", "1: x", "[a]: x", "{{ b }}: x"),
        [
            "3: targets[0]: keys must be strings, but this key is a boolean in YAML; quote it",
            "4: targets[0]: keys must be strings, but this key is a number in YAML; quote it",
            "5: targets[0]: keys must be strings, but this key is a list in YAML; quote it",
            "6: targets[0]: keys must be strings, but this key is a mapping in YAML; quote it",
        ],
    ),
    "invalid date": (target("name: 2026-02-31"), ["3: invalid date; quote it if it is meant as a string"]),
    "invalid number": (
        f"{TARGETS}polling:\n  attempts: {'9' * 5000}\n",
        ["4: invalid number; quote it if it is meant as a string"],
    ),
    "template placeholders without quotes": (
        account("username: {{ sid }}", "password: {{ token }}"),
        [
            f"5: accounts.default.username: {BRACES}",
            (f"5: accounts.default.username: expected an account SID or API key SID ({SID}), got a mapping"),
            f"6: accounts.default.password: {BRACES}",
            f"6: accounts.default.password: expected a valid password ({PASSWORD}), got a mapping",
        ],
    ),
    "password in braces, which is a mapping": (
        account(f"username: {SK}", f"password: {{{SECRET}: 1, {SECRET}: 2}}"),
        [
            "6: accounts.default.password: duplicate key, first defined on line 6",
            f"6: accounts.default.password: expected a valid password ({PASSWORD}), got a mapping",
        ],
    ),
}


@pytest.mark.parametrize(("text", "problems"), PROBLEMS.values(), ids=PROBLEMS.keys())
def test_yaml_that_cannot_be_used_is_reported_with_its_line(text: str, problems: list[str]) -> None:
    assert problems_of(text) == problems


def test_a_path_has_the_line_of_its_value_or_of_the_innermost_value_that_exists() -> None:
    document = read_yaml("a:\n  b: 1\n  c:\n  - x\n  - y: z\n")
    paths: dict[KeyPath, int] = {
        (): 1,
        ("a",): 1,
        ("a", "b"): 2,
        ("a", "c", 0): 4,
        ("a", "c", 1, "y"): 5,
        ("a", "missing", "key"): 1,
        ("a", "b", "key"): 2,
    }
    assert {path: document.line(path) for path in paths} == paths


def test_a_scalar_keeps_its_spelling_and_has_a_kind() -> None:
    document = read_yaml("[15:00, 2026-11-23, yes, 4.0, x, ~, [], {}]")
    assert document.data[:1] == [900]
    assert [(document.written((n,)), document.kind((n,))) for n in range(8)] == [
        ("15:00", "a number"),
        ("2026-11-23", "a date"),
        ("yes", "a boolean"),
        ("4.0", "a number"),
        ("x", "a string"),
        ("~", "an empty value"),
        ("", "a list"),
        ("", "a mapping"),
    ]


def test_scalars_and_keys_that_must_be_strings_keep_their_spelling() -> None:
    document = read_yaml("a: {on: 12345, 1: ~}\nb: 1", lambda path: path[:1] == ("a",))
    assert document.data == {"a": {"on": "12345", "1": ""}, "b": 1}


def test_a_problem_has_the_line_of_its_path() -> None:
    problem = read_yaml("a:\n  b: 1\n").problem(("a", "b"), "message")
    assert (problem.line, problem.path, problem.message) == (2, ("a", "b"), "message")


def test_an_error_never_quotes_the_file() -> None:
    for text in (
        f"a: '{SECRET}",
        f"a: *{SECRET}",
        f"a: !{SECRET}",
        f"{SECRET}: b: c",
        f"[{SECRET}",
        f"%{SECRET}",
    ):
        with pytest.raises(YamlError) as caught:
            read_yaml(text)
        assert SECRET not in str(caught.value), text


def test_an_alias_repeats_a_list() -> None:
    config = parse(f"{TARGETS}    windows: &usual [15m, 4h]\n  - workspace: {WS2}\n    windows: *usual\n")
    assert [query.period for query in static_queries(config)] == [Window(15), Window(240)] * 2
