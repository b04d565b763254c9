"""Runs of the command `backfill` that are interrupted, disturbed, refused or asked for what cannot be."""

import json
import os
import random
import signal
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.backfill import DAY, FAST, Backfills, during, target, write_config
from support.exporter import ROOT
from support.faults import Fault, FaultySimulator
from support.waiting import wait_until

from taskrouter_exporter.simulator import ContactCentre


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
    tmp_path: Path, centre: ContactCentre, api: FaultySimulator, backfills: Backfills, today: datetime
) -> None:
    config = write_config(tmp_path, api, target(centre, windows=["15m"]))
    flags = (config, *during(today - 6 * DAY, today, "30m"), "--yes", "--windows")
    whole, output = tmp_path / "whole.om", tmp_path / "again.om"
    journal = tmp_path / "again.om.journal"
    assert backfills.run(*flags, "--rate=1000", f"--output={whole}").status == 0
    chance = random.Random(20)
    # At the low rate they are killed while they ask; at the high one also while they write the output.
    kills = [("--rate=50", 0.2)] * 15 + [("--rate=1000", 1.5)] * 5
    for rate, longest in [*kills, ("--rate=1000", 60)]:
        answered = journaled(journal)
        api.requests.clear()
        pid = backfills.start(*flags, rate, f"--output={output}")
        done = backfills.wait() if longest == 60 else backfills.kill(pid, chance.uniform(0.02, longest))
        received = api.requests.latest()
        asked = {(each.parameters["StartDate"], each.parameters["EndDate"]) for each in received}
        # The simulator may have received what was in flight when the previous run was killed only now.
        assert len(received) - len(asked) <= 8
        assert asked.isdisjoint(answered)
        if done.status == 0:
            break
        assert rate == "--rate=1000" or len(answered) < 576
        assert done.status == -signal.SIGKILL, done.text
        assert not output.exists() or output.read_bytes() == whole.read_bytes()
    assert output.read_bytes() == whole.read_bytes()
    assert {file.name for file in tmp_path.iterdir()} == {"config.yaml", "whole.om", "again.om"}


def test_a_day_of_faults_ends_with_the_same_bytes(
    tmp_path: Path, centre: ContactCentre, api: FaultySimulator, backfills: Backfills, today: datetime
) -> None:
    config = write_config(
        tmp_path,
        api,
        target(centre, windows=["15m"]),
        polling={"request_timeout": "500ms"},
    )
    flags = (config, *during(today - DAY, today, "30m"), *FAST, "--windows")
    whole, output = tmp_path / "whole.om", tmp_path / "faults.om"
    assert backfills.run(*flags, f"--output={whole}").status == 0
    sid = centre.workspaces[0].sid
    faults = [
        Fault.status(429, 1, retry_after=1), Fault.status(429, 2), Fault.status(503, 3), Fault.status(500, 1),
        Fault.reset(2), Fault.truncated(2), Fault.html(502, 2), Fault.html(200, 2), Fault.invalid_json(1),
        Fault.wrong_types(times=2), Fault.hang(2), Fault.huge_body(times=1), Fault.redirect(times=1),
    ]  # fmt: skip
    api.requests.clear()
    api.faults.follow(sid, faults)
    done = backfills.run(*flags, f"--output={output}")
    assert done.status == 0, done.text
    assert output.read_bytes() == whole.read_bytes()
    assert api.requests.count() == 96 + sum(fault.times or 0 for fault in faults)


