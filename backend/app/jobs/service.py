"""What the API does with jobs: reads them, and makes those that are asked for."""

import uuid
from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import AppError
from app.jobs.models import ACTIVE, Job, JobStatus


async def list_jobs(
    session: AsyncSession,
    *,
    repository_id: int | None,
    status: JobStatus | None,
    request_id: str | None,
    limit: int,
    offset: int,
) -> tuple[Sequence[Job], int]:
    """Return a page of jobs, newest first, and how many there are in all."""
    query = select(Job)
    if repository_id is not None:
        query = query.where(Job.repository_id == repository_id)
    if status is not None:
        query = query.where(Job.status == status)
    if request_id is not None:
        query = query.where(Job.request_id == request_id)
    total = await session.scalar(select(func.count()).select_from(query.subquery()))
    rows = await session.scalars(query.order_by(Job.created_at.desc(), Job.id).limit(limit).offset(offset))
    return rows.all(), total or 0


async def get_job(session: AsyncSession, job_id: uuid.UUID) -> Job:
    """Return one job.

    Raises:
        AppError: 404.
    """
    job = await session.get(Job, job_id)
    if job is None:
        raise AppError(404, "Not Found", f"There is no job {job_id}.")
    return job


async def queue_job(
    session: AsyncSession, *, job_id: uuid.UUID, kind: str, repository_id: int, request_id: str
) -> bool:
    """Add a job unless one of this kind is active for the repository; tell whether it was added.

    The unique index decides, so two requests at once cannot both win.
    """
    added = await session.scalar(
        insert(Job)
        .values(id=job_id, kind=kind, repository_id=repository_id, request_id=request_id)
        .on_conflict_do_nothing()
        .returning(Job.id)
    )
    return added is not None


async def active_job(session: AsyncSession, *, kind: str, repository_id: int) -> Job | None:
    """Return the job of this kind that is queued or running for the repository."""
    found: Job | None = await session.scalar(
        select(Job).where(Job.repository_id == repository_id, Job.kind == kind, Job.status.in_(ACTIVE))
    )
    return found
