"""What the worker reads and writes of repositories and their jobs; each call is one short transaction.

A claim's attempt is its fence: a run that was taken for lost, and whose job another run has claimed since, can write
nothing any more, however late it wakes up.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.orm import Session, undefer

from app.database import SyncDatabase
from app.jobs.models import ACTIVE, Job, JobStatus
from app.repositories.git import RepositoryState
from app.repositories.github import GithubFacts
from app.repositories.models import Repository

# A job that was begun this often and never brought to an end is not begun again: it may be what kills the worker.
MAX_ATTEMPTS: Final = 5
GIVEN_UP: Final = f"It was begun {MAX_ATTEMPTS} times and never came to an end."


class ClaimLostError(Exception):
    """Somebody else has the job by now, or has ended it: this run has nothing more to say about it."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that this run may work on, and the repository it is about."""

    job_id: uuid.UUID
    attempt: int
    repository: Repository


def claim(database: SyncDatabase, job_id: uuid.UUID, *, came_again: bool) -> Claim | None:
    """Take a job: queued ones, and running ones whose message came again, for that says their worker is gone.

    Where it isn't gone after all, that run loses its claim to this one.

    None: it is done, or somebody's, or its repository was deleted.
    """
    takeable = Job.status == JobStatus.QUEUED
    if came_again:
        takeable = or_(takeable, Job.status == JobStatus.RUNNING)
    with database.session() as session:
        # The repository's row is locked before its job's, here and wherever both are written, as deleting one does.
        repository = session.scalar(
            select(Repository)
            .join(Job, Job.repository_id == Repository.id)
            .where(Job.id == job_id)
            .with_for_update(of=Repository)
            .options(undefer(Repository.access_token), undefer(Repository.host_etag))
        )
        attempt = session.scalar(
            update(Job)
            .where(Job.id == job_id, takeable)
            .values(
                status=JobStatus.RUNNING if repository is not None else JobStatus.FAILED,
                attempt=Job.attempt + 1,
                started_at=func.now(),
                finished_at=None if repository is not None else func.now(),
                stage="starting",
                progress=0,
                reason=None if repository is not None else "The repository was deleted.",
            )
            .returning(Job.attempt)
        )
        if attempt is None:
            return None
        if repository is not None:
            session.execute(
                update(Repository)
                .where(Repository.id == repository.id)
                .values(sync_attempted_at=func.now(), updated_at=Repository.updated_at)
                .execution_options(synchronize_session=False)
            )
            session.expunge_all()
        session.commit()
    return Claim(job_id, attempt, repository) if repository is not None else None


def report(database: SyncDatabase, claim: Claim, stage: str, progress: int) -> None:
    """Write how far a job is.

    Raises:
        ClaimLostError: so is any further work on it in vain.
    """
    _write(database, claim, stage=stage[:50], progress=max(0, min(100, progress)))


def keep(database: SyncDatabase, claim: Claim) -> None:
    """Give a sign of life of a run.

    Raises:
        ClaimLostError: see there.
    """
    _write(database, claim, updated_at=func.now())


def requeue(database: SyncDatabase, claim: Claim, reason: str) -> None:
    """Put a job back: it will be tried again.

    Raises:
        ClaimLostError: see there.
    """
    _write(database, claim, status=JobStatus.QUEUED, stage="waiting", reason=reason)


def _write(database: SyncDatabase, claim: Claim, **values: Any) -> None:
    with database.session() as session:
        _update_claimed(session, claim, values)
        session.commit()


def _update_claimed(session: Session, claim: Claim, values: dict[str, Any]) -> None:
    found = session.scalar(
        update(Job)
        .where(Job.id == claim.job_id, Job.status == JobStatus.RUNNING, Job.attempt == claim.attempt)
        .values(values)
        .returning(Job.id)
    )
    if found is None:
        raise ClaimLostError(f"Attempt {claim.attempt} of job {claim.job_id} is no longer the one that counts.")


