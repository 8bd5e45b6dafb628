"""What PostgreSQL shows of a real request and its task while they run, by their ID; and what it keeps of them: none."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.git import make_repository
from tests.system import System, eventually

Admin = psycopg.Connection[Any]


@pytest.fixture
def admin(postgres_admin_url: str) -> Iterator[Admin]:
    """A superuser's connection, there before anything runs that is to be looked at."""
    with psycopg.connect(postgres_admin_url, autocommit=True) as connection:
        yield connection


def blocked(admin: Admin, name: str) -> str | None:
    """Return the statement that waits for a lock under this application name, as pg_stat_activity has it."""
    row = admin.execute(
        "SELECT query FROM pg_stat_activity WHERE application_name = %s AND wait_event_type = 'Lock'", [name]
    ).fetchone()
    return str(row[0]) if row else None


@contextmanager
def asked_beside(client: httpx.Client, path: str, request_id: str) -> Iterator[list[httpx.Response]]:
    """POST in a thread; when the block has ended, the answer is in the list."""
    answers: list[httpx.Response] = []
    thread = threading.Thread(
        target=lambda: answers.append(client.post(path, headers={"X-Request-ID": request_id})), daemon=True
    )
    thread.start()
    yield answers
    thread.join(60)


def test_a_request_and_its_task_are_found_while_they_hang(
    system: System, admin: Admin, postgres_log: Path, tmp_path: Path
) -> None:
    """On call: this session waits for a lock. Its name is the ID in header, body, lines, server log and job."""
    mine = "hangs-in-postgresql"
    with system.client() as client, psycopg.connect(system.database_url) as holder:
        url = make_repository(tmp_path / "r", 2).as_uri()
        repository_id = client.post("/api/v1/repositories", json={"url": url}).json()["id"]
        path = f"/api/v1/repositories/{repository_id}/sync"
        # Lets others refer to the row and no one write it: the task will hang. Above that, nobody may refer to it
        # either: the request hangs already.
        holder.execute("SELECT id FROM repositories WHERE id = %s FOR NO KEY UPDATE", [repository_id])
        holder.execute("SAVEPOINT request")
        holder.execute("SELECT id FROM repositories WHERE id = %s FOR UPDATE", [repository_id])
        with asked_beside(client, path, mine) as answers:
            of_request = eventually(lambda: blocked(admin, mine), within_s=60, what="the request in pg_stat_activity")
            assert answers == []
            holder.execute("ROLLBACK TO request")
        [answer] = answers
        of_task = eventually(lambda: blocked(admin, mine), within_s=60, what="the task in pg_stat_activity")
        assert client.get(f"/api/v1/jobs/{answer.json()['job_id']}").json()["status"] == "queued"
        holder.rollback()
        job = system.finished_job(client, answer.json()["job_id"])

    assert "INSERT INTO jobs" in of_request
    assert "framework='fastapi',route='%2Fapi%2Fv1%2Frepositories%2F%7Bid%7D%2Fsync'" in of_request
    assert "framework='celery',task='repositories.sync'" in of_task
    assert mine not in of_request + of_task

    assert (answer.status_code, answer.headers.get_list("X-Request-ID")) == (202, [mine])
    assert answer.json()["request_id"] == mine
    assert (job["status"], job["request_id"]) == ("succeeded", mine)
    with psycopg.connect(system.database_url) as connection:
        [row] = connection.execute("SELECT id::text FROM jobs WHERE request_id = %s", [mine]).fetchall()
    assert row == (job["id"],)
    assert system.wait_for_line("api", event="request.finished", request_id=mine)["status"] == 202
    finished = system.wait_for_line("worker", event="task.finished", request_id=mine)
    assert (finished["task_id"], finished["state"]) == (job["id"], "SUCCESS")

    def logged() -> bool:
        lines = [line for line in postgres_log.read_text().splitlines() if f" app={mine} " in line]
        return all(any(statement in line and "duration:" in line for line in lines) for statement in statements)

    statements = ("INSERT INTO jobs", "UPDATE jobs SET")
    eventually(logged, what="the statements of both in the server's log")


def test_pg_stat_statements_keeps_no_id_and_no_row_for_one(system: System) -> None:
    """Each transaction sends its ID as a statement: kept with it, thousands of requests would push out all else."""

    def kept() -> list[str]:
        found = outside.execute(
            "SELECT query FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid"
            " WHERE datname = current_database()"
        )
        return [str(query) for (query,) in found.fetchall()]

    def ask(prefix: str, times: int) -> None:
        for number in range(times):
            headers = {"X-Request-ID": f"{prefix}-{number}"}
            assert client.get("/api/v1/repositories", headers=headers).status_code == 200
            assert client.patch(path, json={"description": str(number)}, headers=headers).status_code == 200

    with psycopg.connect(system.database_url, autocommit=True) as outside, system.client() as client:
        created = client.post("/api/v1/repositories", json={"url": "https://git.example.org/kept/none"}).json()
        path = f"/api/v1/repositories/{created['id']}"
        ask("kept-first", 5)
        before = kept()
        ask("kept-later", 40)
        after = kept()
    naming = [query for query in after if "application_name" in query]
    assert naming
    assert [query for query in after if "kept-" in query] == []
    assert len(naming) == len([query for query in before if "application_name" in query])
    # Worker and beat may have run something for the first time meanwhile: far from one a request.
    assert len(after) < len(before) + 20
