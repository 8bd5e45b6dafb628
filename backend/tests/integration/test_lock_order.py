"""Who ends jobs beside who deletes or claims: rows are locked in one order, so that nobody is killed as a deadlock."""

import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import psycopg
import pytest

from app.config import driver_url
from app.database import SyncDatabase, make_sync_engine
from app.jobs.models import JobStatus
from app.repositories.schedule import lost_jobs
from app.repositories.store import MAX_ATTEMPTS, claim, fail, fail_unfinished
from tests.system import ensure_schema, eventually

NAME = "ends-jobs"
Ends = Callable[[SyncDatabase, uuid.UUID], object]


def give_up(database: SyncDatabase, job_id: uuid.UUID) -> None:
    """As the worker's parent asks for where a run was killed."""
    assert fail_unfinished(database, job_id, "killed")


def recover(database: SyncDatabase, _: uuid.UUID) -> None:
    """As beat asks for: the job was begun too often."""
    assert lost_jobs(database, silent_s=60, queue_is_empty=True) == []


def fail_claimed(database: SyncDatabase, job_id: uuid.UUID) -> None:
    """As a run does that fails."""
    claimed = claim(database, job_id, came_again=True)
    assert claimed is not None
    fail(database, claimed, "broken")


@pytest.fixture
def database(database_url: str) -> Iterator[SyncDatabase]:
    """A worker's way to the test's database."""
    url = driver_url(database_url, "psycopg")
    engine = make_sync_engine(url, mode="off", application=NAME, pool_size=1, overflow=0)
    yield SyncDatabase(engine)
    engine.dispose()


@pytest.fixture
def job_id(database_url: str) -> uuid.UUID:
    """A job that was begun too often and is silent since; of the one repository there is."""
    found = uuid.uuid4()
    ensure_schema(database_url)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("INSERT INTO repositories (url, owner, name, full_name) VALUES ('u', 'o', 'n', 'o/n')")
        connection.execute(
            "INSERT INTO jobs (id, kind, repository_id, status, request_id, attempt, updated_at)"
            " SELECT %s, 'repository.sync', id, 'running', 'r', %s, now() - interval '1 hour' FROM repositories",
            [found, MAX_ATTEMPTS],
        )
    return found


def waits(connection: psycopg.Connection[Any]) -> bool:
    """Tell whether a statement of ours waits for somebody's lock."""
    asked = "SELECT 1 FROM pg_stat_activity WHERE application_name = %s AND wait_event_type = 'Lock'"
    return connection.execute(asked, [NAME]).fetchone() is not None


@pytest.mark.parametrize("end", [give_up, recover])
def test_a_repository_is_deleted_while_its_job_is_ended(
    database: SyncDatabase, database_url: str, job_id: uuid.UUID, end: Ends
) -> None:
    """Deleting locks the repository, then its jobs: the other way round each waits for the other, and one is killed."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            end(database, job_id)
        except Exception as error:  # noqa: BLE001 - for the test's own thread
            failures.append(error)

    ending = threading.Thread(target=run, daemon=True)
    with psycopg.connect(database_url, autocommit=True) as watcher, psycopg.connect(database_url) as deleter:
        deleter.execute("SELECT id FROM repositories FOR UPDATE")
        ending.start()
        eventually(lambda: waits(watcher), what="a run that waits for the repository")
        deleter.execute("DELETE FROM repositories")
        deleter.commit()
        ending.join(20)
        assert not ending.is_alive()
        assert failures == []
        row = watcher.execute("SELECT status, repository_id FROM jobs WHERE id = %s", [job_id]).fetchone()
    assert row == (JobStatus.FAILED, None)


def seen_of_repository(database_url: str) -> tuple[int, datetime]:
    """Return how many syncs failed in a row, and when what users see was last changed."""
    with psycopg.connect(database_url) as connection:
        row = connection.execute("SELECT sync_failures, updated_at FROM repositories").fetchone()
    assert row is not None
    return row


@pytest.mark.parametrize("end", [give_up, recover, fail_claimed])
def test_a_failed_sync_changes_nothing_that_users_see(
    database: SyncDatabase, database_url: str, job_id: uuid.UUID, end: Ends
) -> None:
    """`updated_at` is of what the repository shows; that a sync was tried is not among it, nor that it failed."""
    _, before = seen_of_repository(database_url)
    end(database, job_id)
    assert seen_of_repository(database_url) == (1, before)
