"""The command `backfill`: the simulator's past in a file, in blocks of promtool and in a real Prometheus."""

import re
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from support.backfill import DAY, FAST, HOUR, STAMP, Backfills, during, samples, target, write_config
from support.blocks import Blocks, needed, read_rules, recordings
from support.exporter import PREFIX, ROOT, labelled
from support.faults import FaultySimulator
from support.history import History
from support.prometheus import Prometheus

from taskrouter_exporter.simulator import ContactCentre
from taskrouter_exporter.simulator.model import Outcome, TaskEventKind

RULES: Final = ROOT / "monitoring" / "rules" / "taskrouter.yaml"


def events_of_a_day(centre: ContactCentre, start: datetime) -> dict[str, dict[str, int]]:
    """What happened in the first workspace on a day, by what counts it."""
    sid, end = centre.workspaces[0].sid, start + DAY
    log = centre.reservations(sid, start - 2 * HOUR, end)
    tasks = centre.task_events(sid, start, end)
    return {
        "reservations_total": {"": sum(start <= each.created for each in log)},
        "reservation_outcomes_total": Counter(
            str(each.outcome) for each in log if start <= each.ended < end and each.created < end
        ),
        "queue_task_events_total": Counter(
            each.queue.friendly_name for each in tasks if each.kind is TaskEventKind.ENTERED
        ),
    }


def test_the_increase_over_each_day_is_that_of_the_event_log(
    *, program: Any, tmp_path: Path, centre: ContactCentre, api: FaultySimulator, backfills: Backfills,
    today: datetime,
) -> None:  # fmt: skip
    output, begin = tmp_path / "history.om", today - 3 * DAY
    config = write_config(tmp_path, api, target(centre, statistics=["workers", "tasks"], queues="auto"))
    done = backfills.run(config, *during(begin, today, "2h"), *FAST, f"--output={output}")
    assert done.status == 0, done.text
    blocks = Blocks(
        program("prometheus", "prometheus"), program("promtool", "prometheus"), tmp_path / "blocks"
    )
    blocks.add_scrapes(output)
    with blocks.serve() as prometheus:
        # Prometheus 3 leaves out the sample at the start of a range (docs/history.md, "What is written").
        before = timedelta(0) if prometheus.major_version < 3 else timedelta(milliseconds=1)
        for end in (today - 2 * DAY, today - DAY, today):
            assert increases(prometheus, end - before) == events_of_a_day(centre, end - DAY)


def increases(prometheus: Prometheus, end: datetime) -> dict[str, dict[str, int]]:
    """What the counters say of the day that ends."""
    selectors = {
        "reservations_total": ("", ""),
        "reservation_outcomes_total": ("outcome", ""),
        "queue_task_events_total": ("queue", '{event="entered"}'),
    }
    found: dict[str, dict[str, int]] = {}
    for name, (label, matcher) in selectors.items():
        series = prometheus.query(f"increase({PREFIX}{name}{matcher}[1d])", end.timestamp())
        values = {dict(labels).get(label, ""): value for labels, value in series.items()}
        assert all(value == pytest.approx(round(value), abs=1e-6) for value in values.values()), values
        found[name] = {key: round(value) for key, value in values.items() if value}
    return found


class Past:
    """Two days of the first workspace: as backfilled, and as the exporter would have exported them."""

    def __init__(self, directory: Path, centre: ContactCentre, api: FaultySimulator, end: datetime) -> None:
        self.begin, self.end = end - 2 * DAY, end
        selected = target(
            centre,
            statistics=["workers", "tasks"],
            queues="auto",
            workflows="auto",
            windows=["1h"],
            service_levels=["20s"],
        )
        self.flags = (
            write_config(directory, api, selected),
            *during(self.begin, end),
            *STAMP,
            *FAST,
            "--windows",
        )
        self.whole, self.live = directory / "whole.om", directory / "live.om"
        history = History(
            centre,
            targets=lambda demo: (
                [selected | {"account": "demo"}]
                if (demo["workspace"], demo["channels"]) == (selected["workspace"], ["all"])
                else []
            ),
        )
        history.write(self.live, self.begin, end + HOUR, HOUR)
        history.close()


