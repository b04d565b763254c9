"""How well alerts found the incidents of a corpus."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from alert_corpus import DAY, SIZES, WEEK, Channel, Corpus, Incident, Label

GRACE: Final = 10
"""Minutes after the end of an incident in which an alert is in time: the last window has just filled."""

_AFTERWARDS: Final = 90
"""Minutes after the end in which an alert is no false one: the last hour still contains the incident."""

Interval = tuple[int, int]
"""First minute in which an alert fires, and the first in which it does not."""

Firings = Mapping[tuple[int, int], Sequence[Interval]]
"""By ratio and channel, as numbers in the corpus."""


@dataclass(frozen=True)
class Finding:
    """What the alerts made of an incident."""

    incident: Incident
    channel: Channel
    told: int | None
    """Minute of the first alert, if one came in time."""
    paged: bool
    firings: int
    last: int | None
    """First minute after the end in which no alert fires any more, if one came in time."""

    @property
    def lost(self) -> float:
        """All that was lost beyond the baseline."""
        return float(self.incident.lost.sum())

    @property
    def lost_before(self) -> float:
        """Return what was lost before anybody knew."""
        return self.lost if self.told is None else self.incident.lost_before(self.told)


@dataclass(frozen=True)
class Score:
    """The findings of one corpus, and what fired without an incident."""

    findings: Sequence[Finding]
    false: Sequence[tuple[Channel, Interval]]
    channel_months: float

    def share_told(self, *labels: Label) -> float:
        """Return the share of incidents that an alert told of in time."""
        return _mean([finding.told is not None for finding in self._labelled(*labels)])

    def share_paged(self, label: Label) -> float:
        """Return the share of incidents of which a critical alert told in time."""
        return _mean([finding.paged for finding in self._labelled(label)])

    def lost_before(self) -> float:
        """Return the share of all lost reservations that was lost before an alert."""
        real = self._labelled(Label.PAGE, Label.WARNING)
        if not real:
            return float("nan")
        return sum(finding.lost_before for finding in real) / sum(finding.lost for finding in real)

    def median_delay(self) -> float:
        """Return the minutes until the first alert, of those incidents that had one."""
        delays = [
            finding.told - finding.incident.start
            for finding in self._labelled(Label.PAGE, Label.WARNING)
            if finding.told is not None
        ]
        return float(np.median(delays)) if delays else float("nan")

    def median_end(self) -> float:
        """Return for how many minutes after the end an alert fires, of those incidents that had one."""
        ends = [
            finding.last - finding.incident.end
            for finding in self._labelled(Label.PAGE, Label.WARNING)
            if finding.last is not None
        ]
        return float(np.median(ends)) if ends else float("nan")

    def firings_per_incident(self) -> float:
        """Return how often an alert fired for an incident, of those that had one."""
        return _mean(
            [
                finding.firings
                for finding in self._labelled(Label.PAGE, Label.WARNING)
                if finding.told is not None
            ]
        )

    def false_alarms(self) -> float:
        """Return false alarms per channel and month."""
        return len(self.false) / self.channel_months

    def wrong_severity(self) -> float:
        """Return the share of told incidents that only warned and should page, or the other way round."""
        return _mean(
            [
                finding.paged != (finding.incident.label is Label.PAGE)
                for finding in self._labelled(Label.PAGE, Label.WARNING)
                if finding.told is not None
            ]
        )

    def of_size(self, size: str) -> "Score":
        """Return the score of the channels of one size."""
        return Score(
            [finding for finding in self.findings if finding.channel.size == size],
            [alarm for alarm in self.false if alarm[0].size == size],
            self.channel_months / len(SIZES),
        )

    def of_kind(self, kind: str) -> "Score":
        """Return the score of one kind of incident. False alarms have none."""
        return Score([finding for finding in self.findings if finding.incident.kind == kind], [], np.nan)

    def incidents(self) -> int:
        """Return how many incidents deserve an alert."""
        return len(self._labelled(Label.PAGE, Label.WARNING))

    def _labelled(self, *labels: Label) -> list[Finding]:
        return [finding for finding in self.findings if finding.incident.label in labels]


def score(corpus: Corpus, told: Firings, paged: Firings) -> Score:
    """Compare what fired, of any severity and critical, with what should have."""
    findings: list[Finding] = []
    explained: set[tuple[tuple[int, int], Interval]] = set()
    for incident in corpus.incidents:
        key = incident.ratio, incident.channel
        near = [
            (begin, end)
            for begin, end in told.get(key, ())
            if end > incident.start and begin < incident.end + _AFTERWARDS
        ]
        explained.update((key, interval) for interval in near)
        in_time = [max(begin, incident.start) for begin, _ in near if begin < incident.end + GRACE]
        pages = any(
            end > incident.start and begin < incident.end + GRACE for begin, end in paged.get(key, ())
        )
        first = min(in_time) if in_time else None
        last = max(end for _, end in near) if in_time else None
        findings.append(Finding(incident, corpus.channels[incident.channel], first, pages, len(near), last))
    false = [
        (corpus.channels[key[1]], interval)
        for key, intervals in told.items()
        for interval in intervals
        if interval[0] >= WEEK and (key, interval) not in explained
    ]
    months = len(corpus.channels) * (corpus.minutes - WEEK) / DAY / (365.25 / 12)
    return Score(findings, false, months)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
