"""A labelled corpus of contact centres: reservations minute by minute, and incidents among them.

It shares nothing with the simulator's traffic model, so that the alerts are not measured by the assumptions
of their own authors alone. Everything comes from one seed. Times are minutes since the start.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

START: Final = datetime(2026, 10, 12, tzinfo=UTC)
"""A Monday. Daylight-saving time ends on day 13 in Europe's channels, and on day 20 in America's."""

HOUR: Final = 60
DAY: Final = 24 * HOUR
WEEK: Final = 7 * DAY
RATIOS: Final = ("rejected", "timed_out")
SIZES: Final = {"tiny": (5, 20), "small": (20, 100), "medium": (100, 500), "large": (500, 3000)}
"""Reservations in a busy hour."""

KINDS: Final = {"step": 0.5, "rise": 0.2, "intermittent": 0.1, "sticky agent": 0.2}
"""Kinds of incidents, and how many of them there are of all."""

_SLOT: Final = 20
"""Minutes for which one draw of the share holds: the same Workers sit there. No multiple of a window."""

_HOLIDAY: Final = 21
"""The day on which half of the workspaces stay closed or nearly so: the Monday of the last week."""

_RETRY: Final = 0.9
"""Share of the rejected or timed out tasks that are offered again a minute later. Other callers give up."""


class Label(StrEnum):
    """What whoever is on call would have wanted of an incident."""

    PAGE = "page"
    WARNING = "warning"
    NOTHING = "nothing"


@dataclass(frozen=True)
class Channel:
    """A channel. Four of them, one of each size, are a workspace in one place, with the same holidays."""

    workspace: str
    name: str
    size: str
    hourly: float
    """Reservations in a busy hour."""
    opens: int
    """Minute of the local day; `closes` is the same minute where it never closes."""
    closes: int
    weekend: float
    """Traffic on Saturday and Sunday, as a share of a weekday's."""
    zone: int
    """Hours from UTC at the start."""
    changes: int
    """Day on which daylight-saving time ends; beyond the last where it does not."""
    baseline: tuple[float, float]
    """Share of rejected and of timed out reservations."""
    overdispersion: float
    """Intraclass correlation of the beta-binomial distribution of outcomes within a slot."""
    keeps_holiday: bool

    def on_holiday(self, minute: int) -> bool:
        """Return whether the channel is closed, or nearly so, for the holiday."""
        return self.keeps_holiday and self.local(minute) // DAY == _HOLIDAY

    def local(self, minute: int) -> int:
        """Return the local time."""
        return minute + HOUR * (self.zone - (minute // DAY >= self.changes))


@dataclass(frozen=True)
class Incident:
    """A raised share of one outcome in one channel."""

    channel: int
    ratio: int
    kind: str
    start: int
    end: int
    share: float
    """At its height."""
    lost: Floats
    """Expected reservations lost beyond the baseline, minute by minute."""
    label: Label

    def lost_before(self, minute: int) -> float:
        """Return how many were lost from the start until a minute."""
        return float(self.lost[: max(0, minute - self.start)].sum())


@dataclass(frozen=True)
class Corpus:
    """What happened, what the exporter saw of it, and what an alert should have said about it.

    `parts` has the axes ratio, channel, minute; `polled` says where the exporter answered for a channel.
    """

    seed: int
    channels: tuple[Channel, ...]
    incidents: tuple[Incident, ...]
    reservations: Counts
    parts: Counts
    accepted: Counts
    polled: Flags

    @property
    def minutes(self) -> int:
        """The length of the corpus."""
        return int(self.reservations.shape[1])


def label(share: float, lost: Floats) -> Label:
    """Return what an incident deserves. These numbers were fixed before any rule was measured.

    A rejected or timed out reservation means that a caller waits for the next offer; about one in four
    hangs up meanwhile. What counts is the worst hour, as that is how fast callers are being lost.

    - 60 reservations lost in an hour are about one caller every four minutes: worth waking somebody up.
    - Where 40 % end so, most tasks are offered twice or more and the channel hardly works. 15 lost (4
      callers) are then enough to page: in a small channel that is everyone who called.
    - Below 10 lost (2 or 3 callers) an interruption costs more than it saves: nobody wants to hear of it.
    - Between them, the supervisor wants to know, and nobody else.
    """
    total = np.concatenate(([0.0], np.cumsum(lost)))
    worst = float((total[HOUR:] - total[:-HOUR]).max()) if len(lost) >= HOUR else float(total[-1])
    if worst >= 60 or (share >= 0.4 and worst >= 15):
        return Label.PAGE
    return Label.WARNING if total[-1] >= 10 else Label.NOTHING


def generate(seed: int, channels: int, days: int = 28, overdispersion: float = 1.0) -> Corpus:
    """Return a corpus.

    Args:
        seed: Of everything.
        channels: A multiple of four, so that each size has as many.
        days: At least 14. Incidents begin after the first week, which only serves as the past.
        overdispersion: Factor on that of each channel. The traffic and the incidents stay the same.
    """
    random = np.random.default_rng(seed)
    made = tuple(_channels(random, channels))
    rates = np.array([_rate(random, channel, days) for channel in made])
    usual = np.array([_shares(random, channel, days) for channel in made]).transpose(1, 0, 2)
    incidents = tuple(_incidents(random, made, rates, usual))
    expected = usual.copy()
    for each in incidents:
        whole = each.ratio, each.channel, slice(each.start, each.end)
        expected[whole] = np.maximum(expected[whole], _shape(each, each.end - each.start))
    reservations, parts = _outcomes(random, made, rates, expected, overdispersion)
    rest = reservations - parts.sum(axis=0)
    canceled = random.binomial(rest, 0.03)
    return Corpus(seed, made, incidents, reservations, parts, rest - canceled, _polled(random, *rates.shape))


def _channels(random: np.random.Generator, count: int) -> Iterator[Channel]:
    sizes = list(SIZES.items())
    zone, changes, holiday = 0, 0, False
    for number in range(count):
        size, (least, most) = sizes[number % len(sizes)]
        hourly = float(np.exp(random.uniform(np.log(least), np.log(most))))
        always = random.random() < 0.3
        if number % len(sizes) == 0:
            zone, changes = [(2, 13), (-4, 20), (0, 1000)][random.choice(3, p=[0.5, 0.3, 0.2])]
            holiday = bool(random.random() < 0.5)
        opens = int(random.choice([7, 8, 9])) * HOUR
        closes = opens if always else int(random.choice([17, 18, 20, 22])) * HOUR
        # Around 6 and 5 %; some teams always reject a fifth.
        baseline = [
            float(np.clip(np.exp(random.normal(np.log(mean), 0.6)), 0.015, 0.19)) for mean in (0.06, 0.05)
        ]
        # A Worker takes about twelve reservations an hour. Workers differ (0.04), the more the fewer there
        # are, and something is common to them all (0.002): the kind of calls, a slow desktop.
        workers = max(2.0, hourly / 12)
        yield Channel(
            f"workspace-{number // len(sizes):02}",
            size,
            size,
            hourly,
            opens,
            closes,
            random.uniform(0.5, 1) if always else float(random.choice([0, 0.4])),
            zone,
            changes,
            (baseline[0], baseline[1]),
            0.002 + 0.04 / workers,
            holiday,
        )


def _rate(random: np.random.Generator, channel: Channel, days: int) -> Floats:
    """Return the expected new tasks per minute."""
    minute = np.arange(days * DAY)
    day = minute // DAY
    local = minute + HOUR * (channel.zone - (day >= channel.changes))
    of_day, of_week = local % DAY, local // DAY % 7
    peaks = np.exp(-(((of_day - 10.5 * HOUR) / 130) ** 2)) + 0.9 * np.exp(
        -(((of_day - 15 * HOUR) / 150) ** 2)
    )
    shape = 0.35 + 0.65 * peaks
    if channel.opens == channel.closes:
        shape = 0.08 + 0.92 * peaks
    else:
        shape = shape * ((of_day >= channel.opens) & (of_day < channel.closes))
    shape = shape * np.where(of_week >= 5, channel.weekend, 1)
    if channel.keeps_holiday:
        shape = shape * np.where(local // DAY == _HOLIDAY, random.choice([0.0, 0.15]), 1)
    daily = np.exp(random.normal(0, 0.12, days + 2))[local // DAY]
    slots = random.gamma(60, 1 / 60, days * DAY // _SLOT + 1)[minute // _SLOT]
    # Campaigns: two or three times the traffic for some hours, and as many more reservations lost as there
    # are more.
    campaign = np.ones(len(minute))
    for begin in random.integers(0, days * DAY, random.poisson(days / 10)):
        campaign[begin : begin + int(random.integers(60, 300))] = random.uniform(1.8, 3.5)
    return np.asarray(channel.hourly / HOUR * shape * daily * slots * campaign)


def _shares(random: np.random.Generator, channel: Channel, days: int) -> Floats:
    """Return the expected shares without incidents: a daily rhythm, and better and worse days."""
    minute = np.arange(days * DAY)
    wave = np.sin(2 * np.pi * (minute / DAY - random.random()))
    return np.array(
        [
            share * (1 + 0.15 * wave) * np.exp(random.normal(0, 0.1, days))[minute // DAY]
            for share in channel.baseline
        ]
    )


def _incidents(
    random: np.random.Generator, channels: tuple[Channel, ...], rates: Floats, usual: Floats
) -> Iterator[Incident]:
    """About one in five days for each channel, while it is open, with six hours between them."""
    minutes = rates.shape[1]
    for number, channel in enumerate(channels):
        at = WEEK + int(random.exponential(3 * DAY))
        while at < minutes - 4 * HOUR:
            length = round(float(np.exp(random.uniform(np.log(10), np.log(180)))))
            kind = str(random.choice(list(KINDS), p=list(KINDS.values())))
            ratio = 1 if kind == "sticky agent" else int(random.integers(2))
            here = slice(at, at + length)
            share = float(np.clip(usual[ratio, number, at] * random.uniform(1.5, 5), 0.12, 0.6))
            if kind == "sticky agent":
                # One Worker who is offered everything first lets it time out: three times their share of the
                # offers.
                share = float(np.clip(3 * 12 / max(24.0, channel.hourly), 0, 0.6))
            peak = rates[number].max()
            rare = rates[number, here].min() < 0.05 * peak
            if rare or share < 0.12 or share < 1.5 * usual[ratio, number, at]:
                at += int(random.exponential(6 * HOUR))
                continue
            found = Incident(number, ratio, kind, at, at + length, share, np.empty(0), Label.NOTHING)
            # A rejected task comes back, so that there are more reservations than tasks.
            raised = np.maximum(_shape(found, length), usual[ratio, number, here])
            others = usual[1 - ratio, number, here]
            offers = rates[number, here] / (1 - _RETRY * (raised + others))
            lost = offers * (raised - usual[ratio, number, here])
            yield Incident(number, ratio, kind, at, at + length, share, lost, label(share, lost))
            at += length + 6 * HOUR + int(random.exponential(4 * DAY))


def _shape(incident: Incident, length: int) -> Floats:
    """Return the share in each minute of an incident; 0 where the usual one holds."""
    minute = np.arange(length)
    if incident.kind == "rise":
        return incident.share * np.minimum(1, (minute + 1) / (length / 2))
    if incident.kind == "intermittent":
        return np.where(minute // 10 % 2 == 0, incident.share, 0.0)
    return np.full(length, incident.share)


def _outcomes(
    random: np.random.Generator,
    channels: tuple[Channel, ...],
    rates: Floats,
    expected: Floats,
    factor: float,
) -> tuple[Counts, Counts]:
    """Draw reservations and how they end, a minute at a time, as lost tasks come back in the next one."""
    correlation = np.array([factor * each.overdispersion for each in channels])
    spread = 1 / correlation - 1
    # A seed of its own keeps the traffic the same for every factor.
    normal = np.random.default_rng(random.integers(2**32))
    minutes = rates.shape[1]
    reservations = np.zeros((len(channels), minutes), np.int64)
    parts = np.zeros((2, len(channels), minutes), np.int64)
    again = np.zeros(len(channels), np.int64)
    offset = normal.integers(0, _SLOT, len(channels))
    drawn = np.ones((2, len(channels)))
    before = np.zeros((2, len(channels)))
    for minute in range(minutes):
        mean = np.clip(expected[:, :, minute], 1e-4, 0.95)
        # An incident changes who sits there, or what they do.
        fresh = ((minute + offset) % _SLOT == 0) | (np.abs(mean - before) > 0.05)
        if fresh.any():
            new = normal.beta(mean * spread, (1 - mean) * spread) / mean
            drawn = np.where(fresh, new, drawn)
        before = mean
        shares = np.clip(mean * drawn, 0, 0.95)
        offered = random.poisson(rates[:, minute]) + again
        first = normal.binomial(offered, shares[0])
        second = normal.binomial(offered - first, np.clip(shares[1] / (1 - shares[0]), 0, 1))
        reservations[:, minute] = offered
        parts[0, :, minute], parts[1, :, minute] = first, second
        again = normal.binomial(first + second, _RETRY)
    return reservations, parts


def _polled(random: np.random.Generator, channels: int, minutes: int) -> Flags:
    """Gaps: of the exporter every other day for 2 to 40 minutes, of single channels for some minutes."""
    polled = np.ones((channels, minutes), np.bool_)
    for begin in random.integers(0, minutes, random.poisson(minutes / DAY / 2)):
        polled[:, begin : begin + int(random.integers(2, 40))] = False
    for row in polled:
        for begin in random.integers(0, minutes, random.poisson(minutes / DAY / 2)):
            row[begin : begin + int(random.integers(1, 8))] = False
    return polled