@pytest.fixture(scope="module")
def past(
    tmp_path_factory: pytest.TempPathFactory,
    centre: ContactCentre,
    asked: FaultySimulator,
    backfills: Backfills,
    today: datetime,
) -> Past:
    past = Past(tmp_path_factory.mktemp("past"), centre, asked, today)
    done = backfills.run(*past.flags, f"--output={past.whole}")
    assert done.status == 0, done.text
    return past


def test_backfilled_samples_are_those_of_the_exporter(past: Past) -> None:
    backfilled = {
        key: value
        for key, value in samples(past.whole).items()
        if not key[0].endswith("_created") and not key[2].endswith(".999")
    }
    names = {name for name, *_ in backfilled}
    # At the start, the backfill has only what needs no request: counters, which are 0 at their anchor.
    begin = str(int(past.begin.timestamp()))
    live = {
        key: value
        for key, value in samples(past.live).items()
        if key[0] in names and (key[2] != begin or key[0].endswith("_total"))
    }
    assert len(names) > 40
    assert backfilled == live
    own = ("window_", "reservation", "task_events", "task_wait", "activity_seconds")
    assert {
        name
        for name, *_ in samples(past.live)
        if name.removeprefix(PREFIX).removeprefix("queue_").removeprefix("workflow_").startswith(own)
    } == names


def test_the_output_is_openmetrics(past: Past) -> None:
    text = past.whole.read_text(encoding="utf-8")
    # prometheus-client's parser drops all but the first `_created` of a counter with timestamps.
    found = Counter(
        sample.name
        for family in text_string_to_metric_families(text)  # type: ignore[no-untyped-call] # the stubs lack it
        for sample in family.samples
        if not sample.name.endswith("_created")
    )
    assert found == Counter(name for name, *_ in samples(past.whole) if not name.endswith("_created"))


def test_a_gap_in_prometheus_is_filled_exactly(
    program: Any, tmp_path: Path, past: Past, backfills: Backfills
) -> None:
    first, last = ((past.begin + hours * HOUR).timestamp() for hours in (22, 27))
    cut = tmp_path / "cut.om"
    with cut.open("w", encoding="utf-8") as file:
        for line in past.live.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.startswith("#") or not first <= float(line.rsplit(" ", 1)[1]) <= last:
                file.write(line)
    blocks = Blocks(
        program("prometheus", "prometheus"), program("promtool", "prometheus"), tmp_path / "blocks"
    )
    blocks.add_scrapes(cut)
    output = tmp_path / "gap.om"
    with blocks.serve() as prometheus:
        url = f"--prometheus=http://{prometheus.address}"
        done = backfills.run(*past.flags, f"--output={output}", url)
        assert done.status == 0, done.text
    wanted = {key: value for key, value in samples(past.whole).items() if first - 1 <= float(key[2]) <= last}
    assert samples(output) == wanted
    blocks.add_scrapes(output)
    with blocks.serve() as prometheus:
        url = f"--prometheus=http://{prometheus.address}"
        done = backfills.run(*past.flags, f"--output={tmp_path / 'none.om'}", url)
    assert done.status == 0
    assert "nothing is missing" in done.text
    assert not (tmp_path / "none.om").exists()


def receiver(program: str, directory: Path, window: str | None) -> Prometheus:
    """A Prometheus that takes remote write, out of order within a window."""
    storage = {"storage": {"tsdb": {"out_of_order_time_window": window}}} if window else {}
    return Prometheus(program, storage, directory, flags=["--web.enable-remote-write-receiver"])


