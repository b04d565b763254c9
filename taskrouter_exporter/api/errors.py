"""Why a poll failed: the reasons that users see, and the one exception that carries them."""

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
    """The reason that an HTTP status other than 200 stands for."""
    fallback = Reason.SERVER_ERROR if 500 <= status <= 599 else Reason.BAD_RESPONSE  # noqa: PLR2004 -- 5xx
    return _REASON_OF_STATUS.get(status, fallback)


@dataclass(eq=False)
class ApiError(Exception):
    """An attempt, or a whole poll, that brought no usable answer.

    Attributes:
        reason: The label that the failure is counted under.
        message: One line for people, without secrets.
        status: HTTP status, where there was one.
        code: Twilio's own error code, where the body told one.
        retry_after: Seconds to wait as the server asks, where it did.
    """

    reason: Reason
    message: str
    status: int | None = None
    code: int | None = None
    retry_after: float | None = None

    @property
    def retryable(self) -> bool:
        """Whether another attempt can help: connection errors, time-outs, 429 and some 5xx."""
        return self.reason in (Reason.CONNECTION, Reason.TIMEOUT) or self.status in _RETRIED_STATUSES

    def without_traceback(self) -> Self:
        """A copy to keep: a traceback keeps alive all that its frames know, bodies and connections too."""
        return replace(self)

    def __str__(self) -> str:
        """The message alone."""
        return self.message
