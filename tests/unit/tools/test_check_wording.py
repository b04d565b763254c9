"""Expressions that the project avoids: where they are found, and what is reported."""

import re
from pathlib import Path

import pytest

from tools.check_wording import EXPRESSIONS, check_wording, find_expressions, read_expressions, texts


@pytest.mark.parametrize(
    "text",
    [
        "this is told here",
        "This Is Told here",
        "this is\ntold here",
        "# this is\n    # told here",
        "// this is\n// told here",
        'say("this is "\n    "told here")',
        'say(f"this is "\n    f"told here")',
    ],
)
def test_an_expression_is_found_across_lines_comments_and_parts_of_a_string(
    tmp_path: Path, text: str
) -> None:
    file = tmp_path / "expressions.tsv"
    file.write_text("\\bis told\\b\tis described\n", encoding="utf-8")
    ((position, problem),) = find_expressions(text, read_expressions(file))
    assert text[position:].lower().startswith("is")
    assert problem.endswith(": is described")


@pytest.mark.parametrize("text", ["he is tolder", "this is. Told", "is\n\ntold", '"is", "told"'])
def test_other_text_is_not_reported(tmp_path: Path, text: str) -> None:
    file = tmp_path / "expressions.tsv"
    file.write_text("\\bis told\\b\tis described\n", encoding="utf-8")
    assert list(find_expressions(text, read_expressions(file))) == []


def test_a_report_names_file_line_and_what_to_write(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page.md").write_text("# Page\n\nIt shows what\nis normal.\n", encoding="utf-8")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_page.py").write_text('"""What is normal."""\n', encoding="utf-8")
    expressions = {re.compile(r"what\s+is normal"): "the baseline"}
    assert list(check_wording(tmp_path, expressions)) == ["docs/page.md:3: 'what is normal': the baseline"]


def test_every_expression_of_the_project_can_be_read() -> None:
    expressions = read_expressions(EXPRESSIONS)
    assert len(expressions) > 10
    ((_, problem),) = find_expressions("The password is sent in clear.", expressions)
    assert problem == "'in clear': unencrypted, in plain text"
    assert list(find_expressions("The password is sent unencrypted.", expressions)) == []


def test_readme_docs_chart_and_package_are_checked() -> None:
    root = EXPRESSIONS.parents[1]
    names = {str(file.relative_to(root)) for file in texts(root)}
    assert names >= {
        "README.md",
        "docs/metrics.md",
        "Makefile",
        "helm/taskrouter-exporter/templates/NOTES.txt",
        "taskrouter_exporter/cli.py",
        ".github/workflows/ci.yml",
    }