def test_remote_write_puts_the_same_samples_into_a_running_prometheus(
    program: Any, tmp_path: Path, past: Past, backfills: Backfills
) -> None:
    prometheus = receiver(program("prometheus", "prometheus"), tmp_path / "prometheus", "30d")
    try:
        flags = (
            f"--remote-write=http://{prometheus.address}/api/v1/write",
            f"--journal={tmp_path / 'journal'}",
        )
        for _ in range(2):  # the same sample again is one sample
            done = backfills.run(*past.flags, *flags)
            assert done.status == 0, done.text
            assert stored(prometheus, past) == {
                key: float(value) for key, value in samples(past.whole).items()
            }
    finally:
        prometheus.stop()
    assert not (tmp_path / "journal").exists()


def stored(prometheus: Prometheus, past: Past) -> dict[Any, float]:
    """All samples of a Prometheus, as `samples` returns them."""
    hours = (past.end - past.begin) // HOUR + 1
    data = prometheus.api("query", query=f'{{__name__=~".+"}}[{hours}h]', time=str(past.end.timestamp()))
    return {
        (
            series["metric"]["__name__"],
            labelled(**{name: value for name, value in series["metric"].items() if name != "__name__"}),
            f"{at:.3f}".removesuffix(".000"),
        ): float(value)
        for series in data["result"]
        for at, value in series["values"]
    }


@pytest.mark.parametrize(
    ("window", "answer"), [(None, "status 400: out of bounds"), ("1h", "status (500|400): too old sample")]
)
def test_a_refusal_of_remote_write_is_one_line_and_the_answers_are_kept(
    *, program: Any, tmp_path: Path, past: Past, backfills: Backfills, window: str | None, answer: str
) -> None:
    prometheus = receiver(program("prometheus", "prometheus"), tmp_path / "prometheus", window)
    journal = tmp_path / "journal"
    url = f"http://{prometheus.address}/api/v1/write"
    try:
        done = backfills.run(*past.flags, f"--remote-write={url}", f"--journal={journal}")
    finally:
        prometheus.stop()
    assert done.status == 1
    assert re.fullmatch(f"--remote-write={re.escape(url)}: {answer}", done.text.splitlines()[-1]), done.text
    assert journal.exists()


def test_the_baselines_of_the_alerts_exist_right_after_a_backfill(
    *, program: Any, tmp_path: Path, centre: ContactCentre, api: FaultySimulator, backfills: Backfills,
    today: datetime,
) -> None:  # fmt: skip
    begin, output = today - DAY, tmp_path / "history.om"
    config = write_config(tmp_path, api, target(centre, channels=["voice"], windows=["15m"]))
    done = backfills.run(config, *during(begin, today, "5m"), *FAST, "--windows", f"--output={output}")
    assert done.status == 0, done.text
    recorded = recordings(read_rules(RULES))
    rules = [
        {"interval": "5m", **rule}
        for rule in needed([{"expr": "taskrouter:ratio:baseline"}], recorded)
        if not rule["record"].startswith("taskrouter:queue_")
    ]
    blocks = Blocks(
        program("prometheus", "prometheus"),
        program("promtool", "prometheus"),
        tmp_path / "blocks",
        longest="24h",
    )
    blocks.add_scrapes(output)
    blocks.add_recordings(rules, begin, today)
    with blocks.serve() as prometheus:
        series = prometheus.query("taskrouter:ratio:baseline", today.timestamp())
    found = {dict(labels)["ratio"]: value for labels, value in series.items()}
    log = centre.reservations(centre.workspaces[0].sid, begin, today - 3 * HOUR, "voice")
    for outcome in (Outcome.REJECTED, Outcome.TIMED_OUT):
        lost = sum(each.outcome is outcome for each in log)
        # 50 reservations of the default, 15 %, weigh as much as those of the past.
        assert found[outcome] == pytest.approx((lost + 0.15 * 50) / (len(log) + 50), rel=0.1)
