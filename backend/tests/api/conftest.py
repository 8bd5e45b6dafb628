"""The API inside this process, on a real migrated database: for questions that need no worker."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import psycopg
import pytest

from app.config import Settings
from app.main import create_app
from tests.services import redis_server
from tests.system import SECRET_KEY, ensure_schema

Start = Callable[..., Awaitable[httpx.AsyncClient]]


@pytest.fixture(scope="session")
def api_database(new_database: Callable[[], str]) -> str:
    """URL of a migrated database that tests of this folder share."""
    url = new_database()
    ensure_schema(url)
    return url


@pytest.fixture(scope="session")
def api_redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a Redis that no worker reads: what is queued stays."""
    with redis_server(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture
def empty_database(api_database: str) -> str:
    """The same, without a row."""
    with psycopg.connect(api_database, autocommit=True) as connection:
        connection.execute("TRUNCATE repositories, jobs RESTART IDENTITY")
    return api_database


@pytest.fixture
async def start(empty_database: str, api_redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    """A function that starts an application with the settings it is given and returns a client of it."""
    for name in os.environ.keys() & {field.upper() for field in Settings.model_fields}:
        monkeypatch.delenv(name)
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> httpx.AsyncClient:
            given = {
                "environment": "test",
                "database_url": empty_database,
                "redis_url": api_redis_url,
                "secret_key": SECRET_KEY,
                "allow_local_repositories": True,
                **settings,
            }
            app = create_app(Settings(**given))
            await stack.enter_async_context(app.router.lifespan_context(app))
            transport = httpx.ASGITransport(app)
            return await stack.enter_async_context(
                httpx.AsyncClient(transport=transport, base_url="http://test/api/v1", timeout=30)
            )

        yield start


@pytest.fixture
async def client(start: Start) -> httpx.AsyncClient:
    """A client of an application as tests mostly want it."""
    return await start()
