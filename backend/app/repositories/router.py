"""The REST calls about repositories."""

from typing import Annotated, Final

from fastapi import APIRouter, Path, Query

from app.correlation import request_id
from app.dependencies import ServicesDep, SessionDep
from app.repositories import service
from app.repositories.models import Repository
from app.repositories.schemas import RepositoryIn, RepositoryOut, RepositoryPage, RepositoryPatch, SyncAccepted
from app.repositories.url import UrlPolicy
from app.rest import NO_NUL, JsonRoute, problems

router = APIRouter(prefix="/repositories", tags=["repositories"], route_class=JsonRoute, responses=problems(503))

# What PostgreSQL's bigint holds; a larger number is no repository of ours.
RepositoryId = Annotated[int, Path(ge=1, le=2**63 - 1)]
Term = Annotated[str | None, Query(min_length=1, max_length=255, pattern=NO_NUL)]
# tests/api/test_indexes.py shows that, and says how it was measured.
_SEARCH: Final = (
    "Looked for in full name and description, without regard to case. Reads all rows that `owner` and `language` leave:"
    " meant for thousands of repositories, of which 10,000 take PostgreSQL about 30 ms."
)


@router.get("", summary="The team's repositories, by full name", response_model=RepositoryPage)
async def list_repositories(
    session: SessionDep,
    owner: Term = None,
    language: Term = None,
    q: Annotated[Term, Query(description=_SEARCH)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
) -> dict[str, object]:
    """Return a page of repositories."""
    items, total = await service.list_repositories(
        session, owner=owner, language=language, q=q, limit=limit, offset=offset
    )
    return {"items": items, "total": total, "limit": limit, "offset": offset}


@router.post(
    "", status_code=201, summary="Register a repository", response_model=RepositoryOut, responses=problems(409)
)
async def create_repository(session: SessionDep, found: ServicesDep, data: RepositoryIn) -> Repository:
    """Register a repository; sync it to fill in its state."""
    policy = UrlPolicy(
        allow_local=found.settings.allow_local_repositories,
        allow_private_addresses=found.settings.allow_private_addresses,
    )
    return await service.create_repository(session, data, policy=policy, vault=found.vault)


@router.get("/{id}", summary="One repository", response_model=RepositoryOut, responses=problems(404))
async def get_repository(session: SessionDep, id: RepositoryId) -> Repository:  # noqa: A002 - the contract's name
    """Return one repository."""
    return await service.get_repository(session, id)


@router.patch("/{id}", summary="Change a repository", response_model=RepositoryOut, responses=problems(404))
async def update_repository(
    session: SessionDep,
    found: ServicesDep,
    id: RepositoryId,  # noqa: A002
    data: RepositoryPatch,
) -> Repository:
    """Change description, visibility or access token."""
    return await service.update_repository(session, id, data, vault=found.vault)


@router.delete("/{id}", status_code=204, summary="Forget a repository", responses=problems(404))
async def delete_repository(session: SessionDep, id: RepositoryId) -> None:  # noqa: A002
    """Forget a repository and its clone."""
    await service.delete_repository(session, id)


@router.post(
    "/{id}/sync",
    status_code=202,
    summary="Sync a repository in the background",
    responses=problems(404, 409),
)
async def sync_repository(session: SessionDep, found: ServicesDep, id: RepositoryId) -> SyncAccepted:  # noqa: A002
    """Queue a sync; `GET /jobs/{job_id}` tells how it goes."""
    job = await service.request_sync(session, id, celery=found.celery)
    return SyncAccepted(job_id=str(job.id), status=job.status, request_id=request_id() or job.request_id)
