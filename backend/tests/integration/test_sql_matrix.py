"""Every way to talk to PostgreSQL, by both drivers, in every mode: who is named meanwhile, and nobody afterwards."""

# ruff: noqa: S608 - the markers are the tests' own

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.util import await_only

from app.telemetry.sql import Mode
from tests.attribution import APPLICATION, DRIVERS, MODES, Driver, Outside, Pool, make_pool, outside

# Runs on a connection in the given way; looks from outside while the transaction is open. The text marks its lines.
Operation = Callable[[Connection, Outside, str], None]


def executemany(connection: Connection, seen: Outside, marker: str) -> None:
    rows = [{"id": number, "name": marker} for number in range(20)]
    connection.execute(text(f"INSERT INTO things VALUES (:id, :name || '{marker}')"), rows)
    seen.look()
    assert connection.scalar(text("SELECT count(*) FROM things")) == 20


def insert_many_values(connection: Connection, seen: Outside, marker: str) -> None:
    """As SQLAlchemy itself writes many rows: one statement with many VALUES, sent as it is."""
    values = ",".join(f"({number}, '{marker}')" for number in range(1000))
    connection.execute(text(f"INSERT INTO things VALUES {values}"))
    seen.look()


def server_side_cursor(connection: Connection, seen: Outside, marker: str) -> None:
    streaming = connection.execution_options(stream_results=True, yield_per=10)
    result = streaming.execute(text(f"SELECT n, '{marker}' FROM generate_series(1, 100) n"))
    first = result.fetchmany(10)
    seen.look()
    assert len(first) + len(result.all()) == 100


def savepoints(connection: Connection, seen: Outside, marker: str) -> None:
    connection.execute(text(f"INSERT INTO things VALUES (1, '{marker}')"))
    with pytest.raises(ProgrammingError), connection.begin_nested():
        connection.execute(text(f"SELECT no_such_column, '{marker}'"))
    seen.look()
    with connection.begin_nested():
        connection.execute(text(f"INSERT INTO things VALUES (2, '{marker}')"))
    seen.look()
    assert connection.scalars(text(f"SELECT id FROM things WHERE name = '{marker}' ORDER BY id")).all() == [1, 2]


def nested_begin(connection: Connection, seen: Outside, marker: str) -> None:
    with connection.begin_nested():
        connection.execute(text(f"INSERT INTO things VALUES (1, '{marker}')"))
        inner = connection.begin_nested()
        connection.execute(text(f"INSERT INTO things VALUES (2, '{marker}')"))
        inner.rollback()
        seen.look()
    connection.execute(text(f"INSERT INTO things VALUES (3, '{marker}')"))
    seen.look()
    assert connection.scalars(text(f"SELECT id FROM things WHERE name = '{marker}' ORDER BY id")).all() == [1, 3]


def quotes_and_percent_signs(connection: Connection, seen: Outside, marker: str) -> None:
    found = connection.execute(text(f"""SELECT 'a%b''c"d$1$$', :x, E'\\'%s', '{marker}' AS "100%" """), {"x": "%(y)s"})
    assert found.one() == ("a%b'c\"d$1$$", "%(y)s", "'%s", marker)
    # What a driver takes as it comes needs its own signs doubled, or not; our comment never changes what is meant.
    percent = "%" if connection.dialect.driver == "asyncpg" else "%%"
    assert connection.exec_driver_sql(f"SELECT '7{percent}{marker}'").scalar_one() == f"7%{marker}"
    verbatim = connection.execution_options(no_parameters=True)
    assert verbatim.exec_driver_sql(f"SELECT '8%{marker}'").scalar_one() == f"8%{marker}"
    seen.look()


def line_comments(connection: Connection, seen: Outside, marker: str) -> None:
    assert connection.scalar(text(f"-- it's mine; %\nSELECT '{marker}' -- and the last")) == marker
    seen.look()


OPERATIONS: dict[str, Operation] = {
    each.__name__: each
    for each in (
        executemany,
        insert_many_values,
        server_side_cursor,
        savepoints,
        nested_begin,
        quotes_and_percent_signs,
        line_comments,
    )
}


@pytest.fixture(scope="module")
def database(new_database: Callable[[], str]) -> str:
    """A database of this module's own, with a table to write to."""
    url = new_database()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE things (id int, name text)")
    return url


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> Driver:
    """Each driver."""
    found: Driver = request.param
    return found


@pytest.fixture(params=MODES)
async def pool(request: pytest.FixtureRequest, database: str, driver: Driver) -> AsyncIterator[Pool]:
    """A pool of one connection, in each mode."""
    made = make_pool(database, driver, request.param)
    yield made
    await made.dispose()


def expected_name(mode: Mode, request_id: str) -> str:
    """Return what PostgreSQL calls a request's transaction."""
    return APPLICATION if mode == "off" else request_id


def _empty(connection: Connection) -> None:
    with connection.begin():
        connection.execute(text("DELETE FROM things"))


async def leaves_no_trace(pool: Pool, seen: Outside) -> None:
    """Assert that the pool's next user gets the same connection under its own name, and no comment of the former's."""
    assert await pool.pid() == seen.pid
    assert await pool.name() == APPLICATION
    last = seen.lines("SHOW application_name")[-1]
    assert f" app={APPLICATION} " in last
    assert "request_id" not in last


