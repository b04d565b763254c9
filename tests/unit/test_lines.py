from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from support.statistics import statistics

from taskrouter_exporter.lines import WrittenFamily, label_text, statistics_lines
from taskrouter_exporter.statistics.kind import Role
from taskrouter_exporter.statistics.workers import WORKERS
from taskrouter_exporter.web.exposition import Exposition

OPENMETRICS = "application/openmetrics-text"
ANCHOR = datetime(2026, 11, 25, tzinfo=UTC)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUE = st.floats(0, 1e12, allow_nan=False)


class Families:
    """A collector of one family."""

    def __init__(self, family: GaugeMetricFamily | CounterMetricFamily | WrittenFamily) -> None:
        self._family = family

    def collect(self) -> list[GaugeMetricFamily | CounterMetricFamily | WrittenFamily]:
        return [self._family]


@pytest.mark.parametrize("accept", ["", OPENMETRICS], ids=["text", "OpenMetrics"])
@pytest.mark.parametrize("role", ["window", "anchored"])
@example(workspace='x_created{y="z"} 1', activity='"\\\n', seconds=0.1)
@given(workspace=TEXT, activity=TEXT, seconds=VALUE)
def test_the_lines_are_those_of_the_library(
    accept: str, role: Role, workspace: str, activity: str, seconds: float
) -> None:
    """Each family, with any names, in both formats."""
    durations = [{"friendly_name": activity, "sid": "WA1", "min": 0, "avg": 0, "max": 0, "total": seconds}]
    answer = statistics(role, reservations_created=3, activity_durations=durations)
    anchor = ANCHOR if role == "anchored" else None
    labels = {"workspace": workspace, "channel": "voice"}
    written = statistics_lines(WORKERS, label_text(labels.items()), answer, anchor)
    assert len(written) == len(answer.families)
    for definition, samples, lines in zip(answer.families, answer.samples, written, strict=True):
        names = [*labels, *definition.labels]
        family: GaugeMetricFamily | CounterMetricFamily
        name = "twilio_taskrouter_" + definition.name
        if definition.type == "gauge":
            family = GaugeMetricFamily(name, definition.text, labels=names, unit=definition.unit)
            for values, value in samples:
                family.add_metric([*labels.values(), *values], value)
            head: GaugeMetricFamily | CounterMetricFamily = GaugeMetricFamily(
                name, definition.text, unit=definition.unit
            )
        else:
            family = CounterMetricFamily(name, definition.text, labels=names, unit=definition.unit)
            for values, value in samples:
                family.add_metric([*labels.values(), *values], value, created=ANCHOR.timestamp())
            head = CounterMetricFamily(name, definition.text, unit=definition.unit)
        exposition = Exposition(accept, "")
        assert exposition.render([Families(WrittenFamily(head, [lines]))]) == exposition.render(
            [Families(family)]
        )


def test_without_an_anchor_no_line_says_when_a_counter_began() -> None:
    answer = statistics("anchored", reservations_created=3)
    with_anchor, without = (statistics_lines(WORKERS, "", answer, anchor) for anchor in (ANCHOR, None))
    assert b"_created{" in b"".join(with_anchor)
    assert [
        b"".join(line for line in lines.splitlines(keepends=True) if b"_created{" not in line)
        for lines in with_anchor
    ] == list(without)
