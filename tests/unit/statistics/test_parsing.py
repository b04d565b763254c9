import pytest

from taskrouter_exporter.statistics.parsing import parse_interval


@pytest.mark.parametrize(
    ("body", "interval"),
    [
        (b'{"start_time": "1970-01-01T00:01:00Z", "end_time": "1970-01-01T01:02:00+01:00"}', (60, 120)),
        (b'{"start_time": null, "end_time": "1970-01-01T00:02:00Z"}', (None, 120)),
        (b'{"start_time": "yesterday", "end_time": "1970-01-01T00:02:00"}', (None, None)),
        (b'{"total_tasks": 3}', (None, None)),
        (b"[]", (None, None)),
        (b"<html>", (None, None)),
    ],
)
def test_the_period_of_an_answer_is_what_it_says(
    body: bytes, interval: tuple[float | None, float | None]
) -> None:
    assert parse_interval(body) == interval
