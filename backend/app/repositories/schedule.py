"""Which syncs are due, and which were lost on their way: asked of the tables, not of a clock."""

import uuid
from dataclasses import dataclass
from typing import Final

from sqlalchemy import and_, case, delete, exists, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from uuid_utils import uuid7

from app.correlation import new_id, request_id
from app.database import SyncDatabase
from app.jobs.models import ACTIVE, Job, JobStatus
from app.repositories.models import Repository
from app.repositories.store import GIVEN_UP, MAX_ATTEMPTS, count_failures, lock_repositories
from app.repositories.sync_message import SYNC_KIND

_A_DAY_S: Final = 86_400
# A repository whose syncs fail is tried at twice the interval, then four times, up to 64 times.
_MAX_BACKOFF_STEPS: Final = 6
# Before this a queued job is not even suspected of having lost its message: the longest pause before a retry is 648 s.
_RESEND_AFTER_S: Final = 900
# A queue that is never empty must not keep one for ever that has none; sent twice, it runs once.
_RESEND_ANYWAY_AFTER_S: Final = 3600


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


@dataclass(frozen=True, slots=True)
class LostJob:
    """A job whose message is to be sent again, and the request it belongs to."""

    job_id: uuid.UUID
    request_id: str


def lost_jobs(database: SyncDatabase, *, silent_s: float, queue_is_empty: bool) -> list[LostJob]:
    """Put back jobs that lost their worker or their message, or give them up; return those to send again.

    Args:
        database: where jobs are.
        silent_s: a run that gave no sign of life for so long is gone.
        queue_is_empty: else a queued job's message may still be waiting, and another one would only make it longer:
            it is given an hour.
    """
    with database.session() as session:
        age_s = func.extract("epoch", func.now() - Job.updated_at)
        resend_after_s = _RESEND_AFTER_S if queue_is_empty else _RESEND_ANYWAY_AFTER_S
        stale = or_(
            and_(Job.status == JobStatus.RUNNING, age_s > silent_s),
            and_(Job.status == JobStatus.QUEUED, age_s > resend_after_s),
        )
        hopeless = and_(Job.status == JobStatus.RUNNING, Job.attempt >= MAX_ATTEMPTS)
        lock_repositories(session, and_(Job.kind == SYNC_KIND, stale, hopeless))
        rows = session.execute(
            update(Job)
            .where(Job.kind == SYNC_KIND, stale)
            .values(
                status=case((hopeless, JobStatus.FAILED.value), else_=JobStatus.QUEUED.value),
                stage=case((hopeless, Job.stage), else_="waiting"),
                reason=case(
                    (hopeless, GIVEN_UP),
                    (Job.status == JobStatus.RUNNING, "Its worker was lost; it will run again."),
                    else_=Job.reason,
                ),
                finished_at=case((hopeless, func.now()), else_=None),
            )
            .returning(Job.id, Job.status, Job.request_id, Job.repository_id)
        ).all()
        count_failures(session, [row.repository_id for row in rows if row.status == JobStatus.FAILED])
        session.commit()
        return [LostJob(row.id, row.request_id) for row in rows if row.status == JobStatus.QUEUED]


def forget_old_jobs(database: SyncDatabase, days: float, limit: int) -> int:
    """Delete the oldest jobs that ended more than `days` ago, `limit` of them at most; return how many."""
    kept_since = func.now() - func.make_interval(0, 0, 0, 0, 0, 0, days * _A_DAY_S)
    old = (
        select(Job.id)
        .where(Job.created_at < kept_since, Job.status.not_in(ACTIVE))
        .order_by(Job.created_at)
        .limit(limit)
    )
    with database.session() as session:
        gone = session.scalars(delete(Job).where(Job.id.in_(old)).returning(Job.id)).all()
        session.commit()
        return len(gone)


def known_ids(database: SyncDatabase) -> set[int]:
    """Return the IDs of all repositories."""
    with database.session() as session:
        return set(session.scalars(select(Repository.id)))