@pytest.mark.parametrize("name", OPERATIONS)
async def test_each_statement_is_its_requests(
    pool: Pool, name: str, postgres_admin_url: str, postgres_log: Path
) -> None:
    """Whatever the application does with a connection: the log and pg_stat_activity name who did it, nobody else."""
    request_id = f"req-{name}-{pool.driver}-{pool.mode}"
    marker = f"marker-{name}-{pool.driver}-{pool.mode}"
    with outside(postgres_admin_url, postgres_log, await pool.pid()) as seen:

        def work(connection: Connection) -> None:
            # Committed: what a rollback undoes anyway proves nothing of a name that ends by itself.
            with connection.begin():
                OPERATIONS[name](connection, seen, marker)

        await pool.run(_empty)
        await pool.run(work, request_id)
        assert seen.names
        assert set(seen.names) == {expected_name(pool.mode, request_id)}
        lines = [line for line in seen.lines(marker) if "duration:" in line or "STATEMENT:" in line]
        assert lines
        for line in lines:
            assert f" app={expected_name(pool.mode, request_id)} " in line
            assert ("/*application='test-service'," in line) is (pool.mode != "off")
            assert (f",request_id='{request_id}',route='%2Fapi%2Fv1%2Frepositories%2F%7Bid%7D'*/" in line) is (
                pool.mode == "statement"
            )
        await leaves_no_trace(pool, seen)


@pytest.mark.parametrize("direction", ["in", "out"])
async def test_copy_in_a_transaction_is_its_requests(
    pool: Pool, direction: str, postgres_admin_url: str, postgres_log: Path
) -> None:
    """COPY goes past SQLAlchemy, and so past our comment; the transaction it stands in has the name."""
    request_id = f"req-copy-{direction}-{pool.driver}-{pool.mode}"
    with outside(postgres_admin_url, postgres_log, await pool.pid()) as seen:
        before = len(seen.lines("COPY"))

        def work(connection: Connection) -> None:
            connection.execute(text("DELETE FROM things"))
            raw = connection.connection.driver_connection
            assert raw is not None
            if pool.driver == "asyncpg":
                if direction == "in":
                    await_only(raw.copy_records_to_table("things", records=[(1, "copied")]))
                else:
                    await_only(raw.copy_from_query("SELECT 1", output=lambda _: _nothing()))
            else:
                with raw.cursor() as cursor:
                    if direction == "in":
                        with cursor.copy("COPY things FROM STDIN") as copy:
                            copy.write_row((1, "copied"))
                    else:
                        with cursor.copy("COPY (SELECT 1) TO STDOUT") as copy:
                            assert list(copy)
            seen.look()
            connection.commit()

        await pool.run(work, request_id)
        assert seen.names == [expected_name(pool.mode, request_id)]
        lines = seen.lines("COPY")[before:]
        assert lines
        assert all(f" app={expected_name(pool.mode, request_id)} " in line for line in lines)
        await leaves_no_trace(pool, seen)


async def _nothing() -> None:
    """Take what COPY sends."""


async def test_two_phase_commit_is_its_requests(
    database: str, driver: Driver, postgres_admin_url: str, postgres_log: Path
) -> None:
    """A transaction that is prepared and never committed holds its locks for days: who left it?"""
    pool = make_pool(database, driver, "transaction")
    try:
        request_id = f"req-two-phase-{driver}"
        with outside(postgres_admin_url, postgres_log, await pool.pid()) as seen:

            def work(connection: Connection) -> None:
                transaction = connection.begin_twophase(f"xid-{driver}")
                connection.execute(text("INSERT INTO things VALUES (99, 'two-phase')"))
                seen.look()
                transaction.prepare()
                transaction.commit()

            await pool.run(work, request_id)
            assert seen.names == [request_id]
            lines = [line for line in seen.lines("duration:") if "two-phase" in line or "PREPARE TRANSACTION" in line]
            *by_request, last = lines
            assert [line for line in by_request if "INSERT INTO things" in line]
            assert [line for line in by_request if f" app={request_id} " not in line] == []
            # The name ends with what is prepared, and PostgreSQL times it afterwards, as it does a COMMIT.
            assert "PREPARE TRANSACTION" in last
            assert f" app={APPLICATION} " in last
            await leaves_no_trace(pool, seen)
        count = await pool.run(lambda c: c.scalar(text("DELETE FROM things WHERE id = 99 RETURNING 1")))
        assert count == 1
    finally:
        await pool.dispose()


async def test_a_connection_given_back_in_mid_transaction_keeps_no_name(
    pool: Pool, postgres_admin_url: str, postgres_log: Path
) -> None:
    """An endpoint that fails gives its connection back as it is: the pool's reset ends both transaction and name."""
    request_id = f"req-reset-{pool.driver}-{pool.mode}"
    with outside(postgres_admin_url, postgres_log, await pool.pid()) as seen:

        def breaks_off(connection: Connection) -> None:
            connection.execute(text("INSERT INTO things VALUES (77, 'left open')"))
            seen.look()
            with pytest.raises(ProgrammingError):
                connection.execute(text("SELECT no_such_column"))

        await pool.run(breaks_off, request_id)
        assert seen.names == [expected_name(pool.mode, request_id)]
        await leaves_no_trace(pool, seen)
        assert await pool.run(lambda c: c.scalar(text("SELECT count(*) FROM things WHERE id = 77"))) == 0
