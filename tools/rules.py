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
    """What happened to those counted: "were rejected"."""


@dataclass(frozen=True)
class Counted:
    """Series of one metric that count something.

    Args:
        metric: The metric's name.
        where: Matchers that select its series, as in PromQL.
        summed: Labels over whose values they are summed up.
    """

    metric: str
    where: str = ""
    summed: tuple[str, ...] = ()

    def expression(self, *matchers: str, over: str = "", offset: str = "") -> str:
        """Return the counts, or their increase over a time."""
        selected = ", ".join(filter(None, (self.where, *matchers)))
        counts = self.metric + (f"{{{selected}}}" if selected else "")
        counts = f"increase({counts}[{over}])" if over else counts
        counts += f" offset {offset}" if offset else ""
        return f"sum without ({', '.join(self.summed)}) ({counts})" if self.summed else counts


@dataclass(frozen=True)
class Source:
    """Ratios of one numerator's metric to one denominator's, and where their counts come from.

    A source of another kind is another entry of SOURCES; QUEUE_TASKS is one whose whole is part of the same metric, QUEUE_WAITS
    one with a single ratio.

    Args:
        name: Second part of the names of its recordings.
        title: Of its section in the rule file.
        noun: What is counted.
        keys: The labels that identify who has the ratio.
        denominator: The gauge of sliding windows that is divided by.
        numerator: The gauge of sliding windows that is divided. Beside `label`, it has the labels of the
            denominator.
        label: The label of the numerator that tells the ratios apart; none where there is one ratio.
        ratios: Its values, and the alert of each; None where only other rules and dashboards read it.
        ratio: The label `ratio` made of that value, as `$1`. Different in each source.
        counters: Denominator and numerator as counters, where there are any.
        end: The gauge by which the freshest replica is found; without it, any replica is taken.
    """

    name: str
    title: str
    noun: str
    keys: tuple[str, ...]
    denominator: Counted
    numerator: Counted
    label: str | None
    ratios: Mapping[str, Spike | None]
    ratio: str = "$1"
    counters: tuple[Counted, Counted] | None = None
    end: str | None = None

    def ratio_names(self) -> list[str]:
        """Return the values of the label `ratio`."""
        return [self.ratio.replace("$1", value) for value in self.ratios]

    def spikes(self) -> Iterator[tuple[str, Spike]]:
        """Yield each ratio that has an alert."""
        for name, spike in zip(self.ratio_names(), self.ratios.values(), strict=True):
            if spike:
                yield name, spike


RESERVATIONS: Final = Source(
    name="reservations",
    title="Reservations and how they end",
    noun="reservations",
    keys=("workspace", "channel"),
    denominator=Counted("twilio_taskrouter_window_reservations"),
    numerator=Counted("twilio_taskrouter_window_reservation_outcomes"),
    label="outcome",
    ratios={
        "rejected": Spike("TaskRouterRejectionSpike", "Workers reject many reservations", "were rejected"),
        "timed_out": Spike("TaskRouterTimeoutSpike", "Many reservations time out", "timed out"),
        "accepted": None,
    },
    counters=(
        Counted("twilio_taskrouter_reservations_total"),
        Counted("twilio_taskrouter_reservation_outcomes_total"),
    ),
    end="twilio_taskrouter_window_end_timestamp_seconds",
)
_QUEUE: Final = ("workspace", "channel", "queue")
QUEUE_RESERVATIONS: Final = Source(
    name="queue_reservations",
    title="Reservations of queues and how they end",
    noun="reservations",
    keys=_QUEUE,
    denominator=Counted("twilio_taskrouter_queue_window_reservations"),
    numerator=Counted("twilio_taskrouter_queue_window_reservation_outcomes"),
    label="outcome",
    ratios={
        "rejected": Spike(
            "TaskRouterQueueRejectionSpike", "Workers reject many reservations of a queue", "were rejected"
        ),
        "timed_out": Spike(
            "TaskRouterQueueTimeoutSpike", "Many reservations of a queue time out", "timed out"
        ),
    },
    ratio="queue_$1",
    counters=(
        Counted("twilio_taskrouter_queue_reservations_total"),
        Counted("twilio_taskrouter_queue_reservation_outcomes_total"),
    ),
)
QUEUE_TASKS: Final = Source(
    name="queue_tasks",
    title="Tasks that entered queues and were abandoned",
    noun="tasks",
    keys=_QUEUE,
    denominator=Counted("twilio_taskrouter_queue_window_task_events", 'event="entered"', ("event",)),
    numerator=Counted("twilio_taskrouter_queue_window_task_events"),
    label="event",
    ratios={"canceled": Spike("TaskRouterAbandonedSpike", "Many tasks are abandoned", "were canceled")},
    ratio="queue_tasks_$1",
    counters=(
        Counted("twilio_taskrouter_queue_task_events_total", 'event="entered"', ("event",)),
        Counted("twilio_taskrouter_queue_task_events_total"),
    ),
)
QUEUE_WAITS: Final = Source(
    name="queue_waits",
    title="Tasks that waited longer than a service level",
    noun="tasks",
    keys=(*_QUEUE, "threshold"),
    denominator=Counted("twilio_taskrouter_queue_window_task_waits", summed=("until", "side")),
    numerator=Counted("twilio_taskrouter_queue_window_task_waits", 'side="above"', ("until", "side")),
    label=None,
    ratios={
        "queue_late": Spike(
            "TaskRouterServiceLevelLow",
            "The service level is low",
            "waited longer than {{ $labels.threshold }}",
        )
    },
)
SOURCES: Final = (RESERVATIONS, QUEUE_RESERVATIONS, QUEUE_TASKS, QUEUE_WAITS)

