"""Behind a real PgBouncer in transaction mode: clients take turns on one server connection, none inherits a name."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from app.telemetry.sql import Mode
from tests.attribution import DRIVERS, MODES, Driver, Pool, make_pool
from tests.services import pgbouncer


@pytest.fixture(scope="module")
def bouncer(new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a database of this module's own, behind PgBouncer, which keeps one connection to it."""
    with pgbouncer(tmp_path_factory.mktemp("pgbouncer"), new_database()) as url:
        yield url


@pytest.fixture(params=[(driver, mode) for driver in DRIVERS for mode in MODES], ids="-".join)
async def clients(bouncer: str, request: pytest.FixtureRequest) -> AsyncIterator[list[Pool]]:
    """Two clients with names of their own, each with one connection to PgBouncer."""
    driver: Driver = request.param[0]
    mode: Mode = request.param[1]
    pools = [make_pool(bouncer, driver, mode, name, shares_connections=True) for name in ("client-a", "client-b")]
    yield pools
    for pool in pools:
        await pool.dispose()


def called(connection: Connection) -> tuple[str, int]:
    """Return what PostgreSQL calls this transaction, asked twice, and its server process."""
    name, pid = connection.execute(text("SELECT current_setting('application_name'), pg_backend_pid()")).one()
    again, same = connection.execute(text("SELECT current_setting('application_name'), pg_backend_pid()")).one()
    assert (again, same) == (name, pid)
    # What a rollback would undo must not survive a commit either.
    connection.commit()
    return str(name), int(pid)


async def test_clients_that_share_a_connection_do_not_share_names(clients: list[Pool]) -> None:
    """The bouncer hands one server connection from client to client: an ID that outlives its transaction would lie."""
    first, second = clients
    mode, driver = first.mode, first.driver
    pids = set()
    for number in range(10):
        for pool, own in ((first, "client-a"), (second, "client-b")):
            request_id = f"req-{driver}-{mode}-{own}-{number}"
            name, pid = await pool.run(called, request_id)
            pids.add(pid)
            assert name == (own if mode == "off" else request_id)
            other, other_own = (second, "client-b") if pool is first else (first, "client-a")
            assert (await other.run(called))[0] == other_own
            assert (await pool.run(called))[0] == own
    assert len(pids) == 1


async def test_clients_in_a_rush_keep_to_their_own_ids(clients: list[Pool], postgres_log: Path) -> None:
    """All at once, some failing: each line of PostgreSQL's log bears the ID of whoever sent it."""
    mode, driver = clients[0].mode, clients[0].driver

    def work(marker: str) -> Callable[[Connection], None]:
        def run(connection: Connection) -> None:
            connection.execute(text("SELECT :marker"), {"marker": marker})
            connection.execute(text(f"SELECT '{marker}'"))
            if marker.endswith("7"):
                raise ZeroDivisionError
            connection.commit()

        return run

    names = [f"rush-{driver}-{mode}-{number:02}" for number in range(40)]
    runs = [clients[number % 2].run(work(name), name) for number, name in enumerate(names)]
    results = await asyncio.gather(*runs, return_exceptions=True)
    assert [result for result in results if result is not None and not isinstance(result, ZeroDivisionError)] == []
    lines = postgres_log.read_text().splitlines()
    for number, name in enumerate(names):
        own = [line for line in lines if f"SELECT '{name}'" in line]
        assert own
        expected = f"client-{'ab'[number % 2]}" if mode == "off" else name
        assert all(f" app={expected} " in line for line in own)


async def test_nothing_stays_prepared(clients: list[Pool], postgres_log: Path) -> None:
    """A statement that one client prepared would pile up on the connection, or meet another process's namesake."""
    begins_at = len(postgres_log.read_text())

    def prepared(connection: Connection) -> int:
        for number in range(20):
            connection.execute(text(f"SELECT {number} + :n"), {"n": number})
        return int(connection.scalar(text("SELECT count(*) FROM pg_prepared_statements WHERE name <> ''")) or 0)

    for pool in clients * 2:
        assert await pool.run(prepared, "req-prepared") == 0
    own = [line for line in postgres_log.read_text()[begins_at:].splitlines() if " + " in line and "SELECT" in line]
    assert own
    assert not [line for line in own if " execute " in line and " execute <unnamed>" not in line]


async def test_outside_of_a_transaction_the_comment_bears_the_id(clients: list[Pool], postgres_log: Path) -> None:
    """The bouncer may send each of these to another server connection; the comment goes along."""
    mode, driver = clients[0].mode, clients[0].driver
    marker = f"bounced-{driver}-{mode}"
    for number, pool in enumerate(clients):
        await pool.run(
            lambda connection: connection.execute(text(f"SELECT '{marker}'")).one(),
            f"req-bounced-{number}",
            isolation_level="AUTOCOMMIT",
        )
    lines = [line for line in postgres_log.read_text().splitlines() if f"SELECT '{marker}'" in line]
    seen = {number for number in (0, 1) for line in lines if f"request_id='req-bounced-{number}'" in line}
    assert lines
    assert seen == (set() if mode == "off" else {0, 1})
