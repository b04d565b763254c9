"""The command `backfill`: the simulator's past in a file, in blocks of promtool and in a real Prometheus."""

import json
import random
import signal
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from support.backfill import STAMP, Backfills, configuration, samples
from support.blocks import Blocks, needed, read_rules, recordings
from support.exporter import PREFIX, ROOT, labelled
from support.faults import Fault, FaultySimulator
from support.history import History
from support.prometheus import Prometheus
from support.waiting import wait_until

from taskrouter_exporter.simulator import ContactCentre
from taskrouter_exporter.simulator.model import Outcome, TaskEventKind

FAST: Final = ("--rate=1000", "--yes")
RULES: Final = ROOT / "monitoring" / "rules" / "taskrouter.yaml"
_DAY: Final = timedelta(days=1)
_HOUR: Final = timedelta(hours=1)


@pytest.fixture(scope="module")
def centre() -> ContactCentre:
    return ContactCentre(seed=7)


@pytest.fixture(scope="module")
def simulator(centre: ContactCentre) -> Iterator[FaultySimulator]:
    with FaultySimulator(centre, rate_limit=100_000) as simulator:
        yield simulator


@pytest.fixture(autouse=True)
def calm(simulator: FaultySimulator) -> None:
    simulator.faults.clear()


@pytest.fixture(scope="module")
def backfills(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backfills]:
    with Backfills(tmp_path_factory.mktemp("backfills")) as backfills:
        yield backfills


@pytest.fixture(scope="module")
def today() -> datetime:
    """The last midnight, a few days of which are in the past of the simulator."""
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def target(centre: ContactCentre, **more: Any) -> dict[str, Any]:
    workspace = centre.workspaces[0]
    return {"workspace": workspace.sid, "name": "support", "counters": "day", **more}


def write_config(directory: Path, simulator: FaultySimulator, *targets: dict[str, Any], **more: Any) -> str:
    file = directory / "config.yaml"
    file.write_text(json.dumps(configuration(simulator, targets, **more)), encoding="utf-8")
    return f"--config.file={file}"


def during(start: datetime, end: datetime, step: str = "1h") -> tuple[str, ...]:
    return f"--from={start.isoformat()}", f"--to={end.isoformat()}", f"--step={step}"


