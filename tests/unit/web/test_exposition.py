import gzip
from collections.abc import Callable, Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from taskrouter_exporter.web.exposition import Exposition

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"


class Families:
    """A collector of the given families."""

    def __init__(self, *families: Metric) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def render(*families: Metric, accept: str = "") -> str:
    return Exposition(accept, "").render([Families(*families)]).decode()


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", TEXT_TYPE),
        ("*/*", TEXT_TYPE),
        ("text/html,application/xhtml+xml", TEXT_TYPE),
        (OPENMETRICS, OPENMETRICS_TYPE),
        ("application/openmetrics-text", OPENMETRICS_TYPE),
        ("application/openmetrics-text;q=0.2,text/plain;q=0.9", TEXT_TYPE),
        ("application/openmetrics-text;q=0", TEXT_TYPE),
        ("application/openmetrics-text;q=junk", TEXT_TYPE),
    ],
)
def test_the_accept_header_selects_the_format(accept: str, content_type: str) -> None:
    assert Exposition(accept, "").headers["Content-Type"] == content_type


@pytest.mark.parametrize(
    ("accept_encoding", "compressed"),
    [("gzip", True), ("deflate, gzip;q=0.5", True), ("gzip;q=0", False), ("identity", False), ("", False)],
)
def test_the_accept_encoding_header_selects_the_compression(
    accept_encoding: str, *, compressed: bool
) -> None:
    exposition = Exposition(OPENMETRICS, accept_encoding)
    body = exposition.render([Families(GaugeMetricFamily("some_gauge", "Help.", value=1))])
    assert ("Content-Encoding" in exposition.headers) is compressed
    assert (gzip.decompress(body) if compressed else body).endswith(b"\n# EOF\n")


def test_caches_are_told_which_headers_the_format_depends_on() -> None:
    assert Exposition("", "").headers["Vary"] == "Accept, Accept-Encoding"


def test_only_openmetrics_has_created_series_and_an_end_marker() -> None:
    family = CounterMetricFamily("some", "Help.", labels=["a"])
    family.add_metric(["x"], 3, created=1_700_000_000)
    assert render(family).splitlines() == [
        "# HELP some_total Help.",
        "# TYPE some_total counter",
        'some_total{a="x"} 3.0',
    ]
    assert render(family, accept=OPENMETRICS).splitlines()[2:] == [
        'some_total{a="x"} 3.0',
        'some_created{a="x"} 1.7e+09',
        "# EOF",
    ]


def test_families_are_written_in_the_order_of_their_collectors() -> None:
    first, second = (Families(GaugeMetricFamily(name, "Help.", value=1)) for name in ("z", "a"))
    text = Exposition("", "").render([first, second]).decode()
    assert [line for line in text.splitlines() if line[0] != "#"] == ["z 1.0", "a 1.0"]


def test_a_collector_s_families_are_left_unchanged() -> None:
    family = GaugeMetricFamily("some_gauge", "Help.", value=1)
    assert render(family) == render(family)


@pytest.mark.parametrize("accept", ["", OPENMETRICS], ids=["text", "OpenMetrics"])
def test_the_output_equals_that_of_prometheus_client(accept: str) -> None:
    registry = CollectorRegistry()
    Gauge("some_gauge", 'Help with \\ and\nnewline and "quotes".', ("a", "b"), registry=registry).labels(
        "x\ny", '"\\'
    ).set(float("inf"))
    Gauge("without_labels", "Help.", registry=registry).set(float("nan"))
    Counter("some", "Help.", ("a",), registry=registry).labels("é").inc(0.1)
    text = Exposition(accept, "").render([registry]).decode()
    library = openmetrics.generate_latest if accept else generate_latest
    expected = library(registry).decode()
    if not accept:  # as gauges of their own, which Exposition leaves out
        expected = "".join(line for line in expected.splitlines(keepends=True) if "_created" not in line)
    assert text == expected


LABEL_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@example('"quoted"', "back\\slash\\n")
@example("new\nline", "\u2028\u0085\r\x00")
@example("\\", '\\\\"')
@given(LABEL_TEXT, LABEL_TEXT)
def test_label_values_may_be_any_unicode_text(first: str, second: str) -> None:
    family = GaugeMetricFamily("some_gauge", "Help.", labels=["a", "b"])
    family.add_metric([first, second], 3)
    parsers: dict[str, Callable[[str], Iterable[Metric]]] = {"": parse_text, OPENMETRICS: parse_openmetrics}
    for accept, parse in parsers.items():
        (parsed,) = parse(render(family, accept=accept))
        (sample,) = parsed.samples
        assert (sample.labels, sample.value) == ({"a": first, "b": second}, 3)
