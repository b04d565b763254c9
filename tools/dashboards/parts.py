"""What the dashboards are put together from: variables, links, queries and the few kinds of panel."""

from collections.abc import Sequence
from typing import Final, TypeVar

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.models.common import (
    DataSourceRef,
    GraphDrawStyle,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    AnnotationQuery,
    DashboardCursorSync,
    DashboardLinkType,
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    ValueMap,
    ValueMappingResult,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from tools.dashboards.colours import COLOURS, above, steps, threshold
from tools.dashboards.hints import no_value

OVERVIEW: Final = "taskrouter-overview"
CHANNEL: Final = "taskrouter-channel"
QUEUES: Final = "taskrouter-queues"
EXPORTER: Final = "taskrouter-exporter"
_TAG: Final = "taskrouter"

_DATASOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
ALERT: Final = "Alert"
"""The legend of a line above (or below) which an alert fires."""
_STEP: Final = "1m"
"""The documented scrape interval. $__rate_interval is four times as much or more."""

SELECTED_EXPORTERS: Final = 'job=~"$job", instance=~"$instance"'
_TARGETS: Final = 'workspace=~"$workspace", channel=~"$channel"'
SELECTED: Final = f"{SELECTED_EXPORTERS}, {_TARGETS}"
_POLLED: Final = f"and on (workspace, channel) twilio_taskrouter_up{{{SELECTED}}}"
"""Of recordings, which have no job and no instance, those that the chosen exporters poll."""
SELECTED_ALERTS: Final = (
    'alertname=~"TaskRouter.*", job=~"$job|", instance=~"$instance|", workspace=~"$workspace|", '
    'channel=~"$channel|"'
)
"""Those of the exporter have no workspace, and the others have no job and no instance."""
_ALERTS: Final = f'ALERTS{{{SELECTED_ALERTS}, alertstate="firing"}}'
FIRING: Final = f"count({_ALERTS}) or vector(0)"

NEEDS_COUNTERS: Final = " Only targets with `counters: day` (or `week`) have it."
_OUTCOMES: Final = {
    "accepted": ("Accepted", "green"),
    "rejected": ("Rejected", "red"),
    "timed_out": ("Timed out", "orange"),
    "canceled": ("Cancelled", "purple"),
    "rescinded": ("Rescinded", "blue"),
}
SECONDS, SHARE, COUNT, PER_SECOND = "s", "percentunit", "short", "reqps"

Panel = timeseries.Panel | stat.Panel | table.Panel | statetimeline.Panel
_AnyPanel = TypeVar("_AnyPanel", bound=Panel)


class FiringAlerts(AnnotationQuery):
    """The annotation of when alerts fire, with the texts that the SDK's model has no place for."""

    def __init__(self) -> None:
        expr = f"max by (alertname, severity, workspace, channel, reason) ({_ALERTS})"
        super().__init__("Alerts", _DATASOURCE, icon_color="red", expr=expr)

    def to_json(self) -> dict[str, object]:
        """As Prometheus's data source reads it: newer ones read the query in `target`, older ones `expr`."""
        return super().to_json() | {
            "target": {"expr": self.expr, "interval": _STEP, "refId": "Anno"},
            "titleFormat": "{{alertname}}",
            "textFormat": "{{workspace}} {{channel}} {{reason}}",
            "tagKeys": "severity",
        }


def board(
    uid: str,
    title: str,
    description: str,
    *,
    more: Sequence[str] = ("window",),
    first: Sequence[str] = (),
) -> dashboard.Dashboard:
    """Return a dashboard with what all of them have.

    Args:
        uid: By which links find it.
        title: Of the dashboard.
        description: Likewise.
        more: What can be chosen beside exporters, workspaces and channels: `queue`, `window`.
        first: The variables that begin with their first value, and not with all.
    """
    chosen = VariableOption(text=["All"], value=["$__all"])
    made = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([_TAG, "twilio"])
        .time("now-24h", "now")
        .refresh("1m")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("TaskRouter")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([_TAG])
            .tooltip("The other TaskRouter dashboards, for the same selection and time")
            .include_vars(True)
            .keep_time(True)
        )
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    selected: list[str] = []
    for name, label, of in (
        ("job", "Job", "up"),
        ("instance", "Instance", "up"),
        ("workspace", "Workspace", "up"),
        ("channel", "Channel", "up"),
        *([("queue", "Queue", "queue_tasks")] if "queue" in more else []),
    ):
        values = f"label_values(twilio_taskrouter_{of}{{{', '.join(selected)}}}, {name})"
        variable = _variable(name, label, values).multi(True).include_all(True).all_value(".*")
        made.with_variable(variable if name in first else variable.current(chosen))
        selected.append(f'{name}=~"${name}"')
    if "window" in more:
        made.with_variable(
            _variable("window", "Window", "label_values(twilio_taskrouter_window_reservations, window)")
            .description("The time before each instant that reservations and Activities are counted over")
            .current(VariableOption(text="15m", value="15m"))
        )
    return made


