"""The evaluation of the alerts in its small form: the corpus, its labels, and a real Prometheus."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from alert_corpus import Label, generate, label
from alert_scores import score
from alerts import RULES, evaluate, row
from support.blocks import read_rules


def test_the_same_seed_gives_the_same_corpus() -> None:
    one, other = generate(3, 4, 14), generate(3, 4, 14)
    assert np.array_equal(one.parts, other.parts)
    assert [incident.label for incident in one.incidents] == [incident.label for incident in other.incidents]


def test_more_overdispersion_changes_neither_traffic_nor_incidents() -> None:
    one, other = generate(3, 4, 14), generate(3, 4, 14, overdispersion=2)
    assert [(each.start, each.share) for each in one.incidents] == [
        (each.start, each.share) for each in other.incidents
    ]


def test_every_reservation_of_the_corpus_ends_at_most_once() -> None:
    corpus = generate(3, 4, 14)
    assert (corpus.parts.sum(axis=0) + corpus.accepted <= corpus.reservations).all()


@pytest.mark.parametrize(
    ("share", "lost", "wanted"),
    [
        (0.2, [1.0] * 60, Label.PAGE),
        (0.2, [0.5] * 180, Label.WARNING),
        (0.5, [0.5] * 30, Label.PAGE),
        (0.5, [0.1] * 60, Label.NOTHING),
        (0.2, [0.2] * 60, Label.WARNING),
    ],
)
def test_a_label_is_what_callers_lose(share: float, lost: list[float], wanted: Label) -> None:
    assert label(share, np.array(lost)) is wanted


def test_a_score_counts_what_was_told_in_time_and_what_was_false() -> None:
    corpus = generate(3, 8, 14)
    incident = next(each for each in corpus.incidents if each.label is Label.PAGE)
    key = incident.ratio, incident.channel
    told = {key: [(incident.start + 5, incident.end)], (0, 0): [(10_081, 10_090)]}
    scored = score(corpus, told, {})
    (found,) = [each for each in scored.findings if each.incident is incident]
    assert (found.told, found.paged, found.firings) == (incident.start + 5, False, 1)
    assert [interval for _, interval in scored.false] == [(10_081, 10_090)]


@pytest.mark.timeout(900)
def test_the_rules_find_incidents_of_a_small_corpus_and_little_else(
    program: Callable[[str, str], str], tmp_path: Path
) -> None:
    program("promtool", "prometheus")
    corpus = generate(6, 8, 14)
    result = evaluate(read_rules(RULES), corpus, counters=False, directory=tmp_path / "blocks")
    assert result.score.share_told(Label.PAGE) == 1, row(result.score)
    assert result.score.share_told(Label.PAGE, Label.WARNING) > 0.7, row(result.score)
    assert len(result.score.false) <= 1, row(result.score)
    assert result.missing == []
