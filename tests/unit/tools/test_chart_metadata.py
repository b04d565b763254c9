"""Chart.yaml follows the version, the values and the changelog."""

import pytest
import yaml

from tools.chart_metadata import chart_changes, chart_metadata

REPOSITORY = "https://github.com/owner/twilio-taskrouter-exporter"
CHART = f"""name: exporter
version: 1.2.3
appVersion: 1.2.3
kubeVersion: ">=1.28.0-0"
icon: https://raw.githubusercontent.com/owner/twilio-taskrouter-exporter/v1.2.3/docs/icon.svg
annotations:
  artifacthub.io/links: |
    - name: Changelog
      url: {REPOSITORY}/blob/v1.2.3/CHANGELOG.md
  # `make chart` writes the following, from the version, values.yaml and CHANGELOG.md.
  artifacthub.io/images: |
    - {{name: exporter, image: outdated}}
"""
VALUES = "image:\n  repository: registry.example.com/exporter\n"
CHANGELOG = """# Changelog

## [Unreleased]

## [1.3.0] - 2026-11-24

### Added

- The chart accepts `a: b`, over
  two lines.
- The landing page has a line chart.
- Helm chart.

### Fixed

- The chart's labels.

## [1.2.3] - 2026-10-01

### Added

- The chart.

[1.3.0]: https://example.com/chart
"""


def test_versions_links_image_and_changes_are_those_of_the_release() -> None:
    metadata = yaml.safe_load(chart_metadata(CHART, "1.3.0", VALUES, CHANGELOG))
    assert metadata["version"] == metadata["appVersion"] == "1.3.0"
    assert metadata["kubeVersion"] == ">=1.28.0-0"
    assert metadata["icon"].endswith("/twilio-taskrouter-exporter/v1.3.0/docs/icon.svg")
    annotations = {name: yaml.safe_load(text) for name, text in metadata["annotations"].items()}
    assert annotations == {
        "artifacthub.io/links": [{"name": "Changelog", "url": f"{REPOSITORY}/blob/v1.3.0/CHANGELOG.md"}],
        "artifacthub.io/images": [{"name": "exporter", "image": "registry.example.com/exporter:1.3.0"}],
        "artifacthub.io/changes": list(chart_changes(CHANGELOG)),
    }


def test_writing_twice_changes_nothing() -> None:
    once = chart_metadata(CHART, "1.3.0", VALUES, CHANGELOG)
    assert chart_metadata(once, "1.3.0", VALUES, CHANGELOG) == once


def test_a_pre_release_can_follow_a_release_and_the_reverse() -> None:
    candidate = chart_metadata(CHART, "1.3.0rc1", VALUES, CHANGELOG)
    assert "\nversion: 1.3.0rc1\n" in candidate
    assert chart_metadata(candidate, "1.3.0", VALUES, CHANGELOG) == chart_metadata(
        CHART, "1.3.0", VALUES, CHANGELOG
    )


def test_changes_are_the_entries_about_the_chart_in_the_newest_section_with_entries() -> None:
    assert list(chart_changes(CHANGELOG)) == [
        {"kind": "added", "description": "The chart accepts `a: b`, over two lines."},
        {"kind": "added", "description": "Helm chart."},
        {"kind": "fixed", "description": "The chart's labels."},
    ]


def test_a_changelog_without_entries_has_no_changes() -> None:
    assert list(chart_changes("# Changelog\n\n## [Unreleased]\n")) == []


def test_a_file_without_a_generated_part_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"Chart\.yaml has no generated part"):
        chart_metadata("name: exporter\n", "1.3.0", VALUES, CHANGELOG)
