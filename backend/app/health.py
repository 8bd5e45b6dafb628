"""Is this process alive, and can it serve?"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Header, Response
from pydantic import BaseModel
from redis.asyncio import Redis
from sqlalchemy import text

from app.config import app_version
from app.correlation import current
from app.database import Database
from app.dependencies import ServicesDep
from app.errors import AppError
from app.heartbeat import ALIVE_WITHIN_S, WORKERS_KEY
from app.rest import problems
from app.telemetry.exposition import render, token_accepted
from app.telemetry.trail import waiting_for

router = APIRouter(tags=["health"])

_CHECK_TIMEOUT_S: Final = 1.0
# Checks that still clean up after themselves; the event loop alone would let go of them.
_given_up: Final[set[asyncio.Future[str | None]]] = set()


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"]
    version: str


class Component(BaseModel):
    """One thing the service needs."""

    status: Literal["up", "down"]
    duration_ms: float
    detail: str | None = None


class Readiness(BaseModel):
    """The service can, or cannot, do its work."""

    status: Literal["ready", "unavailable"]
    components: dict[str, Component]


@router.get("/health", summary="The process answers")
async def health() -> Health:
    """Touch no dependency: a slow database is no reason to restart the API."""
    return Health(status="ok", version=app_version())


@router.get("/health/ready", summary="Everything it needs is there", responses={503: {"model": Readiness}})
async def ready(found: ServicesDep, response: Response) -> Readiness:
    """Check database, Redis and worker side by side, each within a second."""
    checks = {
        "database": lambda: _database(found.database),
        "redis": lambda: _redis(found.redis),
        "worker": lambda: _worker(found.redis),
    }
    components = dict(zip(checks, await asyncio.gather(*(_timed(*check) for check in checks.items())), strict=True))
    is_ready = all(component.status == "up" for component in components.values())
    if not is_ready:
        response.status_code = 503
    return Readiness(status="ready" if is_ready else "unavailable", components=components)


class ProofError(Exception):
    """Raised for whoever wants to see that a failure has its ID everywhere."""


@router.get("/health/failure", include_in_schema=False)
async def failure() -> None:
    """Fail, for a request with a valid `X-Trail-Token`: so a release proves its errors. Nobody else finds it."""
    correlation = current()
    if correlation is None or not correlation.wants_trail:
        raise AppError(404, "Not Found")
    raise ProofError("Asked for.")


@router.get(
    "/metrics",
    summary="Prometheus or OpenMetrics text, by Accept",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}, "application/openmetrics-text": {}}}, **problems(401)},
)
async def metrics(
    found: ServicesDep,
    accept: Annotated[str, Header()] = "",
    authorization: Annotated[str | None, Header()] = None,
) -> Response:
    """Return the metrics of all API processes."""
    if not token_accepted(authorization, found.settings.metrics_token.get_secret_value()):
        raise AppError(401, "Unauthorized", "Bearer METRICS_TOKEN wanted.", {"WWW-Authenticate": "Bearer"})
    # Reading the processes' files takes milliseconds: not on the event loop.
    body, content_type = await asyncio.to_thread(render, accept)
    return Response(body, headers={"Content-Type": content_type})


async def _timed(name: str, check: Callable[[], Awaitable[str | None]]) -> Component:
    started = time.perf_counter()
    task = asyncio.ensure_future(_outcome(check))
    # Not asyncio.timeout(): that waits until the check has cleaned up, and leaving a server that hangs takes long.
    with waiting_for(f"the check of {name}"):
        done, _ = await asyncio.wait({task}, timeout=_CHECK_TIMEOUT_S)
    if done:
        detail = task.result()
    else:
        detail = f"no answer within {_CHECK_TIMEOUT_S:g} s"
        _given_up.add(task)
        task.add_done_callback(_given_up.discard)
        task.cancel()
    duration_ms = round((time.perf_counter() - started) * 1000, 3)
    return Component(status="down" if detail else "up", duration_ms=duration_ms, detail=detail)


async def _outcome(check: Callable[[], Awaitable[str | None]]) -> str | None:
    try:
        return await check()
    except Exception as error:  # noqa: BLE001 - whatever it is, the component is down
        # The class only: a message may hold addresses.
        return type(error).__name__


async def _database(database: Database) -> str | None:
    async with database.session() as session:
        await session.execute(text("SELECT 1"))
    return None


async def _redis(client: Redis) -> str | None:
    await client.ping()
    return None


async def _worker(client: Redis) -> str | None:
    alive = await client.zcount(WORKERS_KEY, time.time() - ALIVE_WITHIN_S, "+inf")
    return None if alive else f"no worker gave a sign of life within {ALIVE_WITHIN_S:g} s"
