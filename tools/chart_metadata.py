"""Chart.yaml: the versions, and the annotations for Artifact Hub that follow from other files."""

import re
from collections.abc import Iterator
from typing import Any, Final

import yaml

_GENERATED: Final = "  # `make chart` writes the following, from the version, values.yaml and CHANGELOG.md.\n"
_VERSION: Final = r"[0-9]+\.[0-9]+\.[0-9]+[^/\s]*"


def chart_metadata(text: str, version: str, values: str, changelog: str) -> str:
    """Return Chart.yaml with the version, the image, and the changes of the chart since the last release.

    Raises:
        ValueError: the file has no generated part.
    """
    head, marker, _ = text.partition(_GENERATED)
    if not marker:
        raise ValueError("Chart.yaml has no generated part")
    head = re.sub(rf"(?m)^(version|appVersion): {_VERSION}$", rf"\1: {version}", head)
    head = re.sub(rf"(/blob|/twilio-taskrouter-exporter)/v{_VERSION}/", rf"\1/v{version}/", head)
    image = {"name": "exporter", "image": f"{yaml.safe_load(values)['image']['repository']}:{version}"}
    annotations = {"images": [image], "changes": list(chart_changes(changelog))}
    return head + marker + "".join(_annotation(name, value) for name, value in annotations.items())


def chart_changes(changelog: str) -> Iterator[dict[str, str]]:
    """Yield the entries about the chart in the newest section of the changelog that has entries."""
    sections = re.split(r"(?m)^## ", re.sub(r"(?ms)^\[[^\]]+\]: .*", "", changelog))[1:]
    newest = next((section for section in sections if "\n- " in section), "")
    for part in re.split(r"(?m)^### ", newest)[1:]:
        kind, _, entries = part.partition("\n")
        for entry in re.findall(r"(?ms)^- (.+?)(?=^- |\Z)", entries):
            description = " ".join(entry.split())
            if re.search(r"\b(Helm|[Tt]he) chart\b", description):
                yield {"kind": kind.strip().lower(), "description": description}


def _annotation(name: str, value: list[dict[str, Any]]) -> str:
    """Return an annotation, whose value is a YAML document."""
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100000)
    return f"  artifacthub.io/{name}: |\n" + "".join(f"    {line}\n" for line in text.splitlines())
