import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.exporter import ROOT

from taskrouter_exporter.history.endpoint import Server
from taskrouter_exporter.history.flags import parse

NOW = datetime(2026, 11, 25, 10, tzinfo=UTC)
NEEDED = ("--from=now-1d", "--output=history.om")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("now", NOW),
        ("now-29d", NOW - timedelta(days=29)),
        ("now-1h30m", NOW - timedelta(minutes=90)),
        ("2026-10-25", datetime(2026, 10, 25, tzinfo=UTC)),
        ("2026-10-25T00:00Z", datetime(2026, 10, 25, tzinfo=UTC)),
        ("2026-10-25T02:00+02:00", datetime(2026, 10, 25, tzinfo=UTC)),
    ],
)
def test_times_are_absolute_or_before_now(text: str, moment: datetime) -> None:
    flags = parse([f"--from={text}", "--output=history.om"], {})
    assert flags.start.resolve(NOW) == moment
    assert flags.start.text == text


def test_the_defaults_are_those_of_the_help_text() -> None:
    flags = parse(NEEDED, {})
    assert flags.end.resolve(NOW) == NOW
    assert (flags.step, flags.rate, flags.windows, flags.yes) == (timedelta(minutes=15), 2, False, False)
    assert (flags.config_files, flags.labels, flags.workspaces) == ([Path("config.yaml")], {}, [])
    assert flags.prometheus is flags.remote_write is None


def test_servers_have_their_own_authentication() -> None:
    flags = parse(
        [
            "--from=now-1d",
            "--remote-write=https://mimir.example/api/v1/push",
            "--remote-write.token-file=token",
            "--remote-write.ca-file=ca.pem",
            "--prometheus=http://localhost:9090/prometheus",
            "--prometheus.username=me",
            "--prometheus.password-file=password",
        ],
        {},
    )
    assert flags.remote_write == Server(
        "--remote-write", "https://mimir.example/api/v1/push", None, None, Path("token"), Path("ca.pem")
    )
    assert flags.prometheus == Server(
        "--prometheus", "http://localhost:9090/prometheus", "me", Path("password"), None, None
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output=x"], "the following arguments are required: --from"),
        (["--from=now"], "one of --output and --remote-write is required"),
        ([*NEEDED, "--remote-write=http://x/"], "one of --output and --remote-write is required"),
        ([*NEEDED, "--step=0"], "is not a duration of whole seconds that divides the day"),
        ([*NEEDED, "--step=500ms"], "is not a duration of whole seconds that divides the day"),
        ([*NEEDED, "--step=2d"], "is not a duration of whole seconds that divides the day"),
        ([*NEEDED, "--rate=0"], "is not a number of requests per second"),
        ([*NEEDED, "--rate=nan"], "is not a number of requests per second"),
        ([*NEEDED, "--label=job"], "is not a label"),
        ([*NEEDED, "--label=__name__=x"], "is not a label"),
        ([*NEEDED, "--label=9=x"], "is not a label"),
        ([*NEEDED, "--label=window=x"], "window is a label of the statistics"),
        ([*NEEDED, "--to=now+1d"], "is not a time"),
        ([*NEEDED, "--prometheus=localhost:9090"], "is not a URL without credentials"),
        ([*NEEDED, "--prometheus.username=me"], "--prometheus.username requires --prometheus"),
        ([*NEEDED, "--prometheus=http://x", "--prometheus.username=me"], "require each other"),
        (
            [
                *(*NEEDED, "--prometheus=http://x", "--prometheus.username=me"),
                *("--prometheus.password-file=p", "--prometheus.token-file=t"),
            ],
            "excludes --prometheus.username",
        ),
    ],
)
def test_a_flag_that_cannot_be_used_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        parse(arguments, {})
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_the_page_on_history_lists_every_flag_and_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--help"], {})
    flags = set(re.findall(r"^\s+(?:-[a-z], )?(--[a-z.-]+)", capsys.readouterr().out, re.MULTILINE))
    page = (ROOT / "docs" / "history.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`--.*?) \|", page, re.MULTILINE)
    assert {flag for row in rows for flag in re.findall(r"`(--[a-z.-]+)", row)} == flags