@dataclass(frozen=True, slots=True)
class HostPause:
    """A host's wish to be left alone: until when, and by whom (an encrypted token; None: by us without one)."""

    until: datetime
    access_token: bytes | None


def host_pauses(database: SyncDatabase) -> list[HostPause]:
    """Return the pauses that are not over. Reads all rows, in a sync that has just run git and is to ask the host."""
    with database.session() as session:
        rows = session.execute(
            select(Repository.host_retry_at, Repository.access_token).where(Repository.host_retry_at > func.now())
        )
        return [HostPause(until, token) for until, token in rows if until is not None]


def succeed(
    database: SyncDatabase,
    claim: Claim,
    state: RepositoryState,
    facts: GithubFacts | None,
    *,
    retry_host_at: datetime | None,
    rotated_token: bytes | None,
) -> None:
    """Write what a sync found, and that it is done.

    Raises:
        ClaimLostError: nothing was written.
    """
    with database.session() as session:
        repository = session.get(
            Repository,
            claim.repository.id,
            options=[undefer(Repository.access_token), undefer(Repository.host_etag)],
            with_for_update=True,
        )
        _update_claimed(
            session,
            claim,
            {
                "status": JobStatus.SUCCEEDED,
                "stage": "done",
                "progress": 100,
                "reason": None,
                "finished_at": func.now(),
            },
        )
        if repository is not None:
            _apply_state(repository, state)
            if facts is not None:
                _apply_facts(repository, facts)
            # Unless a user has set another token meanwhile: to that one GitHub said nothing.
            if repository.access_token == claim.repository.access_token:
                repository.host_retry_at = retry_host_at or repository.host_retry_at
                repository.access_token = rotated_token or repository.access_token
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
    repository.owner, repository.name = facts.owner, facts.name
    repository.full_name = f"{facts.owner}/{facts.name}"
    # See the column: a description that a user wrote stays, and GitHub's is followed.
    if repository.host_etag is not None or not repository.description:
        repository.description = facts.description
        repository.host_etag = facts.etag or ""


def fail(database: SyncDatabase, claim: Claim, reason: str) -> None:
    """Write that a job failed for good, and why.

    Raises:
        ClaimLostError: nothing was written.
    """
    with database.session() as session:
        count_failures(session, [claim.repository.id])
        _update_claimed(session, claim, {"status": JobStatus.FAILED, "reason": reason, "finished_at": func.now()})
        session.commit()


def fail_unfinished(database: SyncDatabase, job_id: uuid.UUID, reason: str) -> bool:
    """Write that a job failed whose run can't say so itself; tell whether it was unfinished."""
    with database.session() as session:
        lock_repositories(session, Job.id == job_id)
        row = session.execute(
            update(Job)
            .where(Job.id == job_id, Job.status.in_(ACTIVE))
            .values(status=JobStatus.FAILED, reason=reason, finished_at=func.now())
            .returning(Job.repository_id)
        ).one_or_none()
        if row is not None:
            count_failures(session, [row.repository_id])
        session.commit()
        return row is not None


def lock_repositories(session: Session, of_jobs: ColumnElement[bool]) -> None:
    """Lock the repositories of jobs that are about to end, in the order of their IDs; new jobs may refer to them."""
    session.execute(
        select(Repository.id)
        .join(Job, Job.repository_id == Repository.id)
        .where(of_jobs)
        .order_by(Repository.id)
        .with_for_update(of=Repository, key_share=True)
    )


def count_failures(session: Session, repository_ids: Sequence[int | None]) -> None:
    """Note that a sync of each of these repositories failed: they are tried less often from now on.

    Their rows are locked before any job's; see `claim`. What users see of them stays as it is.
    """
    session.execute(
        update(Repository)
        .where(Repository.id.in_([each for each in repository_ids if each is not None]))
        .values(sync_failures=Repository.sync_failures + 1, updated_at=Repository.updated_at)
    )
