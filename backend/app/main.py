"""The API: ordered lists of what it is made of, no logic."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import redis.asyncio
from fastapi import APIRouter, FastAPI, Security
from fastapi.security import HTTPBearer
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from app import health
from app.alerts.router import router as alerts
from app.broker import make_celery
from app.child import end_with_parent
from app.config import Settings, app_version, get_settings
from app.database import Database, make_async_engine
from app.dependencies import Services
from app.jobs.router import router as jobs
from app.middleware.auth import TokenMiddleware
from app.middleware.body_limit import BodyLimitMiddleware
from app.middleware.correlation import CorrelationMiddleware, Trust
from app.middleware.errors import ErrorBoundaryMiddleware
from app.middleware.handlers import install_error_handlers
from app.middleware.head import HeadMiddleware
from app.middleware.http_metrics import HttpMetricsMiddleware
from app.middleware.stack import ObservedFastAPI
from app.repositories.router import router as repositories
from app.rest import tell_the_truth
from app.telemetry.logs import configure_logging
from app.telemetry.opentelemetry import span_source
from app.telemetry.scrub import add_patterns
from app.utils.metrics import BUILD_INFO
from app.vault import TokenVault

_API: Final = "/api/v1"
_MAX_BODY_BYTES: Final = 1024 * 1024
_BROKER_TIMEOUTS: Final = {"socket_timeout": 2.0, "socket_connect_timeout": 2.0}
# Guarded by METRICS_TOKEN, or by nothing.
_OPEN: Final = (f"{_API}/health", f"{_API}/metrics")


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the application.

    Raises:
        ConfigurationError: the environment lacks something; says what.
    """
    settings = settings or get_settings()
    end_with_parent()
    configure_logging("api", settings.log_level)
    add_patterns(settings.scrub_patterns.split())
    app = ObservedFastAPI(
        outermost=_outermost(settings),
        title="CommandCenter",
        version=app_version(),
        description="Watches over a team's Git repositories, and over itself.",
        middleware=_middleware(settings),
        lifespan=_lifespan(settings),
        # A path is right or it is not: a redirect would be one more answer that no description knows.
        redirect_slashes=False,
    )
    install_error_handlers(app)
    tell_the_truth(app)
    # The guard is TokenMiddleware; this tells OpenAPI's readers of it.
    api = APIRouter(prefix=_API, dependencies=[Security(HTTPBearer(auto_error=False))], max_body_size=_MAX_BODY_BYTES)
    for router in (repositories, jobs, alerts):
        api.include_router(router)
    app.include_router(api)
    app.include_router(health.router, prefix=_API)
    # The same three where probes and scrapers look by habit.
    app.include_router(health.router, include_in_schema=False)
    BUILD_INFO.labels(app_version(), settings.build_commit).set(1)
    return app


def _outermost(settings: Settings) -> list[Middleware]:
    """Outermost first: whatever happens further in has its ID and is counted."""
    foreign_pages = _cors(settings.allowed_origins)
    if not settings.correlation_enabled:
        return foreign_pages
    return [
        Middleware(
            CorrelationMiddleware,
            trust=Trust(settings.request_id_trust),
            trail_secret=settings.secret_key.get_secret_value(),
            span_source=span_source(),
        ),
        Middleware(HttpMetricsMiddleware, slow_ms=settings.slow_request_ms),
        *foreign_pages,
    ]


def _cors(origins: list[str]) -> list[Middleware]:
    """Outside of the errors, so that a page may read those too; no cookies, so no credentials."""
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "HEAD", "POST", "PATCH", "DELETE"],
            allow_headers=["Authorization", "X-Request-ID", "traceparent", "tracestate", "X-Trail-Token"],
            expose_headers=["X-Request-ID"],
        )
    ]


def _middleware(settings: Settings) -> list[Middleware]:
    """Inside the framework's own, in this order."""
    return [
        Middleware(ErrorBoundaryMiddleware),
        Middleware(TokenMiddleware, token=settings.api_token.get_secret_value(), prefix=_API, open_paths=_OPEN),
        Middleware(BodyLimitMiddleware, max_bytes=_MAX_BODY_BYTES),
        Middleware(HeadMiddleware),
    ]


def _lifespan(settings: Settings) -> Any:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        engine = make_async_engine(
            settings.sqlalchemy_url("asyncpg"),
            mode=settings.sql_comments if settings.correlation_enabled else "off",
            application="commandcenter-api",
            pool_size=settings.db_pool_size,
            overflow=settings.db_pool_overflow,
            shares_connections=settings.db_behind_pgbouncer,
        )
        redis_url = settings.redis_url.get_secret_value()
        client = redis.asyncio.Redis.from_url(redis_url, socket_timeout=1.0, socket_connect_timeout=1.0)
        celery = make_celery(redis_url, correlation=settings.correlation_enabled)
        # A broker that takes connections and says nothing must not keep the sending threads for ever.
        celery.conf.broker_transport_options = {**celery.conf.broker_transport_options, **_BROKER_TIMEOUTS}
        app.state.services = Services(settings, Database(engine), celery, TokenVault(settings.secret_keys), client)
        try:
            yield
        finally:
            celery.close()
            await client.aclose()
            await engine.dispose()

    return lifespan
