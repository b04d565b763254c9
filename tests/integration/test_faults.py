"""Every fault of the simulator against the real process: its target is down, all others are unaffected."""

from collections.abc import Callable

import pytest
from support.configurations import simulated
from support.exporter import Exporter
from support.faults import Fault, FaultySimulator

from taskrouter_exporter.simulator import Simulator

SCRAPE_TIMEOUT = 8
OFFSET = 0.5

FAULTS = {
    "hang": (Fault.hang(), "timeout"),
    "latency past the deadline": (Fault.latency(20), "timeout"),
    "slow body": (Fault.slow_drip(0.05), "timeout"),
    "slow head": (Fault.slow_drip(0.05, headers=True), "timeout"),
    "reset": (Fault.reset(), "connection"),
    "truncated body": (Fault.truncated(), "connection"),
    "HTML from a proxy": (Fault.html(502), "server_error"),
    "HTML with status 200": (Fault.html(200), "bad_response"),
    "invalid JSON": (Fault.invalid_json(), "bad_response"),
    "a string for a number": (Fault.wrong_types(), "bad_response"),
    "NaN for a number": (Fault.wrong_types(value=float("nan")), "bad_response"),
    "not an object": (Fault.not_object(), "bad_response"),
    "huge body": (Fault.huge_body(), "bad_response"),
    "huge chunked body": (Fault.huge_body(chunked=True), "bad_response"),
    "redirect": (Fault.redirect(), "bad_response"),
    "status 400": (Fault.status(400), "bad_response"),
    "status 401": (Fault.status(401), "auth"),
    "status 403": (Fault.status(403), "forbidden"),
    "status 404": (Fault.status(404), "not_found"),
    "status 404, RFC 9457": (Fault.status(404, problem=True), "not_found"),
    "status 429": (Fault.status(429), "rate_limited"),
    # Not before every query is asked: the others would wait, and a query that was not asked has not failed.
    "status 429 with a long Retry-After": (Fault.status(429, retry_after=60).after(0.5), "rate_limited"),
    "status 500": (Fault.status(500), "server_error"),
    "status 501": (Fault.status(501), "server_error"),
    "status 503 with an invalid Retry-After": (Fault.status(503, retry_after="soon"), "server_error"),
}
REASONS = {
    "auth", "forbidden", "not_found", "rate_limited", "server_error", "timeout", "connection", "bad_response",
}  # fmt: skip


def test_the_faults_cover_every_reason() -> None:
    assert {reason for _, reason in FAULTS.values()} == REASONS


@pytest.mark.parametrize(("fault", "reason"), FAULTS.values(), ids=FAULTS)
def test_only_the_affected_target_is_down_with_the_right_reason(
    fault: Fault, reason: str, simulator: FaultySimulator, start_exporter: Callable[..., Exporter]
) -> None:
    exporter = start_exporter(simulated(simulator, attempts=2, request_timeout="2s"))
    failing, *healthy = (workspace.friendly_name for workspace in simulator.centre.workspaces)
    before = exporter.scrape(SCRAPE_TIMEOUT)
    simulator.faults.set(simulator.centre.workspaces[0].sid, fault)
    during = exporter.scrape(SCRAPE_TIMEOUT)

    assert during.answer.seconds < SCRAPE_TIMEOUT - OFFSET
    assert set(during.find("up", workspace=failing).values()) == {0}
    assert during.statistics(workspace=failing) == set()
    for channel in ("all", "voice"):
        for window in ("15m", "day"):
            labels = {"workspace": failing, "channel": channel, "window": window}
            counted = during.find("poll_errors_total", **labels)
            assert {dict(labels)["reason"]: value for labels, value in counted.items() if value} == {
                reason: 1
            }
    for workspace in healthy:
        assert set(during.find("up", workspace=workspace).values()) == {1}
        assert during.statistics(workspace=workspace) == before.statistics(workspace=workspace)
    exporter.wait_for_log(rf'msg="poll failed".*workspace={failing}.*reason={reason}')

    simulator.faults.clear()
    after = exporter.scrape(SCRAPE_TIMEOUT)
    assert set(after.find("up").values()) == {1}
    assert after.statistics() == before.statistics()


