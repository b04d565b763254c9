"""The layout of the package: who may import whom, without cycles and with few levels."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Final

import taskrouter_exporter

PACKAGE: Final = Path(taskrouter_exporter.__file__).parent
MOST_LEVELS: Final = 10

_LEAVES: Final = {
    "auto_reload", "bundled_files", "durations", "early_signals", "files", "healthcheck", "logs", "revision",
    "sids", "systemd", "terminal",
}  # fmt: skip
_POLLING: Final = {"batches", "counters", "politeness", "poll_history", "poller", "standings"}
ALLOWED: Final[dict[str, set[str]]] = {
    **{leaf: set() for leaf in _LEAVES},
    "periods": {"durations", "statistics"},
    "queries": {"lines", "periods", "statistics"},
    "lines": {"statistics"},
    "command_line": {"durations"},
    "config": {"durations", "files", "periods", "queries", "sids", "statistics", "terminal"},
    "server": {"config", "durations", "files"},
    "statistics": {"durations"},
    "api": {"config", "files", "sids", "statistics"},
    **{module: {"api", "lines", "periods", "queries", "statistics", *_POLLING} for module in _POLLING},
    "failures": {"api", "poll_history", "queries"},
    "trends": {"periods", "poll_history", "queries", "statistics"},
    "metrics": {"lines", "poll_history", "queries", "statistics"},
    "discovered": {"api", "config", "sids", "statistics"},
    "expansion": {"api", "config", "discovered", "periods", "queries", "sids", "statistics"},
    "discovery": {"api", "config", "discovered", "statistics"},
    "runtime": {
        "api", "config", "discovered", "discovery", "expansion", "failures", "metrics", "poll_history",
        "poller", "queries", "sids", "standings", "systemd", "trends",
    },
    "web": {
        "api", "config", "discovered", "durations", "failures", "lines", "metrics", "periods", "poll_history",
        "queries", "revision", "runtime", "statistics",
    },
    "history": {
        "command_line",
        "api", "config", "discovered", "discovery", "durations", "early_signals", "expansion", "files",
        "lines", "logs", "periods", "queries", "sids", "statistics",
    },
    "simulator": {"sids"},
    "demo": {"config", "simulator"},
    "config_check": {
        "batches", "config", "durations", "expansion", "periods", "queries", "server", "statistics",
        "terminal",
    },
    "one_shot": {
        "api", "command_line", "config", "demo", "discovered", "durations", "expansion", "lines", "logs",
        "metrics", "periods", "queries", "sids", "statistics", "terminal", "web",
    },
    "cli": {
        "api", "auto_reload", "command_line", "config", "config_check", "demo", "early_signals", "flags",
        "logs", "metrics", "revision", "runtime", "server", "systemd", "web",
    },
    "flags": {"bundled_files", "command_line", "config", "durations", "logs", "revision", "server", "web"},
    "__main__": {"cli", "early_signals"},
}  # fmt: skip
"""What each part may import. Nothing imports cli, and config imports nothing that it configures."""


def modules() -> dict[str, Path]:
    """Every module by its dotted name below the package."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
        for path in PACKAGE.rglob("*.py")
        if path != PACKAGE / "__init__.py"
    }


def imports(path: Path) -> Iterator[str]:
    """The package's own modules that a module imports, dotted, wherever in the file."""
    known = modules()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            own = name.removeprefix("taskrouter_exporter.")
            if own != name and own in known:
                yield own


def test_imports_between_sub_packages_go_the_allowed_ways() -> None:
    found: dict[str, set[str]] = {}
    for name, path in modules().items():
        part = name.split(".")[0]
        found.setdefault(part, set()).update(each.split(".")[0] for each in imports(path))
    forbidden = {
        f"{part} imports {other}"
        for part, others in found.items()
        for other in others - {part} - ALLOWED.get(part, set())
    }
    assert found.keys() == ALLOWED.keys()
    assert forbidden == set()


def test_modules_import_each_other_without_a_cycle_on_few_levels() -> None:
    graph = {name: set(imports(path)) - {name} for name, path in modules().items()}
    levels: dict[str, int] = {}
    for name in TopologicalSorter(graph).static_order():  # raises CycleError
        levels[name] = 1 + max((levels[other] for other in graph[name]), default=0)
    assert max(levels.values()) <= MOST_LEVELS, levels
