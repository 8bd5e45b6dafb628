"""What the worker reads and writes of repositories and their jobs; each call is one short transaction."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import and_, case, exists, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import undefer
from uuid_utils import uuid7

from app.correlation import new_id, request_id
from app.database import SyncDatabase
from app.jobs.models import ACTIVE, Job, JobStatus
from app.repositories.git import RepositoryState
from app.repositories.github import GithubFacts
from app.repositories.models import Repository
from app.repositories.service import SYNC_KIND

# A repository whose syncs fail is tried at twice the interval, then four times, up to 64 times.
_MAX_BACKOFF_STEPS: Final = 6
# A job whose worker was lost this often is not tried again: it may be what kills the worker.
MAX_ATTEMPTS: Final = 5
# A queued job that nobody has taken for this long may have lost its message.
_RESEND_AFTER_S: Final = 600


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that this run may work on, and the repository it is about."""

    job_id: uuid.UUID
    attempt: int
    repository: Repository


def claim(database: SyncDatabase, job_id: uuid.UUID, *, redelivered: bool) -> Claim | None:
    """Take a job: queued ones, and running ones whose message came again, for that says their worker is gone.

    None: it is done, or somebody's, or its repository was deleted.
    """
    with database.session() as session:
        takeable = Job.status == JobStatus.QUEUED
        if redelivered:
            takeable = or_(takeable, Job.status == JobStatus.RUNNING)
        job = session.scalar(
            update(Job)
            .where(Job.id == job_id, takeable)
            .values(
                status=JobStatus.RUNNING,
                attempt=Job.attempt + 1,
                started_at=func.now(),
                stage="starting",
                progress=0,
                reason=None,
            )
            .returning(Job)
        )
        if job is None:
            return None
        repository = (
            session.get(
                Repository,
                job.repository_id,
                options=[
                    undefer(Repository.access_token),
                    undefer(Repository.host_etag),
                    undefer(Repository.host_retry_at),
                ],
            )
            if job.repository_id is not None
            else None
        )
        if repository is None:
            _finish(job, "The repository was deleted.")
            session.commit()
            return None
        repository.sync_attempted_at = func.now()
        session.commit()
        session.refresh(repository)
        session.expunge_all()
        return Claim(job_id, job.attempt, repository)


def report(database: SyncDatabase, job_id: uuid.UUID, stage: str, progress: int) -> None:
    """Write how far a job is."""
    with database.session() as session:
        session.execute(
            update(Job)
            .where(Job.id == job_id, Job.status == JobStatus.RUNNING)
            .values(stage=stage[:50], progress=max(0, min(100, progress)))
        )
        session.commit()


def succeed(
    database: SyncDatabase,
    job_id: uuid.UUID,
    repository_id: int,
    state: RepositoryState,
    facts: GithubFacts | None,
    *,
    retry_host_at: datetime | None,
    rotated_token: bytes | None,
) -> None:
    """Write what a sync found, and that it is done."""
    with database.session() as session:
        repository = session.get(Repository, repository_id)
        if repository is not None:
            _apply_state(repository, state)
            if facts is not None:
                _apply_facts(repository, facts)
            if retry_host_at is not None:
                repository.host_retry_at = retry_host_at
            if rotated_token is not None:
                repository.access_token = rotated_token
        session.execute(
            update(Job)
            .where(Job.id == job_id)
            .values(status=JobStatus.SUCCEEDED, stage="done", progress=100, reason=None, finished_at=func.now())
        )
        session.commit()


def _apply_state(repository: Repository, state: RepositoryState) -> None:
    repository.default_branch = state.default_branch
    repository.last_commit_sha = state.last_commit_sha
    repository.last_commit_message = state.last_commit_message
    repository.last_commit_author = state.last_commit_author
    repository.last_commit_at = state.last_commit_at
    repository.commits = state.commits
    repository.contributors = state.contributors
    repository.activity = state.activity
    repository.languages = state.languages
    repository.language = max(state.languages, key=lambda name: state.languages[name], default=None)
    repository.last_synced_at = func.now()
    repository.sync_failures = 0


