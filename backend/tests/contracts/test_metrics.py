"""Code, rules, panels and docs agree on every series and label; a metric that nobody reads or writes is none.

What is there is asked of the real system's Prometheus, in this run.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Counter, Gauge, Histogram

from app.utils import metrics
from tests.contracts.test_correlation_page import functions_in
from tests.grafana import BACKEND, dashboards, filled_in
from tests.monitoring_stack import MonitoredSystem
from tests.promql import wants

ROOT = BACKEND.parent
# Series that are there only once something went wrong, with the test that sees them written.
ONLY_IN_TROUBLE = {
    "commandcenter_observability_failures_total": (
        "integration/test_error_tracking.py::test_a_broken_hook_does_not_break_a_request"
    ),
}
# Series that are there and that a healthy system leaves at 0, with the same.
AT_REST = {
    "commandcenter_log_lines_dropped_total": "telemetry/test_logs.py::test_what_does_not_fit_is_dropped_and_counted",
    "commandcenter_db_pool_timeouts_total": "api/test_database_away.py::test_a_pool_that_stays_empty_is_503",
    "celery_queue_depth": "telemetry/test_queues.py::test_tasks_of_every_priority_are_in_the_depth",
    "celery_queue_oldest_task_age_seconds": (
        "telemetry/test_queues.py::test_the_oldest_task_of_every_priority_tells_the_age"
    ),
}
SHOWN_S = 3600


def rules() -> dict[str, str]:
    """Return every rule's expression by its file and name."""
    found = {}
    for path in sorted((ROOT / "monitoring").glob("*.yml")):
        content: dict[str, Any] = yaml.safe_load(path.read_text())
        for group in content.get("groups", []):
            for rule in group.get("rules", []):
                found[f"{path.name}: {rule.get('alert') or rule['record']}"] = rule["expr"]
    return found


def panels() -> dict[str, str]:
    """Return every panel's and annotation's queries, as Grafana sends them, by their names."""
    found = {}
    for dashboard in dashboards():
        for number, target in enumerate((*dashboard.targets(), *dashboard.annotations())):
            found[f"{target} ({number})"] = filled_in(target.expression, SHOWN_S)
    return found


def series_of(metric: Counter | Gauge | Histogram) -> set[str]:
    """Return the names under which Prometheus keeps a metric."""
    [family] = metric.describe()
    if isinstance(metric, Histogram):
        return {f"{family.name}_{part}" for part in ("bucket", "count", "sum")}
    return {f"{family.name}_total" if isinstance(metric, Counter) else family.name}


OURS = {name: each for name, each in vars(metrics).items() if isinstance(each, Counter | Gauge | Histogram)}


def test_panels_read_what_is_there(there: dict[str, set[str]], summary: list[str]) -> None:
    """A series that is not scraped makes a panel that is always empty."""
    trouble = {name: found for name, expression in panels().items() if (found := _missing(expression, there))}
    assert trouble == {}
    read = {series for expression in panels().values() for series in wants(expression).labels}
    labels = sum(len(of) for expression in panels().values() for of in wants(expression).labels.values())
    summary.append(f"series checked: {len(read)} in {len(panels())} queries of panels, with {labels} uses of labels")


def test_rules_read_what_is_there(there: dict[str, set[str]], summary: list[str]) -> None:
    """A series that is not scraped makes an alert that never fires."""
    trouble = {name: found for name, expression in rules().items() if (found := _missing(expression, there))}
    assert trouble == {}
    read = {series for expression in rules().values() for series in wants(expression).labels}
    summary.append(f"series checked: {len(read)} in {len(rules())} rules")


def test_pages_ask_for_what_is_there(there: dict[str, set[str]], asked: dict[str, str], summary: list[str]) -> None:
    """A query in a runbook that finds nothing is taken for good news."""
    trouble = {name: found for name, expression in asked.items() if (found := _missing(expression, there))}
    assert trouble == {}
    read = {series for expression in asked.values() for series in wants(expression).labels}
    summary.append(f"series checked: {len(read)} in {len(asked)} queries of pages")


