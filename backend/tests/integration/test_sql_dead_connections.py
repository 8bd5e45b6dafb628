"""A connection that died in the pool costs no request; one that lives costs no question."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, Engine, text

from app import pool as module
from app.database import make_async_engine, make_sync_engine
from tests.attribution import APPLICATION, DRIVERS, Driver, Pool, make_pool
from tests.services import PostgresServer, create_database, postgres_server
from tests.system import running_system


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A PostgreSQL that this module may restart."""
    with postgres_server(tmp_path_factory.mktemp("postgres")) as running:
        yield running


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> Driver:
    """Each driver."""
    found: Driver = request.param
    return found


def answer(connection: Connection) -> object:
    """Ask the smallest question."""
    return connection.scalar(text("SELECT 42"))


async def filled(server: PostgresServer, driver: Driver, connections: int = 3) -> Pool:
    """Return a pool whose connections have all been used and given back."""
    url = create_database(server).replace("postgresql://", f"postgresql+{driver}://")
    make = make_async_engine if driver == "asyncpg" else make_sync_engine
    pool = Pool(
        make(url, mode="transaction", application=APPLICATION, pool_size=connections, overflow=0), driver, "transaction"
    )
    # Each waits for all: so each has a connection of its own.
    together = threading.Barrier(connections)

    def take(connection: Connection) -> None:
        connection.execute(text("SELECT pg_sleep(0.2)"))
        if driver == "psycopg":
            together.wait(timeout=10)

    await asyncio.gather(*(pool.run(take) for _ in range(connections)))
    return pool


async def test_a_restart_of_postgresql_fails_no_later_request(server: PostgresServer, driver: Driver) -> None:
    """An upgrade ends all connections at once, and each pool is full of dead ones then."""
    pool = await filled(server, driver)
    await asyncio.to_thread(server.restart)
    assert await asyncio.gather(*(pool.run(answer) for _ in range(12))) == [42] * 12
    await pool.dispose()


async def test_one_connection_that_was_ended_fails_no_request(server: PostgresServer, driver: Driver) -> None:
    """An administrator, or an idle time-out of the server's, ends them one by one."""
    pool = await filled(server, driver)
    for _ in range(3):
        pid = await pool.pid()
        with psycopg.connect(server.url, autocommit=True) as admin:
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        assert [await pool.run(answer) for _ in range(4)] == [42] * 4
    await pool.dispose()


async def test_a_restart_under_the_running_api_fails_no_later_request(
    server: PostgresServer, redis_url: str, tmp_path: Path
) -> None:
    """The same through HTTP, as a client sees it."""
    with running_system(tmp_path, create_database(server), redis_url) as system, system.client() as client:
        assert [client.get("/api/v1/repositories").status_code for _ in range(5)] == [200] * 5
        await asyncio.to_thread(server.restart)
        assert [client.get("/api/v1/repositories").status_code for _ in range(30)] == [200] * 30


@pytest.mark.parametrize(("idle_s", "asked"), [(module.IDLE_S, 0), (0.0, 5)], ids=["fresh from use", "long idle"])
async def test_only_one_that_was_idle_is_asked_for_a_sign_of_life(
    server: PostgresServer, driver: Driver, idle_s: float, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question a request is three round trips with asyncpg; a network that drops in silence wants one at times."""
    monkeypatch.setattr(module.keep_alive, "__defaults__", (idle_s,))
    pool = make_pool(create_database(server), driver, "transaction")
    engine = pool.engine if isinstance(pool.engine, Engine) else pool.engine.sync_engine
    pings = _counted(engine, monkeypatch)
    for _ in range(6):
        assert await pool.run(answer) == 42
    # The first connection was new.
    assert len(pings) == asked
    await pool.dispose()


def _counted(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    asked: list[object] = []
    ping: Callable[..., bool] = engine.dialect.do_ping

    def counted(connection: object) -> bool:
        asked.append(connection)
        return ping(connection)

    monkeypatch.setattr(engine.dialect, "do_ping", counted)
    return asked
