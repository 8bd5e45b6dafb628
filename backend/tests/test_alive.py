"""The containers' health check, asked of real services."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import warm_python
from tests.system import BACKEND, System, clean_environment, eventually, running_system

SERVICES = ("api", "worker", "beat")
TOKEN = "Ym5Jc8Zs3Pf0Ge2Ua7"


@pytest.fixture(scope="module")
def guarded(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str], redis_url: str
) -> Iterator[System]:
    """A system whose metrics want a token, as production's do."""
    folder = tmp_path_factory.mktemp("guarded")
    with running_system(folder, new_database(), redis_url, METRICS_TOKEN=TOKEN) as system:
        yield system


def ask(system: System, service: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """Ask as the container's health check does."""
    return warm_python.run(["app.alive", service], cwd=BACKEND, env=system.environment | changes)


@pytest.mark.parametrize("service", SERVICES)
def test_what_runs_is_alive(guarded: System, service: str) -> None:
    """A check that is red on a healthy system is switched off by the first who meets it."""
    eventually(lambda: ask(guarded, service).returncode == 0, what=f"a living {service}")


def test_the_token_may_lie_in_a_file(guarded: System, tmp_path: Path) -> None:
    """Containers have it there; without it the worker tells nothing."""
    file = tmp_path / "metrics_token"
    file.write_text(f"{TOKEN}\n")
    assert ask(guarded, "worker", METRICS_TOKEN="", METRICS_TOKEN_FILE=str(file)).returncode == 0
    assert ask(guarded, "worker", METRICS_TOKEN="").returncode == 1


def test_a_proxy_is_not_asked(guarded: System) -> None:
    """One that is set for Git must not answer for us."""
    assert ask(guarded, "api", http_proxy="http://127.0.0.1:9", no_proxy="").returncode == 0


@pytest.mark.parametrize("service", ["api", "worker"])
def test_what_hangs_is_not_alive(guarded: System, service: str) -> None:
    """A process that is there and takes connections is not yet one that answers."""
    group = os.getpgid(guarded.processes[service].pid)
    os.killpg(group, signal.SIGSTOP)
    try:
        done = ask(guarded, service)
    finally:
        os.killpg(group, signal.SIGCONT)
    assert done.returncode == 1
    assert "is not alive" in done.stderr
    assert TOKEN not in done.stdout + done.stderr


def test_a_beat_that_writes_no_schedule_is_not_alive(tmp_path: Path) -> None:
    """It has no port; what it leaves behind tells of it."""
    system = System("", "", "", "", tmp_path, clean_environment() | {"BEAT_SCHEDULE_FILE": str(tmp_path / "schedule")})
    assert ask(system, "beat").returncode == 1
    file = tmp_path / "schedule.db"
    file.touch()
    assert ask(system, "beat").returncode == 0
    long_ago = time.time() - 3600
    os.utime(file, (long_ago, long_ago))
    assert ask(system, "beat").returncode == 1


def test_an_unknown_service_is_no_healthy_one(tmp_path: Path) -> None:
    """A slip in the compose file shows as such."""
    assert ask(System("", "", "", "", tmp_path, clean_environment()), "apii").returncode == 2
