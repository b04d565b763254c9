"""Debug output of polls, as text: what was requested, each attempt, and the result."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlencode

from taskrouter_exporter.config.model import Config
from taskrouter_exporter.poll_history import PollResult

_SHOWN_SECONDS: Final = 0.0005
"""A shorter wait is shown as 0.000 s."""


def describe_polls(results: Sequence[PollResult], config: Config) -> str:
    """Return the debug output of polls. Request headers, and so credentials, are no part of it."""
    return "\n".join(line for result in results for line in _describe(result, config))


def _describe(result: PollResult, config: Config) -> Iterator[str]:
    query, target = result.query, result.query.target
    account, polling = config.accounts[target.account], config.polling
    row = f", {query.kind.subject} {query.row.name!r}" if query.row else ""
    period = f", {query.period.label}" if query.period.label else ""
    yield (
        f"Query: workspace {target.workspace!r}, channel {target.channel!r}{row}, {query.kind.name}{period}"
    )
    if result.together > 1:
        path = query.kind.bulk_path(target.workspace_sid)
        yield f"  POST {account.base_url}{path} for {result.together} queries"
    else:
        parameters = urlencode(query.parameters(result.anchor))
        yield f"  GET {account.base_url}{query.path}" + (f"?{parameters}" if parameters else "")
    attempts = "1 attempt" if polling.attempts == 1 else f"{polling.attempts} attempts"
    yield f"  account {account.name!r}, up to {attempts} with a timeout of {polling.request_timeout:g} s"
    for number, attempt in enumerate(result.attempts, 1):
        wait = f", waited {attempt.waited:.3f} s" if attempt.waited >= _SHOWN_SECONDS else ""
        answer = "no response" if attempt.status is None else f"HTTP {attempt.status}"
        problem = f": {attempt.error.reason}, {attempt.error.message}" if attempt.error else ""
        yield f"  attempt {number}{wait}: {answer} in {attempt.duration:.3f} s{problem}"
    if not result.attempts:
        yield "  no attempts"
    if result.rate_limit is not None:
        limit, remaining = (
            "unknown" if value is None else f"{value:g}"
            for value in (result.rate_limit.limit, result.rate_limit.remaining)
        )
        yield f"  rate limit {limit}, remaining {remaining}"
    state = "up" if result.error is None else f"down: {result.error.reason}, {result.error.message}"
    finished = datetime.fromtimestamp(result.finished, UTC).isoformat(timespec="milliseconds")
    yield f"  {state}; {result.duration:.3f} s in total, finished {finished}"
    yield ""
