"""The parameters of requests."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Final

from taskrouter_exporter.sids import is_sid
from taskrouter_exporter.simulator.wire import ApiError, Request

HISTORY: Final = timedelta(days=30)
"""How far back statistics reach. Source: https://www.twilio.com/docs/taskrouter/api/worker/statistics."""

_DEFAULT_MINUTES: Final = 15
_MAX_MINUTES: Final = HISTORY // timedelta(minutes=1)
_MOST_THRESHOLDS: Final = 50
_MOST_QUEUES: Final = 50


def interval(parameters: Mapping[str, str], now: datetime) -> tuple[datetime, datetime]:
    """Return start and end of the period that the parameters select.

    EndDate without StartDate is not documented. Here it selects the 15 minutes before EndDate.
    """
    dates = {name: _date(parameters, name) for name in ("StartDate", "EndDate") if name in parameters}
    if "Minutes" in parameters and dates:
        raise ApiError(HTTPStatus.BAD_REQUEST, "Minutes cannot be used together with StartDate or EndDate")
    minutes = timedelta(minutes=integer(parameters, "Minutes", _DEFAULT_MINUTES, 1, _MAX_MINUTES))
    end = min(dates.get("EndDate", now), now)
    start = dates.get("StartDate", end - minutes)
    if start > end:
        raise ApiError(HTTPStatus.BAD_REQUEST, "StartDate is not before EndDate and now")
    if start < now - HISTORY:
        raise ApiError(HTTPStatus.BAD_REQUEST, "StartDate is more than 30 days ago")
    return start, end


def _date(parameters: Mapping[str, str], name: str) -> datetime:
    """Parse an ISO 8601 time; without an offset it is UTC."""
    try:
        moment = datetime.fromisoformat(parameters[name])
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ApiError(HTTPStatus.BAD_REQUEST, f"{name} is not an ISO 8601 date and time") from error


def integer(parameters: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    """Return a parameter from `low` to `high`."""
    text = parameters.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
        raise ApiError(HTTPStatus.BAD_REQUEST, f"{name} is not an integer from {low} to {high}")
    return int(text)


def thresholds(parameters: Mapping[str, str]) -> tuple[int, ...]:
    """Return the seconds of `SplitByWaitTime`, without duplicates.

    It is not documented how many there can be, or what the answer to an invalid list is. Here, that is a 400.
    """
    texts = [text.strip() for text in parameters.get("SplitByWaitTime", "").split(",") if text.strip()]
    if len(texts) > _MOST_THRESHOLDS or not all(re.fullmatch("[0-9]{1,6}", text) for text in texts):
        raise ApiError(HTTPStatus.BAD_REQUEST, "SplitByWaitTime is not a list of whole seconds")
    return tuple(dict.fromkeys(map(int, texts)))


def queue_sids(request: Request) -> list[str]:
    """Return the SIDs in the body of a request for real-time statistics of several TaskQueues.

    The documentation's table calls the attribute `QueueSids`, its example `queueSids`; both work here. Fewer
    than 1 or more than 50 and invalid SIDs are answered with 400.
    Source: https://www.twilio.com/docs/taskrouter/api/taskqueue-statistics
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        content = json.loads(request.body)
    except ValueError:
        content = None
    if media_type != "application/json" or not isinstance(content, dict):
        raise ApiError(HTTPStatus.BAD_REQUEST, "The body is not a JSON object")
    sids = content.get("queueSids", content.get("QueueSids"))
    if not isinstance(sids, list) or not 1 <= len(sids) <= _MOST_QUEUES:
        raise ApiError(
            HTTPStatus.BAD_REQUEST, f"queueSids is not a list of 1 to {_MOST_QUEUES} TaskQueue SIDs"
        )
    for sid in sids:
        if not isinstance(sid, str) or not is_sid("WQ", sid):
            raise ApiError(HTTPStatus.BAD_REQUEST, f"{sid!r} is not the SID of a TaskQueue")
    return sids
