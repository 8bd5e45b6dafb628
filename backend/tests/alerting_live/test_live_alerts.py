"""Every alert is made to fire by a real fault, reaches people through the real Alertmanager, and resolves.

Rules, routes and receivers are the stack's own; the clock of rules and routes runs 20 times as fast (`pace.py`), but
for what a canary's flight and a worker's restart take. All alerts are live.
"""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.alerting_live import pace
from tests.alerting_live.conftest import API, BLIND, CAN_MOUNT, DISK, HUNG, Play
from tests.grafana import BACKEND

pytestmark = pytest.mark.timeout(420)

SHIPPED: dict[str, Any] = yaml.safe_load((BACKEND.parent / "monitoring" / "alerts.yml").read_text())
RULES: dict[str, Any] = {rule["alert"]: rule for group in SHIPPED["groups"] for rule in group["rules"]}
MADE_TO_FIRE = (
    *API,
    *HUNG,
    *BLIND,
    *DISK,
    "ScrapeTargetDown",
    "PostgresDown",
    "CeleryHighFailureRate",
    "CeleryWorkerDown",
    "HighErrorRateFast",
)


def test_every_alert_is_made_to_fire() -> None:
    """A new alert that is not here has never been seen. Without root nothing can be mounted, so no disk is full."""
    assert {*MADE_TO_FIRE, "Watchdog"} | (set() if CAN_MOUNT else {"DiskSpaceLow"}) == set(RULES)


def test_normal_load_and_a_restart_are_silent(play: Play) -> None:
    """Requests, requests for what isn't there, syncs, and a worker that is restarted: nobody is told of anything."""
    assert play.quiet == {"Watchdog"}


@pytest.mark.parametrize("name", MADE_TO_FIRE)
def test_a_fault_reaches_people(play: Play, name: str, summary: list[str]) -> None:
    """By the route of its severity, live, and in words that were filled in."""
    told = play.receiver.of(name, "firing")
    assert told, f"{name} never reached the receiver; these did: {sorted(play.receiver.names())}"
    assert {each.receiver for each in told} == {RULES[name]["labels"]["severity"]}
    assert {each.labels["stage"] for each in told} == {"live"}
    for each in told:
        assert each.labels["service"]
        assert each.annotations.keys() >= {"summary", "description", "runbook_url", "dashboard_url"}
        assert not [text for text in each.annotations.values() if "{{" in text or "error expanding" in text]
    if name in play.faults_at:
        summary.append(f"{name}: told {play.told_after_s(name):.0f} s after the fault (rules' clock / {pace.FACTOR})")


@pytest.mark.parametrize("name", MADE_TO_FIRE)
def test_its_end_reaches_people_too(play: Play, name: str) -> None:
    """Else somebody goes on looking for what is over."""
    assert play.receiver.is_resolved(name)


def test_a_stopped_exporter_and_a_stopped_database_are_both_told(play: Play) -> None:
    """One leaves no series, the other a series that is 0."""
    assert {each.at > play.faults_at["HighErrorRateFast"] for each in play.receiver.of("PostgresDown", "firing")} == {
        True,
        False,
    }


def test_the_heartbeat_beats_and_people_do_not_hear_it(play: Play) -> None:
    """Its receiver outside misses it when alerting is down."""
    beats = play.receiver.heartbeats
    assert len(beats) > 10
    assert {beat.labels["alertname"] for beat in beats} == {"Watchdog"}
    assert "Watchdog" not in play.receiver.names()


def test_a_cause_mutes_its_consequences_live(play: Play) -> None:
    """While most requests failed, nobody was told that more than 5 % did, though it was so."""
    assert "HighErrorRate" in play.muted
    told = {each.labels["alertname"] for each in play.told_in_the_outage}
    assert "HighErrorRateFast" in told
    assert "HighErrorRate" not in told


def test_the_backend_records_a_copy(play: Play) -> None:
    """As a log event: the story of a night is in one place."""
    noted = {line["alertname"] for line in play.watched.system.log_lines("api", event="alert.received")}
    assert noted >= {"HighErrorRate", "CeleryQueueBacklog", "ScrapeTargetDown"}


def test_the_faster_clock_is_the_only_difference(play: Play) -> None:
    """What is proven here is proven of the rules that are shipped."""
    used = yaml.safe_load(Path(play.watched.directory / "watchers" / "prometheus" / "alerts.yml").read_text())
    expected = copy.deepcopy(SHIPPED)
    pace.divide_rules(expected)
    for group in (*used["groups"], *expected["groups"]):
        for rule in group["rules"]:
            rule.pop("for", None)
    assert used == expected
