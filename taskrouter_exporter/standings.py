"""How each query behaved at its polls so far, and the claim to a thread that follows from it."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from taskrouter_exporter.api.call import Call
from taskrouter_exporter.api.errors import ApiError, Reason
from taskrouter_exporter.api.fair_queue import Claim, Standing
from taskrouter_exporter.queries import Query

_MOST_RELAPSES: Final = 6
_REHABILITATION: Final = 4
"""So many times the probation must be passed before one relapse is forgotten."""

_FADING: Final = 0.8
"""What is left of a slow answer's time after one poll: slow every other time is slow."""

_NEARLY: Final = 0.9
"""A timeout that ended a little early is one."""


@dataclass(slots=True)
class _Conduct:
    """What is known of one query.

    Attributes:
        hung: Whether its last poll had no answer in time.
        seconds: How long its answers take; a slow one fades with time.
        slow: Whether that is longer than a quarter of the request timeout.
        streak: Polls since it last hung.
        relapses: How often it began to hang, less the times it has made up for; each doubles the probation.
        asked: When its last request was sent, on the monotonic clock.
    """

    hung: bool = False
    seconds: float = 0.0
    slow: bool = False
    streak: int = 0
    relapses: int = 0
    asked: float = 0.0

    @property
    def standing(self) -> Standing:
        """The standing that follows."""
        if self.hung:
            return Standing.HUNG
        # A query that hangs at every other poll, or every tenth, must not count as proven in between.
        on_probation = self.relapses and self.streak < 2**self.relapses
        return Standing.DOUBTFUL if self.slow or on_probation else Standing.PROVEN


class Standings:
    """The standing of each query, kept over reloads.

    Args:
        chance: Returns a random number from 0 to 1.
    """

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._known: dict[Query, _Conduct] = {}
        self._proven = 0

    def standing(self, query: Query) -> Standing:
        """Return the query's standing."""
        conduct = self._known.get(query)
        return Standing.UNKNOWN if conduct is None else conduct.standing

    def claim(self, query: Query, resource: str) -> Claim:
        """Return the query's claim to a thread at its next poll.

        Args:
            query: What is asked.
            resource: Name of the API's resource, which has a rate limit in each workspace.
        """
        conduct, standing = self._known.get(query), self.standing(query)
        if conduct is None or standing is Standing.PROVEN:
            # Equals not in the order of the configuration, in which those that hang may all come first.
            rank = self._chance() - (conduct.streak if conduct else 0)
        elif standing is Standing.DOUBTFUL:
            rank = round(conduct.seconds)  # rounded, or others would be lost each time where all are slow
        else:
            rank = conduct.asked
        workspace = query.target.workspace_sid
        return Claim(workspace, f"{workspace}/{resource}", standing, rank, limited=self._proven > 0)

    def record(self, query: Query, call: Call, error: ApiError | None, now: float) -> None:
        """Take a poll that is over into account; one that was hardly asked says nothing about its query."""
        hung = has_hung(call, error, now)
        if hung is None:
            return
        self._proven -= self.standing(query) is Standing.PROVEN
        conduct = self._known.setdefault(query, _Conduct())
        if hung:
            conduct.relapses = min(conduct.relapses + (not conduct.hung), _MOST_RELAPSES)
            conduct.streak = 0
        else:
            conduct.streak += 1
            if conduct.relapses and conduct.streak >= _REHABILITATION * 2**conduct.relapses:
                conduct.relapses -= 1
        conduct.hung = hung
        if call.attempts and not hung:
            conduct.seconds = max(call.attempts[-1].duration, _FADING * conduct.seconds)
            conduct.slow = conduct.seconds > call.patience
        conduct.asked = call.begun if call.asked is None else call.asked
        self._proven += conduct.standing is Standing.PROVEN

    def forget_all_but(self, queries: Iterable[Query]) -> None:
        """Drop what is known of queries that are no longer configured."""
        kept = frozenset(queries)
        self._known = {query: conduct for query, conduct in self._known.items() if query in kept}
        self._proven = sum(conduct.standing is Standing.PROVEN for conduct in self._known.values())


def has_hung(call: Call, error: ApiError | None, now: float) -> bool | None:
    """Return whether a call has hung, None where that cannot be said.

    It has where no answer came in the end, although one request had its patience at least, and where one
    attempt took half of the request timeout and more without an answer, whatever came of its retries: it
    held a thread for that long.
    """
    timeouts = [
        attempt.duration
        for attempt in call.attempts
        if attempt.error is not None and attempt.error.reason is Reason.TIMEOUT
    ]
    if call.requesting and call.asked is not None:
        timeouts.append(now - call.asked)
    longest = max(timeouts, default=0.0)
    if error is not None and error.reason is Reason.TIMEOUT:
        return True if longest >= _NEARLY * call.patience else None
    if error is not None and not call.attempts:
        return None
    return longest >= _NEARLY * 2 * call.patience
