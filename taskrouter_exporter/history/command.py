"""The command `taskrouter-exporter backfill`: wiring, the question before it starts, and exit statuses."""

import argparse
import asyncio
import hashlib
import math
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from taskrouter_exporter.config.errors import ConfigError
from taskrouter_exporter.config.files import ConfigFiles
from taskrouter_exporter.config.model import Config
from taskrouter_exporter.discovered import Discovered
from taskrouter_exporter.durations import format_duration
from taskrouter_exporter.expansion import expand
from taskrouter_exporter.history.asking import MOST_IN_FLIGHT, Asking, RequestCount, connect
from taskrouter_exporter.history.endpoint import HttpClient
from taskrouter_exporter.history.errors import BackfillError
from taskrouter_exporter.history.flags import parse
from taskrouter_exporter.history.gaps import find_gaps
from taskrouter_exporter.history.journal import Header, Journal, difference, resumed
from taskrouter_exporter.history.openmetrics import check_output, clean_up, is_complete, write
from taskrouter_exporter.history.plan import Points, Range, earliest_start, lost_points
from taskrouter_exporter.history.progress import Lines, Progress, show_progress
from taskrouter_exporter.logs import flush_logs, set_up_logging
from taskrouter_exporter.queries import Query
from taskrouter_exporter.sids import sid_key

_INTERRUPTED: Final = 130
_JOURNAL: Final = Path("backfill.journal")


def main(arguments: Sequence[str]) -> int:
    """Run a backfill and return its exit status: 0, 1 after an error, 130 if it was interrupted."""
    flags = parse(arguments, os.environ)
    # Warnings are about what is tried again, which the progress shows.
    set_up_logging("error", "logfmt")
    try:
        return _Backfill(flags).run()
    except (ConfigError, BackfillError) as error:
        flush_logs()
        _say(str(error))
        return 1
    except KeyboardInterrupt:
        _say("interrupted; run the same command to continue")
        return _INTERRUPTED


class _Backfill:
    """One run.

    Args:
        flags: Of the command line.
    """

    def __init__(self, flags: argparse.Namespace) -> None:
        self._flags = flags
        self._now = datetime.now(UTC)
        self._has_output = flags.output is not None and is_complete(flags.output)
        if flags.output is not None and not self._has_output:
            check_output(flags.output)
        servers = flags.prometheus, flags.remote_write
        self._prometheus, self._remote_write = (HttpClient(each) if each else None for each in servers)
        self._config = ConfigFiles(flags.config_files, os.environ).load()
        self._requests = RequestCount()
        self._clients = connect(self._config, os.environ, self._requests)

    def run(self) -> int:
        """Ask for what is missing, and write the output."""
        flags = self._flags
        path = flags.journal or (
            _JOURNAL if flags.output is None else flags.output.with_name(f"{flags.output.name}.journal")
        )
        with Journal(path) as journal, asyncio.Runner() as runner:
            if self._has_output:
                self._clean_up(journal)
                _print(f"{flags.output}: is complete")
                return 0
            asked = _identity(flags, self._config)
            header = journal.header()
            if header is None:
                header = runner.run(self._plan(asked))
                points = header.points
                if not points.left:
                    _say("nothing is missing: Prometheus has samples at every step")
                    return 0
                if not self._confirmed(header, points):
                    return 1
                journal.begin(header)
            else:
                if differing := difference(header, asked):
                    raise BackfillError(
                        f"{path}: is the journal of another run, with a different {differing}; repeat that "
                        "run's command, or remove the file"
                    )
                points = resumed(header, journal)
                if not self._confirmed(header, points):
                    return 1
            if not runner.run(self._ask(header, points, journal)):
                _say(f"interrupted; {path} has what was answered: run the same command to continue")
                return _INTERRUPTED
            self._finish(header, journal)
        return 0

    async def _plan(self, asked: Mapping[str, Any]) -> Header:
        """Return what to ask for, now that the lists are known."""
        progress = Lines(0, 0, sys.stderr)  # a bar of no points would show nothing
        discovered = await Asking(self._clients, self._flags.rate, progress).discover(self._config)
        queries = _selected(self._config, discovered, self._flags)
        span = _range(self._flags, queries, self._now)
        if self._prometheus is None:
            return Header(asked, span, queries)
        gaps = find_gaps(self._prometheus, queries, span, self._flags.labels)
        return Header(asked, span, queries, gaps)

    def _confirmed(self, header: Header, points: Points) -> bool:
        """Print what a run takes, and return whether it is to start."""
        rate = self._flags.rate
        seconds = math.ceil(points.left / rate)
        span = header.span
        queries = _count(len(header.queries), "query", "queries")
        requests = _count(points.left, "API request", "API requests")
        step, duration = (format_duration(timedelta(seconds=each)) for each in (span.step, seconds))
        _print(
            f"{queries} from {_utc(span.start)} to {_utc(span.end)}, every {step}: {requests}, {duration} at "
            f"{rate:g} per second"
        )
        if lost := lost_points(header.queries, points, rate, self._now):
            _say(f"warning: TaskRouter forgets {lost} of these points before their turn; raise --rate")
        if self._flags.yes or not points.left:
            return True
        if not sys.stdin.isatty():
            _say("not started: pass --yes to start without a terminal")
            return False
        try:
            return input("Start? [y/N] ").strip().lower() in ("y", "yes")
        except EOFError:  # Ctrl-D
            return False

    async def _ask(self, header: Header, points: Points, journal: Journal) -> bool:
        """Ask for the points that are left; return False if a signal ended that early."""
        total = points.left
        progress = show_progress(total, 0)
        concurrency = min(self._config.polling.concurrency, MOST_IN_FLIGHT)
        asking = Asking(self._clients, self._flags.rate, progress, concurrency=concurrency)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, asking.stop)
        try:
            await asking.ask(header.queries, points, journal.record)
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
            progress.close()
            for client in self._clients.values():
                client.close()
        _report_expired(progress)
        return not asking.stopped

    def _finish(self, header: Header, journal: Journal) -> None:
        answers, labels = journal.answers(header), self._flags.labels
        if self._remote_write is None:
            target = self._flags.output
            samples = write(target, header, answers, labels)
        else:
            # Not before: protobuf and snappy take 5 MB.
            from taskrouter_exporter.history.remote_write import send  # noqa: PLC0415 -- see above

            target = self._flags.remote_write.url
            samples = send(self._remote_write, header, answers, labels, _say)
        self._clean_up(journal)
        _print(f"{target}: {samples} samples, {self._requests.requests} API requests")

    def _clean_up(self, journal: Journal) -> None:
        """Remove what only an incomplete run needs; the journal first, which has all the answers."""
        journal.remove()
        if self._flags.output is not None:
            clean_up(self._flags.output)


