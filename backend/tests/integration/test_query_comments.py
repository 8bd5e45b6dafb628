"""SQL leads back to its request from PostgreSQL's side: activity, log and comments; in the API and in the worker."""

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.correlation import Correlation, bind, for_request
from app.database import make_async_engine, make_sync_engine
from app.telemetry.sql import Mode, set_application_name, sql_comment, without_comment
from app.telemetry.trail import trail_of
from tests.attribution import request
from tests.fuzzing import fuzzed
from tests.git import make_repository
from tests.system import System, eventually

ASYNC_APPLICATION = "test-api"
SYNC_APPLICATION = "test-worker"
LOCK = 4711


def task(request_id: str, name: str = "repositories.sync") -> Correlation:
    """Return the correlation of a running task."""
    correlation = for_request(request_id)
    correlation.kind, correlation.name, correlation.task_id = "task", name, "t-1"
    return correlation


@pytest.fixture(scope="module")
def database(new_database: Callable[[], str]) -> str:
    """A database of this module's own, with a table to write to."""
    url = new_database()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE things (id int PRIMARY KEY, name text)")
    return url


@pytest.fixture
async def make_async(database: str) -> AsyncIterator[Callable[[Mode], AsyncEngine]]:
    engines: list[AsyncEngine] = []

    def make(mode: Mode) -> AsyncEngine:
        url = database.replace("postgresql://", "postgresql+asyncpg://")
        engines.append(make_async_engine(url, mode=mode, application=ASYNC_APPLICATION, pool_size=2, overflow=0))
        return engines[-1]

    yield make
    for engine in engines:
        await engine.dispose()


@pytest.fixture
def make_sync(database: str) -> Iterator[Callable[[Mode], Engine]]:
    engines: list[Engine] = []

    def make(mode: Mode) -> Engine:
        url = database.replace("postgresql://", "postgresql+psycopg://")
        engines.append(make_sync_engine(url, mode=mode, application=SYNC_APPLICATION, pool_size=2, overflow=0))
        return engines[-1]

    yield make
    for engine in engines:
        engine.dispose()


@pytest.fixture
def held(database: str) -> Iterator["psycopg.Connection[Any]"]:
    """A second connection, there before all others, that holds the advisory lock LOCK: who wants it hangs."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        yield connection


def activity(outside: "psycopg.Connection[Any]", marker: str) -> list[tuple[str, str]]:
    """Return (application_name, query) of what runs now and holds `marker`, as another connection sees it."""
    rows = outside.execute(
        "SELECT application_name, query FROM pg_stat_activity WHERE query LIKE %s AND pid <> pg_backend_pid()"
        " AND state = 'active'",
        [f"%{marker}%"],
    ).fetchall()
    return [(str(name), str(query)) for name, query in rows]


def logged(log: Path, request_id: str, marker: str) -> list[str]:
    """Return the server's log lines of statements that hold `marker`, under `request_id`."""
    return [line for line in log.read_text().splitlines() if f" app={request_id} " in line and marker in line]


async def test_a_running_query_names_its_request(
    make_async: Callable[[Mode], AsyncEngine], held: "psycopg.Connection[Any]", postgres_log: Path
) -> None:
    """On call: this query hangs; who asked for it?"""
    engine = make_async("transaction")

    async def run() -> None:
        with bind(request("req-activity")):
            async with engine.begin() as connection:
                await connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK}), 'activity-marker'"))

    running = asyncio.create_task(run())
    found = await asyncio.to_thread(
        eventually, lambda: activity(held, "activity-marker"), what="the query in pg_stat_activity"
    )
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    [(application, query)] = found
    assert application == "req-activity"
    assert query.startswith("/*application='test-api',db_driver='asyncpg',framework='fastapi',route='%2Fapi%2Fv1")
    assert "req-activity" not in query
    # Nobody waits for the answer of a query that was given up.
    eventually(lambda: logged(postgres_log, "req-activity", "canceling statement"), what="the server's line of it")


def test_a_workers_running_query_names_its_request(
    make_sync: Callable[[Mode], Engine], held: "psycopg.Connection[Any]"
) -> None:
    """The same for psycopg, which has no BEGIN of its own to hook into."""
    engine = make_sync("transaction")

    def run() -> None:
        with bind(task("req-worker")), engine.begin() as connection:
            connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK}), 'worker-marker'"))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        [(application, query)] = eventually(lambda: activity(held, "worker-marker"))
    finally:
        held.execute("SELECT pg_advisory_unlock_all()")
        thread.join()
    assert application == "req-worker"
    assert query.startswith(
        "/*application='test-worker',db_driver='psycopg',framework='celery',task='repositories.sync'*/"
    )