def add_row(made: dashboard.Dashboard, title: str, *panels: Panel) -> None:
    """Add a row, which can be collapsed, and its panels."""
    made.with_row(dashboard.Row(title).collapsed(False))
    for panel in panels:
        made.with_panel(panel)


def query(expr: str, legend: str = "__auto", *, instant: bool = False) -> prometheus.Dataquery:
    """Return a query over the dashboard's time range, or of its end only."""
    made = prometheus.Dataquery().datasource(_DATASOURCE).expr(expr).legend_format(legend).interval(_STEP)
    return made.instant() if instant else made.range()


def alert_line(name: str) -> prometheus.Dataquery:
    """Return a threshold as it is in Prometheus now, as one line for each severity."""
    line = f'max by (severity) (taskrouter:threshold{{threshold="{name}"}})'
    return query(line, ALERT + ", {{severity}}" if any(threshold(name)) else ALERT)


def recorded(name: str, *matchers: str, by: str = "workspace, channel") -> str:
    """Return a recording of what the chosen exporters poll."""
    selected = ", ".join([_TARGETS, *matchers])
    return f"max by ({by}) ({name}{{{selected}}} {_POLLED})"


def ratio(kind: str, name: str, span: str = "") -> str:
    """Return a recording of the alerts' method by channel: `share`, `baseline`, `lower_bound` or `excess`."""
    spans = [f'span="{span}"'] if span else []
    return recorded(f"taskrouter:ratio:{kind}", f'ratio="{name}"', *spans)


def share_in_windows(outcome: str, selected: str) -> str:
    """Return the share of an outcome in each window that is polled."""
    ended = f'twilio_taskrouter_window_reservation_outcomes{{{selected}, outcome="{outcome}"}}'
    created = f"twilio_taskrouter_window_reservations{{{selected}}}"
    return f"clamp_max(max by (workspace, channel, window) ({ended} / ignoring (outcome) ({created} > 0)), 1)"


def whole(metric: str, by: str, selected: str = SELECTED, *, per: str = "workspace") -> str:
    """Return sums without counting a channel twice.

    That is the channel "all" where it is polled and selected, else the sum of the channels. Replicas agree,
    so that one of them is taken.

    Args:
        metric: A metric of the exporter, or a recording.
        by: The labels of the sums.
        selected: Which of its series.
        per: The labels that identify what has channels.
    """
    polled = ""
    if metric.startswith("taskrouter:"):
        selected, polled = _TARGETS, f" {_POLLED}"
    one, all_of = f"max by ({by}, channel)", f"{metric}{{{selected}"
    return (
        f'sum by ({by}) ({one} ({all_of}, channel="all"}}{polled}))'
        f' or on ({per}) sum by ({by}) ({one} ({all_of}, channel!="all"}}{polled}))'
    )


def graph(
    title: str,
    description: str,
    unit: str,
    *queries: prometheus.Dataquery,
    stacked: bool = False,
    most: float | None = None,
) -> timeseries.Panel:
    """Lines, or areas on top of each other; with their last and highest values in the legend."""
    made = (
        timeseries.Panel()
        .unit(unit)
        .min(0)
        .draw_style(GraphDrawStyle.LINE)
        .line_width(1 if stacked else 2)
        .fill_opacity(60 if stacked else 0)
        .show_points(VisibilityMode.NEVER)
        .stacking(common.StackingConfig().mode(StackingMode.NORMAL if stacked else StackingMode.NONE))
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.TABLE)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull", "max"])
            .sort_by("Last *")
            .sort_desc(True)
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    )
    if most is not None:
        made.max(most)
    legends = {each.build().legend_format for each in queries}
    if "{{outcome}}" in legends:
        for outcome, (name, colour) in _OUTCOMES.items():
            made.override_by_name(outcome, [_colour(colour), DynamicConfigValue("displayName", name)])
    for severity, colour in COLOURS.items():
        if (ALERT + ", {{severity}}" if severity else ALERT) in legends:
            dashes = DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [10, 10]})
            made.override_by_name(f"{ALERT}, {severity}" if severity else ALERT, [_colour(colour), dashes])
    return filled(made, title, description, queries, 10, 12)


