"""The exposition formats: metric families written as text or OpenMetrics, compressed or not."""

import gzip
import io
import re
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from itertools import islice
from typing import Final, Protocol

from prometheus_client import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.samples import Sample

from taskrouter_exporter.lines import CREATED, WrittenFamily, label_text, number

_END: Final = b"# EOF\n"
_LINES_IN_A_BLOCK: Final = 200
_CREATED_LINES: Final = re.compile(rb"^\w+_created[ {].*\n", re.MULTILINE)
"""A line is a sample: a label's value has no newline."""


class Collector(Protocol):
    """A source of metric families, such as a registry of prometheus-client."""

    def collect(self) -> Iterable[Metric | WrittenFamily]:
        """Return the current families."""


class Exposition:
    """The format of one response, by the request's Accept and Accept-Encoding headers."""

    def __init__(self, accept: str, accept_encoding: str) -> None:
        self._openmetrics = quality(accept, "application/openmetrics-text") >= max(
            quality(accept, "text/plain"), 0.001
        )
        self._gzip = quality(accept_encoding, "gzip") > 0
        self.headers = {
            "Content-Type": openmetrics.CONTENT_TYPE_LATEST
            if self._openmetrics
            else CONTENT_TYPE_PLAIN_0_0_4,
            "Vary": "Accept, Accept-Encoding",
        }
        if self._gzip:
            self.headers["Content-Encoding"] = "gzip"

    @property
    def format(self) -> tuple[bool, bool]:
        """Whether it is OpenMetrics, and whether it is compressed: equal in equal formats."""
        return self._openmetrics, self._gzip

    def render(self, collectors: Iterable[Collector]) -> bytes:
        """Return the collectors' families, written one by one to keep memory low."""
        output = io.BytesIO()
        sink = gzip.GzipFile(fileobj=output, mode="wb", compresslevel=1, mtime=0) if self._gzip else output
        for collector in collectors:
            for family in collector.collect():
                if isinstance(family, WrittenFamily):
                    self._write_lines(family, sink)
                else:
                    sink.write(self._write(family))
        if self._openmetrics:
            sink.write(_END)
        if sink is not output:
            sink.close()
        return output.getvalue()

    def _write(self, family: Metric) -> bytes:
        """Return one family: its head written by prometheus-client, its samples by `_write_sample`.

        No sample here has a timestamp or an exemplar, so both formats write it in the same way. Without the
        library's code for these, rendering takes less than half of the time.
        """
        samples = family.samples
        if not self._openmetrics:
            # The text format has no `_created`: prometheus-client would write gauges instead.
            samples = [sample for sample in samples if not sample.name.endswith(CREATED)]
        head = copy(family)  # a collector may return the same object at each scrape
        head.samples = []
        return self._head(head) + "".join(map(_write_sample, samples)).encode()

    def _write_lines(self, family: WrittenFamily, sink: io.BufferedIOBase) -> None:
        """Write a family whose lines are written already, in blocks: many small ones would take longer."""
        sink.write(self._head(family.head))
        leave_out = not self._openmetrics and family.head.type == "counter"
        lines = iter(family.lines)
        while some := list(islice(lines, _LINES_IN_A_BLOCK)):
            block = b"".join(some)
            sink.write(_CREATED_LINES.sub(b"", block) if leave_out else block)

    def _head(self, family: Metric) -> bytes:
        """Return the lines before the samples of a family that has none."""
        write: Callable[..., bytes] = openmetrics.generate_latest if self._openmetrics else generate_latest
        return write(_Single(family)).removesuffix(_END)


class _Single:
    """One family, as the registry that the library expects."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterator[Metric]:
        yield self._family


def _write_sample(sample: Sample) -> str:
    """Return a line of both formats (Prometheus: "Text-based format", OpenMetrics 1.0: "ABNF")."""
    labels, value = label_text(sample.labels.items()), number(sample.value)
    return f"{sample.name}{{{labels}}} {value}\n" if labels else f"{sample.name} {value}\n"


def quality(header: str, value: str) -> float:
    """Return the weight of a value in an Accept(-Encoding) header, 0 if the header does not name it."""
    best = 0.0
    for item in header.lower().split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        if name == value:
            weight = next((text[2:] for text in parameters if text.startswith("q=")), "1")
            try:
                best = max(best, float(weight))
            except ValueError:
                continue
    return best
