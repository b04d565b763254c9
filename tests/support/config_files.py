"""Texts of configuration files, and the problems that the exporter reports about them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from taskrouter_exporter.config.errors import ConfigError
from taskrouter_exporter.config.loader import parse_config
from taskrouter_exporter.config.model import Config
from taskrouter_exporter.expansion import static_queries
from taskrouter_exporter.queries import Target

WS: Final = "WS0123456789abcdef0123456789abcdef"
WS2: Final = "WSfedcba9876543210fedcba9876543210"
TC: Final = "TC0123456789abcdef0123456789abcdef"
SK: Final = "SK0123456789abcdef0123456789abcdef"
AC: Final = "AC0123456789abcdef0123456789abcdef"
SECRET: Final = "hunter2-is-a-secret"
ENVIRONMENT: Final[Mapping[str, str]] = {"TWILIO_ACCOUNT_SID": AC, "TWILIO_AUTH_TOKEN": SECRET}

TARGETS: Final = f"targets:\n  - workspace: {WS}\n"
FILE_KEYS: Final = "accounts, polling, discovery, targets"
SELECTION_KEYS: Final = (
    "channels, windows, counters, timezone, statistics, queues, include_queues, exclude_queues, "
    "workflows, include_workflows, exclude_workflows, service_levels"
)
ACCOUNT_KEYS: Final = (
    "username, password, password_file, edge, region, base_url, "
    f"workspaces, include, exclude, {SELECTION_KEYS}"
)
POLLING_KEYS: Final = "concurrency, attempts, request_timeout, cache"
TARGET_KEYS: Final = f"workspace, name, account, {SELECTION_KEYS}"

Expectations = Mapping[str, tuple[str, list[str]]]
"""By a description: the text of a file, and its problems without the file's name."""


def target(*lines: str) -> str:
    """Return a file with one target; the lines start on line 3."""
    return TARGETS + "".join(f"    {line}\n" for line in lines)


def account(*lines: str) -> str:
    """Return a file with one target, and one account; the lines start on line 5."""
    return f"{TARGETS}accounts:\n  default:\n" + "".join(f"    {line}\n" for line in lines)


def parse(text: str, environ: Mapping[str, str] = ENVIRONMENT, directory: Path = Path()) -> Config:
    """Parse the text of a configuration file."""
    return parse_config(text, "config.yaml", directory, environ)


def targets_of(config: Config) -> tuple[Target, ...]:
    """Return the targets of the static queries, in file order."""
    return tuple(dict.fromkeys(query.target for query in static_queries(config)))


def problems_of(text: str, environ: Mapping[str, str] = ENVIRONMENT, directory: Path = Path()) -> list[str]:
    """Return the problems of a text that is no configuration, without the name of the file.

    None of them shows the secret, nor a character that is not printable.
    """
    with pytest.raises(ConfigError) as caught:
        parse(text, environ, directory)
    problems = caught.value.problems
    assert problems
    assert str(caught.value) == "\n".join(problems)
    assert all(problem.isprintable() for problem in problems)
    assert SECRET not in str(caught.value)
    return [problem.removeprefix("config.yaml:") for problem in problems]
