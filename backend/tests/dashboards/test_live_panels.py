"""Every panel's query, asked of a real Prometheus that watches the real system, gives a number."""

import math

from tests.grafana import Target, dashboards, filled_in
from tests.monitoring_stack import MonitoredSystem, Series

RANGE_S = 3600
# Panels that show nothing on a system that is well. A panel of this list that has data fails the test, too.
MAY_BE_EMPTY = {
    "commandcenter-overview: Alerts that fire": "nothing is wrong with the system that the tests run",
    "database-performance: Dead tuples": "shows tables of more than a thousand rows, and tests make fewer",
    "error-tracking: Hooks of ours that failed": "none failed: each would be a bug",
    "commandcenter-overview: annotation Firing alerts": "as the panel of alerts that fire",
    "celery-deep-dive: annotation Firing alerts": "as above",
    "database-performance: annotation Firing alerts": "as above",
    "error-tracking: annotation Firing alerts": "as above",
    "golden-signals: annotation Firing alerts": "as above",
}


def ask(watched: MonitoredSystem, target: Target) -> list[Series]:
    """Return the series of a target, asked as Grafana asks."""
    expression = filled_in(target.expression, RANGE_S)
    if target.instant:
        return watched.query(expression)
    return watched.query_range(expression, range_s=60, step_s=1)


def has_a_number(series: list[Series]) -> bool:
    """Whether any series has a finite value."""
    values = (sample for each in series for sample in each.get("values", [each.get("value")]))
    return any(math.isfinite(float(value)) for _, value in values)


def test_every_panel_shows_a_number(lived: MonitoredSystem, summary: list[str]) -> None:
    """A panel that can't show anything is found now, and not in the night it is needed."""
    targets = [target for each in dashboards() for target in (*each.targets(), *each.annotations())]
    empty = {str(target): target.expression for target in targets if not has_a_number(ask(lived, target))}
    unexpected = {name: expression for name, expression in empty.items() if name not in MAY_BE_EMPTY}
    assert unexpected == {}
    assert MAY_BE_EMPTY.keys() - empty.keys() == set(), "these have data, so they need no excuse"
    panels = sum(len(each.panels) for each in dashboards())
    asked = {str(target) for each in dashboards() for target in each.targets()}
    summary.append(
        f"panels with data: {len(asked - empty.keys())} of {panels} "
        f"({len(asked & empty.keys())} empty for a stated reason, {panels - len(asked)} of logs)"
    )


def test_what_may_be_empty_says_why() -> None:
    """`release verify` takes an empty panel for an unanswered question, unless the panel itself answers it."""
    silent = {
        f"{each.uid}: {panel['title']}"
        for each in dashboards()
        for panel in each.panels
        if not panel.get("fieldConfig", {}).get("defaults", {}).get("noValue")
    }
    assert {name for name in MAY_BE_EMPTY if ": annotation " not in name} & silent == set()


def test_variables_offer_values(lived: MonitoredSystem) -> None:
    """A list to choose from that is empty chooses nothing."""
    for each in dashboards():
        for variable in each.variables:
            if variable["type"] == "query":
                series, label = variable["definition"].removeprefix("label_values(").removesuffix(")").split(", ")
                assert lived.get(f"label/{label}/values", **{"match[]": series}), variable["name"]


def test_a_chosen_value_narrows(lived: MonitoredSystem) -> None:
    """Were the variable not in the query, choosing would change nothing."""
    [depth] = [
        target
        for each in dashboards()
        for target in each.targets()
        if str(target) == "celery-deep-dive: Depth by queue"
    ]
    everything = lived.query(filled_in(depth.expression, RANGE_S))
    chosen = lived.query(filled_in(depth.expression, RANGE_S, {"queue": "sync"}))
    assert {each["metric"]["queue"] for each in chosen} == {"sync"}
    assert len(everything) > len(chosen)
