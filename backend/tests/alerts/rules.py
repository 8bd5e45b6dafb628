"""The alert rules and their promtool tests, as files hold them."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

MONITORING: Final = Path(__file__).resolve().parents[3] / "monitoring"
ALERTS: Final = MONITORING / "alerts.yml"
RECORDING: Final = MONITORING / "recording.yml"
# What is of all alerts together: scenarios in which nothing may fire.
SCENARIOS: Final = MONITORING / "alerts_test.yml"
UNIT_TESTS: Final = MONITORING / "tests"

Rule = Mapping[str, Any]


def groups() -> dict[str, list[Rule]]:
    """Return the alert rules by group."""
    return {group["name"]: group["rules"] for group in yaml.safe_load(ALERTS.read_text())["groups"]}


def rules() -> dict[str, Rule]:
    """Return every alert rule by its name."""
    return {rule["alert"]: rule for group in groups().values() for rule in group}


def recordings() -> dict[str, Rule]:
    """Return every recording rule by the series it makes."""
    content = yaml.safe_load(RECORDING.read_text())
    return {rule["record"]: rule for group in content["groups"] for rule in group["rules"]}


@cache
def unit_tests(alert: str) -> dict[str, Any]:
    """Return the file of one alert's promtool tests; without any where there is none."""
    path = UNIT_TESTS / f"{alert}.yml"
    content: dict[str, Any] = yaml.safe_load(path.read_text()) if path.exists() else {"tests": []}
    return content