def events_of_a_day(centre: ContactCentre, start: datetime) -> dict[str, dict[str, int]]:
    """What happened in the first workspace on a day, by what counts it."""
    sid, end = centre.workspaces[0].sid, start + _DAY
    log = centre.reservations(sid, start - 2 * _HOUR, end)
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
    *, program: Any, tmp_path: Path, centre: ContactCentre, simulator: FaultySimulator, backfills: Backfills,
    today: datetime,
) -> None:  # fmt: skip
    output, begin = tmp_path / "history.om", today - 3 * _DAY
    config = write_config(tmp_path, simulator, target(centre, statistics=["workers", "tasks"], queues="auto"))
    done = backfills.run(config, *during(begin, today, "2h"), *FAST, f"--output={output}")
    assert done.status == 0, done.text
    blocks = Blocks(
        program("prometheus", "prometheus"), program("promtool", "prometheus"), tmp_path / "blocks"
    )
    blocks.add_scrapes(output)
    with blocks.serve() as prometheus:
        for end in (today - 2 * _DAY, today - _DAY, today):
            assert increases(prometheus, end) == events_of_a_day(centre, end - _DAY)


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

    def __init__(
        self, directory: Path, centre: ContactCentre, simulator: FaultySimulator, end: datetime
    ) -> None:
        self.begin, self.end = end - 2 * _DAY, end
        selected = target(
            centre,
            statistics=["workers", "tasks"],
            queues="auto",
            workflows="auto",
            windows=["1h"],
            service_levels=["20s"],
        )
        self.flags = (
            write_config(directory, simulator, selected),
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
        history.write(self.live, self.begin, end + _HOUR, _HOUR)
        history.close()


@pytest.fixture(scope="module")
def past(
    tmp_path_factory: pytest.TempPathFactory,
    centre: ContactCentre,
    simulator: FaultySimulator,
    backfills: Backfills,
    today: datetime,
) -> Past:
    past = Past(tmp_path_factory.mktemp("past"), centre, simulator, today)
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
    first, last = ((past.begin + hours * _HOUR).timestamp() for hours in (22, 27))
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


def journaled(journal: Path) -> set[tuple[str, str]]:
    """The points whose answers are in a journal: StartDate and EndDate, which no two points share."""
    lines = journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []
    if not lines:
        return set()
    minutes = [query["period"] for query in json.loads(lines[0])["queries"]]
    found = set()
    for line in lines[1:]:
        query, step, _ = json.loads(line)
        end = datetime.fromtimestamp(step, UTC)
        is_window = isinstance(minutes[query], int)
        start = (
            end - timedelta(minutes=minutes[query])
            if is_window
            else (end - timedelta(seconds=1)).replace(hour=0, minute=0, second=0)
        )
        found.add((f"{start:%Y-%m-%dT%H:%M:%SZ}", f"{end:%Y-%m-%dT%H:%M:%SZ}"))
    return found


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bytes_and_asks_nothing_twice(
    tmp_path: Path, centre: ContactCentre, simulator: FaultySimulator, backfills: Backfills, today: datetime
) -> None:
    config = write_config(tmp_path, simulator, target(centre, windows=["15m"]))
    flags = (config, *during(today - 6 * _DAY, today, "30m"), "--rate=500", "--yes", "--windows")
    whole, output = tmp_path / "whole.om", tmp_path / "again.om"
    journal = tmp_path / "again.om.journal"
    assert backfills.run(*flags, f"--output={whole}").status == 0
    chance = random.Random(20)
    kills = 0
    while True:
        answered = journaled(journal)
        simulator.requests.clear()
        pid = backfills.start(*flags, f"--output={output}")
        done = backfills.kill(pid, chance.uniform(0.02, 0.2)) if kills < 20 else backfills.wait()
        received = simulator.requests.latest()
        asked = {(each.parameters["StartDate"], each.parameters["EndDate"]) for each in received}
        # The simulator may have received what was in flight when the previous run was killed only now.
        assert len(received) - len(asked) <= 8
        assert asked.isdisjoint(answered)
        if done.status == 0:
            break
        assert done.status == -signal.SIGKILL, done.text
        kills += 1
        assert not output.exists()
    assert kills == 20
    assert output.read_bytes() == whole.read_bytes()
    assert {file.name for file in tmp_path.iterdir()} == {"config.yaml", "whole.om", "again.om"}


def test_a_day_of_faults_ends_with_the_same_bytes(
    tmp_path: Path, centre: ContactCentre, simulator: FaultySimulator, backfills: Backfills, today: datetime
) -> None:
    config = write_config(
        tmp_path,
        simulator,
        target(centre, windows=["15m"]),
        polling={"request_timeout": "500ms"},
    )
    flags = (config, *during(today - _DAY, today, "30m"), *FAST, "--windows")
    whole, output = tmp_path / "whole.om", tmp_path / "faults.om"
    assert backfills.run(*flags, f"--output={whole}").status == 0
    sid = centre.workspaces[0].sid
    faults = [
        Fault.status(429, 1, retry_after=1), Fault.status(429, 2), Fault.status(503, 3), Fault.status(500, 1),
        Fault.reset(2), Fault.truncated(2), Fault.html(502, 2), Fault.html(200, 2), Fault.invalid_json(1),
        Fault.wrong_types(times=2), Fault.hang(2), Fault.huge_body(times=1), Fault.redirect(times=1),
    ]  # fmt: skip
    simulator.requests.clear()
    simulator.faults.follow(sid, faults)
    done = backfills.run(*flags, f"--output={output}")
    assert done.status == 0, done.text
    assert output.read_bytes() == whole.read_bytes()
    assert simulator.requests.count() == 96 + sum(fault.times or 0 for fault in faults)


@pytest.mark.parametrize(
    ("status", "reason"), [(401, "auth"), (403, "forbidden"), (404, "not_found"), (400, "bad_response")]
)
def test_a_query_that_is_refused_ends_the_run_with_one_line(
    *, tmp_path: Path, centre: ContactCentre, simulator: FaultySimulator, backfills: Backfills,
    today: datetime, status: int, reason: str,
) -> None:  # fmt: skip
    config = write_config(tmp_path, simulator, target(centre))
    output = f"--output={tmp_path / 'history.om'}"
    simulator.faults.set(centre.workspaces[0].sid, Fault.status(status))
    done = backfills.run(config, *during(today - _DAY, today), *FAST, output)
    assert done.status == 1
    line = done.text.splitlines()[-1]
    assert line.startswith(
        f"workspace=support channel=all window=day statistics=workers: {reason}: status {status}"
    )
    assert not (tmp_path / "history.om").exists()
    simulator.faults.clear()
    again = backfills.run(config, *during(today - _DAY, today), *FAST, output)
    assert again.status == 0, again.text


def test_ctrl_c_ends_with_one_line_that_says_how_to_continue(
    tmp_path: Path, centre: ContactCentre, simulator: FaultySimulator, backfills: Backfills, today: datetime
) -> None:
    config = write_config(tmp_path, simulator, target(centre))
    flags = (config, *during(today - _DAY, today), "--yes", f"--output={tmp_path / 'history.om'}")
    simulator.requests.clear()
    pid = backfills.start(*flags, "--rate=5")
    wait_until("requests", lambda: simulator.requests.count() > 2)
    done = backfills.kill(pid, 0, signal.SIGINT)
    assert done.status == 130
    assert "interrupted" in done.text.splitlines()[-1]
    assert "run the same command to continue" in done.text.splitlines()[-1]
    asked = simulator.requests.count()
    assert backfills.run(*flags, "--rate=1000").status == 0
    assert simulator.requests.count() == 24, f"{asked} before the interruption"


def test_a_disk_that_is_full_loses_nothing(
    tmp_path: Path, centre: ContactCentre, simulator: FaultySimulator, backfills: Backfills, today: datetime
) -> None:
    config = write_config(tmp_path, simulator, target(centre))
    flags = (config, *during(today - _DAY, today), *FAST)
    whole, output = tmp_path / "whole.om", tmp_path / "history.om"
    assert backfills.run(*flags, f"--output={whole}").status == 0
    simulator.requests.clear()
    # The first limit is reached by the journal, the second one by the output, which is larger.
    for limit, file in ((9_000, "history.om.journal"), (40_000, "history.om")):
        done = backfills.run(*flags, f"--output={output}", most_bytes=limit)
        assert done.status == 1
        assert done.text.splitlines()[-1] == f"{tmp_path / file}: cannot be written: File too large"
        assert not output.exists()
    assert backfills.run(*flags, f"--output={output}").status == 0
    assert output.read_bytes() == whole.read_bytes()
    asked = [(each.path, each.parameters["EndDate"]) for each in simulator.requests.latest()]
    assert len(asked) - len(set(asked)) <= 8, "more than those in flight when the journal was full"


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
    hours = (past.end - past.begin) // _HOUR + 1
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
    ("window", "answer"), [(None, "status 400: out of bounds"), ("1h", "status 500: too old sample")]
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
    assert done.text.splitlines()[-1] == f"--remote-write={url}: {answer}"
    assert journal.exists()


def test_bad_input_is_one_line_and_changes_nothing(
    tmp_path: Path, centre: ContactCentre, simulator: FaultySimulator, backfills: Backfills, today: datetime
) -> None:
    config = write_config(tmp_path, simulator, target(centre))
    output = tmp_path / "history.om"
    taken, foreign = tmp_path / "taken.om", tmp_path / "foreign.journal"
    taken.write_text("mine", encoding="utf-8")
    foreign.write_text("mine", encoding="utf-8")
    missing, tomorrow = tmp_path / "missing" / "history.om", (today + 2 * _DAY).isoformat()
    earliest = f"{today - 29 * _DAY:%Y-%m-%dT%H:%M:%SZ}"
    day = during(today - _DAY, today)
    cases: list[tuple[int, tuple[str, ...], str]] = [
        (1, (f"--from={tomorrow}", f"--output={output}"), "is in the future"),
        (1, ("--from=now-1h", f"--to={tomorrow}", f"--output={output}"), "is in the future"),
        (1, ("--from=now-40d", f"--output={output}"), f"the earliest possible is {earliest}"),
        (1, ("--from=now-1h", "--to=now-2h", f"--output={output}"), "is not before"),
        (1, ("--from=now-61s", "--to=now-1s", "--step=1d", f"--output={output}"), "is larger than the range"),
        (2, ("--from=now-1d", "--step=7m", f"--output={output}"), "that divides the day"),
        (2, ("--from=yesterday", f"--output={output}"), "is not a time"),
        (2, (*day,), "one of --output and --remote-write is required"),
        (2, (*day, f"--output={output}", "--label=channel=x"), "is a label of the statistics"),
        (2, (*day, f"--output={output}", "--prometheus=http://me:secret@localhost"), "without credentials"),
        (1, (*day, f"--output={taken}"), "exists already"),
        (1, (*day, f"--output={missing}"), "is not a directory"),
        (1, (*day, f"--output={output}", f"--journal={foreign}"), "is not the journal of a backfill"),
        (1, (*day, f"--output={output}", "--workspace=sales"), "'sales' is not in"),
        (1, (*day, f"--output={output}", "--channel=fax"), "'fax' is not in"),
        (1, (*day, f"--output={output}", "--prometheus=http://127.0.0.1:9"), "Connection refused"),
    ]
    for status, flags, message in cases:
        done = backfills.run(config, "--yes", *flags)
        assert (done.status, len(done.text.splitlines())) == (status, 1), done.text
        assert message in done.text
        assert "secret" not in done.text
    done = backfills.run(config, *day, f"--output={output}")
    assert done.status == 1
    assert done.text.splitlines()[1:] == ["not started: pass --yes to start without a terminal"]
    assert taken.read_text(encoding="utf-8") == foreign.read_text(encoding="utf-8") == "mine"
    assert {file.name for file in tmp_path.iterdir()} == {"config.yaml", "taken.om", "foreign.journal"}


def test_the_journal_of_another_run_is_refused(
    tmp_path: Path, centre: ContactCentre, simulator: FaultySimulator, backfills: Backfills, today: datetime
) -> None:
    config, output = write_config(tmp_path, simulator, target(centre)), f"--output={tmp_path / 'history.om'}"
    simulator.faults.set(centre.workspaces[0].sid, Fault.status(401))
    assert backfills.run(config, *during(today - _DAY, today), *FAST, output).status == 1
    simulator.faults.clear()
    before = (tmp_path / "history.om.journal").read_bytes()
    for flags, difference in (
        ((*during(today - _DAY, today, "30m"), *FAST), "--step"),
        ((*during(today - 2 * _DAY, today), *FAST), "--from"),
        ((*during(today - _DAY, today), *FAST, "--label=job=other"), "--label"),
    ):
        done = backfills.run(config, *flags, output)
        assert done.status == 1
        (line,) = done.text.splitlines()
        assert f"is the journal of another run, with a different {difference};" in line
    write_config(tmp_path, simulator, target(centre, counters="week"))
    done = backfills.run(config, *during(today - _DAY, today), *FAST, output)
    assert "with a different configuration;" in done.text
    assert (tmp_path / "history.om.journal").read_bytes() == before


def test_the_baselines_of_the_alerts_exist_right_after_a_backfill(
    *, program: Any, tmp_path: Path, centre: ContactCentre, simulator: FaultySimulator, backfills: Backfills,
    today: datetime,
) -> None:  # fmt: skip
    begin, output = today - _DAY, tmp_path / "history.om"
    config = write_config(tmp_path, simulator, target(centre, channels=["voice"], windows=["15m"]))
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
    log = centre.reservations(centre.workspaces[0].sid, begin, today - 3 * _HOUR, "voice")
    for outcome in (Outcome.REJECTED, Outcome.TIMED_OUT):
        lost = sum(each.outcome is outcome for each in log)
        # 50 reservations of the default, 15 %, weigh as much as those of the past.
        assert found[outcome] == pytest.approx((lost + 0.15 * 50) / (len(log) + 50), rel=0.1)
