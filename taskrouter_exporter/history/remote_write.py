"""Remote write 1.0: the series of a backfill, sent to a running Prometheus or to what receives like it."""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cramjam import snappy

from taskrouter_exporter.history.endpoint import HttpClient, UnreachableError
from taskrouter_exporter.history.errors import BackfillError
from taskrouter_exporter.history.journal import Answers, Header
from taskrouter_exporter.history.messages import WriteRequest
from taskrouter_exporter.history.series import Series, series_of
from taskrouter_exporter.lines import CREATED, family_name
from taskrouter_exporter.queries import Query

_MOST_SAMPLES: Final = 2_000
"""In one request, as Prometheus itself sends at most."""

_LONGEST_BACKOFF_SECONDS: Final = 30.0
_TOO_OLD: Final = "too old sample"
"""Prometheus 2.42 answers 500, not 400, to a sample that is older than its out_of_order_time_window."""

_HEADERS: Final = {
    "Content-Encoding": "snappy",
    "Content-Type": "application/x-protobuf",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}


@dataclass(frozen=True, slots=True)
class _Run:
    """Samples of one series, in the order of their times.

    Attributes:
        labels: Of the series, its name included.
        times: In Unix milliseconds.
        values: One for each time.
    """

    labels: Mapping[str, str]
    times: Sequence[int]
    values: Sequence[float]


def send(
    client: HttpClient,
    header: Header,
    answers: Answers,
    labels: Mapping[str, str],
    waiting: Callable[[str], None],
) -> int:
    """Send all series of a backfill, and return the number of samples.

    One family of one query is in memory at a time. What was sent before, by a run that was interrupted, is
    sent again: the same sample twice is one sample.

    Args:
        client: For the server.
        header: Of the backfill.
        answers: Its journal's.
        labels: To add to every series.
        waiting: Receives why a request is repeated.

    Raises:
        BackfillError: the server refuses the samples.
    """
    sent = 0
    request, samples = WriteRequest(), 0
    for run in _runs(header, answers, labels):
        _add(request, run)
        samples += len(run.times)
        if samples >= _MOST_SAMPLES:
            _post(client, request, waiting)
            sent += samples
            request, samples = WriteRequest(), 0
    if samples:
        _post(client, request, waiting)
    return sent + samples


def _runs(header: Header, answers: Answers, labels: Mapping[str, str]) -> Iterator[_Run]:
    """Yield every series in runs that fit into a request."""
    for index, query in enumerate(header.queries):
        for number, family in enumerate(query.kind.families[query.period.role]):
            for series in series_of(query, family, header.span, answers.of(index, number)):
                yield from _parts(query, series, labels)


def _parts(query: Query, series: Series, labels: Mapping[str, str]) -> Iterator[_Run]:
    for whole in _named(query, series, labels):
        for first in range(0, len(whole.times), _MOST_SAMPLES):
            part = slice(first, first + _MOST_SAMPLES)
            yield _Run(whole.labels, whole.times[part], whole.values[part])


def _named(query: Query, series: Series, labels: Mapping[str, str]) -> Iterator[_Run]:
    family = series.family
    own = dict(zip(family.labels, series.labels, strict=True))
    common = {**query.statistics_labels, **labels, **own}
    name = family_name(query.kind, family)
    if family.type != "counter":
        yield _Run({"__name__": name, **common}, series.times, series.values)
        return
    yield _Run({"__name__": f"{name}_total", **common}, series.times, series.values)
    yield _Run({"__name__": f"{name}{CREATED}", **common}, series.times, series.anchors)


def _add(request: Any, run: _Run) -> None:  # noqa: ANN401 -- a class that protobuf makes
    """Add a run to a request. Labels are sorted, and an empty one is left out: remote write 1.0, "Labels"."""
    series = request.timeseries.add()
    for name, text in sorted(run.labels.items()):
        if text:
            series.labels.add(name=name, value=text)
    for at, value in zip(run.times, run.values, strict=True):
        series.samples.add(value=value, timestamp=at)


def _post(client: HttpClient, request: Any, waiting: Callable[[str], None]) -> None:  # noqa: ANN401 -- as above
    """Send a request until the server takes or refuses it.

    Raises:
        BackfillError: the server refuses it.
    """
    body = bytes(snappy.compress_raw(request.SerializeToString()))
    longest = 1.0
    while True:
        try:
            client.post("", body, _HEADERS)
        except UnreachableError as error:
            if _TOO_OLD in str(error):
                raise BackfillError(str(error)) from None
            seconds = max(random.uniform(0, longest), error.retry_after or 0)  # noqa: S311 -- no cryptography
            waiting(f"{error}; waiting {seconds:.0f} s")
            time.sleep(seconds)
            longest = min(longest * 2, _LONGEST_BACKOFF_SECONDS)
        else:
            return
