"""A poll's story as text, for people: what was asked, each attempt, and what came of it."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from urllib.parse import urlencode

from taskrouter_exporter.config.model import Config
from taskrouter_exporter.poll_history import PollResult


def tell_polls(outcomes: Sequence[PollResult], config: Config) -> str:
    """The stories of these polls. No request header is told, and so no credentials."""
    return "\n".join(line for outcome in outcomes for line in _tell(outcome, config))


def _tell(outcome: PollResult, config: Config) -> Iterator[str]:
    query, target = outcome.query, outcome.query.target
    account, polling = config.accounts[target.account], config.polling
    finished = datetime.fromtimestamp(outcome.finished, UTC).isoformat(timespec="milliseconds")
    yield f"Query: workspace {target.workspace!r}, channel {target.channel!r}, {query.period.label}"
    yield f"  GET {account.base_url}{query.path}?{urlencode(query.parameters(outcome.anchor))}"
    yield (
        f"  account {account.name!r}, at most {polling.attempts} attempts of {polling.request_timeout:g} s"
    )
    for number, attempt in enumerate(outcome.attempts, 1):
        waited = f"after waiting {attempt.waited:.3f} s" if attempt.waited >= 0.0005 else "at once"  # noqa: PLR2004 -- half of what is shown
        answer = "no answer" if attempt.status is None else f"HTTP {attempt.status}"
        problem = f": {attempt.error.reason}, {attempt.error.message}" if attempt.error else ""
        yield f"  attempt {number}, {waited}: {answer} in {attempt.duration:.3f} s{problem}"
    if not outcome.attempts:
        yield "  no attempt"
    if outcome.rate_limit is not None:
        told = outcome.rate_limit
        limit, remaining = (
            "unknown" if value is None else f"{value:g}" for value in (told.limit, told.remaining)
        )
        yield f"  rate limit {limit}, remaining {remaining}"
    verdict = "up" if outcome.error is None else f"down: {outcome.error.reason}, {outcome.error.message}"
    yield f"  {verdict}, {outcome.duration:.3f} s in all, finished {finished}"
    yield ""
