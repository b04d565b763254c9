"""The newest failed polls of each target."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from taskrouter_exporter.api.errors import Reason
from taskrouter_exporter.poll_history import PollResult
from taskrouter_exporter.queries import Query, Target

MOST_FAILURES: Final = 20
"""Of one target."""

_MOST_IN_ALL: Final = 100_000
"""With more than 5,000 failing targets, each has fewer: about 25 MB are the most that failures take."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed poll.

    Attributes:
        query: What was asked.
        finished: When the poll ended, in Unix seconds.
        reason: Of its last attempt.
        status: HTTP status, where there was one.
        code: Twilio's error code, where the response had one.
        request_id: Twilio's ID of the request, where the response had one.
    """

    query: Query
    finished: float
    reason: Reason
    status: int | None
    code: int | None
    request_id: str | None


class Failures:
    """The newest failed polls of each target, kept over reloads. Other threads may read them."""

    def __init__(self) -> None:
        self._by_target: dict[Target, list[Failure]] = {}
        self._most = MOST_FAILURES

    def record(self, result: PollResult) -> None:
        """Keep a failed poll, in place of the target's oldest where there are many."""
        query, error = result.query, result.error
        if error is None:
            return
        failures = self._by_target.get(query.target)
        if failures is None:
            failures = self._by_target[query.target] = []
            self._limit()
        failures.append(
            Failure(query, result.finished, error.reason, error.status, error.code, error.request_id)
        )
        del failures[: -self._most]

    def of(self, target: Target) -> Sequence[Failure]:
        """Return the failed polls of a target, the newest first."""
        return tuple(self._by_target.get(target, ()))[::-1]

    def forget_all_but(self, queries: Collection[Query]) -> None:
        """Drop the failed polls of targets that are no longer configured."""
        targets = {query.target for query in queries}
        self._by_target = {
            target: failures for target, failures in self._by_target.items() if target in targets
        }
        self._limit()

    def _limit(self) -> None:
        most = max(1, min(MOST_FAILURES, _MOST_IN_ALL // max(1, len(self._by_target))))
        if most < self._most:
            for failures in self._by_target.values():
                del failures[:-most]
        self._most = most
