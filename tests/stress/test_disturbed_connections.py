"""Unexpected bytes on connections: no value is published under another query's labels."""

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

from stress.stress import full_or
from support.disturbed_api import ACTIVITIES, OUTCOMES, activity_sid, disturbed_api, number
from support.exporter import ROOT, Exporter, Scrape

WORKSPACES: Final = 12
CHANNELS: Final = ("all", "voice", "chat")
WINDOWS: Final = ("15m", "30m", "45m")
SCRAPERS: Final = 3
VALUES: Final = int(full_or(1_000_000, 25_000))


def test_no_value_is_another_querys_however_connections_are_disturbed(
    start_exporter: Callable[..., Exporter],
) -> None:
    sids = {f"team-{number}": f"WS{number:032x}" for number in range(WORKSPACES)}
    values, wrong, ups = 0, list[str](), list[bool]()
    lock = threading.Lock()
    with disturbed_api(1 / 3) as api:
        exporter = start_exporter(_configuration(api, sids))

        def scrape_on() -> None:
            nonlocal values
            while values < VALUES:
                scrape = exporter.scrape(10)
                checked, differing = _judge(scrape, sids)
                with lock:
                    values += checked
                    wrong.extend(differing)
                    ups.extend(up == 1 for up in scrape.find("up").values())

        scrapers = [threading.Thread(target=scrape_on) for _ in range(SCRAPERS)]
        for scraper in scrapers:
            scraper.start()
        for scraper in scrapers:
            scraper.join()
    share = sum(ups) / len(ups)
    report = ROOT / "build" / "disturbed-connections.json"
    report.parent.mkdir(exist_ok=True)
    result = {"values": values, "wrong": len(wrong), "polls": len(ups), "up": round(share, 4)}
    report.write_text(json.dumps(result) + "\n", encoding="utf-8")
    assert wrong == []
    assert values >= VALUES
    assert share >= 0.97, result


def _configuration(api: str, sids: dict[str, str]) -> dict[str, Any]:
    return {
        "accounts": {"default": {"username": "AC" + "0" * 32, "password": "s3cret", "base_url": api}},
        "targets": [
            {
                "workspace": sid,
                "name": name,
                "channels": list(CHANNELS),
                "windows": list(WINDOWS),
                "counters": "day",
            }
            for name, sid in sids.items()
        ],
    }


def _judge(scrape: Scrape, sids: dict[str, str]) -> tuple[int, list[str]]:
    """Compare every statistics value with the right one; return their number and the differences."""
    differing = []
    expected = list(_expected(scrape, sids))
    for name, labels, right in expected:
        value = scrape.at(name, labels)
        if value != right:
            differing.append(f"{name}{labels} is {value}, not {right}")
    return len(expected), differing


def _expected(scrape: Scrape, sids: dict[str, str]) -> Iterator[tuple[str, dict[str, str], int]]:
    for labels, up in scrape.find("up").items():
        query = dict(labels - {("statistics", "workers")})
        if not up:
            continue
        target = {key: query[key] for key in ("workspace", "channel")}
        anchored = query["window"] == "day"
        own = target if anchored else query

        def right(attribute: str, query: dict[str, str] = query) -> int:
            return number(sids[query["workspace"]], query["channel"], query["window"], attribute)

        yield "reservations_total" if anchored else "window_reservations", own, right("created")
        for outcome in OUTCOMES:
            name = "reservation_outcomes_total" if anchored else "window_reservation_outcomes"
            yield name, {**own, "outcome": outcome}, right(outcome)
        for activity in ACTIVITIES:
            name = "activity_seconds_total" if anchored else "window_activity_total_seconds"
            yield name, {**own, "activity": activity, "activity_sid": activity_sid(activity)}, right(activity)