def _apply_facts(repository: Repository, facts: GithubFacts) -> None:
    repository.stars = facts.stars
    repository.forks = facts.forks
    repository.is_private = facts.is_private
    # A description that somebody wrote here stays.
    repository.description = repository.description or facts.description
    repository.owner, repository.name = facts.owner, facts.name
    repository.full_name = f"{facts.owner}/{facts.name}"
    repository.host_etag = facts.etag


def requeue(database: SyncDatabase, job_id: uuid.UUID, reason: str) -> None:
    """Put a job back: it will be tried again."""
    with database.session() as session:
        session.execute(
            update(Job).where(Job.id == job_id).values(status=JobStatus.QUEUED, stage="waiting", reason=reason)
        )
        session.commit()


def fail(database: SyncDatabase, job_id: uuid.UUID, reason: str) -> None:
    """Write that a job failed for good, and why."""
    with database.session() as session:
        job = session.get(Job, job_id)
        if job is not None:
            _finish(job, reason)
            if job.repository_id is not None:
                session.execute(
                    update(Repository)
                    .where(Repository.id == job.repository_id)
                    .values(sync_failures=Repository.sync_failures + 1)
                )
        session.commit()


def _finish(job: Job, reason: str) -> None:
    job.status = JobStatus.FAILED
    job.reason = reason
    job.finished_at = func.now()


def queue_due(database: SyncDatabase, interval_s: int, limit: int) -> list[uuid.UUID]:
    """Make jobs for repositories whose last sync is older than `interval_s` seconds; return the jobs' IDs.

    Asks the table, not the clock that called it: what fell due while nobody looked is due still.
    """
    factor = func.power(2, func.least(Repository.sync_failures, _MAX_BACKOFF_STEPS))
    due_at = Repository.sync_attempted_at + func.make_interval(0, 0, 0, 0, 0, 0, literal(interval_s) * factor)
    active = exists().where(Job.repository_id == Repository.id, Job.kind == SYNC_KIND, Job.status.in_(ACTIVE))
    with database.session() as session:
        due = session.scalars(
            select(Repository.id)
            # One that was never synced waits for the request that asks for its first sync, but not for ever.
            .where(
                ~active,
                func.coalesce(due_at, Repository.created_at + func.make_interval(0, 0, 0, 0, 0, 0, interval_s))
                <= func.now(),
            )
            .order_by(Repository.sync_attempted_at.nulls_first())
            .limit(limit)
        ).all()
        if not due:
            return []
        added = session.scalars(
            insert(Job)
            .values(
                [
                    {
                        "id": uuid.UUID(int=uuid7().int),
                        "kind": SYNC_KIND,
                        "repository_id": repository_id,
                        "request_id": request_id() or new_id(),
                    }
                    for repository_id in due
                ]
            )
            .on_conflict_do_nothing()
            .returning(Job.id)
        ).all()
        session.commit()
        return list(added)


def lost_jobs(database: SyncDatabase, longest_run_s: float) -> list[uuid.UUID]:
    """Put back jobs that lost their worker, or give them up; return those whose message is to be sent again.

    Args:
        database: where jobs are.
        longest_run_s: no run can last longer: the worker kills it before.
    """
    with database.session() as session:
        age_s = func.extract("epoch", func.now() - Job.updated_at)
        stale = or_(
            and_(Job.status == JobStatus.RUNNING, age_s > longest_run_s),
            and_(Job.status == JobStatus.QUEUED, age_s > _RESEND_AFTER_S),
        )
        hopeless = Job.attempt >= MAX_ATTEMPTS
        rows = session.execute(
            update(Job)
            .where(stale)
            .values(
                status=case((hopeless, JobStatus.FAILED.value), else_=JobStatus.QUEUED.value),
                reason=case(
                    (hopeless, f"Its worker was lost {MAX_ATTEMPTS} times."),
                    else_="Its worker was lost; it will run again.",
                ),
                finished_at=case((hopeless, func.now()), else_=None),
            )
            .returning(Job.id, Job.status)
        ).all()
        session.commit()
        return [row.id for row in rows if row.status == JobStatus.QUEUED]


def known_ids(database: SyncDatabase) -> set[int]:
    """Return the IDs of all repositories."""
    with database.session() as session:
        return set(session.scalars(select(Repository.id)))
