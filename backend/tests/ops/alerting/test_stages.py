"""Stages in the text of prometheus.yml: one line a promotion, and nothing else moves."""

import difflib
from pathlib import Path

import pytest
import yaml

from ops.alerting import stages
from ops.stack.errors import StackError
from ops.stack.layout import checkout

MONITORING = checkout() / "monitoring"
TEXT = (MONITORING / "prometheus.yml").read_text()
ALERTS = stages.severities(MONITORING / "alerts.yml")


def _fresh() -> str:
    """The configuration with everything but the heartbeat in shadow."""
    return stages.changed(TEXT, [name for name in ALERTS if name != stages.HEARTBEAT], "shadow", ALERTS)


def _changed_lines(before: str, after: str) -> list[str]:
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm=""))[2:]
    return [line for line in lines if not line.startswith("@@")]


def test_the_heartbeat_is_live_and_every_alert_has_a_stage() -> None:
    """An alert without one would go past the shadow."""
    staged = stages.of_text(TEXT, ALERTS)
    assert staged[stages.HEARTBEAT] == "live"
    assert set(staged.values()) <= {"shadow", "live"}


def test_a_promotion_is_one_line() -> None:
    """That is what is reviewed; comments and order stay."""
    after = stages.changed(_fresh(), ["DiskSpaceLow"], "live", ALERTS)
    [line] = _changed_lines(_fresh(), after)
    assert line.startswith("+    - {source_labels: [alertname], regex: DiskSpaceLow,")
    assert stages.of_text(after, ALERTS) == stages.of_text(_fresh(), ALERTS) | {"DiskSpaceLow": "live"}


def test_there_and_back_is_the_same_file() -> None:
    """To the byte."""
    live = stages.changed(_fresh(), ["DiskSpaceLow", "PostgresDown"], "live", ALERTS)
    assert stages.changed(live, ["PostgresDown", "DiskSpaceLow"], "shadow", ALERTS) == _fresh()


def test_twice_is_once() -> None:
    """A second line for the same alert would outlive its `disable`."""
    live = stages.changed(_fresh(), ["DiskSpaceLow"], "live", ALERTS)
    assert stages.changed(live, ["DiskSpaceLow"], "live", ALERTS) == live


def test_a_name_that_begins_like_another_is_another() -> None:
    """HighErrorRate and HighErrorRateFast: patterns of Prometheus are anchored."""
    live = stages.changed(_fresh(), ["HighErrorRate"], "live", ALERTS)
    assert stages.of_text(live, ALERTS)["HighErrorRateFast"] == "shadow"
    both = stages.changed(live, ["HighErrorRateFast"], "live", ALERTS)
    assert stages.of_text(stages.changed(both, ["HighErrorRate"], "shadow", ALERTS), ALERTS)["HighErrorRateFast"] == (
        "live"
    )


@pytest.mark.parametrize(
    "by_hand",
    [
        (
            "    - source_labels: [alertname]\n      regex: DiskSpaceLow|PostgresDown\n"
            "      target_label: stage\n      replacement: live\n"
        ),
        "    - {source_labels: [severity], regex: warning, target_label: stage, replacement: live}\n",
    ],
    ids=["two names in one rule", "by severity"],
)
def test_a_list_of_another_form_is_refused(by_hand: str) -> None:
    """Better no change than one that does something else than it says."""
    text = _fresh().replace("\nscrape_configs:", f"{by_hand}\nscrape_configs:")
    assert text != _fresh()
    with pytest.raises(StackError, match=r"alert_relabel_configs"):
        stages.changed(text, ["DiskSpaceLow"], "shadow", ALERTS)


def test_severities_are_those_of_the_rules(tmp_path: Path) -> None:
    """Recording rules are no alerts."""
    rules = {
        "groups": [{"rules": [{"record": "a", "expr": "1"}, {"alert": "B", "expr": "1", "labels": {"severity": "x"}}]}]
    }
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules))
    assert stages.severities(tmp_path / "rules.yml") == {"B": "x"}
