"""What all five dashboards share: time, refresh, variables, links between them and to runbooks, annotations."""

from collections.abc import Sequence
from typing import Any, Final

from grafana_foundation_sdk.builders import dashboard, prometheus
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as model

from app.utils.metrics import BUILD_INFO
from dashboards.names import REAL_ALERTS, gauge
from dashboards.panels import METRICS

TAG: Final = "commandcenter"
# The console shows docs/runbooks/<alert>.md there; alerts link to the same place.
RUNBOOKS: Final = "http://localhost:8080/runbooks"
# A release shows as long as its series is younger than this.
_NEWS: Final = "2m"
ALL: Final = ".*"
# The library's default hides links and annotations in a menu.
_IN_SIGHT: Final = ""


def frame(
    uid: str,
    title: str,
    description: str,
    panels: Sequence[Builder[model.Panel]],
    variables: Sequence[Builder[model.VariableModel]] = (),
) -> model.Dashboard:
    """Return a dashboard of these panels, in rows from left to right.

    Args:
        uid: also the file's name; links and alerts bear it.
        title: what a person looks for.
        description: which question it answers.
        panels: at most 20.
        variables: besides the data source.
    """
    made = dashboard.Dashboard(title).uid(uid).description(description).tags([TAG]).readonly()
    made = made.time("now-1h", "now").refresh("30s").timezone("browser").tooltip(model.DashboardCursorSync.CROSSHAIR)
    made = made.variables([_source("datasource", "Metrics", "prometheus"), *variables])
    made = made.annotations([_releases(), _alerts()]).links([_siblings()])
    for panel in panels:
        made = made.with_panel(panel)
    finished = made.build()
    for number, panel_model in enumerate(finished.panels or [], start=1):
        # The library numbers none, and Grafana would number them anew at each load: links to a panel would break.
        panel_model.id_val = number
    return finished


def runbook(alert: str) -> Builder[model.DashboardLink]:
    """Return a panel's link to what to do about an alert."""
    link = dashboard.DashboardLink(f"Runbook: {alert}").type(model.DashboardLinkType.LINK)
    return link.url(f"{RUNBOOKS}/{alert}").target_blank(True).placement(_IN_SIGHT)


def logs_source() -> Builder[model.VariableModel]:
    """Return the variable that says which Loki to ask."""
    return _source("loki_datasource", "Logs", "loki")


def choice(name: str, label: str, query: str) -> Builder[model.VariableModel]:
    """Return a variable with the values that a label has, any number of them or all.

    Args:
        name: used as `$name` in `=~` matchers.
        label: what a person reads.
        query: `label_values(series, label)`.
    """
    variable = dashboard.QueryVariable(name).label(label).datasource(METRICS).multi(True).include_all(True)
    variable = variable.query({"query": query, "refId": name, "qryType": 1}).definition(query).all_value(ALL)
    variable = variable.refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(model.VariableSort.ALPHABETICAL_ASC)
    return variable.current(model.VariableOption(selected=True, text="All", value="$__all"))


def text_box(name: str, label: str, description: str) -> Builder[model.VariableModel]:
    """Return a variable that a person types in; empty at first."""
    variable = dashboard.TextBoxVariable(name).label(label).description(description).default_value("")
    return variable.current(model.VariableOption(selected=True, text="", value=""))


def _source(name: str, label: str, kind: str) -> Builder[model.VariableModel]:
    """The data sources' uids are their kinds: provisioning says so."""
    current = model.VariableOption(selected=True, text=kind.capitalize(), value=kind)
    return dashboard.DatasourceVariable(name).label(label).type(kind).current(current)


def _siblings() -> Builder[model.DashboardLink]:
    link = dashboard.DashboardLink("CommandCenter").type(model.DashboardLinkType.DASHBOARDS).tags([TAG])
    return link.as_dropdown(False).keep_time(True).include_vars(False).placement(_IN_SIGHT)


def _annotation(name: str, color: str, expression: str, title: str, text: str) -> Builder[Any]:
    query = prometheus.Dataquery().expr(expression).interval("60s").range().ref_id("Anno")
    made = dashboard.AnnotationQuery().name(name).datasource(METRICS).enable(True).icon_color(color)
    return made.expr(expression).step("60s").title_format(title).text_format(text).target(query).placement(_IN_SIGHT)


def _releases() -> Builder[Any]:
    builds = f"count by (version, commit) ({gauge(BUILD_INFO)})"
    before = f"count by (version, commit) ({gauge(BUILD_INFO)} offset {_NEWS})"
    return _annotation("Releases", "blue", f"{builds} unless {before}", "Release {{commit}}", "Version {{version}}")


def _alerts() -> Builder[Any]:
    expression = f"sum by (alertname, severity) (ALERTS{{{REAL_ALERTS}}})"
    return _annotation("Firing alerts", "red", expression, "{{alertname}}", "{{severity}}")
