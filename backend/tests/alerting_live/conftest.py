"""One real system under real watchers, with people's receiver at the end; what happens to it, in order."""

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from ops.stack import accounts, loopback
from tests.alerting_live import faults, pace
from tests.alerting_live.receiver import Receiver, Told, listening
from tests.git import make_repository
from tests.monitoring_stack import MonitoredSystem, monitored_system
from tests.services import postgres_server, redis_server
from tests.system import eventually
from tests.traffic import broken_table

# A restart takes as long as it takes, whatever the clock of the rules.
RESTARTS: Final = ("CeleryWorkerDown", "ScrapeTargetDown")
QUIET_S: Final = 15.0
BACKLOG: Final = 110
API: Final = ("HighErrorRate", "SlowAPIResponses", "SlowDatabaseQueries", "DatabasePoolExhausted")
HUNG: Final = ("CeleryQueueBacklog", "CeleryCanaryLate")
BLIND: Final = ("MetricContractBroken",)
CAN_MOUNT: Final = accounts.is_root()
DISK: Final = ("DiskSpaceLow",) if CAN_MOUNT else ()


@dataclass
class Play:
    """What happened, and what people were told of it."""

    watched: MonitoredSystem
    receiver: Receiver
    quiet: set[str] = field(default_factory=set)
    muted: set[str] = field(default_factory=set)
    told_in_the_outage: list[Told] = field(default_factory=list)
    faults_at: dict[str, float] = field(default_factory=dict)

    def begins(self, *names: str) -> None:
        """Note that from now on, these have a reason to fire."""
        self.faults_at |= dict.fromkeys(names, time.monotonic())

    def told_after_s(self, name: str) -> float:
        """Return the seconds from a fault until people were told of it."""
        return self.receiver.of(name, "firing")[0].at - self.faults_at[name]


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    """Normal load and a worker's restart; then one thing after the other goes wrong, and is put right."""
    folder = tmp_path_factory.mktemp("alerting")
    with (
        listening() as receiver,
        postgres_server(folder) as server,
        faults.Postmaster(server) as postmaster,
        redis_server(folder) as redis,
        monitored_system(
            folder / "stack",
            server,
            redis,
            edits={
                "alerts.yml": lambda content: pace.divide_rules(content, keep=RESTARTS),
                "alertmanager.yml": pace.divide_routes,
                "prometheus.yml": _all_live,
            },
            receivers={"webhook_url": f"{receiver.url}/people", "heartbeat_url": f"{receiver.url}/heartbeat"},
            WORKER_CONCURRENCY="2",
            DB_POOL_SIZE="2",
            DB_POOL_OVERFLOW="0",
        ) as watched,
    ):
        play = Play(watched, receiver)
        _all_is_well(play, folder)
        _faster_restarts(watched)
        _much_goes_wrong(play)
        _database_and_worker_go_down(play, postmaster)
        yield play


def _all_live(config: dict[str, Any]) -> None:
    config["alerting"]["alert_relabel_configs"] = [{"target_label": "stage", "replacement": "live"}]


def _all_is_well(play: Play, folder: Path) -> None:
    system = play.watched.system
    with (
        faults.requests_for(system, "/api/v1/repositories", threads=2),
        faults.requests_for(system, "/api/v1/repositories/999999", threads=1),
        system.client() as client,
    ):
        begun = time.monotonic()
        number = 0
        while time.monotonic() - begun < QUIET_S:
            system.sync(client, make_repository(folder / f"good-{number}", 2).as_uri())
            number += 1
        system.stop("worker")
        system.start("worker")
        system.wait_until_ready()
        system.sync(client, make_repository(folder / "after-the-restart", 2).as_uri())
    play.quiet = play.receiver.names() | set(play.watched.firing())