_WINDOWS_TEMPLATE: Final = """\
# --- @title@ ---
# Of the replica that has the freshest statistics, so that the parts and the whole of a share come from the same scrape.
# Jobs and replicas that poll the same target are one from here on.
- record: @whole@
  expr: |
    max by (@keys@, window) (
      @whole_window@
        and@ignoring@
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
          and@ignoring@
        topk by (@keys@, window) (
          1,
          @freshest@
        ),
        "ratio", "@ratio@", @named@
      )
    )
"""
_COUNTERS_TEMPLATE: Final = """\
# Counters of one replica, likewise. Over an hour only if it has counted for an hour.
- record: @whole@
  labels: {window: counter_15m}
  expr: |
    max by (@keys@) (
      @whole_15m@
        and @whole_now@
    )
- record: @part@
  labels: {window: counter_15m}
  expr: |
    max by (@keys@, ratio) (
      label_replace(
        @part_15m@
          and@ignoring@
        topk by (@keys@) (
          1,
          @whole_15m@
            and @whole_now@
        ),
        "ratio", "@ratio@", @named@
      )
    )
- record: @whole@
  labels: {window: counter_1h}
  expr: |
    max by (@keys@) (
      @whole_1h@
        and @whole_before@
        and @whole_now@
    )
- record: @part@
  labels: {window: counter_1h}
  expr: |
    max by (@keys@, ratio) (
      label_replace(
        @part_1h@
          and@ignoring@
        topk by (@keys@) (
          1,
          @whole_1h@
            and @whole_before@
            and @whole_now@
        ),
        "ratio", "@ratio@", @named@
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
        "who": ", ".join(dict.fromkeys(key for source in sources for key in source.keys)),
        "siblings": ", ".join(
            dict.fromkeys(key for source in sources for key in source.keys if key != "channel")
        ),
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
        expressions = [_fill(template, source) for source in sources]
        expression = (
            "or\n".join(f"(\n{_indent(each, 2)}\n)\n" for each in expressions)
            if len(expressions) > 1
            else expressions[0]
        )
        comment = f"# {_COMMENTS[span]}\n" if kind == "numerator" else ""
        yield f"""\
{comment}- record: taskrouter:ratio:{kind}
  labels: {{span: {span}}}
  expr: |
{_indent(expression, 4)}"""


def _fill(template: str, source: Source) -> str:
    ratios = _matches(source.label, "|".join(source.ratios)) if source.label else ""
    windows = _matches("window", "|".join((*sorted(_WINDOWS, key=_minutes), "1h")))
    recent = [f'@whole@{{window="{window}"}}' for window in _WINDOWS]
    hour = ['@whole@{window="1h"}']
    values = {
        "whole_window": source.denominator.expression(windows),
        "part_window": source.numerator.expression(ratios, windows),
    }
    if source.counters:
        recent.append('@whole@{window="counter_15m"}')
        hour.insert(0, '@whole@{window="counter_1h"}')
        denominator, numerator = source.counters
        values |= {f"whole_{span}": denominator.expression(over=span) for span in ("15m", "1h")}
        values |= {f"part_{span}": numerator.expression(ratios, over=span) for span in ("15m", "1h")}
        values |= {
            "whole_now": denominator.expression(),
            "whole_before": denominator.expression(offset="1h"),
        }
    names = source.ratio_names()
    values = {
        "title": source.title,
        "recent": _indent("\nor on (@keys@)\n".join(recent), 4).strip(),
        "hour": _indent("\nor on (@keys@)\n".join(hour), 4).strip(),
        "freshest": f"{source.end}{{{windows}}}\n          or 0 * @whole_window@"
        if source.end
        else "0 * @whole_window@",
        **values,
        "whole": f"taskrouter:{source.name}:whole",
        "part": f"taskrouter:{source.name}:part",
        "name": source.name,
        "ignoring": f" ignoring ({source.label})" if source.label else "",
        "named": f'"{source.label}", "(.+)"' if source.label else '"", ""',
        "ratio": source.ratio if source.label else names[0],
        "ratios": "|".join(names),
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
  keep_firing_for: 15m
  labels: {{severity: warning}}
  annotations: &{ratio}_spike
    summary: "{spike.summary}: {title}"
    description: >-
      In {", ".join(where)},
      {{{{ range printf "taskrouter:ratio:share{{{selector}}}"
      {values} | query | sortByLabel "span" }}}}{{{{ .Value | humanizePercentage }}}}
      of the {source.noun} of the last {{{{ .Labels.span }}}}, {{{{ else }}}}recently, many {source.noun} {{{{ end }}}}{spike.happened}.
      {{{{ with printf "taskrouter:ratio:baseline{{{selector}}}"
      {values} | query }}}}The baseline is
      {{{{ . | first | value | humanizePercentage }}}}.{{{{ end }}}}
    runbook_url: {_RUNBOOKS}#{anchor}
- alert: {spike.alert}
  expr: taskrouter:ratio:spike{{ratio="{ratio}"}} == 2
  keep_firing_for: 15m
  labels: {{severity: critical}}
  annotations: *{ratio}_spike"""


def _matches(label: str, values: str) -> str:
    return f'{label}=~"{values}"'


def _minutes(window: str) -> int:
    return int(window.removesuffix("m"))


def _indent(text: str, spaces: int) -> str:
    return "\n".join(" " * spaces + line if line else line for line in text.splitlines())


if __name__ == "__main__":
    RULES.write_text(rules(), encoding="utf-8")
