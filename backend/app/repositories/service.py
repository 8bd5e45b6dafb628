"""What the API does with repositories."""

import asyncio
import uuid
from collections.abc import Sequence
from typing import Any, Final

from anyio.to_thread import run_sync
from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError
from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils import uuid7

from app.correlation import new_id, request_id
from app.errors import AppError
from app.jobs.models import Job, JobStatus
from app.jobs.service import active_job, queue_job
from app.repositories.models import Repository
from app.repositories.schemas import RepositoryIn, RepositoryPatch
from app.repositories.sync_message import SYNC_KIND, send_sync
from app.repositories.url import UrlNotAllowedError, UrlPolicy, parse_url
from app.telemetry.trail import waiting_for
from app.utils.metrics import REPOSITORY_OPERATIONS
from app.vault import TokenVault

# The client library tries again and again; a request that waits for it helps nobody.
_SEND_WITHIN_S: Final = 3.0


async def list_repositories(
    session: AsyncSession, *, owner: str | None, language: str | None, q: str | None, limit: int, offset: int
) -> tuple[Sequence[Repository], int]:
    """Return a page of repositories by full name, and how many there are in all.

    `owner` and `language` match whole, without regard to case; `q` is looked for in full name and description, which
    reads all rows that the others leave: no index serves a part of a word.
    """
    query = select(Repository)
    if owner is not None:
        query = query.where(func.lower(Repository.owner) == func.lower(owner))
    if language is not None:
        query = query.where(func.lower(Repository.language) == func.lower(language))
    if q:
        query = query.where(
            or_(
                Repository.full_name.icontains(q, autoescape=True), Repository.description.icontains(q, autoescape=True)
            )
        )
    total = await session.scalar(select(func.count()).select_from(query.with_only_columns(Repository.id).subquery()))
    rows = await session.scalars(query.order_by(Repository.full_name, Repository.id).limit(limit).offset(offset))
    return rows.all(), total or 0


async def get_repository(session: AsyncSession, repository_id: int) -> Repository:
    """Return one repository.

    Raises:
        AppError: 404.
    """
    repository = await session.get(Repository, repository_id)
    if repository is None:
        raise _not_found(repository_id)
    return repository


async def create_repository(
    session: AsyncSession, data: RepositoryIn, *, policy: UrlPolicy, vault: TokenVault
) -> Repository:
    """Register a repository. Its state stays empty until the first sync.

    Raises:
        AppError: 422 for a URL we don't follow, 409 for one we know.
    """
    try:
        url = parse_url(data.url, policy)
    except UrlNotAllowedError as error:
        REPOSITORY_OPERATIONS.labels("create", "failure").inc()
        fault = {"loc": ["body", "url"], "msg": str(error), "type": "url_not_allowed"}
        raise AppError(422, "Unprocessable Content", str(error), errors=[fault]) from None
    repository: Repository | None = await session.scalar(
        insert(Repository)
        .values(
            url=url.url,
            owner=url.owner,
            name=url.name,
            full_name=f"{url.owner}/{url.name}",
            description=data.description,
            is_private=data.is_private,
            access_token=vault.encrypt(data.access_token.get_secret_value()) if data.access_token else None,
        )
        .on_conflict_do_nothing(index_elements=[Repository.url])
        .returning(Repository)
    )
    if repository is None:
        known = await session.scalar(select(Repository.id).where(Repository.url == url.url))
        REPOSITORY_OPERATIONS.labels("create", "conflict").inc()
        raise AppError(409, "Conflict", f"{url.url} is already registered, as repository {known}.")
    await session.commit()
    REPOSITORY_OPERATIONS.labels("create", "success").inc()
    return repository


async def update_repository(
    session: AsyncSession, repository_id: int, data: RepositoryPatch, *, vault: TokenVault
) -> Repository:
    """Change what `data` names.

    Raises:
        AppError: 404.
    """
    changes: dict[str, Any] = data.model_dump(include=data.model_fields_set, exclude={"access_token"})
    if "access_token" in data.model_fields_set:
        token = data.access_token
        changes["access_token"] = vault.encrypt(token.get_secret_value()) if token else None
        changes["host_retry_at"] = None  # The host told it to the former one.
    if "description" in data.model_fields_set:
        changes["host_etag"] = None  # What stands here is the user's word from now on.
    changed: Repository | None
    if changes:
        changed = await session.scalar(
            update(Repository).where(Repository.id == repository_id).values(**changes).returning(Repository)
        )
    else:
        changed = await session.get(Repository, repository_id)
    if changed is None:
        REPOSITORY_OPERATIONS.labels("update", "not_found").inc()
        raise _not_found(repository_id)
    await session.commit()
    REPOSITORY_OPERATIONS.labels("update", "success").inc()
    return changed


async def delete_repository(session: AsyncSession, repository_id: int) -> None:
    """Forget a repository; its jobs stay. A sync that runs ends by itself, and its clone is removed by the worker.

    Raises:
        AppError: 404.
    """
    deleted = await session.scalar(delete(Repository).where(Repository.id == repository_id).returning(Repository.id))
    if deleted is None:
        REPOSITORY_OPERATIONS.labels("delete", "not_found").inc()
        raise _not_found(repository_id)
    await session.commit()
    REPOSITORY_OPERATIONS.labels("delete", "success").inc()


async def request_sync(session: AsyncSession, repository_id: int, *, celery: Celery) -> Job:
    """Queue a sync and return its job.

    Raises:
        AppError: 404; 409 while one is queued or runs; 503 where the broker doesn't answer (the job says so too).
    """
    await get_repository(session, repository_id)
    job_id = uuid.UUID(int=uuid7().int)
    try:
        added = await queue_job(
            session,
            job_id=job_id,
            kind=SYNC_KIND,
            repository_id=repository_id,
            request_id=request_id() or new_id(),
        )
    except IntegrityError:
        # Deleted between our two statements.
        raise _not_found(repository_id) from None
    if not added:
        running = await active_job(session, kind=SYNC_KIND, repository_id=repository_id)
        REPOSITORY_OPERATIONS.labels("sync_request", "conflict").inc()
        which = f" Its job is {running.id}, asked for by request {running.request_id}." if running else ""
        raise AppError(
            409,
            "Conflict",
            f"A sync of repository {repository_id} is {running.status if running else 'active'}.{which}",
        )
    # The row comes before the message: a worker may be faster than our commit.
    await session.commit()
    try:
        with waiting_for("the queue"):
            async with asyncio.timeout(_SEND_WITHIN_S):
                await run_sync(send_sync, celery, job_id, abandon_on_cancel=True)
    except (OperationalError, RedisError, TimeoutError) as error:
        # Should the message get through later, the worker finds the job ended and leaves it alone. If it did already,
        # the job is the worker's.
        ended = await session.scalar(
            update(Job)
            .where(Job.id == job_id, Job.status == JobStatus.QUEUED)
            .values(status=JobStatus.FAILED, reason="The queue did not answer.", finished_at=func.now())
            .returning(Job.id)
        )
        await session.commit()
        if ended is not None:
            REPOSITORY_OPERATIONS.labels("sync_request", "failure").inc()
            raise AppError(503, "Service Unavailable", "The queue did not answer; try again in a moment.") from error
    REPOSITORY_OPERATIONS.labels("sync_request", "success").inc()
    return await session.get_one(Job, job_id)


def _not_found(repository_id: int) -> AppError:
    return AppError(404, "Not Found", f"There is no repository {repository_id}.")
