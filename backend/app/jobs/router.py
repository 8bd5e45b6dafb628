"""GET /jobs."""

import uuid
from typing import Annotated, Final

from fastapi import APIRouter, Query

from app.dependencies import SessionDep
from app.jobs import service
from app.jobs.models import Job, JobStatus
from app.jobs.schemas import JobOut, JobPage
from app.rest import NO_NUL, JsonRoute, problems

# tests/api/test_indexes.py shows that.
_STATUS: Final = (
    "An index finds what is `queued` or `running`. The rest is looked for among all jobs that are kept, newest first."
)

router = APIRouter(prefix="/jobs", tags=["jobs"], route_class=JsonRoute, responses=problems(503))


@router.get("", summary="What ran, newest first", response_model=JobPage)
async def list_jobs(
    session: SessionDep,
    repository_id: Annotated[int | None, Query(ge=1, le=2**63 - 1)] = None,
    status: Annotated[JobStatus | None, Query(description=_STATUS)] = None,
    request_id: Annotated[str | None, Query(max_length=63, pattern=NO_NUL)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
) -> dict[str, object]:
    """Return a page of jobs."""
    items, total = await service.list_jobs(
        session, repository_id=repository_id, status=status, request_id=request_id, limit=limit, offset=offset
    )
    return {"items": items, "total": total, "limit": limit, "offset": offset}


@router.get("/{id}", summary="One job", response_model=JobOut, responses=problems(404))
async def get_job(session: SessionDep, id: uuid.UUID) -> Job:  # noqa: A002 - the contract's name
    """Return one job."""
    return await service.get_job(session, id)
