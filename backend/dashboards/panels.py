"""The kinds of panels there are, each with what all of its kind share.

A builder of the library comes back, so that a dashboard adds what is special about one panel.
"""

from collections.abc import Sequence
from typing import Final, Protocol, Self, TypeVar

from grafana_foundation_sdk.builders import (
    common,
    heatmap,
    logs,
    loki,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    DataSourceRef,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    LogsSortOrder,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode, HeatmapColorScale
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from dashboards.style import ThresholdsConfig, Unit

METRICS: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
LOGS: Final = DataSourceRef(type_val="loki", uid="${loki_datasource}")

# Grafana's grid is 24 wide.
_STAT: Final = (4, 4)
_GRAPH: Final = (12, 8)
NO_TRAFFIC: Final = "no traffic"
NO_ERROR: Final = "no error"
NO_FAILURE: Final = "no task failed"
_MOST_LOG_LINES: Final = 500
_DOWN: Final = model.ValueMap(
    options={
        "0": model.ValueMappingResult(text="Down", color="red"),
        "1": model.ValueMappingResult(text="Up", color="green"),
    }
)
Query = tuple[str, str]


class _Panel(Protocol):
    """What the builders of all kinds of panels have in common."""

    def title(self, title: str) -> Self: ...
    def description(self, description: str) -> Self: ...
    def datasource(self, datasource: DataSourceRef) -> Self: ...
    def span(self, w: int) -> Self: ...
    def height(self, h: int) -> Self: ...


P = TypeVar("P", bound=_Panel)


def _framed(panel: P, title: str, description: str, size: tuple[int, int], source: DataSourceRef = METRICS) -> P:
    return panel.title(title).description(description).datasource(source).span(size[0]).height(size[1])


def _over_time(expression: str, legend: str, number: int) -> Builder[Dataquery]:
    return prometheus.Dataquery().expr(expression).legend_format(legend).range().ref_id(chr(ord("A") + number))


def _now(expression: str, legend: str, number: int, form: PromQueryFormat) -> Builder[Dataquery]:
    query = prometheus.Dataquery().expr(expression).legend_format(legend).instant().format(form)
    return query.ref_id(chr(ord("A") + number))


def number(
    title: str,
    description: str,
    expression: str,
    unit: Unit,
    thresholds: ThresholdsConfig | None = None,
    *,
    empty: str = "",
) -> stat.Panel:
    """One figure, as it is now.

    Args:
        title: what it is.
        description: what it means and what to do about it.
        expression: a query that gives one series.
        unit: of its value.
        thresholds: from where on it is amber or red.
        empty: what stands there when there is no series.
    """
    panel = _framed(stat.Panel(), title, description, _STAT)
    panel = panel.unit(unit).graph_mode(BigValueGraphMode.NONE)
    panel = panel.with_target(_now(expression, "", 0, PromQueryFormat.TIME_SERIES))
    panel = panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    if empty:
        panel = panel.no_value(empty)
    if thresholds is not None:
        panel = panel.thresholds(thresholds).color_mode(BigValueColorMode.BACKGROUND)
    return panel


def up(title: str, description: str, expression: str) -> stat.Panel:
    """Whether something is up."""
    panel = number(title, description, expression, Unit.NONE, empty="Down")
    return panel.mappings([_DOWN]).color_mode(BigValueColorMode.BACKGROUND)


def up_over_time(title: str, description: str, expression: str, legend: str) -> statetimeline.Panel:
    """A line for each series: when it was up."""
    panel = _framed(statetimeline.Panel(), title, description, _GRAPH).unit(Unit.NONE)
    return panel.with_target(_over_time(expression, legend, 0)).mappings([_DOWN])


def graph(
    title: str, description: str, unit: Unit, *queries: Query, thresholds: ThresholdsConfig | None = None
) -> timeseries.Panel:
    """Lines over time; each query is an expression and a legend."""
    panel = _framed(timeseries.Panel(), title, description, _GRAPH).unit(unit).min(0)
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
    panel = panel.legend(legend.show_legend(True)).fill_opacity(10)
    panel = panel.tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    for place, (expression, legend_format) in enumerate(queries):
        panel = panel.with_target(_over_time(expression, legend_format, place))
    if thresholds is not None:
        style = common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
        panel = panel.thresholds(thresholds).thresholds_style(style)
    return panel


def stacked(panel: timeseries.Panel) -> timeseries.Panel:
    """Put a graph's lines on top of each other."""
    return panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL)).fill_opacity(40)


def heat_map(title: str, description: str, expression: str) -> heatmap.Panel:
    """How durations are spread, from a query that gives a series for each bucket."""
    panel = _framed(heatmap.Panel(), title, description, _GRAPH).unit(Unit.SECONDS)
    colors = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges")
    panel = panel.calculate(False).color(colors.scale(HeatmapColorScale.EXPONENTIAL).exponent(0.5).steps(64))
    panel = panel.y_axis(heatmap.YAxisConfig().unit(Unit.SECONDS)).tooltip(
        heatmap.HeatmapTooltip().mode(TooltipDisplayMode.SINGLE)
    )
    query = prometheus.Dataquery().expr(expression).legend_format("{{le}}").range().format(PromQueryFormat.HEATMAP)
    return panel.with_target(query.ref_id("A"))


def rows(
    title: str,
    description: str,
    unit: Unit,
    columns: Sequence[str],
    *queries: Query,
    thresholds: ThresholdsConfig | None = None,
) -> table.Panel:
    """A table of what is now, or of the time shown, greatest first.

    Args:
        title: what it is.
        description: what it means.
        unit: of the values.
        columns: the labels to show, in this order.
        queries: an expression and the name of its column each; more than one are joined by their labels.
        thresholds: colours the values.
    """
    panel = _framed(table.Panel(), title, description, _GRAPH).unit(unit)
    for place, (expression, _) in enumerate(queries):
        panel = panel.with_target(_now(expression, "", place, PromQueryFormat.TABLE))
    values = {
        "Value" if len(queries) == 1 else f"Value #{chr(ord('A') + place)}": name
        for place, (_, name) in enumerate(queries)
    }
    if len(queries) > 1:
        panel = panel.with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
    shown = {name: place for place, name in enumerate([*columns, *values])}
    options = {"includeByName": dict.fromkeys(shown, True), "indexByName": shown, "renameByName": values}
    panel = panel.with_transformation(model.DataTransformerConfig(id_val="organize", options=options))
    first = next(iter(values.values()))
    panel = panel.sort_by([common.TableSortByFieldState().display_name(first).desc(True)])
    return panel.thresholds(thresholds) if thresholds is not None else panel


def log_lines(title: str, description: str, expression: str) -> logs.Panel:
    """Lines from Loki, newest first."""
    panel = _framed(logs.Panel(), title, description, (24, 12), LOGS)
    panel = panel.show_time(True).wrap_log_message(True).enable_log_details(True).sort_order(LogsSortOrder.DESCENDING)
    return panel.with_target(
        loki.Dataquery().expr(expression).query_type("range").max_lines(_MOST_LOG_LINES).ref_id("A")
    )