def number(
    title: str,
    description: str,
    unit: str,
    *queries: prometheus.Dataquery,
    colours: dashboard.ThresholdsConfig | None = None,
) -> stat.Panel:
    """Return the values of now, large."""
    made = (
        stat.Panel()
        .unit(unit)
        .thresholds(colours or steps("text"))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )
    return filled(made, title, description, queries, 5, 6)


def rows(  # noqa: PLR0913 -- what tells one table from another
    title: str,
    description: str,
    unit: str,
    *,
    keys: dict[str, str],
    columns: dict[str, str],
    worst: str,
) -> table.Panel:
    """Return a table of the values of now.

    Args:
        title: Of the panel.
        description: Likewise.
        unit: Of the columns that have no other.
        keys: The labels that make a row, and their headings.
        columns: The headings and what stands below.
        worst: The column that it is sorted by, highest first.
    """
    values = {f"Value #{_letter(number)}": name for number, name in enumerate(columns)}
    order = {name: place for place, name in enumerate([*keys, *values])}
    queries = [query(expr, instant=True).format(PromQueryFormat.TABLE) for expr in columns.values()]
    organize = {"excludeByName": {"Time": True}, "renameByName": keys | values, "indexByName": order}
    made = (
        table.Panel()
        .unit(unit)
        .thresholds(steps("text"))
        .sort_by([common.TableSortByFieldState().display_name(worst).desc(True)])
        .with_transformation(DataTransformerConfig("merge", options={}))
        .with_transformation(DataTransformerConfig("organize", options=organize))
    )
    return filled(made, title, description, queries, 11, 24)


def states(title: str, description: str, queried: prometheus.Dataquery) -> statetimeline.Panel:
    """Bars that are green where a value is 1 and red where it is 0."""
    words = {"1": ValueMappingResult("up", "green", index=0), "0": ValueMappingResult("down", "red", index=1)}
    made = (
        statetimeline.Panel()
        .unit("bool")
        .mappings([ValueMap(words)])
        .thresholds(steps("red", (1, "green")))
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .show_value(VisibilityMode.NEVER)
        .row_height(0.8)
    )
    return filled(made, title, description, [queried], 10, 12)


def column(made: table.Panel, heading: str, *, unit: str = "", alert: str = "", link: str = "") -> None:
    """Give a table's column a unit, the colours of an alert's threshold, or a link to the row's channel."""
    properties = []
    if unit:
        properties.append(DynamicConfigValue("unit", unit))
    if alert:
        properties.append(DynamicConfigValue("thresholds", above(alert, base="transparent").build()))
        properties.append(DynamicConfigValue("custom.cellOptions", {"type": "color-background"}))
    if link:
        address = (
            "/d/" + CHANNEL + "?${datasource:queryparam}&${job:queryparam}&${instance:queryparam}"
            "&${window:queryparam}&${__url_time_range}"
            "&var-workspace=${__data.fields.workspace:percentencode}"
            "&var-channel=${__data.fields.channel:percentencode}"
        )
        properties.append(DynamicConfigValue("links", [{"title": link, "url": address}]))
    made.override_by_name(heading, properties)


def filled(  # noqa: PLR0913, PLR0917 -- what every panel has
    made: _AnyPanel,
    title: str,
    description: str,
    queries: Sequence[prometheus.Dataquery],
    height: int,
    width: int,
) -> _AnyPanel:
    """Return a panel with what every panel has, `height` and `width` in cells of the grid."""
    made.title(title).description(description).datasource(_DATASOURCE).height(height).span(width)
    made.no_value(no_value(each.build().expr for each in queries))
    for number, each in enumerate(queries):
        made.with_target(each.ref_id(_letter(number)))
    return made


def _letter(number: int) -> str:
    return chr(ord("A") + number)


def _variable(name: str, label: str, values: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(_DATASOURCE)
        .query({"qryType": 1, "query": values, "refId": "PrometheusVariableQueryEditor-VariableQuery"})
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.NATURAL_ASC)
    )


def _colour(colour: str) -> DynamicConfigValue:
    return DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colour})
