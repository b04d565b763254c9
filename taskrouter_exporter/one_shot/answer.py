"""The answer to a question: one API call with its retries, by a deadline."""

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from taskrouter_exporter.api.call import Call, HttpAnswer
from taskrouter_exporter.api.client import Client, build_clients
from taskrouter_exporter.api.errors import ApiError, Reason
from taskrouter_exporter.api.executor import FairExecutor
from taskrouter_exporter.config.model import Config
from taskrouter_exporter.one_shot.question import Question
from taskrouter_exporter.one_shot.subject import find_query
from taskrouter_exporter.queries import Query
from taskrouter_exporter.statistics.answer import BadStatisticsError
from taskrouter_exporter.statistics.kind import Statistics
from taskrouter_exporter.statistics.parsing import parse, parse_interval

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Answer:
    """What TaskRouter said.

    Attributes:
        query: What was asked.
        statistics: The statistics.
        start: Start of the period as the answer says, in Unix seconds; None where it does not.
        end: Its end.
        received: When the answer was received, in Unix seconds.
        duration: Seconds that the call took, retries included.
        attempts: Number of requests that it took.
        request_id: Twilio's ID of the request.
    """

    query: Query
    statistics: Statistics
    start: float | None
    end: float | None
    received: float
    duration: float
    attempts: int
    request_id: str | None


async def ask(config: Config, question: Question, seconds: float) -> Answer:
    """Ask a question.

    Args:
        config: Says with which credentials, and how often to retry.
        question: What to ask.
        seconds: Time after which to give up, for the lists of names as well.

    Raises:
        QuestionError: a name in the question means nothing.
        ApiError: that of the last attempt. Its message names the request.
        ConfigError: a network setting or a password file cannot be used.
    """
    executor = FairExecutor(config.polling.concurrency, len(config.accounts))
    clients = build_clients(config, os.environ, executor, _NoObserver())
    deadline = time.monotonic() + seconds
    bounded = {name: BoundedClient(name, client, deadline) for name, client in clients.items()}
    try:
        query = await find_query(config, question, bounded)
        return await _poll(query, question, bounded)
    finally:
        executor.close()
        for client in clients.values():
            client.close()


class BoundedClient:
    """The client of an account whose calls all end by one deadline, and say which request failed."""

    def __init__(self, account: str, client: Client, deadline: float) -> None:
        self._account = account
        self._client = client
        self._deadline = deadline

    async def get(self, call: Call, read: Callable[[HttpAnswer], _Result]) -> _Result:
        """See api.client.Client.get.

        Raises:
            ApiError: that of the last attempt, or of `read`.
        """
        call.deadline = min(call.deadline, self._deadline)
        try:
            async with asyncio.timeout(call.deadline - time.monotonic()):
                return await self._client.get(call, read)
        except TimeoutError:
            raise self._named(call.failure_when_given_up(), call) from None
        except ApiError as error:
            raise self._named(error, call) from None

    def _named(self, error: ApiError, call: Call) -> ApiError:
        """Return the error with a message that says which request failed."""
        attempts = len(call.attempts) + call.requesting
        facts = [
            f"account {self._account}",
            f"HTTP {error.status}" if error.status else "no response",
            f"code {error.code}" if error.code else "",
            "1 attempt" if attempts == 1 else f"{attempts} attempts",
            f"{time.monotonic() - call.begun:.3f} s",
            error.request_id or "",
            self._client.base_url + call.path,
        ]
        return replace(error, message=f"{error.message} ({', '.join(filter(None, facts))})")


async def _poll(query: Query, question: Question, clients: Mapping[str, BoundedClient]) -> Answer:
    call = Call(query.path, query.parameters(question.start, question.end), deadline=float("inf"))
    read = partial(_read, query, call)
    return await clients[query.target.account].get(call, read)


def _read(query: Query, call: Call, answer: HttpAnswer) -> Answer:
    """Parse an answer, before its attempt is counted.

    Raises:
        ApiError: bad_response.
    """
    received, duration = time.time(), time.monotonic() - call.begun
    try:
        statistics = parse(query.kind, answer.body, query.period.role, query.path)
    except BadStatisticsError as error:
        raise ApiError(Reason.BAD_RESPONSE, str(error), status=answer.status) from None
    start, end = parse_interval(answer.body)
    attempts = len(call.attempts) + 1
    return Answer(query, statistics, start, end, received, duration, attempts, answer.request_id)


class _NoObserver:
    """Counts nothing: the process ends with its only call."""

    def requested(self, account: str, status: int | None, duration: float) -> None:
        """See api.client.RequestObserver."""

    def retried(self, account: str) -> None:
        """See api.client.RequestObserver."""
