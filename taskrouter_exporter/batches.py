"""Queries to API requests: one each, or one for several queues where the API has a request for that."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from taskrouter_exporter.api.call import HttpAnswer
from taskrouter_exporter.api.errors import ApiError, Reason
from taskrouter_exporter.queries import ALL_CHANNELS, Query
from taskrouter_exporter.statistics.answer import BadStatisticsError
from taskrouter_exporter.statistics.kind import Bulk, Kind, Statistics
from taskrouter_exporter.statistics.parsing import parse, parse_bulk

_REFUSALS: Final = frozenset({Reason.FORBIDDEN, Reason.NOT_FOUND, Reason.BAD_RESPONSE})
_SINGLY_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class Batch:
    """The queries of one API request: those about other subjects, but alike in everything else.

    Attributes:
        queries: One or more.
        bulk: The request for all of them, None for that of the only one.
    """

    queries: tuple[Query, ...]
    bulk: Bulk | None = None

    def only(self, queries: tuple[Query, ...]) -> "Batch":
        """Return the batch of some of its queries, one or more."""
        return self if queries == self.queries else Batch(queries, self.bulk if len(queries) > 1 else None)

    @property
    def path(self) -> str:
        """The path of the API resource."""
        first = self.queries[0]
        return first.kind.bulk_path(first.target.workspace_sid) if self.bulk else first.path

    @property
    def rate_limited_as(self) -> str:
        """The name of the API's resource, which has a rate limit in each workspace."""
        return self.bulk.rate_limited_as if self.bulk else self.queries[0].kind.rate_limited_as

    @property
    def body(self) -> bytes | None:
        """The body of the request, None for a GET."""
        return json.dumps({self.bulk.names: self._sids}).encode() if self.bulk else None

    def parameters(self, anchor: datetime | None) -> Mapping[str, str]:
        """Return the URL parameters; `anchor` is the start of an anchored period."""
        return {} if self.bulk else self.queries[0].parameters(anchor)

    def read(self, answer: HttpAnswer) -> list[Statistics | ApiError]:
        """Parse the answer: the statistics of each query, or why it has none.

        Raises:
            ApiError: bad_response; no query has any.
        """
        first = self.queries[0]
        try:
            if not self.bulk:
                return [parse(first.kind, answer.body, first.period.role, first.path)]
            by_sid = parse_bulk(first.kind, answer.body, first.target.workspace_sid, self._sids)
        except BadStatisticsError as error:
            raise _bad_response(error, answer) from None
        items = (by_sid[sid] for sid in self._sids)
        return [item if isinstance(item, Statistics) else _bad_response(item, answer) for item in items]

    @property
    def _sids(self) -> list[str]:
        return [query.row.sid for query in self.queries if query.row is not None]


class _Group(NamedTuple):
    """What the queries of one request have in common."""

    account: str
    workspace_sid: str
    kind: Kind


class Batching:
    """Says which queries go together, and remembers where the API refuses to take them together."""

    def __init__(self) -> None:
        self._singly_until: dict[_Group, float] = {}

    def batches(self, queries: Iterable[Query], now: float) -> Iterator[Batch]:
        """Yield each query in one batch. A request that would have only one subject is an ordinary one.

        Args:
            queries: Those to be asked.
            now: On the monotonic clock.
        """
        groups: dict[_Group, list[Query]] = {}
        for query in queries:
            group = _group(query)
            if group is None or now < self._singly_until.get(group, now):
                yield Batch((query,))
            else:
                groups.setdefault(group, []).append(query)
        for group, members in groups.items():
            bulk = group.kind.bulk
            most = bulk.most if bulk else 1
            for begin in range(0, len(members), most):
                part = tuple(members[begin : begin + most])
                yield Batch(part, bulk if len(part) > 1 else None)

    def record(self, batch: Batch, error: ApiError | None, now: float) -> None:
        """Take a request's result into account: after a refusal, ask singly for ten minutes."""
        group = _group(batch.queries[0])
        if batch.bulk and group is not None and error is not None and error.reason in _REFUSALS:
            self._singly_until[group] = now + _SINGLY_SECONDS


def _group(query: Query) -> _Group | None:
    """Return what a query must have in common with others of its request, None where it goes alone."""
    if query.kind.bulk is None or query.target.channel != ALL_CHANNELS:
        return None
    return _Group(query.target.account, query.target.workspace_sid, query.kind)


def _bad_response(error: BadStatisticsError, answer: HttpAnswer) -> ApiError:
    return ApiError(Reason.BAD_RESPONSE, str(error), status=answer.status)
