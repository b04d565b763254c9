"""The alerts' thresholds, read out of the rules."""

import json
import re
from pathlib import Path
from typing import Final

import yaml

ROOT: Final = Path(__file__).parent.parent
RULES: Final = ROOT / "monitoring" / "rules" / "taskrouter.yaml"

Thresholds = dict[str, dict[str, float]]
"""By name, then by severity; the severity is empty where a threshold has none."""


def read_thresholds(rules: str) -> Thresholds:
    """Return every threshold in the text of a rule file.

    Raises:
        ValueError: a threshold is not `vector(NUMBER)`, or stands both with and without a severity.
    """
    thresholds: Thresholds = {}
    for rule in (rule for group in yaml.safe_load(rules)["groups"] for rule in group["rules"]):
        if rule.get("record") != "taskrouter:threshold":
            continue
        number = re.fullmatch(r"vector\((.+)\)", rule["expr"])
        if not number:
            raise ValueError(f"{rule['expr']} is no vector(NUMBER)")
        name, severity = rule["labels"]["threshold"], rule["labels"].get("severity", "")
        by_severity = thresholds.setdefault(name, {})
        if by_severity and ("" in by_severity) != (severity == ""):
            raise ValueError(f"{name} stands with and without severity")
        by_severity[severity] = json.loads(number[1])
    return thresholds
