"""Gaps in what Prometheus has: the steps at which none of a query's series has a sample."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from taskrouter_exporter.history.endpoint import HttpClient, UnreachableError
from taskrouter_exporter.history.errors import BackfillError
from taskrouter_exporter.history.plan import Range
from taskrouter_exporter.lines import family_name, label_text
from taskrouter_exporter.queries import Query

_MOST_STEPS: Final = 10_000
"""Prometheus returns at most 11,000 points of a series."""

_MILLISECONDS: Final = 1000

Spans = tuple[tuple[int, int], ...]


def find_gaps(
    client: HttpClient, queries: Sequence[Query], span: Range, labels: Mapping[str, str]
) -> tuple[Spans, ...]:
    """Return the gaps of each query: first and last step of each.

    Args:
        client: For the server.
        queries: Whose series are looked for.
        span: The steps. A step is no gap if there is a sample between the previous step and it.
        labels: More labels that the series must have.

    Raises:
        BackfillError: Prometheus cannot be asked.
    """
    return tuple(_spans(span, _present(client, _selector(query, labels), span)) for query in queries)


def _selector(query: Query, labels: Mapping[str, str]) -> str:
    """Return a PromQL selector of all series of a query."""
    names = "|".join(
        family_name(query.kind, family) + ("_total" if family.type == "counter" else "")
        for family in query.kind.families[query.period.role]
    )
    return f'{{__name__=~"{names}",{label_text({**query.statistics_labels, **labels}.items())}}}'


def _present(client: HttpClient, selector: str, span: Range) -> set[int]:
    """Return the steps at which a selector has samples."""
    # Up to Prometheus 2, a range includes its start, at which the previous step is.
    expression = f"count(last_over_time({selector}[{span.step * _MILLISECONDS - 1}ms]))"
    present: set[int] = set()
    for first in range(0, len(span.steps), _MOST_STEPS):
        steps = span.steps[first : first + _MOST_STEPS]
        parameters = {
            "query": expression,
            "start": str(steps[0]),
            "end": str(steps[-1]),
            "step": str(span.step),
        }
        try:
            body = client.post("/api/v1/query_range", parameters, {"Accept": "application/json"})
        except UnreachableError as error:
            raise BackfillError(str(error)) from None
        present.update(_times(body))
    return present


def _times(body: bytes) -> Iterator[int]:
    """Yield the times of the samples in an answer of Prometheus.

    Raises:
        BackfillError: it is not such an answer.
    """
    try:
        document: Any = json.loads(body)
        for series in document["data"]["result"]:
            for at, _ in series["values"]:
                yield round(at)
    except (ValueError, KeyError, TypeError):
        raise BackfillError("--prometheus: the answer is not that of Prometheus's query_range") from None


def _spans(span: Range, present: set[int]) -> Spans:
    """Return the first and the last step of each span of steps that are not present."""
    spans: list[tuple[int, int]] = []
    for step in span.steps:
        if step in present:
            continue
        if spans and spans[-1][1] == step - span.step:
            spans[-1] = spans[-1][0], step
        else:
            spans.append((step, step))
    return tuple(spans)
