"""The schedule: what is due is done, whether or not beat was there when it fell due."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import redis

from app.telemetry.queues import PUBLISHED_AT
from tests.git import make_repository
from tests.repositories.git_server import GitServer
from tests.system import eventually
from tests.worker.service import Service

QUEUES = ("sync", "default")
# Of each scheduled task, what lies between two runs in production.
ROUND_S = {
    "canary.sing": 30,
    "repositories.queue_due": 30,
    "repositories.recover": 30,
    "repositories.forget": 600,
    "repositories.sweep": 600,
}


def new_job(service: Service, repository_id: int, known: int) -> str:
    """Return the newest job of a repository that has more than `known` ones, waiting for it."""

    def newest() -> str | None:
        rows = service.rows("SELECT id FROM jobs WHERE repository_id = %s ORDER BY id DESC", repository_id)
        return str(rows[0]["id"]) if len(rows) > known else None

    return eventually(newest, what="a job that beat asked for")


def test_each_scheduled_run_is_the_root_of_its_own_story(service: Service) -> None:
    """Nobody asked for it: an ID of its own each time, and the line says who sent it."""
    wanted = "repositories.queue_due"
    runs = eventually(
        lambda: (
            found if len(found := service.system.log_lines("worker", event="task.started", task=wanted)) > 2 else None
        ),
        what="three runs by the schedule",
    )
    assert {run["sent_by"] for run in runs} == {"beat"}
    assert len({run["request_id"] for run in runs}) == len(runs)
    assert all(run["task_id"] == run["root_id"] and "parent_id" not in run and run["attempt"] == 1 for run in runs)
    assert [line for line in service.system.log_lines("beat") if "request_id" in line] == []


def test_a_canary_sings_through_each_queue(service: Service) -> None:
    """A worker that is up but hung would not let it."""
    eventually(
        lambda: all(0 <= service.metric("celery_canary_age_seconds", queue=queue) < 5 for queue in QUEUES),
        what="young songs",
    )
    assert service.metric("celery_tasks_total", task="canary.sing", state="FAILURE") == 0


def test_what_is_due_is_synced_in_the_name_of_the_schedule(service: Service, host: GitServer) -> None:
    """The job bears the ID of the run that found it due, and the sync goes on under it."""
    make_repository(host.root / "owner" / "due")
    repository_id = service.register(host.url("owner/due"))
    assert service.sync(repository_id)["status"] == "succeeded"
    service.rows("UPDATE repositories SET sync_attempted_at = now() - interval '25 hours' WHERE id = %s", repository_id)
    job = service.system.finished_job(service.client, new_job(service, repository_id, 1))
    assert job["status"] == "succeeded"
    [sync] = service.runs(job["id"])
    assert sync["request_id"] == job["request_id"]
    found_due = service.system.wait_for_line("worker", event="task.sent", sent_task_id=job["id"])
    assert (found_due["task"], sync["parent_id"], sync["sent_by"]) == (
        "repositories.queue_due",
        found_due["task_id"],
        None,
    )


def test_one_that_fails_is_tried_less_often(service: Service, host: GitServer) -> None:
    """Its pause doubles with each failure, so a broken one costs little."""
    repository_id = service.register(host.url("owner/never-was"))
    assert service.sync(repository_id)["status"] == "failed"
    [row] = service.rows("SELECT sync_failures FROM repositories WHERE id = %s", repository_id)
    assert row["sync_failures"] == 1
    set_back = "UPDATE repositories SET sync_attempted_at = now() - interval '{} hours' WHERE id = %s"
    service.rows(set_back.format(47), repository_id)
    seen = len(service.system.log_lines("worker", event="task.started", task="repositories.queue_due"))
    eventually(
        lambda: len(service.system.log_lines("worker", event="task.finished", task="repositories.queue_due")) > seen + 1
    )
    assert len(service.rows("SELECT id FROM jobs WHERE repository_id = %s", repository_id)) == 1
    service.rows(set_back.format(49), repository_id)
    assert new_job(service, repository_id, 1)


def test_what_fell_due_while_beat_was_down_is_done(service: Service, host: GitServer) -> None:
    """The table knows what is due; the clock only asks it."""
    make_repository(host.root / "owner" / "overslept")
    repository_id = service.register(host.url("owner/overslept"))
    service.kill("beat")
    service.rows("UPDATE repositories SET created_at = now() - interval '3 days' WHERE id = %s", repository_id)
    service.system.start("beat")
    job = service.system.finished_job(service.client, new_job(service, repository_id, 0))
    assert job["status"] == "succeeded"
    assert len(service.rows("SELECT id FROM jobs WHERE repository_id = %s", repository_id)) == 1


def test_the_clone_of_a_deleted_repository_is_swept(service: Service, host: GitServer) -> None:
    """And only that: neither other repositories' clones nor anything that isn't ours."""
    ids = []
    for name in ("stays", "goes"):
        make_repository(host.root / "owner" / name)
        ids.append(service.register(host.url(f"owner/{name}")))
        assert service.sync(ids[-1])["status"] == "succeeded"
    clones = Path(service.system.environment["REPOSITORY_DIR"])
    (clones / "somebodys.git").mkdir()
    stays, goes = (clones / f"{number}.git" for number in ids)
    assert goes.is_dir()
    assert service.client.delete(f"/api/v1/repositories/{ids[1]}").status_code == 204
    eventually(lambda: not goes.exists(), what="a swept clone")
    assert stays.is_dir()
    assert (clones / "somebodys.git").is_dir()


def test_jobs_that_ended_long_ago_are_forgotten(service: Service, host: GitServer) -> None:
    """A row a sync, for ever, is a table that fills the disk. What runs is kept, however old."""
    make_repository(host.root / "owner" / "old")
    repository_id = service.register(host.url("owner/old"))
    kept, old = (service.sync(repository_id)["id"] for _ in range(2))
    service.rows("UPDATE jobs SET created_at = now() - interval '89 days' WHERE id = %s", kept)
    service.rows("UPDATE jobs SET created_at = now() - interval '91 days' WHERE id = %s", old)
    [running] = service.rows(
        "INSERT INTO jobs (id, kind, status, request_id, created_at)"
        " VALUES (gen_random_uuid(), 'other.kind', 'running', 'r', now() - interval '1 year') RETURNING id"
    )
    eventually(lambda: not service.rows("SELECT id FROM jobs WHERE id = %s", old), what="a job that is gone")
    assert len(service.rows("SELECT id FROM jobs WHERE id = ANY(%s::uuid[])", [kept, str(running["id"])])) == 2
    service.rows("DELETE FROM jobs WHERE id = %s", running["id"])


def test_nothing_piles_up_while_the_worker_is_down(service: Service) -> None:
    """What the schedule sends expires after two rounds of it at most: by then the same was asked for again."""
    service.system.stop("worker")
    with redis.Redis.from_url(service.system.redis_url, decode_responses=True) as queues:

        def waiting() -> list[dict[str, Any]] | None:
            messages = [json.loads(each) for name in QUEUES for each in cast("list[str]", queues.lrange(name, 0, -1))]
            sent = [message["headers"] for message in messages]
            return sent if {each["task"] for each in sent} == ROUND_S.keys() else None

        for headers in eventually(waiting, what="messages of each scheduled task that nobody takes"):
            lives_s = datetime.fromisoformat(headers["expires"]).timestamp() - headers[PUBLISHED_AT]
            # Stamped just before it was published.
            assert ROUND_S[headers["task"]] < lives_s <= 2 * ROUND_S[headers["task"]], headers["task"]
            # Beat would wait for it, one more with each message, for ever.
            assert headers["ignore_result"] is True, headers["task"]
    service.start_worker()
    eventually(lambda: service.metric("celery_queue_depth", queue="default") < 4, what="a queue without a jam")
