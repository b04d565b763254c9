"""The rule file, generated from a template and a description of the ratios that have alerts.

`make rules` writes it. Every ratio goes through the same rules: only where its counts come from and what its alert says
differ. A ratio of queues, such as abandoned tasks, is one more source here.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.thresholds import RULES, read_thresholds

_TEMPLATE: Final = Path(__file__).with_suffix(".yaml.in")
_RUNBOOKS: Final = (
    "https://github.com/taskrouter-exporter/twilio-taskrouter-exporter/blob/main/docs/runbooks.md"
)
_WINDOWS: Final = ("15m", "10m", "20m", "30m", "5m")
"""Windows that may stand for the last 15 minutes, best first."""


@dataclass(frozen=True)
class Spike:
    """The alert of a ratio that is raised."""

    alert: str
    summary: str
    happened: str
    """What happened to the reservations: "were rejected"."""


@dataclass(frozen=True)
class Source:
    """Where the counts of some ratios come from.

    Args:
        name: Second part of the names of its recordings.
        title: Of its section in the rule file.
        keys: The labels that identify who has the ratio.
        whole: The gauge of sliding windows that is divided by, and labels that select it.
        parts: The gauge of sliding windows that is divided.
        label: The label of the parts that says which ratio they belong to.
        ratios: Its values, and the alert of each; None where only other rules and dashboards read it.
        ratio: The label `ratio` made of that value, as `$1`.
        counters: Whole and parts as counters, where there are any.
        end: The gauge by which the freshest replica is found; without it, any replica is taken.
    """

    name: str
    title: str
    keys: tuple[str, ...]
    whole: tuple[str, str]
    parts: str
    label: str
    ratios: Mapping[str, Spike | None]
    ratio: str = "$1"
    counters: tuple[str, str] | None = None
    end: str | None = None

    def spikes(self) -> Iterator[tuple[str, Spike]]:
        """Yield each ratio that has an alert."""
        for part, spike in self.ratios.items():
            if spike:
                yield self.ratio.replace("$1", part), spike


RESERVATIONS: Final = Source(
    name="reservations",
    title="Reservations and how they end",
    keys=("workspace", "channel"),
    whole=("twilio_taskrouter_window_reservations", ""),
    parts="twilio_taskrouter_window_reservation_outcomes",
    label="outcome",
    ratios={
        "rejected": Spike("TaskRouterRejectionSpike", "Workers reject many reservations", "were rejected"),
        "timed_out": Spike("TaskRouterTimeoutSpike", "Many reservations time out", "timed out"),
        "accepted": None,
    },
    counters=("twilio_taskrouter_reservations_total", "twilio_taskrouter_reservation_outcomes_total"),
    end="twilio_taskrouter_window_end_timestamp_seconds",
)
SOURCES: Final = (RESERVATIONS,)

_WINDOWS_TEMPLATE: Final = """\
# --- @title@ ---
# Of the replica that has the freshest statistics, so that the parts and the whole of a share come from the same scrape.
# Jobs and replicas that poll the same target are one from here on.
- record: @whole@
  expr: |
    max by (@keys@, window) (
      @whole_window@
        and ignoring (@label@)
      topk by (@keys@, window) (
        1,
        @freshest@
      )
    )
- record: @part@
  expr: |
    max by (@keys@, window, ratio) (
      label_replace(
        @part_window@
          and ignoring (@label@)
        topk by (@keys@, window) (
          1,
          @freshest@
        ),
        "ratio", "@ratio@", "@label@", "(.+)"
      )
    )
"""
_COUNTERS_TEMPLATE: Final = """\
# Counters of one replica, likewise. Over an hour only if it has counted for an hour.
- record: @whole@
  labels: {window: counter_15m}
  expr: |
    max by (@keys@) (
      increase(@whole_counter@[15m])
        and @whole_counter@
    )
- record: @part@
  labels: {window: counter_15m}
  expr: |
    max by (@keys@, ratio) (
      label_replace(
        increase(@part_counter@[15m])
          and ignoring (@label@)
        topk by (@keys@) (
          1,
          increase(@whole_counter@[15m])
            and @whole_counter@
        ),
        "ratio", "@ratio@", "@label@", "(.+)"
      )
    )
- record: @whole@
  labels: {window: counter_1h}
  expr: |
    max by (@keys@) (
      increase(@whole_counter@[1h])
        and @whole_counter@ offset 1h
        and @whole_counter@
    )
