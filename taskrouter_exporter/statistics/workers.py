"""Workers' cumulative statistics: reservations, and the time spent in each Activity."""

from collections.abc import Callable, Iterator
from typing import Annotated, Final

from pydantic import Field

from taskrouter_exporter.statistics.answer import (
    MOST_ACTIVITIES,
    ActivityModel,
    AnswerModel,
    Number,
    StatisticsModel,
    Timestamp,
    by_label,
    value_of,
)
from taskrouter_exporter.statistics.kind import (
    ACTIVITY_LABELS,
    ANCHORED,
    SLIDING,
    Column,
    Family,
    Kind,
    Sample,
)

OUTCOMES: Final = ("accepted", "rejected", "timed_out", "canceled", "rescinded")
"""How a reservation ends, as in the API's attributes (`reservations_…`)."""


class ReservationsModel(AnswerModel):
    """The reservations of an answer."""

    reservations_created: Number | None = None
    reservations_accepted: Number | None = None
    reservations_rejected: Number | None = None
    reservations_timed_out: Number | None = None
    reservations_canceled: Number | None = None
    reservations_rescinded: Number | None = None


_created = value_of("reservations_created")
_outcomes = by_label({outcome: f"reservations_{outcome}" for outcome in OUTCOMES})

WINDOW_RESERVATIONS: Final = (
    Family("window_reservations", "gauge", f"Reservations created in the window. {SLIDING}", _created),
    Family(
        "window_reservation_outcomes",
        "gauge",
        f"Reservations of the window by outcome; some are still pending. {SLIDING}",
        _outcomes,
        ("outcome",),
    ),
)
ANCHORED_RESERVATIONS: Final = (
    Family("reservations", "counter", f"Reservations created {ANCHORED}", _created),
    Family(
        "reservation_outcomes", "counter", f"Reservations by outcome, {ANCHORED}", _outcomes, ("outcome",)
    ),
)


class _DurationsModel(ActivityModel):
    min: Number | None = None
    avg: Number | None = None
    max: Number | None = None
    total: Number | None = None


class _WorkersModel(ReservationsModel, StatisticsModel):
    secondary = frozenset({"activity_durations", "start_time", "end_time"})

    activity_durations: Annotated[list[_DurationsModel], Field(max_length=MOST_ACTIVITIES)] | None = None
    start_time: Timestamp = None
    end_time: Timestamp = None


def _activities(attribute: str) -> Callable[[_WorkersModel], Iterator[Sample]]:
    def samples(answer: _WorkersModel) -> Iterator[Sample]:
        for activity in answer.activity_durations or ():
            value = getattr(activity, attribute)
            if value is not None:
                yield activity.labels, value

    return samples


_ACTIVITY_SECONDS: Final = {"min": "Shortest", "avg": "Average", "max": "Longest", "total": "Total"}

_WINDOW: Final = (
    *WINDOW_RESERVATIONS,
    *(
        Family(
            f"window_activity_{attribute}_seconds",
            "gauge",
            f"{which} time that Workers spent in the Activity in the window. {SLIDING}",
            _activities(attribute),
            ACTIVITY_LABELS,
            "seconds",
        )
        for attribute, which in _ACTIVITY_SECONDS.items()
    ),
    *(
        Family(
            f"window_{attribute}_timestamp_seconds",
            "gauge",
            f"{which} of the interval that the statistics cover, as reported by Twilio. {SLIDING}",
            value_of(f"{attribute}_time"),
            unit="seconds",
        )
        for attribute, which in {"start": "Start", "end": "End"}.items()
    ),
)
_ANCHORED: Final = (
    *ANCHORED_RESERVATIONS,
    Family(
        "activity_seconds",
        "counter",
        f"Time that Workers spent in the Activity {ANCHORED} Its rate is the number of Workers in it.",
        _activities("total"),
        ACTIVITY_LABELS,
        "seconds",
    ),
)

WORKERS: Final = Kind(
    name="workers",
    subject="workspace",
    resource="Workers/CumulativeStatistics",
    model=_WorkersModel,
    families={"window": _WINDOW, "anchored": _ANCHORED},
    columns=(
        Column("Created", "reservations"),
        Column("Accepted", "reservation_outcomes", ("accepted",)),
        Column("Rejected", "reservation_outcomes", ("rejected",), whole="reservations"),
        Column("Timed out", "reservation_outcomes", ("timed_out",), whole="reservations"),
    ),
)
