from pathlib import Path

import pytest
import yaml
from support.faster import faster

RULES = Path(__file__).parent.parent.parent / "monitoring/rules/taskrouter.yaml"


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("rate(x[5m])", "rate(x[5s])"),
        ("rate(x[1m30s] offset 6d23h30m)", "rate(x[1s500ms] offset 2h47m30s)"),
        ("x offset -1h", "x offset -1m"),
        ("max_over_time(rate(x[5m])[1h:1m])", "max_over_time(rate(x[5s])[1m:1s])"),
        ("max_over_time(x[1h:])", "max_over_time(x[1m:])"),
        ('x{window="15m", a="[5m]", b="\\"[5m]"} > 600', 'x{window="15m", a="[5m]", b="\\"[5m]"} > 600'),
        ("x{a='[5m]', b=`[5m]`} # [5m]\n+ y[5m]", "x{a='[5m]', b=`[5m]`} # [5m]\n+ y[5s]"),
        ("x_offset + by5m * 5", "x_offset + by5m * 5"),
    ],
)
def test_ranges_and_offsets_are_divided_and_nothing_else_of_an_expression(
    expression: str, wanted: str
) -> None:
    assert faster({"expr": expression}, 60) == {"expr": wanted}


def test_durations_of_rules_and_configurations_are_divided_and_names_and_labels_are_not() -> None:
    document = {
        "groups": [
            {
                "name": "5m",
                "interval": "1m",
                "rules": [
                    {"alert": "A", "for": "5m", "keep_firing_for": "0", "labels": {"for": "5m"}, "expr": "1"}
                ],
            }
        ],
        "scrape_configs": [{"scrape_interval": "60s", "static_configs": [{"targets": ["5m:80"]}]}],
        "route": {"group_wait": "30s", "routes": [{"repeat_interval": "4h"}]},
    }
    assert faster(document, 60) == {
        "groups": [
            {
                "name": "5m",
                "interval": "1s",
                "rules": [
                    {"alert": "A", "for": "5s", "keep_firing_for": "0", "labels": {"for": "5m"}, "expr": "1"}
                ],
            }
        ],
        "scrape_configs": [{"scrape_interval": "1s", "static_configs": [{"targets": ["5m:80"]}]}],
        "route": {"group_wait": "500ms", "routes": [{"repeat_interval": "4m"}]},
    }


def test_the_projects_rules_change_with_every_speed_except_their_own() -> None:
    rules = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    assert faster(rules, 1) == rules
    assert "6d23h30m" not in str(faster(rules, 60))
    assert 'window="15m"' in str(faster(rules, 60))
