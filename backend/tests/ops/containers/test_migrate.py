"""The one shot that prepares a release's database, on a PostgreSQL of its own."""

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from ops.stack.ports import free_port
from tests import warm_python
from tests.api.network import Gate
from tests.services import PASSWORD, PostgresServer, postgres_server
from tests.system import BACKEND, clean_environment, eventually

HEAD = "d3e92d35ba2f"
OWNERS_PASSWORD = "Fq8Wd2Ns7Lb4"
EXPORTERS_PASSWORD = "Tg5Rk9Xc1Vm6"
COMMAND = ["ops.containers.migrate"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A server whose roles no other test changes."""
    with postgres_server(tmp_path_factory.mktemp("postgres")) as running:
        yield running


def url_of(server: PostgresServer, user: str = "cc", password: str = OWNERS_PASSWORD, database: str = "cc") -> str:
    """Return a role's URL on this server."""
    return f"postgresql://{user}:{password}@127.0.0.1:{server.port}/{database}"


def exporter_url(server: PostgresServer, password: str = EXPORTERS_PASSWORD) -> str:
    """Return the exporter's URL."""
    return url_of(server, "exporter_user", password)


def settings(server: PostgresServer, **changes: str) -> dict[str, str]:
    """Return the environment of the one shot, as the compose file gives it; no password beside it."""
    values = {
        "DATABASE_URL": url_of(server),
        "POSTGRES_PASSWORD": PASSWORD,
        "EXPORTER_PASSWORD": EXPORTERS_PASSWORD,
        **changes,
    }
    return clean_environment() | {name: value for name, value in values.items() if value}


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return warm_python.run([*COMMAND, *arguments], cwd=BACKEND, env=environment)


def ask(url: str, query: str) -> list[tuple[object, ...]]:
    """Return what one statement answers."""
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(query.encode()).fetchall()


def set_revision(server: PostgresServer, revision: str) -> None:
    """Claim that the schema is at this revision."""
    with psycopg.connect(url_of(server), autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = %s", [revision])


@contextmanager
def started(environment: dict[str, str], output: Path) -> Iterator[warm_python.Process]:
    """Run it beside the test; its lines go to a file."""
    with output.open("wb") as file:
        process = warm_python.start(COMMAND, cwd=BACKEND, env=environment, stdout=file)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_an_empty_server_becomes_ready(server: PostgresServer) -> None:
    """One command on a new host; again it changes nothing; and the owner is no superuser."""
    for _ in range(2):
        done = run(settings(server))
        assert done.returncode == 0, done.stdout + done.stderr
    assert ask(url_of(server), "SELECT version_num FROM alembic_version") == [(HEAD,)]
    assert ask(url_of(server), "SELECT rolsuper FROM pg_roles WHERE rolname = 'cc'") == [(False,)]
    assert ask(url_of(server), "SELECT count(*) > 0 FROM pg_stat_statements") == [(True,)]
    assert ask(exporter_url(server), "SELECT count(*) > 0 FROM pg_stat_database") == [(True,)]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT lo_create(0)",
        "SELECT lo_creat(-1)",
        "SELECT lo_from_bytea(0, 'x')",
        "SELECT lo_put(1, 0, 'x')",
        "CREATE TEMP TABLE mine (n int)",
        "CREATE TABLE mine (n int)",
    ],
)
def test_the_exporter_can_write_nothing(server: PostgresServer, statement: str) -> None:
    """Its password lies in a file of another program, and a disk is filled quickly."""
    assert run(settings(server)).returncode == 0
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        ask(exporter_url(server), statement)
    assert ask(server.url, "SELECT rolconnlimit FROM pg_roles WHERE rolname = 'exporter_user'") == [(5,)]


def test_the_owner_may_make_temporary_tables(server: PostgresServer) -> None:
    """Only everybody else may not."""
    assert run(settings(server)).returncode == 0
    with psycopg.connect(url_of(server)) as connection:
        connection.execute("CREATE TEMP TABLE mine (n int)")


def test_no_password_is_told(server: PostgresServer, tmp_path: Path) -> None:
    """Neither by us, nor by the server's log, nor by its statistics; a verifier counts as one."""
    file = tmp_path / "exporter_password"
    file.write_text(f"{EXPORTERS_PASSWORD}\n")
    done = run(settings(server, EXPORTER_PASSWORD="", EXPORTER_PASSWORD_FILE=str(file)))
    assert done.returncode == 0, done.stdout + done.stderr
    told = done.stdout + done.stderr + server.log.read_text()
    told += str(ask(f"{server.url.rpartition('/')[0]}/cc", "SELECT query FROM pg_stat_statements"))
    secrets = (OWNERS_PASSWORD, EXPORTERS_PASSWORD, "SCRAM-SHA-256$")
    assert [secret for secret in secrets if secret in told] == []
    assert "alembic_version" in server.log.read_text()