async def test_the_name_ends_with_the_transaction(make_async: Callable[[Mode], AsyncEngine]) -> None:
    """A pooled connection must not carry a former request's name."""
    engine = make_async("transaction")
    async with engine.connect() as connection:
        with bind(request("req-first")):
            assert await connection.scalar(text("SHOW application_name")) == "req-first"
            await connection.commit()
        with bind(request("req-second")):
            assert await connection.scalar(text("SHOW application_name")) == "req-second"
            await connection.rollback()
        assert await connection.scalar(text("SHOW application_name")) == ASYNC_APPLICATION


def test_a_workers_name_ends_with_the_transaction(make_sync: Callable[[Mode], Engine]) -> None:
    """As above; and commit, rollback and savepoints are psycopg's still."""
    engine = make_sync("transaction")
    with engine.connect() as connection:
        with bind(task("req-first")):
            assert connection.scalar(text("SHOW application_name")) == "req-first"
            with connection.begin_nested():
                connection.execute(text("INSERT INTO things VALUES (101, 'kept')"))
            with pytest.raises(ProgrammingError), connection.begin_nested():
                connection.execute(text("SELECT no_such_column"))
            connection.commit()
        with bind(task("req-second")):
            assert connection.scalar(text("SHOW application_name")) == "req-second"
            connection.execute(text("INSERT INTO things VALUES (102, 'undone')"))
            connection.rollback()
        assert connection.scalar(text("SHOW application_name")) == SYNC_APPLICATION
        assert connection.scalars(text("SELECT id FROM things WHERE id > 100")).all() == [101]


@pytest.mark.parametrize("level", ["SERIALIZABLE", "REPEATABLE READ"])
def test_isolation_levels_survive(make_sync: Callable[[Mode], Engine], level: str) -> None:
    """We send psycopg's BEGIN ourselves; it must say what psycopg's would have said."""
    engine = make_sync("transaction")
    with bind(task("req-level")), engine.connect().execution_options(isolation_level=level) as connection:
        assert connection.scalar(text("SHOW transaction_isolation")) == level.lower()
        assert connection.scalar(text("SHOW application_name")) == "req-level"


@pytest.mark.parametrize("mode", ["transaction", "statement"])
async def test_a_statement_outside_a_transaction_bears_the_id_itself(
    make_async: Callable[[Mode], AsyncEngine], postgres_log: Path, mode: Mode
) -> None:
    """No transaction, no SET LOCAL: the comment is all there is."""
    engine = make_async(mode)
    with bind(request("req-autocommit")):
        async with engine.connect() as connection:
            autocommit = await connection.execution_options(isolation_level="AUTOCOMMIT")
            await autocommit.execute(text(f"SELECT 'autocommit-{mode}'"))
    line = next(line for line in postgres_log.read_text().splitlines() if f"SELECT 'autocommit-{mode}'" in line)
    assert "request_id='req-autocommit'" in line


def test_a_workers_statement_outside_a_transaction_bears_the_id_itself(
    make_sync: Callable[[Mode], Engine], postgres_log: Path
) -> None:
    """As above, and no BEGIN is sneaked in."""
    engine = make_sync("transaction")
    with bind(task("req-auto-sync")), engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SELECT 'auto-sync'"))
    line = next(line for line in postgres_log.read_text().splitlines() if "SELECT 'auto-sync'" in line)
    assert "request_id='req-auto-sync'" in line
    assert not logged(postgres_log, "req-auto-sync", "BEGIN")


@pytest.mark.parametrize("mode", ["transaction", "statement", "off"])
async def test_modes(make_async: Callable[[Mode], AsyncEngine], postgres_log: Path, mode: Mode) -> None:
    """`statement` is for platforms whose log prefix can't be set; `off` is off."""
    engine = make_async(mode)
    with bind(request(f"req-mode-{mode}")):
        async with engine.begin() as connection:
            await connection.execute(text(f"SELECT 'mode-{mode}'"))
    line = next(line for line in postgres_log.read_text().splitlines() if f"SELECT 'mode-{mode}'" in line)
    assert (f" app=req-mode-{mode} " in line) is (mode != "off")
    assert ("/*application=" in line) is (mode != "off")
    assert (f"request_id='req-mode-{mode}'" in line) is (mode == "statement")


async def test_the_id_costs_no_round_trip_and_no_plan(
    make_async: Callable[[Mode], AsyncEngine], postgres_log: Path
) -> None:
    """A hundred requests prepare a statement once: a unique comment would do so a hundred times."""
    engine = make_async("transaction")
    for number in range(100):
        with bind(request(f"req-plan-{number}")):
            async with engine.begin() as connection:
                await connection.execute(text("SELECT name FROM things WHERE id = :id"), {"id": number})
    lines = [line for line in postgres_log.read_text().splitlines() if "app=req-plan-" in line]
    assert len([line for line in lines if " parse " in line and "FROM things WHERE id" in line]) <= 2
    begins = [line for line in lines if "BEGIN; SET LOCAL application_name" in line]
    assert len(begins) == len([line for line in lines if "BEGIN" in line])
    async with engine.connect() as connection:
        prepared = await connection.scalar(text("SELECT count(*) FROM pg_prepared_statements"))
    assert prepared is not None
    assert prepared < 20


