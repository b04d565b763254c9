"""The parts of the chart that come from elsewhere: metadata, rules, dashboards, thresholds, schema, tables.

`make chart` writes them again, and a test says when that is needed.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from taskrouter_exporter import __version__
from tools.chart_metadata import chart_metadata
from tools.thresholds import ROOT, RULES, read_thresholds

CHART: Final = ROOT / "helm/taskrouter-exporter"
_MONITORING: Final = ROOT / "monitoring"
_VALUES: Final = CHART / "values.yaml"
_SCHEMA: Final = CHART / "values.schema.json"
_README: Final = CHART / "README.md"
_METADATA: Final = CHART / "Chart.yaml"

Thresholds = dict[str, "float | dict[str, float]"]


def generated_files() -> dict[Path, str]:
    """Return what each file should contain, by its path in the chart."""
    values = _values_with(RULES.read_text(encoding="utf-8"))
    dashboards = {f"files/dashboards/{each.name}": each for each in _MONITORING.glob("dashboards/*.json")}
    return {
        **{
            CHART / name: source.read_text(encoding="utf-8")
            for name, source in {"files/rules/taskrouter.yaml": RULES, **dashboards}.items()
        },
        _VALUES: values,
        _SCHEMA: _schema(chart_thresholds(RULES.read_text(encoding="utf-8"))),
        _README: _readme(values),
        _METADATA: chart_metadata(
            _METADATA.read_text(encoding="utf-8"),
            __version__,
            values,
            (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
        ),
    }


def chart_thresholds(rules: str) -> Thresholds:
    """Return the thresholds as the chart's values have them: one number, or one for each severity."""
    return {name: by_severity.get("", by_severity) for name, by_severity in read_thresholds(rules).items()}


def _values_with(rules: str) -> str:
    """values.yaml with the thresholds of the rules, each with the comment that it has there."""
    comments = _comments_of_thresholds(rules)
    lines = ["  thresholds:"]
    comment = ""
    for name, value in chart_thresholds(rules).items():
        comment = comments.get(name, comment)
        lines += [f"    {line}" for line in ("# -- " + comment).splitlines()]
        block = yaml.safe_dump({name: value}, sort_keys=False)
        lines += [f"    {line}" for line in block.splitlines()]
    block = "\n".join(lines) + "\n\n"
    text, count = re.subn(r"(?ms)^  thresholds:.*?\n\n", lambda _: block, _VALUES.read_text(encoding="utf-8"))
    if count != 1:
        raise ValueError("values.yaml has no one block of thresholds")
    return text


def _comments_of_thresholds(rules: str) -> dict[str, str]:
    """Return the comment that stands before a threshold's rule, by the threshold's name."""
    found: dict[str, str] = {}
    lines = rules.splitlines()
    for number, line in enumerate(lines):
        name = re.search(r"labels: \{threshold: (\w+)", line)
        if name and (comment := _comment_before(lines, number - 1)):
            found.setdefault(name[1], "\n".join(comment))
    return found


def _comment_before(lines: list[str], end: int) -> list[str]:
    """Return the lines of comment directly before a line, the first without its `# `."""
    begin = end
    while begin and lines[begin - 1].lstrip().startswith("#"):
        begin -= 1
    comment = [line.strip() for line in lines[begin:end]]
    return [comment[0].removeprefix("# "), *comment[1:]] if comment else []


def _schema(known: Thresholds) -> str:
    """values.schema.json with the keys of `config` and the names of the thresholds."""
    schema = json.loads(_SCHEMA.read_text(encoding="utf-8"))
    config = json.loads((ROOT / "docs/config.schema.json").read_text(encoding="utf-8"))
    definitions = config.pop("$defs")
    # Templates check required keys, because their error messages can say what to do.
    for key in ("$schema", "$id", "anyOf"):
        del config[key]
    del definitions["AccountModel"]["oneOf"]
    # A template rejects it, because an error message of the schema could quote the password.
    definitions["AccountModel"]["properties"]["password"] = True
    number = {"type": ["number", "null"]}
    definitions["thresholds"] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            name: number
            if isinstance(value, float | int)
            else {
                "type": ["object", "null"],
                "additionalProperties": False,
                "properties": dict.fromkeys(value, number),
            }
            for name, value in known.items()
        },
    }
    schema["definitions"] = _draft_7({**definitions, "config": config})
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _draft_7(node: Any) -> Any:  # noqa: ANN401 -- any JSON
    """Return a schema in the draft and with the regular expressions that every Helm understands."""
    if isinstance(node, list):
        return [_draft_7(each) for each in node]
    if not isinstance(node, dict):
        return node.replace("#/$defs/", "#/definitions/") if isinstance(node, str) else node
    node = {key: _draft_7(value) for key, value in node.items()}
    needed = {**node.pop("dependentRequired", {}), **node.pop("dependentSchemas", {})}
    if needed:
        node["dependencies"] = needed
    if "(?=.)" in (pattern := node.get("pattern", "")):
        node |= {"pattern": pattern.replace("(?=.)", ""), "minLength": 1}
    return node


def _readme(values: str) -> str:
    head, _, _ = _README.read_text(encoding="utf-8").partition("\n## Values\n")
    return f"{head}\n## Values\n{''.join(_tables(values))}"


def _tables(values: str) -> Iterator[str]:
    """Return a chapter for each `## Heading` of values.yaml, with a row for each value."""
    chapters = re.split(r"(?m)^## (.+)\n", values)
    for heading, text in zip(chapters[1::2], chapters[2::2], strict=True):
        yield f"\n### {heading}\n\n| value | default | description |\n|---|---|---|\n"
        yield from _rows(text.splitlines(), yaml.compose(text, yaml.SafeLoader), "")


def _rows(lines: list[str], node: yaml.Node | None, place: str) -> Iterator[str]:
    """Return a row for each value that has a description, and for those in a mapping that has none."""
    if not isinstance(node, yaml.MappingNode) or not node.value:
        raise ValueError(f"{place} has no description")
    for key, value in node.value:
        path = f"{place}.{key.value}" if place else key.value
        comment = " ".join(line.lstrip("# ") for line in _comment_before(lines, key.start_mark.line))
        if comment.startswith("-- "):
            description = comment.removeprefix("-- ").replace("|", r"\|")
            yield f"| `{path}` | `{_default(value)}` | {description} |\n"
        else:
            yield from _rows(lines, value, path)


def _default(node: yaml.Node) -> str:
    value: object = yaml.safe_load(yaml.serialize(node))
    text = yaml.safe_dump([value], default_flow_style=True, sort_keys=False, width=1000).strip()[1:-1]
    return text.replace("''", '""')


def _write(files: Mapping[Path, str]) -> None:
    for stale in set(CHART.glob("files/dashboards/*.json")) - files.keys():
        stale.unlink()
    for path, text in files.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    _write(generated_files())
