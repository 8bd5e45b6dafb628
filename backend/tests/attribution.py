"""What tests of SQL attribution share: who is at work, engines of one connection, and looks from PostgreSQL's side.

Operations are written once, for a blocking `Connection`; `Pool.run` runs them on either driver.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import psycopg
from sqlalchemy import Connection, Engine, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.correlation import Correlation, bind, for_request
from app.database import make_async_engine, make_sync_engine
from app.telemetry.sql import Mode

Driver = Literal["asyncpg", "psycopg"]
DRIVERS: Final[tuple[Driver, ...]] = ("asyncpg", "psycopg")
MODES: Final[tuple[Mode, ...]] = ("transaction", "statement", "off")
APPLICATION: Final = "test-service"
T = TypeVar("T")


def request(request_id: str, route: str = "/api/v1/repositories/{id}") -> Correlation:
    """Return the correlation of a request whose route was matched."""
    correlation = for_request(request_id)
    correlation.name = route
    return correlation


@dataclass
class Pool:
    """An engine of ours that keeps one connection, so that its next user gets the former one's."""

    engine: AsyncEngine | Engine
    driver: Driver
    mode: Mode

    async def run(self, work: Callable[[Connection], T], request_id: str | None = None, **options: Any) -> T:
        """Return what `work` returns, run on a connection that isn't in a transaction yet, for that request if any."""
        if request_id is None:
            return await self._run(work, options)
        with bind(request(request_id)):
            return await self._run(work, options)

    async def _run(self, work: Callable[[Connection], T], options: dict[str, Any]) -> T:
        if isinstance(self.engine, Engine):
            return await asyncio.to_thread(self._run_blocking, self.engine, work, options)
        async with self.engine.connect() as asynchronous:
            await asynchronous.execution_options(**options)
            return await asynchronous.run_sync(work)

    @staticmethod
    def _run_blocking(engine: Engine, work: Callable[[Connection], T], options: dict[str, Any]) -> T:
        with engine.connect() as connection:
            return work(connection.execution_options(**options))

    async def pid(self) -> int:
        """Return the server process at the other end."""
        return await self.run(lambda connection: int(connection.scalar(text("SELECT pg_backend_pid()")) or 0))

    async def name(self) -> str:
        """Return what the pool's next user is called, one without a request."""
        return await self.run(lambda connection: str(connection.scalar(text("SHOW application_name"))))

    async def dispose(self) -> None:
        """Close the connection."""
        if isinstance(self.engine, Engine):
            self.engine.dispose()
        else:
            await self.engine.dispose()


def make_pool(url: str, driver: Driver, mode: Mode, application: str = APPLICATION, **options: Any) -> Pool:
    """Return a pool of one connection to `url` (`postgresql://…`, no driver)."""
    url = url.replace("postgresql://", f"postgresql+{driver}://")
    make = make_async_engine if driver == "asyncpg" else make_sync_engine
    return Pool(make(url, mode=mode, application=application, pool_size=1, overflow=0, **options), driver, mode)


@dataclass
class Outside:
    """PostgreSQL as somebody else sees it: over a connection of their own, and by its log."""

    admin: "psycopg.Connection[Any]"
    log: Path
    pid: int
    names: list[str] = field(default_factory=list)

    def look(self) -> None:
        """Note what pg_stat_activity calls the observed process now."""
        row = self.admin.execute("SELECT application_name FROM pg_stat_activity WHERE pid = %s", [self.pid]).fetchone()
        assert row is not None, "the observed connection is gone"
        self.names.append(str(row[0]))

    def lines(self, marker: str) -> list[str]:
        """Return the log's entries that hold `marker` and come from the observed process, each as one line."""
        entries = self.log.read_text().replace("\n\t", " ").splitlines()
        return [entry for entry in entries if f" [{self.pid}] " in entry and marker in entry]


@contextmanager
def outside(admin_url: str, log: Path, pid: int) -> Iterator[Outside]:
    """Look at one server process from outside until the block ends."""
    with psycopg.connect(admin_url, autocommit=True) as admin:
        yield Outside(admin, log, pid)
