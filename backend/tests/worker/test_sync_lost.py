"""Killed children, killed workers, orderly stops: a job that was begun comes to an end, once."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from sqlalchemy import create_engine

from app.database import SyncDatabase
from app.repositories import schedule
from tests.git import git, make_repository
from tests.repositories.git_server import GitServer
from tests.system import eventually
from tests.worker.service import Service


@pytest.fixture
def slow(service: Service, host: GitServer, request: pytest.FixtureRequest) -> Iterator[tuple[Path, int]]:
    """A repository whose sync takes seconds, and its ID."""
    name = request.node.name.partition("[")[0][-60:]
    path = make_repository(host.root / "owner" / name, 2)
    host.pause_s = 2
    yield path, service.register(host.url(f"owner/{name}"))
    host.pause_s = 0
    if "worker" not in service.system.processes:
        service.start_worker()


def in_the_middle(service: Service, job_id: str) -> tuple[int, list[psutil.Process]]:
    """Return who runs a job and the processes that git is, once it talks with the host."""
    pid = service.wait_for_run(job_id)["pid"]
    return pid, eventually(lambda: psutil.Process(pid).children(recursive=True), what="git at work")


def assert_synced_once(service: Service, slow: tuple[Path, int], job_id: str) -> None:
    """Hold that the job is done and the row shows it, and that no other job came of it."""
    path, repository_id = slow
    job = service.system.finished_job(service.client, job_id)
    assert (job["status"], job["reason"]) == ("succeeded", None)
    assert service.repository(repository_id)["last_commit_sha"] == git(path, "rev-parse", "HEAD")
    assert len(service.rows("SELECT id FROM jobs WHERE repository_id = %s", repository_id)) == 1
    # The row is written before the line.
    service.system.wait_for_line("worker", event="task.finished", task_id=job_id, state="SUCCESS")

    def syncs() -> int:
        ends = service.system.log_lines("worker", event="task.finished", task_id=job_id, state="SUCCESS")
        # Runs that found the job done or taken, or lost it: on a busy machine one may count as lost that isn't.
        idle = [
            line
            for event in ("sync.skipped", "sync.superseded")
            for line in service.system.log_lines("worker", event=event, task_id=job_id)
        ]
        return len(ends) - len(idle)

    eventually(lambda: syncs() == 1, what="one run that synced")


def test_a_killed_child_is_replaced_and_the_job_ends(service: Service, slow: tuple[Path, int], host: GitServer) -> None:
    """And what it ran does not go on beside the next run."""
    host.held.add("/owner/")
    job_id = service.ask(slow[1], "killed-child")
    pid, gits = in_the_middle(service, job_id)
    os.kill(pid, signal.SIGKILL)
    # What is left of its git holds the clone: it must come to its end before the last try.
    host.pause_s = 0
    host.held.clear()
    assert_synced_once(service, slow, job_id)
    # One attempt was lost; where its git was not at its end, the next ones had to wait for that.
    assert service.job(job_id)["attempt"] >= 2
    eventually(lambda: not any(each.is_running() for each in gits), what="the end of what the lost run had begun")
    assert service.metric("celery_tasks_total", task="repositories.sync", state="LOST") == 1
    assert service.metric("celery_tasks_total", task="repositories.sync", state="FAILURE") == 0
    # A canary comes by each second.
    eventually(lambda: service.metric("celery_queue_depth", queue="sync") == 0, what="an empty queue")


def test_a_killed_worker_leaves_its_job_to_the_next(service: Service, slow: tuple[Path, int], host: GitServer) -> None:
    """Its message stays unacknowledged for hours; `recover` finds the job by its silence."""
    host.held.add("/owner/")
    job_id = service.ask(slow[1], "killed-worker")
    in_the_middle(service, job_id)
    service.kill("worker")
    assert service.job(job_id)["status"] == "running"
    host.held.clear()
    service.start_worker()
    assert_synced_once(service, slow, job_id)
    assert service.job(job_id)["attempt"] >= 2
    recovered = service.system.wait_for_line("worker", event="job.recovered", job_id=job_id)
    assert recovered["request_id"] == "killed-worker"


def test_a_stop_lets_the_running_sync_finish(service: Service, slow: tuple[Path, int]) -> None:
    """Asked to end, the worker takes nothing new and ends what it has."""
    job_id = service.ask(slow[1], "stopped")
    in_the_middle(service, job_id)
    assert service.system.stop("worker") == 0
    assert_synced_once(service, slow, job_id)
    assert service.job(job_id)["attempt"] == 1


def test_a_stop_gives_back_what_takes_too_long(service: Service, slow: tuple[Path, int], host: GitServer) -> None:
    """Supervisors kill after 30 s; what isn't done by then is the next worker's."""
    service.system.stop("worker")
    service.start_worker(TEST_FINISH_WITHIN_S="0.5")
    host.pause_s = 60
    job_id = service.ask(slow[1], "given-back")
    in_the_middle(service, job_id)
    service.system.stop("worker")
    host.pause_s = 0
    service.start_worker()
    assert_synced_once(service, slow, job_id)
    assert service.job(job_id)["request_id"] == "given-back"


def test_a_job_whose_message_was_lost_is_sent_again(service: Service, host: GitServer) -> None:
    """It never came to the queue, or the queue was emptied: `recover` asks the table."""
    make_repository(host.root / "owner" / "no-message")
    repository_id = service.register(host.url("owner/no-message"))
    [row] = service.rows(
        "INSERT INTO jobs (id, kind, repository_id, status, request_id, created_at, updated_at)"
        " VALUES (gen_random_uuid(), 'repository.sync', %s, 'queued', 'no-message', now(), now() - interval '1 hour')"
        " RETURNING id",
        repository_id,
    )
    job = service.system.finished_job(service.client, str(row["id"]))
    assert (job["status"], job["request_id"], job["attempt"]) == ("succeeded", "no-message", 1)


@pytest.mark.parametrize(("hours", "is_sent"), [(0.5, False), (2, True)])
def test_a_queue_that_is_never_empty_keeps_no_job_for_ever(service: Service, hours: float, *, is_sent: bool) -> None:
    """Its message may still wait there, for an hour."""
    repository_id = service.register(f"https://host.invalid/owner/waits-{hours}")
    [row] = service.rows(
        "INSERT INTO jobs (id, kind, repository_id, status, request_id, updated_at)"
        " VALUES (gen_random_uuid(), 'other.kind', %s, 'queued', 'waits', now() - make_interval(secs => %s))"
        " RETURNING id",
        *(repository_id, hours * 3600),
    )
    with pytest.MonkeyPatch.context() as patch:
        # Of no worker that runs beside this: it would send it again, and end it.
        patch.setattr(schedule, "SYNC_KIND", "other.kind")
        engine = create_engine(service.system.database_url.replace("postgresql:", "postgresql+psycopg:"))
        found = schedule.lost_jobs(SyncDatabase(engine), silent_s=60, queue_is_empty=False)
        engine.dispose()
    service.rows("DELETE FROM jobs WHERE id = %s", row["id"])
    assert [each.job_id for each in found] == ([row["id"]] if is_sent else [])


def test_a_job_that_was_begun_too_often_is_given_up(service: Service, host: GitServer) -> None:
    """It may be what kills the worker."""
    make_repository(host.root / "owner" / "hopeless")
    repository_id = service.register(host.url("owner/hopeless"))
    [row] = service.rows(
        "INSERT INTO jobs (id, kind, repository_id, status, request_id, attempt, created_at, updated_at)"
        " VALUES (gen_random_uuid(), 'repository.sync', %s, 'running', 'hopeless', 5, now(), now() - interval '1 hour')"
        " RETURNING id",
        repository_id,
    )
    job = service.system.finished_job(service.client, str(row["id"]))
    assert (job["status"], job["reason"]) == ("failed", "It was begun 5 times and never came to an end.")


def test_the_metrics_do_not_drift(service: Service, host: GitServer) -> None:
    """After all that died above: nothing waits, and each worker that is no more is forgotten."""
    make_repository(host.root / "owner" / "after-all")
    job = service.sync(service.register(host.url("owner/after-all")))
    assert (job["status"], job["attempt"]) == ("succeeded", 1)
    eventually(lambda: service.metric("celery_queue_depth") == 0, what="empty queues")
    assert service.client.get("/health/ready").json()["components"]["worker"]["status"] == "up"
    assert service.rows("SELECT id FROM jobs WHERE status IN ('queued', 'running')") == []
