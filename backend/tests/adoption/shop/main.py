"""The API: `uvicorn --factory shop.main:create_app`."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import FastAPI, Header, Request, Response
from sqlalchemy import insert
from starlette.middleware import Middleware

from app.errors import AppError
from app.middleware.correlation import CorrelationMiddleware, Trust
from app.middleware.errors import ErrorBoundaryMiddleware
from app.middleware.handlers import install_error_handlers
from app.middleware.http_metrics import HttpMetricsMiddleware
from app.middleware.stack import ObservedFastAPI
from app.telemetry.exposition import render
from app.telemetry.logs import configure_logging
from app.telemetry.opentelemetry import span_source

from .broker import make_celery
from .database import api_engine, metadata, orders
from .settings import Settings, read_settings

log = logging.getLogger(__name__)


def create_app() -> FastAPI:
    """Return the application."""
    settings = read_settings()
    configure_logging("api", own_packages=["shop"])
    app = ObservedFastAPI(
        outermost=[
            Middleware(
                CorrelationMiddleware,
                trust=Trust("all"),
                trail_secret=settings.trail_secret,
                span_source=span_source(),
            ),
            Middleware(HttpMetricsMiddleware, slow_ms=1000),
        ],
        middleware=[Middleware(ErrorBoundaryMiddleware)],
        lifespan=_lifespan(settings),
    )
    install_error_handlers(app)
    _add_routes(app)
    return app


def _lifespan(settings: Settings):
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.engine = api_engine(settings.database_url)
        app.state.celery = make_celery(settings.redis_url)
        async with app.state.engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
        yield
        await app.state.engine.dispose()

    return lifespan


def _add_routes(app: FastAPI) -> None:
    @app.post("/orders/{article}", status_code=202)
    async def order(article: str, request: Request) -> dict[str, int]:
        if article == "dragon":
            raise AppError(409, "Not for sale", "Dragons are not for sale.")
        async with request.app.state.engine.begin() as connection:
            row = await connection.execute(insert(orders).values(article=article, state="new").returning(orders.c.id))
            number = int(row.scalar_one())
        log.info("order.taken", extra={"number": number})
        await asyncio.to_thread(request.app.state.celery.send_task, "shop.pack", [number])
        return {"order": number}

    @app.get("/reports/{name}")
    async def report(name: str) -> None:
        (_daily if name == "daily" else _weekly)()

    @app.get("/metrics")
    async def metrics(accept: Annotated[str, Header()] = "") -> Response:
        body, content_type = await asyncio.to_thread(render, accept)
        return Response(body, headers={"Content-Type": content_type})


def _daily() -> None:
    raise ZeroDivisionError


def _weekly() -> None:
    raise ZeroDivisionError
