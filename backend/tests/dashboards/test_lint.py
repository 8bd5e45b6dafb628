"""The rules of grafana's dashboard-linter, and ours."""

import re
from typing import Any

import pytest
import yaml

from dashboards.frame import RUNBOOKS
from tests.grafana import BACKEND, Dashboard, dashboards, filled_in
from tests.promql import RATES, parse, ranges, selectors

ALL = dashboards()
UIDS = {"commandcenter-overview", "error-tracking", "database-performance", "celery-deep-dive", "golden-signals"}
UNITS = {"short", "none", "percentunit", "s", "bytes", "reqps", "ops"}
GRIDS = 24

each_dashboard = pytest.mark.parametrize("dashboard", ALL, ids=lambda each: each.uid)


def problems_of_panel(panel: dict[str, Any]) -> list[str]:
    """Return what is wrong with how a panel looks."""
    found = []
    if not panel.get("title") or not str(panel.get("description", "")).endswith("."):
        found.append("title and a description in sentences")
    if panel["type"] != "logs" and panel["fieldConfig"]["defaults"].get("unit") not in UNITS:
        found.append("a unit")
    if panel["datasource"]["uid"] not in {"${datasource}", "${loki_datasource}"}:
        found.append("a templated data source")
    if not panel.get("targets"):
        found.append("a query")
    return found


def problems_of_query(expression: str) -> list[str]:
    """Return what is wrong with a query."""
    found = []
    short, long = filled_in(expression, 3600), filled_in(expression, 48 * 3600)
    ours = {60.0, 3600.0}
    if not set(ranges(short, lambda name: name in RATES)) <= ours:
        found.append("rates over $__rate_interval or $__range")
    if ranges(long, lambda name: name in RATES) == ranges(short, lambda name: name in RATES) != []:
        found.append("ranges that follow the time shown")
    for selector in selectors(parse(short)):
        labels = {matcher.name for matcher in selector.matchers.matchers}
        if labels & {"job", "instance", "server"}:
            found.append("no job, instance or server of one deployment")
        if selector.name == "up" and not labels and "by (" not in short:
            found.append("a service for `up`, or one line for each")
    return found


def test_the_five_are_there() -> None:
    """Alerts, docs and people link to them by uid."""
    assert {each.uid for each in ALL} == UIDS


@each_dashboard
def test_the_frame(dashboard: Dashboard) -> None:
    """What all five share."""
    content = dashboard.content
    assert content["refresh"] == "30s"
    assert content["time"] == {"from": "now-1h", "to": "now"}
    assert content["editable"] is False
    assert "__inputs" not in content
    assert 0 < len(dashboard.panels) <= 20
    assert [panel["id"] for panel in dashboard.panels] == list(range(1, len(dashboard.panels) + 1))
    titles = [panel["title"] for panel in dashboard.panels]
    assert len(set(titles)) == len(titles)
    [link] = content["links"]
    assert (link["type"], link["tags"], link["keepTime"]) == ("dashboards", content["tags"], True)
    assert {each["name"] for each in content["annotations"]["list"]} == {"Releases", "Firing alerts"}


@each_dashboard
def test_variables(dashboard: Dashboard) -> None:
    """One for each kind of data source; those of labels follow the time shown and can be all."""
    by_name = {each["name"]: each for each in dashboard.variables}
    kinds = {panel["datasource"]["type"] for panel in dashboard.panels}
    sources = {name: each["query"] for name, each in by_name.items() if each["type"] == "datasource"}
    wanted = {"datasource": "prometheus", "loki_datasource": "loki"}
    assert sources == {name: kind for name, kind in wanted.items() if kind in kinds}
    for name, kind in sources.items():
        assert by_name[name]["current"]["value"] == kind
    for each in dashboard.variables:
        if each["type"] == "query":
            assert each["datasource"]["uid"] == "${datasource}"
            assert re.fullmatch(r"label_values\(\w+, \w+\)", each["definition"])
            assert each["query"]["query"] == each["definition"]
            assert (each["multi"], each["includeAll"], each["allValue"], each["refresh"]) == (True, True, ".*", 2)
    used = set(re.findall(r"\$\{?([a-z_]\w*)\}?", str(dashboard.content)))
    assert {name for name in by_name if name not in used} == set()
    assert {name for name in used if not name.startswith("__")} <= set(by_name)


@each_dashboard
def test_panels(dashboard: Dashboard) -> None:
    """A panel that a stranger can't read at night is none."""
    assert {panel["title"]: found for panel in dashboard.panels if (found := problems_of_panel(panel))} == {}


@each_dashboard
def test_panels_do_not_overlap(dashboard: Dashboard) -> None:
    """Nor stick out of the grid."""
    taken: set[tuple[int, int]] = set()
    for panel in dashboard.panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= GRIDS, panel["title"]
        taken |= cells


@each_dashboard
def test_queries(dashboard: Dashboard) -> None:
    """They follow the time shown, and no deployment is written into them."""
    found = {target: problems_of_query(target.expression) for target in dashboard.targets()}
    assert {str(target): problems for target, problems in found.items() if problems} == {}


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("rate(a[5m])", "rates over $__rate_interval or $__range"),
        ('up{job="backend"}', "no job, instance or server of one deployment"),
        ("sum(up)", "a service for `up`, or one line for each"),
    ],
)
def test_the_linter_finds(expression: str, problem: str) -> None:
    """A linter that finds nothing proves nothing."""
    assert problem in problems_of_query(expression)


def test_runbooks_that_panels_link_to_are_alerts() -> None:
    """A link to nowhere costs a minute at night."""
    links = [link for dashboard in ALL for panel in dashboard.panels for link in panel.get("links", [])]
    linked = {link["title"].removeprefix("Runbook: ") for link in links}
    assert linked
    assert {link["url"] for link in links} == {f"{RUNBOOKS}/{alert}" for alert in linked}
    rules = yaml.safe_load((BACKEND.parent / "monitoring" / "alerts.yml").read_text())
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule}
    assert linked <= alerts


def test_provisioned_sources_are_those_of_the_variables() -> None:
    """Grafana makes up a uid unless one is given, and every panel then errors."""
    folder = BACKEND.parent / "monitoring" / "grafana" / "provisioning"
    sources = yaml.safe_load((folder / "datasources" / "datasources.yml").read_text())["datasources"]
    assert {source["uid"]: source["type"] for source in sources} == {"prometheus": "prometheus", "loki": "loki"}
    [prometheus] = [source for source in sources if source["uid"] == "prometheus"]
    config = yaml.safe_load((BACKEND.parent / "monitoring" / "prometheus.yml").read_text())
    assert prometheus["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]
    [provider] = yaml.safe_load((folder / "dashboards" / "dashboards.yml").read_text())["providers"]
    assert provider["folder"]
    assert provider["options"]["path"]
