import json
import re
import ssl
from pathlib import Path
from typing import Any

import pytest

from taskrouter_exporter.config.loader import parse_config
from taskrouter_exporter.config.model import Config
from taskrouter_exporter.config_check import config_report, web_config_report
from taskrouter_exporter.server.web_config import WebConfig

SID, OTHER = "WS" + "0" * 32, "WS" + "1" * 32
USERNAME = "AC" + "0" * 32


def load(*targets: dict[str, Any], **account: Any) -> Config:
    document = {
        "accounts": {"default": {"username": USERNAME, "password": "x", **account}},
        "targets": targets,
    }
    return parse_config(json.dumps(document), "config.yaml", Path(), {})


def test_each_query_has_a_line_of_keys_and_values() -> None:
    config = load({"workspace": SID, "name": "support", "windows": ["15m", "240m"], "counters": "day"})
    assert config_report(config, "config.yaml", table=False).splitlines() == [
        "config.yaml: valid",
        f"workspace=support channel=all window=15m account=default workspace_sid={SID}",
        f"workspace=support channel=all window=4h account=default workspace_sid={SID}",
        f"workspace=support channel=all window=day account=default workspace_sid={SID}",
        "3 API requests per scrape, 180 per hour at a scrape interval of 60 s (excluding retries)",
    ]


def test_a_terminal_gets_an_aligned_table() -> None:
    config = load(
        {"workspace": SID, "name": "支持", "channels": ["all", "voice"]},
        {"workspace": OTHER, "name": "sales"},
    )
    assert config_report(config, "config.yaml", table=True).splitlines() == [
        "config.yaml: valid",
        "",
        "WORKSPACE  CHANNEL  WINDOW  ACCOUNT  WORKSPACE_SID",
        f"支持       all      15m     default  {SID}",
        f"支持       voice    15m     default  {SID}",
        f"sales      all      15m     default  {OTHER}",
        "",
        "3 API requests per scrape, 180 per hour at a scrape interval of 60 s (excluding retries)",
    ]


def test_one_request_is_written_in_the_singular() -> None:
    report = config_report(load({"workspace": SID}), "config.yaml", table=False)
    assert report.splitlines()[-1].startswith("1 API request per scrape, 60 per hour")


def test_what_is_discovered_at_run_time_has_a_line_and_is_excluded_from_the_cost() -> None:
    config = load(
        {"workspace": SID, "name": "mine", "channels": ["auto"]}, workspaces="auto", channels="auto"
    )
    for table in (True, False):
        assert config_report(config, "config.yaml", table=table).splitlines() == [
            "config.yaml: valid",
            (
                f"workspace=mine channel=auto account=default workspace_sid={SID}: "
                "channels are discovered at run time"
            ),
            "workspace=auto account=default: workspaces and channels are discovered at run time",
            (
                "0 API requests per scrape, 0 per hour at a scrape interval of 60 s "
                "(excluding retries and discovered targets)"
            ),
            "1 list to refresh every 10m, one API request for each 250 entries",
        ]


def test_the_time_zone_of_counters_is_shown_unless_it_is_utc() -> None:
    berlin = {"counters": "day", "timezone": "Europe/Berlin"}
    config = load(
        {"workspace": SID, "name": "a", "channels": ["all", "auto"], **berlin},
        {"workspace": OTHER, "name": "b", "windows": [], "counters": "day"},
        workspaces="auto",
        **berlin,
    )
    assert config_report(config, "config.yaml", table=False).splitlines()[1:6] == [
        f"workspace=a channel=all window=15m account=default workspace_sid={SID}",
        f"workspace=a channel=all window=day timezone=Europe/Berlin account=default workspace_sid={SID}",
        f"workspace=b channel=all window=day account=default workspace_sid={OTHER}",
        (
            f"workspace=a channel=auto timezone=Europe/Berlin account=default workspace_sid={SID}: "
            "channels are discovered at run time"
        ),
        ("workspace=auto timezone=Europe/Berlin account=default: workspaces are discovered at run time"),
    ]
    assert "WINDOW  TIMEZONE       ACCOUNT" in config_report(config, "config.yaml", table=True)


