"""Queries that the API refuses poll after poll, and are therefore asked less often."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import structlog

from taskrouter_exporter.api.errors import ApiError, Reason
from taskrouter_exporter.queries import Query

log = structlog.get_logger()

_REFUSALS: Final = frozenset({Reason.NOT_FOUND, Reason.FORBIDDEN})
_FIRST_PAUSE_SECONDS: Final = 30.0
_LONGEST_PAUSE_SECONDS: Final = 600.0


@dataclass(slots=True)
class _Refused:
    """What is known of a query that was refused.

    Attributes:
        refusals: Polls in a row.
        error: The last one's.
        until: When it may be asked again, on the monotonic clock.
        generation: Of the credentials that were refused.
    """

    refusals: int
    error: ApiError
    until: float
    generation: int


class Pauses:
    """When each query that was refused may be asked again.

    TaskRouter's error 70005 makes repeated requests for deleted resources a failure of their own. A single
    refusal changes nothing; the second in a row is followed by a pause of 30 s, and each further one by twice
    the pause before, up to 10 min.
    """

    def __init__(self) -> None:
        self._refused: dict[Query, _Refused] = {}

    def __contains__(self, query: Query) -> bool:
        """Whether the query was refused at its last poll."""
        return query in self._refused

    def error(self, query: Query, now: float, generation: int) -> ApiError | None:
        """Return why the query is not asked now, None where it is to be asked.

        Args:
            query: What would be asked.
            now: On the monotonic clock.
            generation: Of the account's credentials; new ones may be admitted.
        """
        refused = self._refused.get(query)
        if refused is None or generation != refused.generation or now >= refused.until:
            return None
        error = refused.error
        wait = f"refused {refused.refusals} times in a row, next attempt in {refused.until - now:.0f} s"
        return ApiError(error.reason, f"{error.message} ({wait})", error.status, error.code)

    def record(self, query: Query, error: ApiError | None, now: float, generation: int) -> None:
        """Take a poll that was carried out into account."""
        if error is None or error.reason not in _REFUSALS:
            self._refused.pop(query, None)
            return
        before = self._refused.get(query)
        refusals = before.refusals + 1 if before and before.generation == generation else 1
        pause = pause_seconds(refusals)
        self._refused[query] = _Refused(refusals, error, now + pause, generation)
        if pause == _FIRST_PAUSE_SECONDS:
            message = "query refused repeatedly; polling it less often"
            log.info(message, **query.labels, reason=error.reason)

    def clear(self) -> None:
        """Ask every query at its next poll."""
        self._refused.clear()

    def forget_all_but(self, queries: Iterable[Query]) -> None:
        """Drop what is known of other queries."""
        kept = frozenset(queries)
        self._refused = {query: refused for query, refused in self._refused.items() if query in kept}


def pause_seconds(refusals: int) -> float:
    """Return how long a query is not asked after so many refusals in a row."""
    if refusals <= 1:
        return 0.0
    return min(_FIRST_PAUSE_SECONDS * 2.0 ** min(refusals - 2, 10), _LONGEST_PAUSE_SECONDS)
