"""One table, and an engine for each side."""

from sqlalchemy import Column, Engine, Integer, MetaData, Table, Text, create_engine
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.telemetry.pool import MeasuredAsyncPool, MeasuredQueuePool, watch_pool
from app.telemetry.sql import SqlAttribution
from app.telemetry.sql_asyncpg import AttributedConnection

metadata = MetaData()
orders = Table(
    "orders",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("article", Text, nullable=False),
    Column("state", Text, nullable=False),
)


def api_engine(url: str) -> AsyncEngine:
    """Return the engine of the API, of five connections at most."""
    engine = create_async_engine(
        url.replace("postgresql://", "postgresql+asyncpg://"),
        poolclass=MeasuredAsyncPool,
        pool_size=5,
        max_overflow=0,
        connect_args={
            "connection_class": AttributedConnection,
            "server_settings": {"application_name": "shop-api"},
        },
    )
    SqlAttribution(mode="transaction", application="shop-api", driver="asyncpg").install(engine.sync_engine)
    assert isinstance(engine.pool, MeasuredAsyncPool)
    watch_pool(engine.pool, max_connections=5)
    return engine


def worker_engine(url: str) -> Engine:
    """Return the engine of a worker's process; make it after the fork."""
    engine = create_engine(
        url.replace("postgresql://", "postgresql+psycopg://"),
        poolclass=MeasuredQueuePool,
        pool_size=1,
        max_overflow=0,
        connect_args={"application_name": "shop-worker"},
    )
    SqlAttribution(mode="transaction", application="shop-worker", driver="psycopg").install(engine)
    assert isinstance(engine.pool, MeasuredQueuePool)
    watch_pool(engine.pool, max_connections=1)
    return engine
