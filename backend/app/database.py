"""Engines and sessions: asyncpg for the API, psycopg for the worker, both attributed and measured."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from traceback import walk_tb
from typing import Final

from sqlalchemy import Engine, MetaData, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker
from sqlalchemy.pool import QueuePool

from app.config import get_settings
from app.pool import keep_alive
from app.telemetry.pool import MeasuredAsyncPool, MeasuredQueuePool, watch_pool
from app.telemetry.sql import Mode, SqlAttribution

# Fixed, so that a migration can name what it changes.
NAMING: Final = {
    "ix": "ix_%(column_0_N_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
_POOL_TIMEOUT_S: Final = 5.0
_CONNECT_TIMEOUT_S: Final = 5
# Too many connections; shut down by an administrator, after a crash, not yet started. PostgreSQL, appendix A.
_AWAY: Final = ("53300", "57P01", "57P02", "57P03")
_CONNECTION_CLASS: Final = "08"


class Base(DeclarativeBase):
    """All tables."""

    metadata = MetaData(naming_convention=NAMING)


def make_async_engine(
    url: str, *, mode: Mode, application: str, pool_size: int, overflow: int, shares_connections: bool = False
) -> AsyncEngine:
    """Return the API's engine.

    Args:
        url: `postgresql+asyncpg://…`.
        mode: how statements are tied to their request; see telemetry/sql.py.
        application: application_name outside requests, and in comments.
        pool_size: connections kept open.
        overflow: how many more in a rush.
        shares_connections: whether a PgBouncer in transaction mode is at the other end: what one transaction prepares
            is not there in the next. Costs a round trip a statement.
    """
    connect_args: dict[str, object] = {
        "timeout": _CONNECT_TIMEOUT_S,
        "server_settings": {"application_name": application},
    }
    if mode != "off":
        from app.telemetry.sql_asyncpg import AttributedConnection  # noqa: PLC0415 - a worker needs no asyncpg

        connect_args["connection_class"] = AttributedConnection
    if shares_connections:
        # Statements stay unnamed then: none stays behind, none meets a namesake of another client's.
        connect_args |= {"statement_cache_size": 0, "prepared_statement_cache_size": 0}
    engine = create_async_engine(
        url,
        poolclass=MeasuredAsyncPool,
        pool_size=pool_size,
        max_overflow=overflow,
        pool_timeout=_POOL_TIMEOUT_S,
        hide_parameters=True,
        connect_args=connect_args,
    )
    _observe(
        engine.sync_engine, SqlAttribution(mode=mode, application=application, driver="asyncpg"), pool_size + overflow
    )
    return engine


def make_sync_engine(
    url: str, *, mode: Mode, application: str, pool_size: int, overflow: int, shares_connections: bool = False
) -> Engine:
    """Return a worker process's engine; arguments as for the API's, with `postgresql+psycopg://…`."""
    connect_args: dict[str, object] = {"connect_timeout": _CONNECT_TIMEOUT_S, "application_name": application}
    if shares_connections:
        connect_args["prepare_threshold"] = None
    engine = create_engine(
        url,
        poolclass=MeasuredQueuePool,
        pool_size=pool_size,
        max_overflow=overflow,
        pool_timeout=_POOL_TIMEOUT_S,
        hide_parameters=True,
        connect_args=connect_args,
    )
    _observe(engine, SqlAttribution(mode=mode, application=application, driver="psycopg"), pool_size + overflow)
    return engine


def _observe(engine: Engine, attribution: SqlAttribution, max_connections: int) -> None:
    keep_alive(engine)
    attribution.install(engine)
    if isinstance(engine.pool, QueuePool):
        watch_pool(engine.pool, max_connections)


def is_away(error: BaseException) -> bool:
    """Tell whether `error` says that the database can't be asked now, and nothing of what it was asked."""
    if isinstance(error, DBAPIError):
        state = str(getattr(error.orig, "sqlstate", None) or "")
        return error.connection_invalidated or state in _AWAY or state.startswith(_CONNECTION_CLASS)
    if isinstance(error, ConnectionError | TimeoutError):
        # asyncpg tells with these that it found nobody; others may mean something else with them.
        return any(
            frame.f_globals.get("__name__", "").startswith("asyncpg.") for frame, _ in walk_tb(error.__traceback__)
        )
    return isinstance(error, PoolTimeoutError)


class Database:
    """The API's way to the database."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self._sessions = async_sessionmaker(engine, expire_on_commit=False)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """Yield a session; what isn't committed is rolled back."""
        async with self._sessions() as session:
            yield session


class SyncDatabase:
    """The worker's way to the database. Made once a process, after the fork."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._sessions = sessionmaker(engine, expire_on_commit=False)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Yield a session; what isn't committed is rolled back."""
        with self._sessions() as session:
            yield session


_worker_databases: dict[int, SyncDatabase] = {}


def worker_database() -> SyncDatabase:
    """Return this worker process's own database: connections don't survive a fork."""
    found = _worker_databases.get(os.getpid())
    if found is None:
        settings = get_settings()
        engine = make_sync_engine(
            settings.sqlalchemy_url("psycopg"),
            mode=settings.sql_comments if settings.correlation_enabled else "off",
            application="commandcenter-worker",
            pool_size=settings.db_pool_size,
            overflow=settings.db_pool_overflow,
            shares_connections=settings.db_behind_pgbouncer,
        )
        found = _worker_databases[os.getpid()] = SyncDatabase(engine)
    return found
