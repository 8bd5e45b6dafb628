"""How long criticals take at most: against figures worked out by hand, and who may stand in for whom."""

import math
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from ops.alerting import stages
from ops.release import detection, ruleset
from ops.release.detection import Bound
from ops.stack.errors import StackError
from ops.stack.layout import checkout

SHIPPED: Final = checkout() / "monitoring"
SLOW: Final = "sum(rate(errors[10m])) / sum(rate(requests[10m])) > 0.1"
FAST: Final = "sum(rate(errors[1m])) / sum(rate(requests[1m])) > 0.5"
MUTE: Final = {"source_matchers": ['alertname="Fast"', 'stage="live"'], "target_matchers": ['alertname="Slow"']}


def rule(name: str, expr: str, **fields: Any) -> dict[str, Any]:
    return {"alert": name, "expr": expr, "labels": {"severity": "critical", "service": "api"}, **fields}


def prometheus(live: tuple[str, ...] = (), **fields: Any) -> dict[str, Any]:
    promoted = [
        {"source_labels": ["alertname"], "regex": name, "target_label": "stage", "replacement": "live"} for name in live
    ]
    return {
        "global": {"scrape_interval": "30s", "evaluation_interval": "20s"},
        "rule_files": ["/etc/prometheus/alerts.yml"],
        "alerting": {"alert_relabel_configs": [{"target_label": "stage", "replacement": "shadow"}, *promoted]},
        **fields,
    }


def found(
    folder: Path,
    *rules: dict[str, Any],
    config: dict[str, Any] | None = None,
    manager: dict[str, Any] | None = None,
    share: float = 1.0,
    **group: Any,
) -> dict[str, Bound]:
    """Return the bounds of these rules by name; `group`: fields of their group."""
    files = {
        "prometheus.yml": config or prometheus(),
        "alerts.yml": {"groups": [{"name": "g", "rules": list(rules), **group}]},
        "alertmanager.yml": manager or {"route": {"group_wait": "10s"}, "inhibit_rules": [MUTE]},
    }
    for name, content in files.items():
        (folder / name).write_text(yaml.safe_dump(content))
    return {each.alert: each for each in detection.bounds(folder, folder / "alertmanager.yml", share)}


@pytest.mark.parametrize(
    ("fields", "share", "seconds"),
    [
        # 30 scrape + 600 x 0.1 / 1 + 20 evaluation + 0 for + 10 wait
        ({}, 1.0, 120),
        # 600 x 0.1 / 0.5 = 120
        ({}, 0.5, 180),
        ({}, 0.1, math.inf),
        # 50 s are three evaluations of 20 s
        ({"for": "50s"}, 1.0, 180),
        ({"for": "1m"}, 1.0, 180),
        # No share is read: the whole window, 300
        ({"expr": "increase(restarts[5m]) > 3"}, 1.0, 360),
        ({"expr": "max_over_time(depth[5m:30s]) > 3"}, 0.2, 360),
        ({"expr": "up == 0", "for": "40s"}, 1.0, 100),
        # Both must be over: the slower one counts. 600 x 0.1 = 60 and 120 x 0.6 = 72
        ({"expr": f"{SLOW} and sum(rate(errors[2m])) / sum(rate(requests[2m])) > 0.6"}, 1.0, 132),
        ({"expr": f"{SLOW} and sum(rate(errors[2m])) / sum(rate(requests[2m])) > 0.6"}, 0.6, math.inf),
    ],
)
def test_a_bound_is_what_a_hand_works_out(tmp_path: Path, fields: dict[str, Any], share: float, seconds: float) -> None:
    """People plan by it, and a release is refused by it."""
    assert found(tmp_path, rule("Slow", SLOW) | fields, share=share)["Slow"].seconds == seconds


def test_the_slowest_of_jobs_groups_and_routes_counts(tmp_path: Path) -> None:
    """A bound must hold for all of them."""
    jobs = prometheus(scrape_configs=[{"job_name": "a", "scrape_interval": "1m"}, {"job_name": "b"}])
    assert found(tmp_path, rule("Slow", SLOW), config=jobs)["Slow"].seconds == 150
    # Evaluated each 30 s: 30 + 60 + 30 + 60 + 10
    assert found(tmp_path, rule("Slow", SLOW, **{"for": "50s"}), interval="30s")["Slow"].seconds == 190
    routes = {"group_wait": "10s", "routes": [{"group_wait": "0s", "routes": [{"group_wait": "1m30s"}]}, {}]}
    assert found(tmp_path, rule("Slow", SLOW), manager={"route": routes})["Slow"].seconds == 200
    assert found(tmp_path, rule("Slow", SLOW), manager={"route": {}})["Slow"].seconds == 140