def test_a_web_configuration_has_one_line() -> None:
    context = ssl.create_default_context()
    assert web_config_report(WebConfig(), "web.yml") == "web.yml: valid (TLS disabled, no authentication)"
    one = WebConfig(context, {"alice": b"hash"})
    assert web_config_report(one, "web.yml") == "web.yml: valid (TLS enabled, 1 user)"
    two = WebConfig(users={"alice": b"hash", "bob": b"hash"})
    assert web_config_report(two, "web.yml") == "web.yml: valid (TLS disabled, 2 users)"


def test_queues_and_all_statistics_are_listed_and_their_cost_is_shown_by_kind() -> None:
    config = load(
        {
            "workspace": SID,
            "name": "support",
            "statistics": ["workers", "tasks", "realtime"],
            "queues": ["Sales", "Support"],
            "workflows": "auto",
        }
    )
    lines = config_report(config, "config.yaml", table=False).splitlines()
    assert lines[1:3] == [
        f"workspace=support channel=all statistics=workers window=15m account=default workspace_sid={SID}",
        f"workspace=support channel=all statistics=tasks window=15m account=default workspace_sid={SID}",
    ]
    assert (
        f"workspace=support channel=all statistics=realtime queue=Sales account=default workspace_sid={SID}"
    ) in lines
    # The current statistics of the queues take one request.
    assert lines[-6:] == [
        (
            f"workspace=support workflow=auto account=default workspace_sid={SID}: "
            "workflows are discovered at run time"
        ),
        (
            "6 API requests per scrape, 360 per hour at a scrape interval of 60 s "
            "(excluding retries and discovered targets)"
        ),
        "statistics=workers: 1 per scrape, 60 per hour",
        "statistics=tasks: 3 per scrape, 180 per hour",
        "statistics=realtime: 2 per scrape, 120 per hour",
        "2 lists to refresh every 10m, one API request for each 250 entries",
    ]


def test_more_requests_than_the_documented_limits_allow_are_a_warning() -> None:
    queues = [f"queue {number}" for number in range(501)]
    config = load({"workspace": SID, "name": "support", "statistics": ["tasks"], "queues": queues})
    lines = config_report(config, "config.yaml", table=False).splitlines()
    assert lines[-1] == (
        "warning: workspace=support: 501 requests for TaskQueues/CumulativeStatistics per scrape exceed the "
        "documented limit of 50 per second, averaged over 10 s (500)"
    )
    config = load({"workspace": SID, "name": "support", "statistics": ["tasks"], "queues": queues[:500]})
    assert "warning" not in config_report(config, "config.yaml", table=False)
    many = [f"queue {number}" for number in range(2_502)]
    config = load({"workspace": SID, "name": "support", "statistics": ["realtime"], "queues": many})
    assert "51 requests for TaskQueues/BulkRealTimeStatistics per scrape exceed" in config_report(
        config, "config.yaml", table=False
    )


@pytest.mark.parametrize(("statistics", "requests"), [("workers", 3), ("tasks", 63), ("realtime", 44)])
def test_the_example_of_the_documentation_takes_as_many_requests(statistics: str, requests: int) -> None:
    queues = {} if statistics == "workers" else {"queues": [f"queue {number}" for number in range(20)]}
    config = load(
        {"workspace": SID, "channels": ["all", "voice", "chat"], "statistics": [statistics], **queues}
    )
    assert f"\n{requests} API requests per scrape" in config_report(config, "config.yaml", table=False)
    page = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text(encoding="utf-8")
    assert re.search(rf"^\| `{statistics}` \| [^|]*\b{requests} \|", page, re.MULTILINE)
