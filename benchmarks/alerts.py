"""Evaluate the alerts on spikes: a labelled corpus through a real Prometheus and the rule file.

`make alerts` prints the table of docs/alerting.md. Numbers were chosen on seed 1; the table uses others.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import Final

import numpy as np
from alert_corpus import (
    DAY,
    KINDS,
    RATIOS,
    SIZES,
    START,
    WEEK,
    Channel,
    Corpus,
    Counts,
    Flags,
    Label,
    generate,
)
from alert_scores import Interval, Score, score
from support.blocks import Blocks, Rule, needed, read_rules, recordings
from support.prometheus import Prometheus

from taskrouter_exporter.durations import parse_duration

ROOT: Final = Path(__file__).parent.parent
RULES: Final = ROOT / "monitoring" / "rules" / "taskrouter.yaml"
INPUTS: Final = ("counters", "windows", "doubled")
"""With windows and counters, with windows only, and the former with doubled over-dispersion."""

UNSEEN: Final = (11, 12, 13)
_SPIKES: Final = {"TaskRouterRejectionSpike": 0, "TaskRouterTimeoutSpike": 1}
_MISSING: Final = "TaskRouterNoReservations"
_CHUNK: Final = 10_000
"""Evaluations in one range query; Prometheus returns at most 11,000 points of a series."""

_STEP: Final = 3
"""Minutes between evaluations. Prometheus usually evaluates more often, which takes longer here."""

_EVALUATED: Final = f'taskrouter:threshold{{threshold="expected_reservations"}}[{_STEP}m]'

_LOOKBACK: Final = 60 * _STEP - 10
"""Seconds. Longer than a scrape, and shorter than an evaluation: these blocks have no staleness markers, and
what a rule no longer records must not be there at the next evaluation."""

_OUTCOMES: Final = (*RATIOS, "accepted")


@dataclass(frozen=True)
class Result:
    """What one rule file did on one corpus."""

    score: Score
    missing: Sequence[tuple[Channel, Interval]]
    """Of TaskRouterNoReservations, which has nothing to find in a corpus: all are false."""
    seconds: float


def evaluate(rules: Sequence[Rule], corpus: Corpus, *, counters: bool, directory: Path) -> Result:
    """Record and evaluate the rules on what the exporter saw of a corpus, every few minutes."""
    prometheus, promtool = shutil.which("prometheus"), shutil.which("promtool")
    if not prometheus or not promtool:
        raise FileNotFoundError("prometheus and promtool are needed (Debian's package prometheus)")
    began = time.monotonic()
    blocks = Blocks(prometheus, promtool, directory, lookback=f"{_LOOKBACK}s", longest="168h")
    file = directory / "scrapes.txt"
    for begin in range(0, corpus.minutes, WEEK):
        with file.open("wb") as output:
            for lines in _series(corpus, slice(begin, begin + WEEK), counters=counters):
                output.write(lines)
            output.write(b"# EOF\n")
        blocks.add_scrapes(file)
    file.unlink()
    alerts = [rule for rule in rules if rule.get("alert") in {*_SPIKES, _MISSING}]
    # A corpus has no queues.
    recorded = [
        {"interval": f"{_STEP}m", **rule}
        for rule in needed(alerts, recordings(rules))
        if not rule["record"].startswith("taskrouter:queue_")
    ]
    blocks.add_recordings(recorded, START, START + timedelta(minutes=corpus.minutes))
    told: dict[tuple[int, int], list[Interval]] = {}
    paged: dict[tuple[int, int], list[Interval]] = {}
    missing: list[tuple[Channel, Interval]] = []
    numbers = {(channel.workspace, channel.name): place for place, channel in enumerate(corpus.channels)}
    with blocks.serve() as server:
        for rule in alerts:
            for labelled, intervals in _firing(server, rule, corpus.minutes).items():
                labels = dict(labelled)
                number = numbers[labels["workspace"], labels["channel"]]
                if rule["alert"] == _MISSING:
                    missing += [(corpus.channels[number], interval) for interval in intervals]
                    continue
                key = _SPIKES[rule["alert"]], number
                told[key] = _merged([*told.get(key, ()), *intervals])
                if rule["labels"]["severity"] == "critical":
                    paged[key] = intervals
    return Result(score(corpus, told, paged), missing, time.monotonic() - began)


def _series(corpus: Corpus, period: slice, *, counters: bool) -> Iterator[bytes]:
    """Yield the samples of one series after the other as the exporter would have had them."""
    counts = [corpus.reservations, *corpus.parts, corpus.accepted]
    windows = [_window(each)[:, period] for each in counts]
    totals = [_since_midnight(each)[:, period] for each in counts] if counters else []
    times = 60 * (np.arange(corpus.minutes)[period] + 1) + int(START.timestamp())
    for number, channel in enumerate(corpus.channels):
        polled = corpus.polled[number, period]
        shared = (
            f'job="taskrouter",instance="exporter",workspace="{channel.workspace}",channel="{channel.name}"'
        )
        names = ["reservations", *(f'reservation_outcomes{{outcome="{outcome}"' for outcome in _OUTCOMES)]
        for name, window in zip(names, windows, strict=True):
            metric, _, label = name.partition("{")
            labels = ",".join(filter(None, (shared, 'window="15m"', label)))
            yield _lines(f"twilio_taskrouter_window_{metric}{{{labels}}}", window[number], times, polled)
        for name, total in zip(names if counters else (), totals, strict=True):
            metric, _, label = name.partition("{")
            labels = ",".join(filter(None, (shared, label)))
            yield _lines(f"twilio_taskrouter_{metric}_total{{{labels}}}", total[number], times, polled)


def _lines(series: str, values: Counts, times: Counts, polled: Flags) -> bytes:
    pairs = zip(values[polled].tolist(), times[polled].tolist(), strict=True)
    return "".join([f"{series} {value} {at}\n" for value, at in pairs]).encode()


def _window(counts: Counts) -> Counts:
    """Return the sums of the last 15 minutes."""
    sums = np.cumsum(counts, axis=1)
    sums[:, 15:] -= sums[:, :-15].copy()
    return sums


def _since_midnight(counts: Counts) -> Counts:
    """Return the counters, which start again at midnight UTC."""
    days = counts.shape[1] // DAY
    sums = np.cumsum(counts.reshape(counts.shape[0], days, DAY), axis=2)
    # What is scraped at midnight belongs to the new day.
    sums[:, :, -1] = 0
    return sums.reshape(counts.shape)


def _firing(server: Prometheus, rule: Rule, minutes: int) -> dict[frozenset[tuple[str, str]], list[Interval]]:
    """Return when an alert fires by its labels, with its `for` and `keep_firing_for`."""
    pending, keep = (
        int(parse_duration(rule[key]).total_seconds()) // 60 if key in rule else 0
        for key in ("for", "keep_firing_for")
    )
    held: dict[frozenset[tuple[str, str]], list[int]] = {}
    # When within the interval Prometheus evaluates the rules, to the millisecond: a query just before that
    # sees what was recorded an interval earlier.
    evaluated = server.api("query", query=_EVALUATED, time=str(START.timestamp() + 60 * WEEK))["result"]
    start = START.timestamp() + evaluated[0]["values"][0][0] % (60 * _STEP)
    for begin in range(_STEP, minutes + 1, _CHUNK * _STEP):
        last = min(begin + (_CHUNK - 1) * _STEP, minutes - _STEP)
        answer = server.range(rule["expr"], start + 60 * begin, start + 60 * last, 60 * _STEP)
        for labels, points in answer.items():
            # What is scraped at the end of a minute contains it.
            held.setdefault(labels, []).extend(round((point.at - start) / 60) - 1 for point in points)
    return {labels: _intervals(found, pending, keep) for labels, found in held.items()}


def _intervals(held: Sequence[int], pending: int, keep: int) -> list[Interval]:
    """Return the intervals in which an alert fires whose expression holds in some minutes."""
    found: list[Interval] = []
    for _, run in groupby(enumerate(held), lambda pair: pair[1] - _STEP * pair[0]):
        minutes = [minute for _, minute in run]
        begin, end = minutes[0] + pending, minutes[-1] + _STEP + keep
        if found and minutes[0] <= found[-1][1]:
            # Still firing: no new `for`.
            found[-1] = found[-1][0], end
        elif begin <= minutes[-1]:
            found.append((begin, end))
    return found


def _merged(intervals: Sequence[Interval]) -> list[Interval]:
    merged: list[Interval] = []
    for begin, end in sorted(intervals):
        if merged and begin <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((begin, end))
    return merged


COLUMNS: Final = (
    "told",
    "pages paged",
    "lost before told",
    "median delay",
    "fires on for",
    "firings per incident",
    "false alarms",
    "wrong severity",
    '"nothing" told',
    "warnings that page",
)
MISSING_COLUMNS: Final = ("no reservations", "of them on the holiday")


def row(of: Score) -> list[str]:
    """Return the cells of COLUMNS."""
    return [
        f"{of.share_told(Label.PAGE, Label.WARNING):.0%}",
        f"{of.share_paged(Label.PAGE):.0%}",
        f"{of.lost_before():.0%}",
        f"{of.median_delay():.0f} min",
        f"{of.median_end():.0f} min",
        f"{of.firings_per_incident():.2f}",
        f"{of.false_alarms():.2f}",
        f"{of.wrong_severity():.0%}",
        f"{of.share_told(Label.NOTHING):.0%}",
        f"{of.share_paged(Label.WARNING):.0%}",
    ]


def missing_row(result: Result) -> list[str]:
    """Return the cells of MISSING_COLUMNS."""
    holiday = [channel.on_holiday(begin) for channel, (begin, _) in result.missing]
    return [str(len(holiday)), str(sum(holiday))]


def together(results: Sequence[Result]) -> Result:
    """Return the results of several corpora as those of one."""
    scores = [result.score for result in results]
    return Result(
        Score(
            [finding for score in scores for finding in score.findings],
            [alarm for score in scores for alarm in score.false],
            sum(score.channel_months for score in scores),
        ),
        [missing for result in results for missing in result.missing],
        sum(result.seconds for result in results),
    )


def main() -> None:
    """Print a row for each seed and each input, then one for each size and kind of incident."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rules", type=Path, default=RULES, help="rule file to evaluate")
    parser.add_argument("--seeds", type=int, nargs="+", default=UNSEEN)
    parser.add_argument("--channels", type=int, default=32, help="a multiple of four")
    parser.add_argument("--days", type=int, default=28)
    parser.add_argument("--inputs", nargs="+", choices=INPUTS, default=INPUTS)
    arguments = parser.parse_args()
    rules = read_rules(arguments.rules)
    print(table("input", "seed", *COLUMNS, *MISSING_COLUMNS))
    details = [table("input", "channel or incident", "incidents", *COLUMNS)]
    for kind in arguments.inputs:
        results = []
        for seed in arguments.seeds:
            corpus = generate(seed, arguments.channels, arguments.days, 2.0 if kind == "doubled" else 1.0)
            with tempfile.TemporaryDirectory() as name:
                results.append(
                    evaluate(rules, corpus, counters=kind != "windows", directory=Path(name) / "blocks")
                )
            print(line(kind, str(seed), *row(results[-1].score), *missing_row(results[-1])), flush=True)
        whole = together(results)
        print(line(kind, "all", *row(whole.score), *missing_row(whole)), flush=True)
        groups = {size: whole.score.of_size(size) for size in SIZES}
        groups |= {each: whole.score.of_kind(each) for each in KINDS}
        details += [line(kind, group, str(of.incidents()), *row(of)) for group, of in groups.items()]
    print("", *details, sep="\n")


def table(*columns: str) -> str:
    """Return the head of a table in Markdown."""
    return line(*columns) + "\n" + "|---" * len(columns) + "|"


def line(*cells: str) -> str:
    """Return a line of a table in Markdown; a number that does not exist is a dash."""
    return "| " + " | ".join("-" if cell.startswith("nan") else cell for cell in cells) + " |"


if __name__ == "__main__":
    main()
