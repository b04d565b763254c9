"""The reasons why a poll fails, and the one exception that carries them."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Self


class Reason(StrEnum):
    """The value of the label `reason`."""

    AUTH = "auth"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    BAD_RESPONSE = "bad_response"


_REASON_OF_STATUS: Final = {
    401: Reason.AUTH,
    403: Reason.FORBIDDEN,
    404: Reason.NOT_FOUND,
    429: Reason.RATE_LIMITED,
}
_RETRIED_STATUSES: Final = frozenset({429, 500, 502, 503, 504})


def reason_of_status(status: int) -> Reason:
    """Return the reason for an HTTP status other than 200."""
    fallback = Reason.SERVER_ERROR if 500 <= status <= 599 else Reason.BAD_RESPONSE  # noqa: PLR2004 -- 5xx
    return _REASON_OF_STATUS.get(status, fallback)


@dataclass(eq=False)
class ApiError(Exception):
    """An attempt, or a whole poll, without a usable answer.

    Attributes:
        reason: Value of the label `reason`.
        message: One line for people, without secrets.
        status: HTTP status, where there was one.
        code: Twilio's error code, where the body has one.
        retry_after: Seconds that the server asks to wait, where it does.
        request_id: Twilio's ID of the request, which its support asks for.
    """

    reason: Reason
    message: str
    status: int | None = None
    code: int | None = None
    retry_after: float | None = None
    request_id: str | None = None

    @property
    def retryable(self) -> bool:
        """Whether another attempt can help: connection errors, timeouts, 429 and some 5xx."""
        return self.reason in (Reason.CONNECTION, Reason.TIMEOUT) or self.status in _RETRIED_STATUSES

    def without_traceback(self) -> Self:
        """Return a copy to keep: a traceback keeps its frames alive, with bodies and connections."""
        return replace(self)

    def __str__(self) -> str:
        """Return the message alone."""
        return self.message
