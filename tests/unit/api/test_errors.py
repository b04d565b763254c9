import pytest

from taskrouter_exporter.api.errors import ApiError, Reason, reason_of_status


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "auth"), (403, "forbidden"), (404, "not_found"), (429, "rate_limited"), (500, "server_error"),
        (599, "server_error"), (204, "bad_response"), (302, "bad_response"), (418, "bad_response"),
    ],
)  # fmt: skip
def test_each_status_has_its_reason(status: int, reason: str) -> None:
    assert reason_of_status(status) == reason


def test_exactly_these_statuses_are_retried() -> None:
    errors = [ApiError(reason_of_status(status), "x", status) for status in range(100, 600)]
    assert [error.status for error in errors if error.retryable] == [429, 500, 502, 503, 504]


@pytest.mark.parametrize("reason", Reason)
def test_without_a_status_only_connection_errors_and_timeouts_are_retried(reason: Reason) -> None:
    assert ApiError(reason, "x").retryable is (reason in {Reason.CONNECTION, Reason.TIMEOUT})


def test_an_error_reads_as_its_message() -> None:
    assert str(ApiError(Reason.AUTH, "Authenticate", 401, 20003)) == "Authenticate"