- record: @part@
  labels: {window: counter_1h}
  expr: |
    max by (@keys@, ratio) (
      label_replace(
        increase(@part_counter@[1h])
          and ignoring (@label@)
        topk by (@keys@) (
          1,
          increase(@whole_counter@[1h])
            and @whole_counter@ offset 1h
            and @whole_counter@
        ),
        "ratio", "@ratio@", "@label@", "(.+)"
      )
    )
"""
_CHOICES_TEMPLATE: Final = """\
# The last 15 minutes: the first of these that is polled.
- record: taskrouter:@name@:recent
  expr: |
    @recent@
# The last hour, where counters or a window cover it. Counters also know what happened in a gap.
- record: taskrouter:@name@:hour
  expr: |
    @hour@
"""
_SPANS: Final = {
    ("numerator", "15m"): """\
max without (window) (
  @part@ and on (@keys@, window) taskrouter:@name@:recent
)
""",
    ("denominator", "15m"): """\
max without (window) (
  0 * @part@
    + on (@keys@, window) group_left () taskrouter:@name@:recent
)
""",
    ("numerator", "1h"): """\
max without (window) (
  @part@ and on (@keys@, window) taskrouter:@name@:hour
)
or on (@keys@)
sum without (span, quarter) (
  taskrouter:ratio:numerator{ratio=~"@ratios@", span="15m"}
    or label_replace(taskrouter:ratio:numerator{ratio=~"@ratios@", span="15m"} offset 15m, "quarter", "2", "", "")
    or label_replace(taskrouter:ratio:numerator{ratio=~"@ratios@", span="15m"} offset 30m, "quarter", "3", "", "")
    or label_replace(taskrouter:ratio:numerator{ratio=~"@ratios@", span="15m"} offset 45m, "quarter", "4", "", "")
)
  and on (@keys@) taskrouter:@name@:recent
""",
    ("denominator", "1h"): """\
max without (window) (
  0 * @part@
    + on (@keys@, window) group_left () taskrouter:@name@:hour
)
or on (@keys@)
sum without (span, quarter) (
  taskrouter:ratio:denominator{ratio=~"@ratios@", span="15m"}
    or label_replace(taskrouter:ratio:denominator{ratio=~"@ratios@", span="15m"} offset 15m, "quarter", "2", "", "")
    or label_replace(taskrouter:ratio:denominator{ratio=~"@ratios@", span="15m"} offset 30m, "quarter", "3", "", "")
    or label_replace(taskrouter:ratio:denominator{ratio=~"@ratios@", span="15m"} offset 45m, "quarter", "4", "", "")
)
  and on (@keys@) taskrouter:@name@:recent
""",
}
"""Expressions of one source."""

_COMMENTS: Final = {
    "15m": "From here on, sources differ by the label ratio only.",
    "1h": "Without counters or a window: four times 15 minutes. One in a gap is left out of both numbers.",
}


def rules(sources: Sequence[Source] = SOURCES) -> str:
    """Return the text of the rule file."""
    template = _TEMPLATE.read_text(encoding="utf-8")
    spikes = [(source, ratio, spike) for source in sources for ratio, spike in source.spikes()]
    values = {
        "sources": "\n".join(_indent(text, 6) for text in (*map(_source, sources), *_spans(sources))),
        "alerts": "\n".join(_indent(_alerts(*each), 6) for each in spikes),
        "absent": _indent("\n".join(_absent(template)), 14),
        "ratios": "|".join(ratio for _, ratio, _ in spikes),
        "runbooks": _RUNBOOKS,
    }
    return re.sub("@([a-z]+)@", lambda found: values[found[1]], template)


def _absent(template: str) -> Iterator[str]:
    """Yield what fires where a threshold is missing."""
    for name, by_severity in read_thresholds(
        template.partition("\n  - name: taskrouter-reservations")[0]
    ).items():
        for severity in by_severity:
            labels = f'threshold="{name}"' + (f', severity="{severity}"' if severity else "")
            yield f"or absent(taskrouter:threshold{{{labels}}})"


def _source(source: Source) -> str:
    """Return the recordings that bring a source's counts into one form."""
    template = _WINDOWS_TEMPLATE + (_COUNTERS_TEMPLATE if source.counters else "") + _CHOICES_TEMPLATE
    return _fill(template, source).rstrip()


