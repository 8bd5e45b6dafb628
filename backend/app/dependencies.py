"""What a request handler may ask for."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Final

from celery import Celery
from fastapi import Depends, Request
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.database import Database, is_away
from app.errors import AppError
from app.vault import TokenVault

_RETRY_AFTER_S: Final = 5


@dataclass(frozen=True, slots=True)
class Services:
    """What the application is made of, once a process."""

    settings: Settings
    database: Database
    celery: Celery
    vault: TokenVault
    redis: Redis


def services(request: Request) -> Services:
    """Return this application's services."""
    found = request.app.state.services
    assert isinstance(found, Services)  # noqa: S101 - main.py set it
    return found


ServicesDep = Annotated[Services, Depends(services)]


async def _session(found: ServicesDep) -> AsyncIterator[AsyncSession]:
    try:
        async with found.database.session() as session:
            yield session
    except Exception as error:
        if is_away(error):
            headers = {"Retry-After": str(_RETRY_AFTER_S)}
            raise AppError(503, "Service Unavailable", "The database did not answer; try again.", headers) from error
        raise


SessionDep = Annotated[AsyncSession, Depends(_session)]