def test_only_what_wakes_people_has_a_bound(tmp_path: Path) -> None:
    """Criticals in every file that Prometheus loads, and no other rule."""
    config = prometheus(rule_files=["/etc/prometheus/alerts.yml", "/etc/prometheus/more/*.yml"])
    (tmp_path / "more").mkdir()
    more = {"groups": [{"name": "own", "rules": [rule("Own", "up == 0")]}]}
    (tmp_path / "more" / "own.yml").write_text(yaml.safe_dump(more))
    others = [rule("Warning", SLOW, labels={"severity": "warning"}), {"record": "a:b", "expr": "up"}]
    assert found(tmp_path, rule("Slow", SLOW), *others, config=config).keys() == {"Slow", "Own"}


PATIENT: Final = {"for": "5m"}


def test_a_slow_critical_is_not_in_time(tmp_path: Path) -> None:
    """Five minutes is what people were promised: 5 min is too late, and a second less is not."""
    late = found(tmp_path, rule("Slow", SLOW, **PATIENT))["Slow"]
    assert (late.seconds, late.covered_by, late.is_in_time, late.least_share) == (420, "", False, None)
    # 30 + 20 + 10, and 240 of windows: 300 to the second.
    assert not found(tmp_path, rule("Slow", "increase(restarts[240s]) > 3"))["Slow"].is_in_time
    assert found(tmp_path, rule("Slow", "increase(restarts[239s]) > 3"))["Slow"].is_in_time


@pytest.mark.parametrize(
    ("live", "covered"),
    [
        (("Slow", "Fast"), True),
        (("Fast",), True),
        # As they would be promoted.
        ((), True),
        # Of the fast one nobody hears.
        (("Slow",), False),
    ],
)
def test_a_live_critical_is_covered_by_a_live_one_alone(tmp_path: Path, live: tuple[str, ...], covered: bool) -> None:
    """Else a release goes out with a total failure that people hear of after seven minutes."""
    slow = found(tmp_path, rule("Slow", SLOW, **PATIENT), rule("Fast", FAST), config=prometheus(live))["Slow"]
    assert (slow.covered_by, slow.is_in_time) == (("Fast", True) if covered else ("", False))


@pytest.mark.parametrize("live", [(), ("Slow", "Fast")])
@pytest.mark.parametrize(
    "mute",
    [
        None,
        MUTE | {"source_matchers": ['alertname="Fast"', 'stage="shadow"']},
        MUTE | {"source_matchers": ['alertname="Fast"', 'service="worker"']},
        MUTE | {"target_matchers": ['alertname!="Slow"']},
        MUTE | {"target_matchers": ['alertname="Slow"', 'severity=~"warn.*"']},
        # What the rule doesn't state is not known.
        MUTE | {"source_matchers": ['alertname="Fast"', 'instance!="a"']},
        MUTE | {"equal": ["instance"]},
        # Not understood, and so not believed.
        MUTE | {"source_matchers": ['{alertname="Fast",stage="live"}']},
        MUTE | {"source_matchers": ['alertname="Fast"', '{team="other"}']},
        MUTE | {"source_matchers": ['alertname=~"Fast("']},
        {"source_match": {"alertname": "Fast"}, "target_match": {"alertname": "Slow"}},
    ],
)
def test_one_that_does_not_mute_it_covers_nothing(tmp_path: Path, live: tuple[str, ...], mute: Any) -> None:
    manager = {"route": {"group_wait": "10s"}, "inhibit_rules": [mute] if mute else []}
    rules = rule("Slow", SLOW, **PATIENT), rule("Fast", FAST)
    assert not found(tmp_path, *rules, config=prometheus(live), manager=manager)["Slow"].covered_by


@pytest.mark.parametrize(
    "mute",
    [
        MUTE | {"source_matchers": ["alertname = Fast", "stage=live"], "equal": ["service"]},
        MUTE | {"target_matchers": ['alertname=~"Other|Slow"', 'stage!~"shadow|none"']},
    ],
)
def test_a_mute_is_read_as_alertmanager_reads_it(tmp_path: Path, mute: dict[str, Any]) -> None:
    manager = {"route": {"group_wait": "10s"}, "inhibit_rules": [mute]}
    rules = rule("Slow", SLOW, **PATIENT), rule("Fast", FAST)
    assert found(tmp_path, *rules, manager=manager)["Slow"].covered_by == "Fast"


def test_without_a_stage_in_the_mute_a_shadow_alert_covers_nothing_either(tmp_path: Path) -> None:
    """It would even mute the live one: then nobody hears of anything."""
    manager = {"route": {}, "inhibit_rules": [MUTE | {"source_matchers": ['alertname="Fast"']}]}
    rules = rule("Slow", SLOW, **PATIENT), rule("Fast", FAST)
    assert not found(tmp_path, *rules, config=prometheus(("Slow",)), manager=manager)["Slow"].is_in_time


def test_a_twin_that_is_late_itself_covers_nothing(tmp_path: Path) -> None:
    slow = found(tmp_path, rule("Slow", SLOW, **PATIENT), rule("Fast", FAST, **PATIENT))["Slow"]
    assert (slow.covered_by, slow.is_in_time) == ("", False)