@pytest.mark.parametrize(
    ("status", "reason"), [(401, "auth"), (403, "forbidden"), (404, "not_found"), (400, "bad_response")]
)
def test_a_query_that_is_refused_ends_the_run_with_one_line(
    *, tmp_path: Path, centre: ContactCentre, api: FaultySimulator, backfills: Backfills,
    today: datetime, status: int, reason: str,
) -> None:  # fmt: skip
    config = write_config(tmp_path, api, target(centre))
    output = f"--output={tmp_path / 'history.om'}"
    api.faults.set(centre.workspaces[0].sid, Fault.status(status))
    done = backfills.run(config, *during(today - DAY, today), *FAST, output)
    assert done.status == 1
    line = done.text.splitlines()[-1]
    assert line.startswith(
        f"workspace=support channel=all window=day statistics=workers: {reason}: status {status}"
    )
    assert not (tmp_path / "history.om").exists()
    api.faults.clear()
    again = backfills.run(config, *during(today - DAY, today), *FAST, output)
    assert again.status == 0, again.text


def test_ctrl_c_ends_with_one_line_that_says_how_to_continue(
    tmp_path: Path, centre: ContactCentre, api: FaultySimulator, backfills: Backfills, today: datetime
) -> None:
    config = write_config(tmp_path, api, target(centre))
    flags = (config, *during(today - DAY, today), "--yes", f"--output={tmp_path / 'history.om'}")
    api.requests.clear()
    pid = backfills.start(*flags, "--rate=5")
    wait_until("requests", lambda: api.requests.count() > 2)
    done = backfills.kill(pid, 0, signal.SIGINT)
    assert done.status == 130
    assert "interrupted" in done.text.splitlines()[-1]
    assert "run the same command to continue" in done.text.splitlines()[-1]
    asked = api.requests.count()
    assert backfills.run(*flags, "--rate=1000").status == 0
    assert api.requests.count() == 24, f"{asked} before the interruption"


def test_a_disk_that_is_full_loses_nothing(
    tmp_path: Path, centre: ContactCentre, api: FaultySimulator, backfills: Backfills, today: datetime
) -> None:
    config = write_config(tmp_path, api, target(centre))
    flags = (config, *during(today - DAY, today), *FAST)
    whole, output = tmp_path / "whole.om", tmp_path / "history.om"
    assert backfills.run(*flags, f"--output={whole}").status == 0
    api.requests.clear()
    # The first limit is reached by the journal, the second one by the output, which is larger.
    for limit, file in ((9_000, "history.om.journal"), (40_000, "history.om")):
        done = backfills.run(*flags, f"--output={output}", most_bytes=limit)
        assert done.status == 1
        assert done.text.splitlines()[-1] == f"{tmp_path / file}: cannot be written: File too large"
        assert not output.exists()
    assert backfills.run(*flags, f"--output={output}").status == 0
    assert output.read_bytes() == whole.read_bytes()
    asked = [(each.path, each.parameters["EndDate"]) for each in api.requests.latest()]
    assert len(asked) - len(set(asked)) <= 8, "more than those in flight when the journal was full"