@pytest.mark.parametrize(
    "fault",
    [
        Fault.latency(0.5),
        Fault.status(503, times=4),
        Fault.status(429, times=4, retry_after=1),
        Fault.reset(times=4),
        Fault.truncated(times=4),
    ],
    ids=["slow", "503 once each", "429 once each with Retry-After", "reset once each", "truncated once each"],
)
def test_a_fault_that_ends_within_the_deadline_takes_no_query_down(
    fault: Fault, simulator: FaultySimulator, start_exporter: Callable[..., Exporter]
) -> None:
    exporter = start_exporter(simulated(simulator, attempts=5))
    simulator.faults.set(simulator.centre.workspaces[0].sid, fault)
    scrape = exporter.scrape(SCRAPE_TIMEOUT * 2)
    assert set(scrape.find("up").values()) == {1}
    # After a reset, a reused connection is replaced within the attempt.
    if fault.times and fault.name != "reset":
        assert scrape.value("api_retries_total") == fault.times


def test_null_attributes_are_absent_and_the_target_is_up(
    simulator: FaultySimulator, start_exporter: Callable[..., Exporter]
) -> None:
    exporter = start_exporter(simulated(simulator))
    simulator.faults.set(simulator.centre.workspaces[0].sid, Fault.nulls())
    scrape = exporter.scrape()
    assert set(scrape.find("up").values()) == {1}
    assert scrape.statistics(workspace=simulator.centre.workspaces[0].friendly_name) == set()


def test_a_missing_attribute_is_absent_and_all_others_are_published(
    simulator: FaultySimulator, start_exporter: Callable[..., Exporter]
) -> None:
    exporter = start_exporter(simulated(simulator))
    workspace = simulator.centre.workspaces[0]
    simulator.faults.set(workspace.sid, Fault.missing("reservations_created"))
    scrape = exporter.scrape()
    assert set(scrape.find("up").values()) == {1}
    assert scrape.find("window_reservations", workspace=workspace.friendly_name) == {}
    assert scrape.find("window_reservation_outcomes", workspace=workspace.friendly_name) != {}


def test_an_answer_without_any_statistics_is_a_bad_response(
    simulator: FaultySimulator, start_exporter: Callable[..., Exporter]
) -> None:
    exporter = start_exporter(simulated(simulator))
    workspace = simulator.centre.workspaces[0]
    simulator.faults.set(workspace.sid, Fault.missing())
    scrape = exporter.scrape()
    assert set(scrape.find("up", workspace=workspace.friendly_name).values()) == {0}
    failed = scrape.find("poll_errors_total", workspace=workspace.friendly_name, reason="bad_response")
    assert set(failed.values()) == {1}


def test_wrong_credentials_are_an_auth_error_and_nothing_is_retried(
    simulator: Simulator, start_exporter: Callable[..., Exporter]
) -> None:
    config = simulated(simulator)
    config["accounts"]["default"]["password"] = "wrong-secret"
    exporter = start_exporter(config)
    scrape = exporter.scrape()
    assert set(scrape.find("up").values()) == {0}
    assert set(scrape.find("poll_errors_total", reason="auth").values()) == {1}
    assert scrape.value("api_requests_total", code="401") == len(scrape.find("up"))
    assert scrape.value("api_retries_total") == 0
    exporter.wait_for_log(r"status=401 code=20003 message=Authenticate")
    exporter.assert_clean_log(["wrong-secret"])


def test_hanging_requests_never_block_the_pool_permanently(
    simulator: FaultySimulator, start_exporter: Callable[..., Exporter]
) -> None:
    exporter = start_exporter(simulated(simulator, concurrency=2, attempts=1, request_timeout="1s"))
    for workspace in simulator.centre.workspaces:
        simulator.faults.set(workspace.sid, Fault.slow_drip(0.05))
    for _ in range(3):
        assert set(exporter.scrape(1.5).find("up").values()) == {0}
    simulator.faults.clear()
    assert set(exporter.scrape(SCRAPE_TIMEOUT).find("up").values()) == {1}


def test_a_hanging_account_does_not_starve_another(
    simulator: FaultySimulator, start_exporter: Callable[..., Exporter]
) -> None:
    config = simulated(simulator, concurrency=4)
    with FaultySimulator(simulator.centre) as other:
        hanging = simulator.centre.workspaces[0].sid
        other.faults.set(hanging, Fault.hang())
        config["accounts"]["hanging"] = {**config["accounts"]["default"], "base_url": other.base_url}
        config["targets"][0].update(account="hanging", windows=[f"{number}m" for number in range(1, 30)])
        exporter = start_exporter(config)
        for _ in range(2):
            scrape = exporter.scrape(SCRAPE_TIMEOUT)
            assert set(
                scrape.find("up", workspace=simulator.centre.workspaces[0].friendly_name).values()
            ) == {0}
            for workspace in simulator.centre.workspaces[1:]:
                assert set(scrape.find("up", workspace=workspace.friendly_name).values()) == {1}