def _missing(expression: str, there: dict[str, set[str]]) -> list[str]:
    return [each for each in wants(expression).missing(there) if each.partition("{")[0] not in ONLY_IN_TROUBLE]


@pytest.mark.parametrize("name", OURS)
def test_each_metric_has_a_reader(name: str) -> None:
    """What nobody looks at costs a scrape each time and tells nobody anything."""
    read = {series for each in (*panels().values(), *rules().values()) for series in wants(each).labels}
    docs = "\n".join(path.read_text() for path in (ROOT / "docs").rglob("*.md") if path.name != "monitoring.md")
    assert any(series in read or re.search(rf"\b{series}\b", docs) for series in series_of(OURS[name])), (
        f"{name} has no reader: show it in a panel (docs/monitoring.md says how), or delete it"
    )


@pytest.mark.parametrize("name", OURS)
def test_each_metric_is_written(name: str, there: dict[str, set[str]], lived: MonitoredSystem) -> None:
    """A metric that is defined and never written is worse than none: people take its silence for good news.

    One without labels, or whose labels are made at the start, is exported at 0 where nobody writes it.
    """
    series = series_of(OURS[name])
    if series & ONLY_IN_TROUBLE.keys():
        return
    assert series <= there.keys(), f"{name} is never written"
    if not series & AT_REST.keys():
        [counting] = [each for each in series if not each.endswith(("_bucket", "_sum"))]
        highest = lived.value(f"max(max_over_time({counting}[1h]))")
        assert highest, f"{name} is exported, and never written"


@pytest.mark.parametrize("series", [*ONLY_IN_TROUBLE, *AT_REST])
def test_each_series_of_trouble_is_ours_and_seen_written_by_a_test(series: str) -> None:
    """On a healthy system nobody would see that it is not."""
    assert series in {each for metric in OURS.values() for each in series_of(metric)}
    path, _, test = (ONLY_IN_TROUBLE | AT_REST)[series].partition("::")
    assert test in functions_in(path)


def test_each_metric_has_the_labels_it_says(there: dict[str, set[str]]) -> None:
    """And no other: one more label is many more series."""
    target = {"__name__", "instance", "job", "service"}
    for each in OURS.values():
        [family] = each.describe()
        expected = set(each._labelnames)
        for series in series_of(each) & there.keys():
            bounds = {"le"} if series.endswith("_bucket") else set()
            assert there[series] == expected | target | bounds, family.name


@pytest.mark.parametrize(
    ("expression", "missing"),
    [
        ("sum by (handler) (rate(http_requests_total[5m]))", []),
        ("sum by (route) (rate(http_requests_total[5m]))", ["http_requests_total{route}"]),
        ('http_requests_total{route="/"}', ["http_requests_total{route}"]),
        ("http_request_total", ["http_request_total"]),
        ('sum by (class) (label_replace(http_requests_total, "class", "$1", "status", "(.)"))', []),
        (
            'sum by (class) (label_replace(http_requests_total, "class", "$1", "code", "(.)"))',
            ["http_requests_total{code}"],
        ),
        ('label_replace(absent(up{job="x"}), "metric", "up", "", "")', []),
        ("http_requests_total * on (route) group_left (x) up", ["http_requests_total{route}", "up{route}", "up{x}"]),
    ],
)
def test_the_parser_finds_what_is_missing(expression: str, missing: list[str]) -> None:
    """A contract that can't be broken proves nothing."""
    there = {"http_requests_total": {"handler", "status", "job"}, "up": {"job"}}
    assert wants(expression).missing(there) == missing


def test_docs_name_metrics_that_are_there(there: dict[str, set[str]]) -> None:
    """A runbook's query with a name that is no more costs minutes at night."""
    prefixes = (
        r"\b(?:commandcenter|celery|http_request|pg_stat|node)\w*_(?:total|seconds|bytes|bucket|count|ratio|age)\b"
    )
    names = there.keys() | ONLY_IN_TROUBLE.keys() | {name.removesuffix("_bucket") for name in there}
    for path in sorted((ROOT / "docs").rglob("*.md")):
        unknown = set(re.findall(prefixes, path.read_text())) - names
        assert unknown == set(), Path(path).name