@pytest.mark.parametrize(("answer", "status"), [(b"y\n", 0), (b"n\n", 1), (b"\x04", 1)])
def test_on_a_terminal_it_asks_and_shows_a_bar(
    *, tmp_path: Path, centre: ContactCentre, api: FaultySimulator, today: datetime,
    answer: bytes, status: int,
) -> None:  # fmt: skip
    config = write_config(tmp_path, api, target(centre))
    mine, theirs = os.openpty()
    command = (sys.executable, "-m", "taskrouter_exporter", "backfill", config, *during(today - DAY, today))
    process = subprocess.Popen(
        [*command, "--output=history.om", "--rate=1000"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    text = b""
    while b"Start? [y/N] " not in text:
        text += os.read(mine, 1024)
    os.write(mine, answer)
    with suppress(OSError):  # the other side is closed
        while part := os.read(mine, 1024):
            text += part
    os.close(mine)
    assert process.wait(60) == status
    assert b"1 query from" in text
    assert b"24 API requests, 1s at 1000 per second" in text
    assert b"Traceback" not in text
    assert (b"24/24" in text) == (status == 0)
    left = {file.name for file in tmp_path.iterdir()} - {"config.yaml"}
    assert left == ({"history.om"} if status == 0 else set())


def test_bad_input_is_one_line_and_changes_nothing(
    tmp_path: Path, centre: ContactCentre, api: FaultySimulator, backfills: Backfills, today: datetime
) -> None:
    config = write_config(tmp_path, api, target(centre))
    output = tmp_path / "history.om"
    taken, foreign = tmp_path / "taken.om", tmp_path / "foreign.journal"
    taken.write_text("mine", encoding="utf-8")
    foreign.write_text("mine", encoding="utf-8")
    missing, tomorrow = tmp_path / "missing" / "history.om", (today + 2 * DAY).isoformat()
    earliest = f"{today - 29 * DAY:%Y-%m-%dT%H:%M:%SZ}"
    day = during(today - DAY, today)
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
    tmp_path: Path, centre: ContactCentre, api: FaultySimulator, backfills: Backfills, today: datetime
) -> None:
    config, output = write_config(tmp_path, api, target(centre)), f"--output={tmp_path / 'history.om'}"
    api.faults.set(centre.workspaces[0].sid, Fault.status(401))
    assert backfills.run(config, *during(today - DAY, today), *FAST, output).status == 1
    api.faults.clear()
    before = (tmp_path / "history.om.journal").read_bytes()
    for flags, difference in (
        ((*during(today - DAY, today, "30m"), *FAST), "--step"),
        ((*during(today - 2 * DAY, today), *FAST), "--from"),
        ((*during(today - DAY, today), *FAST, "--label=job=other"), "--label"),
    ):
        done = backfills.run(config, *flags, output)
        assert done.status == 1
        (line,) = done.text.splitlines()
        assert f"is the journal of another run, with a different {difference};" in line
    write_config(tmp_path, api, target(centre, counters="week"))
    done = backfills.run(config, *during(today - DAY, today), *FAST, output)
    assert "with a different configuration;" in done.text
    assert (tmp_path / "history.om.journal").read_bytes() == before


def test_a_run_that_was_interrupted_after_its_end_is_complete(
    tmp_path: Path, centre: ContactCentre, api: FaultySimulator, backfills: Backfills, today: datetime
) -> None:
    config, output = write_config(tmp_path, api, target(centre)), tmp_path / "history.om"
    flags = (config, *during(today - DAY, today, "6h"), *FAST, f"--output={output}")
    assert backfills.run(*flags).status == 0
    (tmp_path / "history.om.partial").hardlink_to(output)
    (tmp_path / "history.om.journal").write_text("the journal", encoding="utf-8")
    before, requests = output.read_bytes(), api.requests.count()
    done = backfills.run(*flags)
    assert (done.status, done.text) == (0, f"{output}: is complete\n")
    assert output.read_bytes() == before
    assert api.requests.count() == requests
    assert {file.name for file in tmp_path.iterdir()} == {"config.yaml", "history.om"}


def test_lists_of_queues_are_read_again_after_an_outage_and_a_refusal_is_one_line(
    tmp_path: Path, centre: ContactCentre, api: FaultySimulator, backfills: Backfills, today: datetime
) -> None:
    config = write_config(tmp_path, api, target(centre, statistics=["tasks"], queues="auto"))
    flags = (config, *during(today - DAY, today, "12h"), *FAST, f"--output={tmp_path / 'history.om'}")
    sid = centre.workspaces[0].sid
    api.faults.set(sid, Fault.status(401).where(lambda path: path.endswith("/TaskQueues")))
    done = backfills.run(*flags)
    assert done.status == 1
    (line,) = done.text.splitlines()
    assert line.startswith(f"/v1/Workspaces/{sid}/TaskQueues: auth: status 401, ")
    assert not (tmp_path / "history.om.journal").exists()
    api.faults.set(sid, Fault.status(503, 2).where(lambda path: path.endswith("/TaskQueues")))
    done = backfills.run(*flags)
    assert done.status == 0, done.text
    assert 'queue="' in (tmp_path / "history.om").read_text(encoding="utf-8")
