"""The effective configuration as YAML: with the defaults and the environment's account, without secrets."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

import yaml

from taskrouter_exporter.config.model import Account, Config, Selection, StaticWorkspace, WorkspaceDiscovery
from taskrouter_exporter.durations import format_duration
from taskrouter_exporter.periods import Anchored, Window

SECRET: Final = "<secret>"  # noqa: S105 -- what is shown instead of one
_AUTO: Final = "auto"


def config_yaml(config: Config) -> str:
    """Return the configuration in the format of its file, each password replaced by `<secret>`."""
    discoveries = {discovery.account: discovery for discovery in config.workspace_discoveries}
    document: dict[str, object] = {
        "accounts": {
            name: {**_account(account), **(_discovery(discoveries[name]) if name in discoveries else {})}
            for name, account in config.accounts.items()
        },
        "polling": {
            "concurrency": config.polling.concurrency,
            "attempts": config.polling.attempts,
            "request_timeout": _duration(config.polling.request_timeout),
            "cache": _duration(config.polling.cache),
        },
        "discovery": {"interval": _duration(config.discovery_interval)},
    }
    if config.workspaces:
        document["targets"] = [_target(workspace) for workspace in config.workspaces]
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110)
    return text


def _account(account: Account) -> dict[str, object]:
    password = (
        {"password_file": str(account.password_file)} if account.password_file else {"password": SECRET}
    )
    return {"username": account.username, **password, "base_url": account.base_url}


def _discovery(discovery: WorkspaceDiscovery) -> dict[str, object]:
    patterns = {"include": discovery.include, "exclude": discovery.exclude}
    given = {key: list(names) for key, names in patterns.items() if names}
    return {"workspaces": _AUTO, **given, **dict(_selection(discovery.selection))}


def _target(workspace: StaticWorkspace) -> dict[str, object]:
    return {
        "workspace": workspace.sid,
        "name": workspace.name,
        "account": workspace.account,
        **dict(_selection(workspace.selection)),
    }


def _selection(selection: Selection) -> Iterator[tuple[str, object]]:
    yield "channels", [*selection.channels, *([_AUTO] if selection.discover_channels else [])]
    yield "windows", [period.label for period in selection.periods if isinstance(period, Window)]
    for period in selection.periods:
        if isinstance(period, Anchored):
            yield "counters", period.label
            yield "timezone", str(period.zone)
    yield "statistics", list(selection.statistics)
    for subject, rows in selection.rows.items():
        if rows:
            yield f"{subject}s", [*rows.named, *([_AUTO] if rows.discover else [])]
        for key, patterns in (("include", rows.include), ("exclude", rows.exclude)):
            if patterns:
                yield f"{key}_{subject}s", list(patterns)
    if selection.service_levels:
        yield "service_levels", [_duration(seconds) for seconds in selection.service_levels]


def _duration(seconds: float) -> str:
    return format_duration(timedelta(seconds=seconds))