def test_the_exporters_password_is_changed_by_one_command(server: PostgresServer) -> None:
    """It holds from the next login on; PostgreSQL runs on, and the schema isn't touched."""
    started_at = ask(server.url, "SELECT pg_postmaster_start_time()")
    new = "Jh3Bv7Zp0Yd8"
    done = run(settings(server, EXPORTER_PASSWORD=new), "passwords")
    assert done.returncode == 0, done.stdout + done.stderr
    assert ask(exporter_url(server, new), "SELECT 1") == [(1,)]
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        ask(exporter_url(server), "SELECT 1")
    assert ask(server.url, "SELECT pg_postmaster_start_time()") == started_at
    assert "schema" not in done.stdout
    [(verifier,)] = ask(server.url, "SELECT rolpassword FROM pg_authid WHERE rolname = 'exporter_user'")
    assert str(verifier).startswith("SCRAM-SHA-256$")


def test_the_owners_password_too(server: PostgresServer) -> None:
    """Whoever changes it in the URL has changed it."""
    other = "Mc6Qx1Ua9Ge4"
    assert run(settings(server, DATABASE_URL=url_of(server, password=other)), "passwords").returncode == 0
    assert ask(url_of(server, password=other), "SELECT 1") == [(1,)]
    assert run(settings(server), "passwords").returncode == 0


def test_it_needs_no_superuser_where_role_and_database_are_there(server: PostgresServer) -> None:
    """A managed PostgreSQL gives none away."""
    assert run(settings(server)).returncode == 0
    new = "Pe2Ls8Hk5Wi0"
    done = run(settings(server, POSTGRES_PASSWORD="", EXPORTER_PASSWORD=new))
    assert done.returncode == 0, done.stdout + done.stderr
    assert ask(exporter_url(server, new), "SELECT 1") == [(1,)]


async def test_it_waits_for_a_server_that_comes_late(server: PostgresServer, tmp_path: Path) -> None:
    """Nobody starts a one shot again, and containers start side by side."""
    output, port = tmp_path / "output", free_port()
    late = url_of(server).replace(f":{server.port}/", f":{port}/")
    with started(settings(server, DATABASE_URL=late), output) as process:
        await asyncio.to_thread(eventually, lambda: "waits" in output.read_text(), what="a one shot that waits")
        gate = Gate("127.0.0.1", server.port)
        listener = await asyncio.start_server(gate.accept, "127.0.0.1", port)
        try:
            assert await asyncio.to_thread(process.wait, timeout=60) == 0, output.read_text()
        finally:
            listener.close()
            await gate.close()
    assert "the schema is up to date" in output.read_text()
    assert OWNERS_PASSWORD not in output.read_text()


def test_it_waits_for_a_lock_without_holding_others_up(server: PostgresServer, tmp_path: Path) -> None:
    """What queues behind a waiting migration is the whole service."""
    assert run(settings(server)).returncode == 0
    set_revision(server, "d4dff12b63d6")
    output = tmp_path / "output"
    with psycopg.connect(url_of(server)) as holder:
        holder.execute("LOCK TABLE alembic_version IN SHARE MODE")
        with started(settings(server), output) as process:
            eventually(lambda: "holds a lock" in output.read_text(), what="a one shot that waits")
            holder.rollback()
            assert process.wait(timeout=60) == 0, output.read_text()
    assert ask(url_of(server), "SELECT version_num FROM alembic_version") == [(HEAD,)]


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("DATABASE_URL", "", "DATABASE_URL"),
        ("DATABASE_URL", "postgresql://cc:Hunter2Hunter2@h:port/db", "DATABASE_URL must read"),
        ("DATABASE_URL", "postgresql://cc@h/db", "DATABASE_URL must name"),
        ("EXPORTER_PASSWORD_FILE", "/nowhere/at/all", "EXPORTER_PASSWORD_FILE: /nowhere/at/all can't be read"),
    ],
)
def test_what_is_missing_is_named(server: PostgresServer, name: str, value: str, told: str) -> None:
    """A sentence and exit code 1; no traceback, no password."""
    done = run(settings(server, **{name: value}))
    assert done.returncode == 1
    assert told in done.stdout
    assert "Traceback" not in done.stderr
    assert "Hunter2" not in done.stdout + done.stderr


def test_a_migration_that_fails_fails(server: PostgresServer) -> None:
    """Services must not start on a schema that isn't theirs."""
    set_revision(server, "nonsense")
    try:
        done = run(settings(server))
    finally:
        set_revision(server, HEAD)
    assert done.returncode == 1
    assert "nonsense" in done.stdout