def _print(text: str) -> None:
    # What cannot be printed, into a closed pipe for example, must not end a run of hours.
    with suppress(OSError):
        print(text, flush=True)  # noqa: T201 -- the command's output


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 -- one line, as a compiler writes them


def _report_expired(progress: Progress) -> None:
    if progress.expired_points:
        _say(
            f"warning: {progress.expired_points} points are missing: they are older than the 30 days that "
            "TaskRouter keeps"
        )


def _names(files: Sequence[Path]) -> str:
    return ", ".join(map(str, files))


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _utc(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _identity(flags: argparse.Namespace, config: Config) -> dict[str, Any]:
    """Return what makes a run the same as another one, by the flag or file that decides it."""
    targets = repr((config.workspaces, config.workspace_discoveries))
    urls = repr(sorted((name, account.base_url) for name, account in config.accounts.items()))
    return {
        "--from": flags.start.text,
        "--to": flags.end.text,
        "--step": flags.step.total_seconds(),
        "--windows": flags.windows,
        "--workspace": sorted(flags.workspaces),
        "--channel": sorted(flags.channels),
        "--label": flags.labels,
        "--prometheus": flags.prometheus.url if flags.prometheus else None,
        "configuration": hashlib.sha256((targets + urls).encode()).hexdigest(),
    }


def _selected(
    config: Config, discovered: Mapping[str, Discovered], flags: argparse.Namespace
) -> tuple[Query, ...]:
    """Return the queries of a configuration that have a past and that the flags select.

    Raises:
        BackfillError: there are none.
    """
    queries, cut = expand(config, discovered)
    if cut:
        raise BackfillError(
            f"{_names(flags.config_files)}: has too many queries; select some with --workspace"
        )
    roles = {"anchored", "window"} if flags.windows else {"anchored"}
    for flag, wanted, names in (
        ("--workspace", flags.workspaces, {query.target.workspace for query in queries}),
        ("--channel", flags.channels, {query.target.channel for query in queries}),
    ):
        known = {sid_key(name) for name in names}
        for name in wanted:
            if sid_key(name) not in known:
                expected = ", ".join(sorted(names)) or "none"
                raise BackfillError(
                    f"{flag}: {name!r} is not in {_names(flags.config_files)} (expected one of: {expected})"
                )
    workspaces, channels = (set(map(sid_key, names)) for names in (flags.workspaces, flags.channels))
    selected = tuple(
        query
        for query in queries
        if query.period.role in roles
        and (not workspaces or sid_key(query.target.workspace) in workspaces)
        and (not channels or sid_key(query.target.channel) in channels)
    )
    if not selected:
        more = "" if flags.windows else ", or pass --windows"
        raise BackfillError(
            f"{_names(flags.config_files)}: nothing to ask for; set counters of workers or tasks{more}"
        )
    return selected


def _range(flags: argparse.Namespace, queries: Sequence[Query], now: datetime) -> Range:
    """Return the range that the flags ask for.

    Raises:
        BackfillError: it is empty, in the future, or further back than TaskRouter's statistics.
    """
    start, end = flags.start.resolve(now), flags.end.resolve(now)
    for flag, moment, text in (("--from", start, flags.start.text), ("--to", end, flags.end.text)):
        if moment > now:
            raise BackfillError(f"{flag}={text}: is in the future; now is {_utc(int(now.timestamp()))}")
    if start >= end:
        raise BackfillError(f"--from={flags.start.text}: is not before --to={flags.end.text}")
    span = Range(math.ceil(start.timestamp()), int(end.timestamp()), int(flags.step.total_seconds()))
    if not span.steps:
        raise BackfillError(
            f"--step={format_duration(flags.step)}: is larger than the range from {_utc(span.start)} to "
            f"{_utc(span.end)}"
        )
    earliest = earliest_start(queries, now)
    if start < earliest:
        allowed = _utc(math.ceil(earliest.timestamp()))
        raise BackfillError(
            f"--from={flags.start.text}: is further back than TaskRouter keeps the statistics: 30 days, with "
            f"the start of the period of every query; the earliest possible is {allowed}"
        )
    return span
