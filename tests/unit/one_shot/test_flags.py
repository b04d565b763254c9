from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from taskrouter_exporter.one_shot.flags import Flags, parse_flags
from taskrouter_exporter.one_shot.question import Question
from taskrouter_exporter.periods import Current, Window

NOW = datetime(2026, 11, 25, 14, 23, 8, 500, UTC)
MINUTE = datetime(2026, 11, 25, 14, 23, tzinfo=UTC)


def parse(*arguments: str) -> Flags:
    return parse_flags(arguments, NOW, {})


def ask(*arguments: str) -> Question:
    return parse(*arguments).question


def test_without_flags_the_last_15_minutes_of_the_workers_are_asked_for() -> None:
    assert parse() == Flags(Question("workers", Window(15)), [Path("config.yaml")], "table", 30)


def test_the_demo_has_no_configuration_file() -> None:
    assert parse("--demo").config_files == ()
    assert parse("--config.file=x", "--config.file=y").config_files == [Path("x"), Path("y")]


def test_the_environment_can_name_the_configuration_files() -> None:
    environ = {"TASKROUTER_EXPORTER_CONFIG_FILE": "a.yaml, teams"}
    assert parse_flags((), NOW, environ).config_files == [Path("a.yaml"), Path("teams")]
    assert parse_flags(["--config.file=x"], NOW, environ).config_files == [Path("x")]
    assert parse_flags(["--demo"], NOW, environ).config_files == ()


def test_everything_can_be_chosen() -> None:
    flags = parse(
        "--workspace=support", "--channel", "voice", "--queue=Voice", "--statistics=realtime",
        "--output=json", "--timeout=5s",
    )  # fmt: skip
    assert flags.question == Question("realtime", Current(), "support", "voice", "queue", "Voice")
    assert (flags.output, flags.timeout) == ("json", 5)


@pytest.mark.parametrize("subject", ["queue", "workflow"])
def test_a_queue_or_workflow_has_statistics_of_tasks_by_default(subject: str) -> None:
    question = ask(f"--{subject}=Calls")
    assert (question.statistics, question.subject, question.row) == ("tasks", subject, "Calls")


def test_a_window_ends_now() -> None:
    question = ask("--window=4h")
    assert (question.period, question.start, question.end) == (Window(240), None, None)


@pytest.mark.parametrize(
    ("start", "end", "expected_start", "expected_end"),
    [
        ("2026-11-25T08:00Z", None, datetime(2026, 11, 25, 8, tzinfo=UTC), MINUTE),
        ("2026-11-25", "now", datetime(2026, 11, 25, tzinfo=UTC), MINUTE),
        (
            "2026-11-25T09:00+01:00",
            "2026-11-25T09:30:00Z",
            datetime(2026, 11, 25, 8, tzinfo=UTC),
            datetime(2026, 11, 25, 9, 30, tzinfo=UTC),
        ),
        ("2026-10-26T14:23Z", "2026-10-27", MINUTE - timedelta(days=30), datetime(2026, 10, 27, tzinfo=UTC)),
    ],
)
def test_a_range_is_a_window_of_its_length(
    start: str, end: str | None, expected_start: datetime, expected_end: datetime
) -> None:
    question = ask(f"--from={start}", *([f"--to={end}"] if end else []))
    assert (question.start, question.end) == (expected_start, expected_end)
    length = expected_end - expected_start
    assert question.period == Window(length // timedelta(minutes=1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--statistics=calls", "argument --statistics: invalid choice: 'calls'"),
        ("--output=xml", "argument --output: invalid choice: 'xml'"),
        ("--window=15", "argument --window: '15' is not a duration (expected e.g. 15m, 4h)"),
        ("--window=90s", "argument --window: '90s' is not a whole number of minutes"),
        ("--window=31d", "argument --window: '31d' is not between 1m and 30d"),
        ("--timeout=0s", "argument --timeout: '0s' is not a duration from 1ms to 1h"),
        ("--queue=a --workflow=b", "argument --workflow: not allowed with argument --queue"),
        ("--demo --config.file=x", "argument --config.file: not allowed with argument --demo"),
        ("--works=support", "unrecognized arguments: --works=support"),
        ("support", "unrecognized arguments: support"),
        ("--queue=a --statistics=workers", "--queue: workers has no statistics of a queue"),
        ("--workflow=a --statistics=workers", "--workflow: workers has no statistics of a workflow"),
        ("--statistics=realtime --window=1h", "--window: real-time statistics have no period"),
        ("--statistics=realtime --from=now", "--from: real-time statistics have no period"),
        ("--statistics=realtime --to=now", "--to: real-time statistics have no period"),
        ("--to=now", "--to: needs --from"),
        ("--window=1h --from=2026-11-25", "--window: not allowed with --from"),
        ("--from=today", "--from: 'today' is not a time (expected e.g. 2026-10-25T08:00Z, or now)"),
        ("--from=2026-11-31", "--from: '2026-11-31' is not a time"),
        ("--from=0001-01-01T00:00+10:00", "--from: '0001-01-01T00:00+10:00' is not a time"),
        ("--from=2026-11-25T08:00", "--from: '2026-11-25T08:00' has no time zone"),
        ("--from=2026-11-25T08:00:30Z", "--from: '2026-11-25T08:00:30Z' is not a whole minute"),
        ("--from=2026-11-25T08:00Z --to=x", "--to: 'x' is not a time"),
        ("--from=2026-11-25 --to=2026-11-25T14:24Z", "--to: 2026-11-25T14:24Z is in the future"),
        ("--from=2026-10-26T14:22Z", "--from: 2026-10-26T14:22Z is more than 30 days ago"),
        ("--from=now", "--from: 2026-11-25T14:23Z is not before 2026-11-25T14:23Z"),
    ],
)
def test_flags_that_cannot_be_used_are_one_line_and_status_2(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        parse(*arguments.split())
    assert exit_.value.code == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"taskrouter-exporter query: {message}")
    assert errors.count("\n") == 1
    assert errors.endswith("(see --help)\n")
