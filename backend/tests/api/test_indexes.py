"""The queries that the service runs, explained on thousands of rows: what finds its index, and what reads all rows.

What reads all rows is meant for thousands of them. EXPLAIN ANALYZE on two slow cores, busy with other tests, among
10,000 repositories (11 MB): `q` takes 13 ms for its total and 16 ms for its page, GitHub's pauses take 6 ms. A total of
100,000 jobs takes 36 ms.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import psycopg
import pytest
from fastapi import FastAPI
from sqlalchemy import Connection, event
from sqlalchemy.engine import Engine

from app.config import driver_url
from app.database import SyncDatabase, make_sync_engine
from app.repositories.schedule import lost_jobs, queue_due
from app.repositories.store import host_pauses
from tests.api.conftest import Start

ROWS = 4000
Statements = list[tuple[str, Any]]


@contextmanager
def recorded() -> Iterator[Statements]:
    """Note every statement of every engine, as the driver gets it."""
    statements: Statements = []

    def note(_connection: Connection, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if not statement.startswith("EXPLAIN"):
            statements.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def explain(connection: Connection, statements: Statements) -> list[str]:
    """Return the plan of each statement on repositories and jobs."""
    plans = []
    for statement, parameters in statements:
        if "repositories" in statement or "jobs" in statement:
            rows = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)
            plans.append("\n".join(row[0] for row in rows))
    return plans


@contextmanager
def sync_database(url: str) -> Iterator[SyncDatabase]:
    """A worker's way to a database."""
    engine = make_sync_engine(driver_url(url, "psycopg"), mode="off", application="test", pool_size=1, overflow=0)
    try:
        yield SyncDatabase(engine)
    finally:
        engine.dispose()


def worker_plans(database: SyncDatabase, ask: Callable[[SyncDatabase], object]) -> str:
    """Return the plans of what a question of the worker's asks."""
    with recorded() as statements:
        ask(database)
    with database.session() as session:
        return "\n".join(explain(session.connection(), statements))


async def plans(client: httpx.AsyncClient, method: str, path: str) -> list[str]:
    """Make a request and return the plans of its statements."""
    with recorded() as statements:
        answer = await client.request(method, path)
    assert answer.status_code < 500
    app = client._transport.app  # type: ignore[attr-defined]
    assert isinstance(app, FastAPI)
    async with app.state.services.database.engine.connect() as connection:
        found: list[str] = await connection.run_sync(explain, statements)
        return found


@pytest.fixture
async def many(start: Start, empty_database: str) -> httpx.AsyncClient:
    """A client of an application whose tables hold thousands of rows."""
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO repositories (url, owner, name, full_name, language, sync_attempted_at)"
            " SELECT 'https://x.org/a/' || n, 'owner' || n %% 400, 'n' || n, 'owner' || n %% 400 || '/n' || n,"
            " 'language' || n %% 300, now() - n * interval '1 second' FROM generate_series(1, %s) n",
            [ROWS],
        )
        connection.execute(
            "INSERT INTO jobs (id, kind, repository_id, status, request_id, created_at)"
            " SELECT gen_random_uuid(), 'repository.sync', n, 'succeeded', 'request-' || n,"
            " now() - n * interval '1 second' FROM generate_series(1, %s) n",
            [ROWS],
        )
        connection.execute("ANALYZE repositories, jobs")
    return await start()


@pytest.mark.parametrize(
    ("method", "path", "index"),
    [
        ("GET", "/repositories?owner=Owner7", "ix_repositories_owner"),
        ("GET", "/repositories?language=Language7", "ix_repositories_language"),
        ("GET", "/repositories/7", "pk_repositories"),
        ("GET", "/jobs?request_id=request-7", "ix_jobs_request_id"),
        ("GET", "/jobs?repository_id=7", "ix_jobs_repository_id"),
        ("GET", "/jobs?status=running", "uq_jobs_active_repository"),
        ("POST", "/repositories/7/sync", "uq_jobs_active_repository"),
    ],
)
async def test_a_request_for_few_rows_finds_its_index(
    many: httpx.AsyncClient, method: str, path: str, index: str
) -> None:
    """A list that reads the whole table is quick on a laptop alone."""
    if method == "POST":
        await many.request(method, path)  # The second one looks for the first one's job.
    found = "\n".join(await plans(many, method, path))
    assert index in found
    assert "Seq Scan" not in found, found


@pytest.mark.parametrize(
    ("path", "index"),
    [
        ("/repositories", "ix_repositories_full_name"),
        ("/repositories?offset=100", "ix_repositories_full_name"),
        ("/jobs", "ix_jobs_created_at"),
        ("/jobs?status=succeeded", "ix_jobs_created_at"),
    ],
)
async def test_a_page_of_nearly_all_finds_its_index(many: httpx.AsyncClient, path: str, index: str) -> None:
    """Its rows come in the index's order. Its total is a count of all there are, which no index makes short."""
    total, page = await plans(many, "GET", path)
    assert index in page
    assert "Sort" not in page, page
    assert "rows=4000" in total


@pytest.mark.parametrize(
    "path", ["/repositories?q=needle", "/repositories?q=needle&owner=Owner7", "/jobs?status=failed"]
)
async def test_a_search_reads_all_rows_unless_something_else_narrows_it(many: httpx.AsyncClient, path: str) -> None:
    """As the API's description says: no index serves a part of a word, nor a state in which a job may stay for long."""
    reads_all = ["Seq Scan" in plan for plan in await plans(many, "GET", path)]
    assert reads_all == ([False, False] if "owner" in path else [True, True])


@pytest.mark.usefixtures("many")
def test_what_is_due_and_what_was_lost_are_found_by_index(empty_database: str) -> None:
    """Beat asks every half minute, whether anything is due or not."""
    with sync_database(empty_database) as database:
        due = worker_plans(database, lambda database: queue_due(database, 3600, 100))
        assert "ix_repositories_sync_attempted_at" in due
        lost = worker_plans(database, lambda database: lost_jobs(database, silent_s=60, queue_is_empty=True))
        assert "Seq Scan on jobs" not in lost, lost


@pytest.mark.usefixtures("many")
def test_githubs_pauses_are_looked_for_in_all_rows(empty_database: str) -> None:
    """Once a sync of a repository on GitHub, beside a question over the network."""
    with sync_database(empty_database) as database:
        assert "Seq Scan on repositories" in worker_plans(database, host_pauses)