async def test_raw_sql_with_a_comment_gets_no_second_one(
    make_async: Callable[[Mode], AsyncEngine], postgres_log: Path
) -> None:
    """The published rule: what is commented already is left alone."""
    engine = make_async("transaction")
    with bind(request("req-commented")):
        async with engine.begin() as connection:
            await connection.execute(text("SELECT /* mine */ 'commented'"))
    [line] = [line for line in logged(postgres_log, "req-commented", "'commented'") if " execute " in line]
    assert "application=" not in line


def test_percent_signs_reach_postgresql_as_they_were(make_sync: Callable[[Mode], Engine], postgres_log: Path) -> None:
    """Psycopg reads %2F as a placeholder unless it is doubled, and takes the doubling away again."""
    engine = make_sync("transaction")
    with bind(request("req-percent", route="/100%/{id}")), engine.begin() as connection:
        assert connection.execute(text("SELECT 'a%b', :x"), {"x": "100%"}).one() == ("a%b", "100%")
        assert connection.exec_driver_sql("SELECT 'c%%d'").scalar_one() in {"c%d", "c%%d"}
    lines = logged(postgres_log, "req-percent", "a%b")
    assert lines
    assert all("route='%2F100%25%2F%7Bid%7D'" in line for line in lines)


async def test_executemany_bears_the_id(make_async: Callable[[Mode], AsyncEngine], postgres_log: Path) -> None:
    """Bulk writes are the ones that hang."""
    engine = make_async("transaction")
    with bind(request("req-many")):
        async with engine.begin() as connection:
            await connection.execute(
                text("INSERT INTO things VALUES (:id, :name)"), [{"id": n, "name": str(n)} for n in range(50)]
            )
    assert logged(postgres_log, "req-many", "INSERT INTO things")


def test_the_trail_counts_statements_and_finds_the_slowest(make_sync: Callable[[Mode], Engine]) -> None:
    """What the access line says of SQL."""
    correlation = task("req-trail")
    engine = make_sync("transaction")
    # The very first connection asks the server what it is; that counts for whoever has it opened.
    engine.connect().close()
    with bind(correlation), engine.begin() as connection:
        connection.execute(text("SELECT 1"))
        connection.execute(text("SELECT pg_sleep(0.05)"))
        with pytest.raises(ProgrammingError):
            connection.execute(text("SELECT no_such_column"))
    summary = trail_of(correlation).sql_summary()
    assert summary["count"] == 3
    assert summary["slowest"] == "SELECT pg_sleep(0.05)"
    assert summary["time_ms"] >= summary["slowest_ms"] >= 50


def test_an_id_that_is_none_never_reaches_sql() -> None:
    """The alphabet is checked where it counts, too: a second way in must not become a hole."""
    for hostile in ("'; DROP TABLE things; --", "", "a b", "x\x00", "ünï"):
        with bind(Correlation(hostile, "0" * 32, "0" * 16)):
            assert set_application_name() == ""


@fuzzed(1000)
@given(st.dictionaries(st.text(min_size=1, max_size=20), st.text(max_size=100), max_size=5))
def test_no_value_can_end_a_comment(tags: dict[str, str]) -> None:
    """Route and task names are ours, but a comment that anyone could close would be remote code."""
    comment = sql_comment(tags)
    assert comment.startswith("/*")
    assert comment.endswith("*/")
    inside = comment[2:-2]
    assert "*" not in inside
    assert "/" not in inside
    pairs = re.findall(r"([^=,']+)='([^']*)'", inside)
    assert [(unquote(key), unquote(value)) for key, value in pairs] == sorted(
        ((key, value) for key, value in tags.items() if value), key=lambda pair: pair[0]
    )
    assert without_comment(comment + " SELECT 1") == "SELECT 1"


def test_the_whole_system_ties_sql_to_its_request(system: System, postgres_log: Path, tmp_path: Path) -> None:
    """From the header to the worker's last statement: one ID in PostgreSQL's own log."""
    with system.client() as client:
        _, job = system.sync(client, make_repository(tmp_path / "r").as_uri(), request_id="whole-system-1")
    assert job["status"] == "succeeded"
    assert job["request_id"] == "whole-system-1"

    def seen() -> dict[str, Any] | None:
        api = logged(postgres_log, "whole-system-1", "INSERT INTO jobs")
        worker = logged(postgres_log, "whole-system-1", "UPDATE jobs")
        return {"api": api, "worker": worker} if api and worker else None

    found = eventually(seen)
    assert "route='%2Fapi%2Fv1%2Frepositories%2F%7Bid%7D%2Fsync'" in found["api"][0]
    assert "task='repositories.sync'" in found["worker"][0]
    assert system.wait_for_line("api", event="request.finished", request_id="whole-system-1")["status"] == 202
    done = system.wait_for_line("worker", event="task.finished", request_id="whole-system-1")
    assert done["task_id"] == job["id"]
    assert done["state"] == "SUCCESS"
