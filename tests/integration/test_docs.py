"""The documentation describes every key, metric and flag, and nothing that does not exist."""

import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from support.documented import DOCS, Described, chapters, documented, table_rows
from support.exporter import ROOT, Exporter
from support.waiting import wait_until

from taskrouter_exporter.demo import demo_configuration
from taskrouter_exporter.one_shot.command import STATUSES
from taskrouter_exporter.simulator import ContactCentre, Simulator
from tools import metrics_page
from tools.check_links import check_links

pytestmark = pytest.mark.usefixtures("uncovered")  # long calculations, which other tests cover


def name_and_type(family: Metric, *, openmetrics: bool) -> tuple[str, str]:
    """As Prometheus stores the series, and as OpenMetrics calls the type."""
    suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
    name = family.name + suffix
    is_info = not openmetrics and name.endswith("_info") and name != "python_info"
    return name, "info" if is_info else family.type


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    """An exporter with everything that makes a metric: the demo with its workspaces discovered."""
    directory = tmp_path_factory.mktemp("documented")
    with Simulator(ContactCentre()) as simulator:
        config = json.loads(demo_configuration(simulator))
        config["accounts"]["demo"]["workspaces"] = "auto"
        # Of a queue and a TaskChannel, which the API cannot answer for together with others.
        config["targets"][1] |= {"statistics": ["realtime"], "windows": [], "queues": "auto"}
        del config["targets"][1]["counters"]
        (directory / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
        exporter = Exporter(["--config.file=config.yaml"], directory / "log")
        exporter.wait_until_ready()
        wait_until("all queries up", lambda: set(exporter.scrape(60).find("up").values()) == {1})
        yield exporter
        exporter.stop()


@pytest.mark.parametrize("openmetrics", [True, False], ids=["OpenMetrics", "text"])
def test_every_metric_is_documented_with_its_type_and_labels_and_no_other(
    openmetrics: bool,  # noqa: FBT001 -- a parameter of the test
    exporter: Exporter,
) -> None:
    text = exporter.scrape(accept="application/openmetrics-text" if openmetrics else "text/plain").answer.text
    exported: dict[str, Described] = {}
    parse: Callable[[str], Iterable[Metric]] = parse_openmetrics if openmetrics else parse_text
    for family in parse(text):
        name, kind = name_and_type(family, openmetrics=openmetrics)
        assert family.samples, f"{name} has no series"
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        exported[name] = Described(kind, frozenset(labels))
    assert exported == documented()


def test_every_scrape_has_the_same_families_with_series(exporter: Exporter) -> None:
    exporter.scrape()  # an HTTP status has a series from its first answer on
    first, second = (exporter.scrape(path="/metrics?collect[]=exporter") for _ in range(2))
    assert first.names() == second.names()


def test_the_tables_of_statistics_are_up_to_date() -> None:
    page = (DOCS / "metrics.md").read_text(encoding="utf-8")
    assert metrics_page.page(page) == page, "out of date: make docs"


def test_every_reason_and_outcome_is_documented(exporter: Exporter) -> None:
    page = (DOCS / "metrics.md").read_text(encoding="utf-8")
    scrape = exporter.scrape()
    told = {dict(labels)["reason"] for labels in scrape.find("poll_errors_total")}
    told |= {dict(labels)["outcome"] for labels in scrape.find("window_reservation_outcomes")}
    assert len(told) == 13
    assert [value for value in told if f"`{value}`" not in page] == []


def test_every_metric_has_an_example_query_that_names_it_and_that_promtool_accepts(
    program: Callable[[str, str], str], tmp_path: Path
) -> None:
    rules = []
    for match in chapters():
        (query,) = re.findall("```promql\n(.*?)```", match["rest"], re.DOTALL)
        name = match["name"].removeprefix("twilio_taskrouter_").split("_")[0]
        assert name in query, match["name"]
        rules.append({"record": f"example:{match['name']}", "expr": query})
    for name, *_, example in table_rows():
        assert name.strip("`") in example
        rules.append({"record": f"example:{len(rules)}", "expr": example.strip("`")})
    file = tmp_path / "rules.json"
    file.write_text(json.dumps({"groups": [{"name": "examples", "rules": rules}]}), encoding="utf-8")
    promtool = program("promtool", "prometheus")
    done = subprocess.run(
        [promtool, "check", "rules", str(file)], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout


def test_the_configuration_page_matches_the_models() -> None:
    command = [sys.executable, "-m", "tools.configuration_page"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=30, check=True)
    assert (DOCS / "configuration.md").read_bytes() == done.stdout, "out of date: make docs"


def keys(schema: Any) -> Iterator[str]:
    """Every key of the configuration file, wherever it stands."""
    for mapping in (schema, *schema["$defs"].values()):
        yield from mapping.get("properties", ())


def test_every_key_has_a_chapter_with_type_and_default() -> None:
    page = (DOCS / "configuration.md").read_text(encoding="utf-8")
    schema = json.loads((DOCS / "config.schema.json").read_text(encoding="utf-8"))
    chapters = dict(re.findall(r"^##+ `([^`]+)`\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL))
    assert {re.split(r"[.\]]", place)[-1] for place in chapters} == set(keys(schema))
    for place, text in chapters.items():
        assert "\n- Type: " in text, place
        assert "\n- Default: " in text, place
        assert "\n- Example: " in text or re.search("Type: (list of )?mapping", text), place


def run_exporter(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "exporter.py"), *arguments]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=30, check=False)


def test_the_readme_lists_every_flag_and_no_other(tmp_path: Path) -> None:
    flags = set(re.findall(r"--[a-z.-]+[a-z]", run_exporter(tmp_path, "--help").stdout))
    rows = re.findall(r"^\| `(--[a-z.-]+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(rows) == flags | {"--help"}


def test_the_page_of_queries_lists_every_flag_exit_status_and_key(tmp_path: Path) -> None:
    page = (DOCS / "query.md").read_text(encoding="utf-8")
    flags = re.findall(r"--[a-z.-]+[a-z]", run_exporter(tmp_path, "query", "--help").stdout)
    assert set(re.findall(r"^\| `(--[a-z.-]+)", page, re.MULTILINE)) == {*flags}
    statuses = re.findall(r"^\| ([0-9]+) \| `([a-z_]+)` \|", page, re.MULTILINE)
    assert statuses == [(str(status), reason) for reason, status in STATUSES.items()]
    answer = run_exporter(tmp_path, "query", "--demo", "--workspace=support", "--output=json").stdout
    keys = re.findall(r"^\| (`[a-z_]+`(?:, `[a-z_]+`)*) \| [^|]+ \|$", page, re.MULTILINE)
    assert [key.strip("`") for row in keys for key in row.split(", ")] == list(json.loads(answer))


def test_the_readme_shows_the_error_that_the_exporter_prints(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^config\.yaml:\d+: (targets.*)$", readme, re.MULTILINE)
    targets = [{"workspace": f"WS{digit * 32}", "windows": ["15 minutes"]} for digit in "01"]
    (tmp_path / "config.yaml").write_text(json.dumps({"targets": targets}), encoding="utf-8")
    assert shown in run_exporter(tmp_path, "--config.check").stderr


def test_the_minimal_configuration_of_the_readme_is_valid(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^   ```yaml\n(   targets:\n.*?)^   ```$", readme, re.MULTILINE | re.DOTALL)
    (tmp_path / "config.yaml").write_text(textwrap.dedent(example), encoding="utf-8")
    environment = {"TWILIO_ACCOUNT_SID": f"AC{'0' * 32}", "TWILIO_AUTH_TOKEN": "invented"}
    command = [sys.executable, str(ROOT / "exporter.py"), "--config.check"]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("config.yaml: valid"), done.stderr


def test_relative_links_are_valid() -> None:
    assert list(check_links(ROOT)) == []


def test_the_page_of_metrics_begins_with_a_warning_about_sums_over_channels() -> None:
    page = (DOCS / "metrics.md").read_text(encoding="utf-8")
    assert '**Do not sum `channel="all"` with the other channels.**' in page.partition("\n- ")[0]


@pytest.mark.parametrize("file", ["README.md", "docs/runbooks.md"])
def test_readme_and_runbooks_mention_workspaces_with_more_than_100_workers(file: str) -> None:
    text = " ".join((ROOT / file).read_text(encoding="utf-8").split())
    assert "Worker statistics may not be accessible in workspaces with more than 100 Workers" in text


def test_every_version_of_the_changelog_has_upgrade_notes() -> None:
    versions = r"^## \[?(Unreleased|\d+\.\d+\.\d+)"
    changelog, notes = (
        re.findall(versions, file.read_text(encoding="utf-8"), re.MULTILINE)
        for file in (ROOT / "CHANGELOG.md", DOCS / "upgrading.md")
    )
    assert changelog
    assert notes == changelog


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    pages = {file.name for file in DOCS.glob("*.md")} - {"README.md"}
    assert {page for page in pages if f"({page}" not in index} == set()