def test_cover_holds_where_the_twin_fires_and_no_further(tmp_path: Path) -> None:
    """A total failure is told of in time; half of one is not, and the plan must not claim it."""
    rules = rule("Slow", SLOW, **PATIENT), rule("Fast", FAST)
    assert found(tmp_path, *rules, share=0.51)["Slow"].covered_by == "Fast"
    half = found(tmp_path, *rules, share=0.5)
    assert not half["Slow"].is_in_time
    assert half["Fast"].seconds == math.inf
    total = found(tmp_path, *rules)
    assert (total["Slow"].least_share, total["Fast"].least_share) == (0.5, 0.5)
    # Right over its threshold the window of 10 min has to fill: 30 + 600 + 20 + 300 + 10
    assert (total["Slow"].worst_s, total["Fast"].worst_s) == (960, 120)
    # 300 - 60 are left for 600 x 0.1 / share: over a quarter.
    assert found(tmp_path, rule("Slow", SLOW))["Slow"].least_share == 0.25


def shipped(folder: Path, live: tuple[str, ...], share: float = 1.0) -> dict[str, Bound]:
    """Return the bounds of what is shipped, with these alerts live."""
    names = stages.severities(SHIPPED / "alerts.yml")
    for name in ("alerts.yml", "recording.yml", "alertmanager.yml"):
        (folder / name).write_text((SHIPPED / name).read_text())
    (folder / "prometheus.yml").write_text(
        stages.changed((SHIPPED / "prometheus.yml").read_text(), live, "live", list(names))
    )
    return {each.alert: each for each in detection.bounds(folder, folder / "alertmanager.yml", share)}


def test_a_total_failure_is_told_of_in_time_by_what_is_shipped(tmp_path: Path) -> None:
    """160 s: 15 scrape + 60 x 0.5 window + 15 evaluation + 90 for + 10 wait. A page says so, and where it ends."""
    found = shipped(tmp_path, ())
    assert {name: each.seconds for name, each in found.items()} == {
        "HighErrorRate": 355, "HighErrorRateFast": 160, "CeleryWorkerDown": 100, "PostgresDown": 100,
    }  # fmt: skip
    assert all(each.is_in_time for each in found.values())
    assert found["HighErrorRate"].covered_by == "HighErrorRateFast"
    page = (SHIPPED.parent / "docs" / "phase-c-readiness.md").read_text()
    [row] = [line for line in page.splitlines() if line.startswith("| criticals reach people within five minutes ")]
    assert f"{found['HighErrorRateFast'].seconds:.0f} s for a total failure" in row
    assert f"over {found['HighErrorRate'].least_share:.0%} of requests" in row.replace(" %", "%")
    assert f"{found['HighErrorRate'].worst_s:.0f} s" in row


def test_the_shipped_slow_critical_alone_is_refused(tmp_path: Path) -> None:
    """Promoted without its twin, it tells of a total failure after nearly six minutes."""
    found = shipped(tmp_path, ("HighErrorRate",))
    assert {name for name, each in found.items() if not each.is_in_time} == {"HighErrorRate"}
    both = shipped(tmp_path, ("HighErrorRate", "HighErrorRateFast"))
    assert all(each.is_in_time for each in both.values())
    assert not shipped(tmp_path, ("HighErrorRate", "HighErrorRateFast"), share=0.5)["HighErrorRate"].is_in_time


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("90s", 90), ("1m30s", 90), ("2h", 7200), ("1w", 604800), ("500ms", 0.5)]
)
def test_a_duration_is_read_whole(text: str, seconds: float) -> None:
    assert ruleset.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "5", "5m later", "1 m"])
def test_what_is_no_duration_is_not_taken_for_none(text: str) -> None:
    """A wait that is read as 0 s makes a bound that does not hold."""
    with pytest.raises(StackError, match="no duration"):
        ruleset.seconds(text)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("prometheus.yml", "a: [\n"),
        ("prometheus.yml", "rule_files: [gone.yml]\n"),
        ("alerts.yml", "groups: [{rules: [{alert: A, labels: {severity: critical}}]}]\n"),
        ("alerts.yml", "groups: [{name: g, rules: [{alert: A, expr: a, labels: [a]}]}]\n"),
        ("alerts.yml", "- no\n"),
        ("alerts.yml", "groups: no\n"),
        ("alertmanager.yml", "receivers: []\n"),
        ("alertmanager.yml", "route: {group_wait: soon}\n"),
    ],
)
def test_files_that_are_not_in_order_are_told_in_words(tmp_path: Path, name: str, content: str) -> None:
    found(tmp_path, rule("Slow", SLOW))
    (tmp_path / name).write_text(content)
    with pytest.raises(StackError):
        detection.bounds(tmp_path, tmp_path / "alertmanager.yml")
    if name != "alertmanager.yml":
        with pytest.raises(StackError):
            ruleset.read(tmp_path)
