"""Each alert has what the person it wakes needs, and the page of alerts says what the rules do."""

import re
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from promql_parser import Call

from tests.alerts.rules import ALERTS, MONITORING, Rule, rules
from tests.promql import nodes, parse, selectors, wants

PAGE = MONITORING.parent / "docs" / "monitoring.md"
CONTRACT = "MetricContractBroken"
# Alerts that bear the labels of what they are about, `service` among them: each target has one.
SERVICE_OF_SERIES = {"DatabasePoolExhausted", "ScrapeTargetDown", CONTRACT}
HTTP = re.compile(r"http_request\w*")


def _rows() -> dict[str, list[str]]:
    """Return the page's table of alerts: cells by name."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.read_text().splitlines()]
    names = re.compile(r"`([A-Z]\w+)`")
    return {found[1]: row[1:] for row in rows if len(row) == 6 and (found := names.fullmatch(row[0]))}


@pytest.mark.parametrize("rule", rules().values(), ids=rules())
def test_each_alert_says_what_is_needed(rule: Rule) -> None:
    """Who is woken should not have to look up what it means, where to look, and what to do."""
    assert rule["labels"]["severity"] in {"critical", "warning", "none"}
    assert ("service" in rule["labels"]) == (rule["alert"] not in SERVICE_OF_SERIES)
    assert "stage" not in rule["labels"], "prometheus.yml decides on that"
    texts = rule["annotations"]
    assert texts.keys() == {"summary", "description", "runbook_url", "dashboard_url"}
    assert len(texts["description"]) > 60
    assert urlsplit(texts["runbook_url"]).path == f"/runbooks/{rule['alert']}"
    dashboard = urlsplit(texts["dashboard_url"]).path.removeprefix("/d/")
    assert (MONITORING / "grafana" / "dashboards" / f"{dashboard}.json").exists()


def test_each_target_has_a_service() -> None:
    """Alerts that take theirs from the series would be without one."""
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    groups = [group for job in config["scrape_configs"] for group in job["static_configs"]]
    assert groups
    assert all(group["labels"]["service"] for group in groups)


def test_every_alert_gets_a_stage() -> None:
    """The first rule of all is for every alert; what follows promotes by name."""
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    assert config["alerting"]["alert_relabel_configs"][0] == {"target_label": "stage", "replacement": "shadow"}


def test_probes_are_no_traffic() -> None:
    """A probe each few seconds would drown the errors of a night."""
    read = [
        (rule["alert"], selector)
        for rule in rules().values()
        if rule["alert"] != CONTRACT
        for selector in selectors(parse(rule["expr"]))
        if HTTP.fullmatch(str(selector.name))
    ]
    assert read
    for alert, selector in read:
        patterns = [str(each) for each in selector.matchers.matchers if each.name == "handler"]
        assert patterns == ['handler!~"(/api/v1)?/(health.*|metrics)"'], alert


def test_each_series_has_its_line_in_the_contract() -> None:
    """An alert whose series is gone can't fire, and only this one tells."""
    contract = parse(rules()[CONTRACT]["expr"])
    absent = {
        str(selector.name)
        for node in nodes(contract)
        if isinstance(node, Call) and node.func.name == "absent"
        for selector in selectors(node)
    }
    read = {series for rule in rules().values() for series in wants(rule["expr"]).labels}
    assert absent == read
    jobs: dict[str, Any] = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    services = {group["labels"]["service"] for job in jobs["scrape_configs"] for group in job["static_configs"]}
    targets = {matcher.value for each in selectors(contract) if each.name == "up" for matcher in each.matchers.matchers}
    assert targets == services


@pytest.mark.parametrize("alert", rules())
def test_the_page_says_what_the_rule_does(alert: str) -> None:
    """People plan by the page."""
    rule = rules()[alert]
    _, waits, severity, *_ = _rows()[alert]
    assert (waits, severity) == (rule.get("for", ""), rule["labels"]["severity"])


def test_the_page_has_no_other_alerts() -> None:
    assert _rows().keys() == rules().keys()


def test_no_two_rules_have_one_name() -> None:
    """Stages and inhibitions go by names."""
    names = re.findall(r"- alert: (\w+)", ALERTS.read_text())
    assert sorted(names) == sorted(rules())
