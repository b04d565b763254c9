"""Hours of the demo that end in a rejection spike, in the blocks of a Prometheus.

For an hour Workers of support's voice channel have rejected far more than they normally do.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from support.blocks import Blocks, Rule, read_rules, recordings
from support.exporter import ROOT
from support.history import History
from taskrouter_exporter.simulator import ContactCentre, Incident, Scenario

RULES: Final = ROOT / "monitoring" / "rules" / "taskrouter.yaml"
STEP: Final = timedelta(minutes=1)
END: Final = datetime(2026, 6, 9, 15, tzinfo=UTC)
BEGIN: Final = END - timedelta(hours=4)
SPIKE: Final = END - timedelta(hours=1)
LAST_SCRAPE: Final = END - STEP


def fill_with_spike(blocks: Blocks, directory: Path) -> None:
    """Add the scrapes, the recorded series and those of the firing alerts."""
    incident = Incident(SPIKE, END + timedelta(hours=1))
    history = History(ContactCentre(scenario=Scenario.REJECTION_SPIKE, incident=incident))
    file = directory / "scrapes.txt"
    history.write(file, BEGIN, END, STEP)
    history.close()
    blocks.add_scrapes(file)
    file.unlink()
    rules = read_rules(RULES)
    blocks.add_recordings(recordings(rules), BEGIN, LAST_SCRAPE)
    blocks.add_recordings(_firing(rules), SPIKE, LAST_SCRAPE)


def _firing(rules: Sequence[Rule]) -> list[Rule]:
    """Recordings of what ALERTS would be, which promtool does not make; an alert's `for` is left out."""
    return [
        {
            "record": "ALERTS",
            "expr": f"0 * ({rule['expr']}) + 1",
            "labels": {"alertname": rule["alert"], "alertstate": "firing", **rule["labels"]},
        }
        for rule in rules
        if "alert" in rule
    ]
