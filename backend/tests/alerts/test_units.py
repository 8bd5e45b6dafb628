"""Every alert has promtool tests for each kind of case, and they pass."""

import re
from pathlib import Path
from typing import Any, Final

import promql_parser
import pytest

from tests.alerts.mutants import Mutant
from tests.alerts.promtool import run, survives
from tests.alerts.rules import ALERTS, SCENARIOS, UNIT_TESTS, groups, rules, unit_tests

# A test's name begins with the kinds it is of: `fires, resolves: …`. `silent`: as the page's column of that name says.
KINDS: Final = ("fires", "just below", "too little", "too short", "absent", "resolves")
MORE: Final = {"silent", "detected"}
_NO_TRAFFIC: Final = "reads no traffic"
_ALWAYS: Final = "always fires"
EXEMPT: Final = {
    **{
        (alert, "too little"): _NO_TRAFFIC
        for alert in (
            *("DatabasePoolExhausted", "CeleryWorkerDown", "CeleryQueueBacklog", "CeleryCanaryLate", "DiskSpaceLow"),
            *("ScrapeTargetDown", "PostgresDown", "MetricContractBroken"),
        )
    },
    **{("Watchdog", kind): _ALWAYS for kind in ("just below", "too little", "too short", "resolves")},
}
# Prometheus evaluates as often as it scrapes. promtool evaluates right at a sample, a real one up to this much later.
_INTERVAL_S: Final = 15
_DETECTED: Final = re.compile(r"from (?P<start>\w+) on, found within (?P<within>\w+)")


def kinds(test: dict[str, Any]) -> set[str]:
    """Return the kinds of case that a test's name begins with."""
    return set(test["name"].partition(":")[0].split(", "))


def _seconds(duration: str) -> float:
    return promql_parser.parse_duration(duration).total_seconds()


def _criticals() -> list[str]:
    return [name for name, rule in rules().items() if rule["labels"]["severity"] == "critical"]


@pytest.mark.parametrize("alert", rules())
def test_the_alerts_tests_pass(alert: str, tmp_path: Path) -> None:
    """On its rule alone: with all others beside it, which it does not need, promtool takes ten times as long."""
    assert survives(Mutant(alert, alert, rules()[alert]), tmp_path / alert)


def test_rules_pass_the_linter() -> None:
    done = run("check", "rules", "--lint=all", "--lint-fatal", ALERTS)
    assert done.returncode == 0, done.stdout


def test_each_alert_is_tested_in_each_way(summary: list[str]) -> None:
    """A kind of case that is left out is where a rule will be wrong."""
    missing = {
        (alert, kind) for alert in rules() for kind in {*KINDS} - set().union(*map(kinds, unit_tests(alert)["tests"]))
    }
    assert missing == EXEMPT.keys()
    cases = [len(unit_tests(alert)["tests"]) for alert in rules()]
    summary.append(f"alerts tested: {sum(map(bool, cases))} / {len(cases)}, by {sum(cases)} cases")


def test_the_files_are_the_alerts() -> None:
    """A file of another name tests an alert that is no more, or none."""
    assert {path.stem for path in UNIT_TESTS.iterdir()} == rules().keys()


@pytest.mark.parametrize("alert", rules())
def test_each_test_is_of_its_alert(alert: str) -> None:
    """A slip in a name would pass silently: of an alert that does not exist promtool finds none, as expected."""
    for test in unit_tests(alert)["tests"]:
        assert kinds(test) <= {*KINDS} | MORE, test["name"]
        looks = [each["alertname"] for each in test.get("alert_rule_test", [])]
        queries = [each["expr"] for each in test.get("promql_expr_test", [])]
        looks += [name for query in queries for name in re.findall(r'alertname="(\w+)"', query)]
        assert set(looks) == {alert}, test["name"]


@pytest.mark.parametrize("alert", _criticals())
def test_the_time_to_detect_is_tested(alert: str) -> None:
    """Named with the share that fails, where there is one, and asserted at the bound; the page says the same."""
    page = (ALERTS.parents[1] / "docs" / "monitoring.md").read_text()
    [row] = [line for line in page.splitlines() if line.startswith(f"| `{alert}` |")]
    detected = [test for test in unit_tests(alert)["tests"] if "detected" in kinds(test)]
    assert detected
    for test in detected:
        says = _DETECTED.search(test["name"])
        assert says, test["name"]
        at = _seconds(says["start"]) + _seconds(says["within"]) - _INTERVAL_S
        fires = {_seconds(each["eval_time"]) for each in test["alert_rule_test"] if each["exp_alerts"]}
        assert at in fires, test["name"]
        assert says["within"] in row.replace(" ", ""), test["name"]


def test_nothing_fires_while_all_is_well() -> None:
    """Nights, ordinary days and restarts: whoever is woken by these mutes the alert."""
    done = run("test", "rules", SCENARIOS)
    assert done.returncode == 0, done.stdout


def test_the_groups_are_those_that_people_ask_for() -> None:
    """Checks after a release look for the first by its name."""
    assert list(groups()) == ["phase_c_alerts", "commandcenter_meta"]