def _spans(sources: Sequence[Source]) -> Iterator[str]:
    """Yield the recordings of the last 15 minutes and the last hour, one for all sources."""
    for (kind, span), template in _SPANS.items():
        expression = "or\n".join(_fill(template, source) for source in sources)
        yield f"""\
# {_COMMENTS[span]}
- record: taskrouter:ratio:{kind}
  labels: {{span: {span}}}
  expr: |
{_indent(expression, 4)}"""


def _fill(template: str, source: Source) -> str:
    ratios = "|".join(source.ratios)
    windows = "|".join((*sorted(_WINDOWS, key=_minutes), "1h"))
    recent = [f'@whole@{{window="{window}"}}' for window in _WINDOWS]
    hour = ['@whole@{window="1h"}']
    if source.counters:
        recent.append('@whole@{window="counter_15m"}')
        hour.insert(0, '@whole@{window="counter_1h"}')
    whole, selected = source.whole
    counters = source.counters or ("", "")
    values = {
        "title": source.title,
        "recent": _indent("\nor on (@keys@)\n".join(recent), 4).strip(),
        "hour": _indent("\nor on (@keys@)\n".join(hour), 4).strip(),
        "freshest": f"{source.end}{{{_matches('window', windows)}}}\n          or 0 * @whole_window@"
        if source.end
        else "0 * @whole_window@",
        "whole_window": f"{whole}{{{_labels(selected, _matches('window', windows))}}}",
        "part_window": f"{source.parts}{{{_matches(source.label, ratios)}, {_matches('window', windows)}}}",
        "whole_counter": counters[0],
        "part_counter": f"{counters[1]}{{{_matches(source.label, ratios)}}}",
        "whole": f"taskrouter:{source.name}:whole",
        "part": f"taskrouter:{source.name}:part",
        "name": source.name,
        "label": source.label,
        "ratio": source.ratio,
        "ratios": "|".join(source.ratio.replace("$1", part) for part in source.ratios),
        "keys": ", ".join(source.keys),
    }
    for name, value in values.items():
        template = template.replace(f"@{name}@", value)
    return template


def _alerts(source: Source, ratio: str, spike: Spike) -> str:
    """Return the two alerts of a ratio."""
    where = [f"{key} {{{{ $labels.{key} }}}}" for key in source.keys]
    selector = ",".join(f"{key}=%q" for key in (*source.keys, "ratio"))
    values = " ".join(f"$labels.{key}" for key in (*source.keys, "ratio"))
    anchor = spike.alert.lower()
    title = " / ".join(f"{{{{ $labels.{key} }}}}" for key in source.keys)
    return f"""\
- alert: {spike.alert}
  expr: taskrouter:ratio:spike{{ratio="{ratio}"}} >= 1
  keep_firing_for: 10m
  labels: {{severity: warning}}
  annotations: &{ratio}_spike
    summary: "{spike.summary}: {title}"
    description: >-
      In {", ".join(where)},
      {{{{ range printf "taskrouter:ratio:share{{{selector}}}"
      {values} | query | sortByLabel "span" }}}}{{{{ .Value | humanizePercentage }}}}
      of the reservations of the last {{{{ .Labels.span }}}}, {{{{ else }}}}recently, many reservations {{{{ end }}}}{spike.happened}.
      {{{{ with printf "taskrouter:ratio:baseline{{{selector}}}"
      {values} | query }}}}The baseline is
      {{{{ . | first | value | humanizePercentage }}}}.{{{{ end }}}}
    runbook_url: {_RUNBOOKS}#{anchor}
- alert: {spike.alert}
  expr: taskrouter:ratio:spike{{ratio="{ratio}"}} == 2
  keep_firing_for: 10m
  labels: {{severity: critical}}
  annotations: *{ratio}_spike"""


def _labels(*selectors: str) -> str:
    return ", ".join(filter(None, selectors))


def _matches(label: str, values: str) -> str:
    return f'{label}=~"{values}"'


def _minutes(window: str) -> int:
    return int(window.removesuffix("m"))


def _indent(text: str, spaces: int) -> str:
    return "\n".join(" " * spaces + line if line else line for line in text.splitlines())


if __name__ == "__main__":
    RULES.write_text(rules(), encoding="utf-8")