def _faster_restarts(watched: MonitoredSystem) -> None:
    """Let those rules, too, go by the faster clock, as an operator changes rules: in the file, and then a SIGHUP."""
    path = watched.directory / "watchers" / "prometheus" / "alerts.yml"
    content = yaml.safe_load(path.read_text())
    for group in content["groups"]:
        for rule in group["rules"]:
            if rule["alert"] in RESTARTS:
                rule["for"] = "3s" if rule["alert"] == "CeleryWorkerDown" else "6s"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    watched.processes["prometheus"].send_signal(signal.SIGHUP)

    def has_them() -> bool:
        groups = watched.get("rules", type="alert")["groups"]
        found = {rule["name"]: rule["duration"] for group in groups for rule in group["rules"]}
        return (found["CeleryWorkerDown"], found["ScrapeTargetDown"]) == (3, 6)

    eventually(has_them, what="the new rules")


def _much_goes_wrong(play: Play) -> None:
    """Hung worker processes under a full queue, a slow and partly broken API, a deaf exporter, a full disk."""
    system, receiver = play.watched.system, play.receiver
    with ExitStack() as disk:
        mounted = disk.enter_context(faults.small_disk()) if CAN_MOUNT else None
        with faults.hung_workers(system):
            play.begins(*HUNG)
            faults.queue_syncs_that_fail(system, BACKLOG)
            with ExitStack() as others:
                if mounted:
                    play.begins(*DISK)
                    others.enter_context(faults.filled(mounted))
                play.begins("ScrapeTargetDown", *BLIND)
                others.enter_context(faults.stopped(play.watched, "postgres-exporter"))
                with ExitStack() as api:
                    play.begins(*API)
                    _slow_and_partly_broken(play, api)
                    receiver.wait_for(*API, within_s=60)
                receiver.wait_for("ScrapeTargetDown", "PostgresDown", *BLIND, *DISK, within_s=60)
            receiver.wait_for(*HUNG, within_s=90)
        play.begins("CeleryHighFailureRate")
        receiver.wait_for("CeleryHighFailureRate", within_s=60)
        receiver.wait_for_end_of(*receiver.names(), within_s=90)


def _slow_and_partly_broken(play: Play, stack: ExitStack) -> None:
    """About every fifth request fails, and as many wait for a lock."""
    system = play.watched.system
    stack.enter_context(broken_table(system.database_url))
    stack.enter_context(faults.locked_table(system, "jobs"))
    # What matches no route asks nothing of the database.
    stack.enter_context(faults.requests_for(system, "/api/v1/nowhere", threads=1, pause_s=0.1))
    stack.enter_context(faults.requests_for(system, "/api/v1/repositories", threads=4))
    stack.enter_context(faults.requests_for(system, "/api/v1/jobs", threads=4))


def _muted(watched: MonitoredSystem) -> set[str]:
    alerts = loopback.get(f"{watched.alertmanager_url}/api/v2/alerts").json()
    return {each["labels"]["alertname"] for each in alerts if each["status"]["inhibitedBy"]}


def _database_and_worker_go_down(play: Play, postmaster: faults.Postmaster) -> None:
    system, receiver = play.watched.system, play.receiver
    names = ("HighErrorRateFast", "CeleryWorkerDown")
    with faults.requests_for(system, "/api/v1/repositories", threads=4):
        play.begins(*names)
        with postmaster.stopped(), faults.killed_worker(system):
            receiver.wait_for(*names, "PostgresDown", within_s=60, since=play.faults_at["CeleryWorkerDown"])
            # It takes the slower of the two alerts about errors a while to find out, too.
            eventually(lambda: "HighErrorRate" in play.watched.firing(), within_s=60, what="HighErrorRate")
            play.muted = eventually(lambda: _muted(play.watched), within_s=10, what="an alert that is muted")
            play.told_in_the_outage = [
                told for told in receiver.people if told.at > play.faults_at["HighErrorRateFast"]
            ]
        system.wait_until_ready()
        receiver.wait_for_end_of(*receiver.names(), within_s=60)
