"""A worker's child is killed in the middle of a task: its run is told as lost, and the story goes on to the next."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import orjson
import psycopg
import pytest

from ops.stack import loopback
from tests.git import make_repository
from tests.services import redis_server
from tests.system import BACKEND, System, clean_environment, eventually, running_system

LOST = "a-lost-run"


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]) -> Iterator[System]:
    """A system of this module's own: nobody else wants its child killed."""
    with (
        redis_server(tmp_path_factory.mktemp("redis")) as redis_url,
        running_system(tmp_path_factory.mktemp("system"), new_database(), redis_url) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def job_id(system: System, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A sync whose process was killed by SIGKILL and that was run again."""
    url = make_repository(tmp_path_factory.mktemp("repositories") / "r", 2).as_uri()
    with system.client() as client, psycopg.connect(system.database_url) as connection:
        created = client.post("/api/v1/repositories", json={"url": url}).json()
        # Lets the API read and refer to the row, and makes the worker wait where it writes it.
        connection.execute("SELECT id FROM repositories WHERE id = %s FOR NO KEY UPDATE", [created["id"]])
        sent = client.post(f"/api/v1/repositories/{created['id']}/sync", headers={"X-Request-ID": LOST})
        assert sent.status_code == 202, sent.text
        started = system.wait_for_line("worker", event="task.started", request_id=LOST)
        os.kill(started["pid"], signal.SIGKILL)
        connection.rollback()
        job = system.finished_job(client, sent.json()["job_id"])
        assert job["status"] == "succeeded", job
        system.wait_for_line("worker", event="task.finished", request_id=LOST, state="SUCCESS")
    return str(job["id"])


def test_the_workers_parent_tells_of_it(system: System, job_id: str) -> None:
    """No context is set there and no code of the task runs any more; the message has the ID."""
    lost = system.wait_for_line("worker", event="task.failed", request_id=LOST)
    assert (lost["state"], lost["error_type"]) == ("LOST", "WorkerLostError")
    assert (lost["task_id"], lost["attempt"]) == (job_id, 1)
    assert "SIGKILL" in lost["reason"]
    runs = system.log_lines("worker", event="task.started", request_id=LOST)
    assert [run["attempt"] for run in runs] == [1, 2]
    assert lost["pid"] not in {run["pid"] for run in runs}
    assert not [line for line in system.log_lines("worker", request_id=LOST) if line.get("parent_id")]


def test_it_is_counted(system: System, job_id: str) -> None:
    """A lost run that is no failure anywhere is one that nobody looks for."""
    assert job_id
    wanted = [
        'celery_tasks_total{queue="sync",state="LOST",task="repositories.sync"} 1.0',
        'celery_task_failures_total{exception="WorkerLostError",task="repositories.sync"} 1.0',
    ]
    url = f"{system.worker_metrics_url}/metrics"
    eventually(lambda: all(each in loopback.get(url).text for each in wanted), what="the count of the lost run")


def commandcenter(system: System, *arguments: str) -> str:
    """Run the command line over the system's logs and return what it prints."""
    return subprocess.run(
        [sys.executable, "-c", "from ops.cli import main; main()", *arguments, "--logs", system.directory / "log"],
        cwd=BACKEND,
        env=clean_environment(),
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def test_the_story_has_both_runs(system: System, job_id: str) -> None:
    """From the job's ID: the run that was lost, and the one that did the work."""
    [story] = orjson.loads(commandcenter(system, "trace", job_id, "--json"))["stories"]
    [task] = story["requests"][0]["tasks"]
    first, second = task["runs"]
    assert (first["state"], first["error"]["type"], second["state"]) == ("LOST", "WorkerLostError", "SUCCESS")
    assert (task["state"], story["ended_at"] is not None) == ("SUCCESS", True)
    assert "Attempt 1  LOST" in commandcenter(system, "trace", LOST)


def test_errors_list_it(system: System, job_id: str) -> None:
    """With the ID that leads to the story."""
    assert job_id
    groups = orjson.loads(commandcenter(system, "errors", "--json"))["groups"]
    [lost] = [group for group in groups if group["statuses"] == ["LOST"]]
    assert (lost["type"], lost["request_id"], lost["where"]) == ("WorkerLostError", LOST, ["repositories.sync"])
