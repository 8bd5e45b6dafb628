"""Migrations: up, down and up again, on databases that share a server, by owners who are no superusers."""

import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from tests import warm_python
from tests.system import BACKEND, clean_environment, eventually, migrate

PASSWORD = "only-for-these-tests"
EXPORTER = "exporter_user"
NAMES = {
    *("pk_repositories", "uq_repositories_url", "ck_repositories_stars", "ck_repositories_forks"),
    *("pk_jobs", "fk_jobs_repository_id_repositories", "ck_jobs_status", "ck_jobs_progress"),
}

Make = Callable[..., str]
Row = tuple[object, ...]


def ask(url: str, query: str) -> list[Row]:
    """Return what one statement answers."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(query)
        return cursor.fetchall() if cursor.description else []


def alembic(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run alembic with any arguments."""
    return warm_python.run(["alembic", *arguments], cwd=BACKEND, env=clean_environment() | {"DATABASE_URL": url})


def up(url: str) -> None:
    """Bring a database to the newest revision."""
    done = migrate(url)
    assert done.returncode == 0, done.stderr


def down(url: str) -> None:
    """Take everything away again."""
    done = migrate(url, "base", "downgrade")
    assert done.returncode == 0, done.stderr


def schema(url: str) -> list[Row]:
    """Return what can be told of tables, constraints and indexes."""
    return ask(
        url,
        "SELECT 'column', table_name, column_name, data_type, character_maximum_length::text, is_nullable,"
        " column_default FROM information_schema.columns WHERE table_schema = 'public'"
        " UNION ALL SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', '', ''"
        " FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype <> 'n'"
        " UNION ALL SELECT 'index', tablename, indexname, indexdef, '', '', '' FROM pg_indexes"
        " WHERE schemaname = 'public' ORDER BY 1, 2, 3",
    )


def exporter(admin: str) -> tuple[bool, bool] | None:
    """Return whether the exporter's role may log in and reads statistics; None where there is no such role."""
    rows = ask(
        admin,
        "SELECT rolcanlogin, pg_has_role(rolname, 'pg_monitor', 'MEMBER') FROM pg_roles"
        " WHERE rolname = 'exporter_user'",
    )
    return (bool(rows[0][0]), bool(rows[0][1])) if rows else None


@pytest.fixture
def make(postgres_admin_url: str) -> Iterator[Make]:
    """A function that makes a database of an odd name with an owner of its own; the exporter's role is set aside."""
    prefix = postgres_admin_url.rpartition("/")[0]
    made: list[tuple[str, str]] = []
    aside = f"aside_{uuid4().hex[:8]}"
    had_role = exporter(postgres_admin_url) is not None
    if had_role:
        # Databases of other tests of this session have it.
        ask(postgres_admin_url, f"ALTER ROLE exporter_user RENAME TO {aside}")

    def database(role_options: str = "CREATEROLE", *, admin_option: bool = True) -> str:
        number = len(made)
        role, name = f"owner-{number} {uuid4().hex[:4]}", f'odd "name" {number} {uuid4().hex[:4]}'
        role_name, database_name = sql.Identifier(role), sql.Identifier(name)
        with psycopg.connect(postgres_admin_url, autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN " + role_options + " PASSWORD {}").format(role_name, PASSWORD)
            )
            if admin_option:
                connection.execute(sql.SQL("GRANT pg_monitor TO {} WITH ADMIN OPTION").format(role_name))
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database_name, role_name))
        made.append((role, name))
        address = prefix.rpartition("@")[2]
        quoted = (role.replace(" ", "%20"), name.replace(" ", "%20").replace('"', "%22"))
        return f"postgresql://{quoted[0]}:{PASSWORD}@{address}/{quoted[1]}"

    yield database
    with psycopg.connect(postgres_admin_url, autocommit=True) as connection:
        for _, name in made:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        connection.execute("DROP ROLE IF EXISTS exporter_user")
        for role, _ in made:
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
        if had_role:
            connection.execute(sql.SQL("ALTER ROLE {} RENAME TO exporter_user").format(sql.Identifier(aside)))


def as_exporter(url: str, admin: str) -> str:
    """Give the exporter's role a password and return its URL for the same database."""
    ask(admin, f"ALTER ROLE exporter_user PASSWORD '{PASSWORD}'")
    address = url.rpartition("@")[2]
    return f"postgresql://{EXPORTER}:{PASSWORD}@{address}"


def test_up_down_and_up_again_is_the_same(make: Make, postgres_admin_url: str) -> None:
    """A rollback leaves nothing behind, and the next release finds a clean floor; doing a thing twice is nothing."""
    url = make()
    up(url)
    first = schema(url)
    up(url)
    assert schema(url) == first
    assert exporter(postgres_admin_url) == (True, True)
    down(url)
    down(url)
    assert {row[1] for row in schema(url)} == {"alembic_version"}
    assert exporter(postgres_admin_url) is None
    up(url)
    assert schema(url) == first
    assert exporter(postgres_admin_url) == (True, True)


def test_each_revision_goes_down_by_itself(make: Make, postgres_admin_url: str) -> None:
    """A release may be undone by one step."""
    url = make()
    up(url)
    assert migrate(url, "d4dff12b63d6", "downgrade").returncode == 0
    assert exporter(postgres_admin_url) is None
    assert ask(url, "SELECT count(*) FROM repositories") == [(0,)]
    up(url)
    assert exporter(postgres_admin_url) == (True, True)


def test_constraints_have_the_names_that_later_migrations_will_use(make: Make) -> None:
    """A name that PostgreSQL made up can't be relied on."""
    url = make()
    up(url)
    found = {row[2] for row in schema(url) if row[0] == "constraint" and row[1] != "alembic_version"}
    assert found == NAMES


def test_models_and_migrations_agree(make: Make) -> None:
    """Otherwise the next generated migration holds surprises."""
    url = make()
    up(url)
    checked = alembic(url, "check")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_second_database_keeps_its_exporter(make: Make, postgres_admin_url: str) -> None:
    """The role belongs to the server: one service's rollback must not blind another's monitoring."""
    first, second = make(), make()
    up(first)
    up(second)
    through = as_exporter(second, postgres_admin_url)
    down(first)
    assert exporter(postgres_admin_url) == (True, True)
    assert ask(through, "SELECT count(*) > 0 FROM pg_stat_activity") == [(True,)]
    up(first)
    down(first)
    down(second)
    # The second's owner did not make the role and may not drop it: it stays, and nothing fails.
    up(second)
    assert exporter(postgres_admin_url) == (True, True)
    assert ask(through, "SELECT 1") == [(1,)]


def test_a_grant_on_another_databases_table_keeps_the_exporter_too(make: Make, postgres_admin_url: str) -> None:
    """Another service may have let it read a table of its own, without granting the database."""
    first, second = make(), make()
    ask(second, "CREATE TABLE sizes (n int)")
    up(first)
    ask(second, "GRANT SELECT ON sizes TO exporter_user")
    through = as_exporter(second, postgres_admin_url)
    down(first)
    assert exporter(postgres_admin_url) == (True, True)
    assert ask(through, "SELECT count(*) FROM sizes") == [(0,)]
    ask(second, "REVOKE SELECT ON sizes FROM exporter_user")


def waiting(admin: str) -> int:
    """Return how many migrations wait for somebody."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'commandcenter-migrate'"
    [(number,)] = ask(admin, f"{query} AND wait_event_type = 'Lock'")
    assert isinstance(number, int)
    return number


def test_many_at_once_are_one_after_another(make: Make, postgres_admin_url: str) -> None:
    """Replicas of a release start together, and each runs the migrations first."""
    url = make()
    with ThreadPoolExecutor(3) as pool, psycopg.connect(url) as before:
        # Whoever makes the first table has to wait for us, so all of them have found that there is none.
        before.execute("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
        running = [pool.submit(migrate, url) for _ in range(3)]
        eventually(lambda: waiting(postgres_admin_url) == 3, what="three migrations that wait")
        before.rollback()
        results = [each.result() for each in running]
    assert [done.returncode for done in results] == [0] * 3, "\n".join(done.stderr for done in results)
    assert ask(url, "SELECT version_num FROM alembic_version") == [("d3e92d35ba2f",)]


def test_another_migration_may_make_the_role_first(make: Make, postgres_admin_url: str) -> None:
    """Two databases of one server, both of which found that the role is missing; one of them makes it."""
    url = make()
    with ThreadPoolExecutor(1) as pool, psycopg.connect(postgres_admin_url) as other:
        other.execute("CREATE ROLE exporter_user LOGIN")
        running = pool.submit(migrate, url)
        eventually(lambda: waiting(postgres_admin_url) == 1, what="a migration that waits")
        other.commit()
        done = running.result()
    assert done.returncode == 0, done.stderr
    assert exporter(postgres_admin_url) == (True, True)


def test_databases_of_one_server_may_be_migrated_at_once(make: Make, postgres_admin_url: str) -> None:
    """Up and down: the role is one for all of them, whatever the order."""
    urls = [make(), make()]
    with ThreadPoolExecutor(2) as pool:
        for revision, command in (("head", "upgrade"), ("base", "downgrade"), ("head", "upgrade")):
            results = list(pool.map(partial(migrate, revision=revision, command=command), urls))
            assert [done.returncode for done in results] == [0] * 2, "\n".join(done.stderr for done in results)
    assert exporter(postgres_admin_url) == (True, True)


def test_the_sql_can_be_read_and_run_by_hand(make: Make, postgres_admin_url: str) -> None:
    """Where a database administrator runs what we print: same schema, no connection made, no password in it."""
    url = make()
    printed = alembic("postgresql://nobody:hunter2hunter2@127.0.0.1:1/nothing", "upgrade", "head", "--sql")
    assert printed.returncode == 0, printed.stderr
    assert "hunter2" not in printed.stdout + printed.stderr
    assert "PASSWORD" not in printed.stdout.upper()
    command = ["psql", "--no-psqlrc", "-q", "-v", "ON_ERROR_STOP=1", url]
    run = subprocess.run(command, input=printed.stdout, text=True, capture_output=True, check=False, env=os.environ)
    assert run.returncode == 0, run.stderr
    assert exporter(postgres_admin_url) == (True, True)
    other = make()
    up(other)
    assert schema(url) == schema(other)
    printed = alembic("", "downgrade", "head:base", "--sql")
    assert printed.returncode == 0, printed.stderr
    run = subprocess.run(command, input=printed.stdout, text=True, capture_output=True, check=False, env=os.environ)
    assert run.returncode == 0, run.stderr
    assert not ask(url, "SELECT FROM pg_tables WHERE tablename IN ('repositories', 'jobs')")


@pytest.mark.parametrize(("options", "admin_option"), [("NOCREATEROLE", True), ("CREATEROLE", False)])
def test_a_role_that_may_not_is_told_what_helps(
    make: Make, postgres_admin_url: str, options: str, *, admin_option: bool
) -> None:
    """The statement to run stands in the message; nothing is half done; and with it the migration works."""
    url = make(options, admin_option=admin_option)
    done = migrate(url)
    assert done.returncode != 0
    assert "may not set up exporter_user" in done.stdout + done.stderr
    [hint] = [line for line in (done.stdout + done.stderr).splitlines() if "ALTER ROLE" in line]
    assert "Traceback" not in done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    assert schema(url) == []
    assert exporter(postgres_admin_url) is None
    ask(postgres_admin_url, hint.partition("superuser: ")[2])
    up(url)
    assert exporter(postgres_admin_url) == (True, True)


def test_the_exporter_reads_statistics_and_nothing_else(make: Make, postgres_admin_url: str) -> None:
    """Its password lies in a file of another program: whoever finds it must not find our data with it."""
    url = make()
    up(url)
    ask(url, "INSERT INTO repositories (url, owner, name, full_name) VALUES ('u', 'o', 'n', 'o/n')")
    through = as_exporter(url, postgres_admin_url)
    with psycopg.connect(url, application_name="watched") as watched:
        watched.execute("SELECT 'something'")
        seen = ask(through, "SELECT query FROM pg_stat_activity WHERE application_name = 'watched'")
        assert seen == [("SELECT 'something'",)]
    assert ask(through, "SELECT count(*) FROM pg_stat_user_tables WHERE relname = 'repositories'") == [(1,)]
    assert ask(through, "SELECT pg_database_size(current_database()) > 0") == [(True,)]
    for statement in (
        "SELECT * FROM repositories",
        "SELECT access_token FROM repositories",
        "SELECT * FROM jobs",
        "SELECT * FROM alembic_version",
        "UPDATE repositories SET name = 'x'",
        "INSERT INTO jobs (id) VALUES (gen_random_uuid())",
        "DELETE FROM repositories",
        "TRUNCATE repositories",
        "CREATE TABLE mine (n int)",
        "CREATE SCHEMA mine",
        "CREATE ROLE mine",
        "CREATE DATABASE mine",
        "CREATE EXTENSION file_fdw",
        "COPY (SELECT 1) TO '/tmp/out'",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT pg_ls_dir('/')",
        "SELECT lo_import('/etc/passwd')",
        "SELECT rolpassword FROM pg_authid",
        "SET ROLE postgres",
        "ALTER ROLE exporter_user CREATEROLE",
    ):
        with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidParameterValue)):
            ask(through, statement)


def test_a_wrong_url_ends_with_a_plain_message() -> None:
    """And without the password that stands in it."""
    for url in ("", "mysql://u:hunter2hunter2@h/db", "postgresql://u:hunter2hunter2@h:port/db"):
        done = alembic(url, "upgrade", "head")
        assert done.returncode != 0
        assert "DATABASE_URL" in done.stdout + done.stderr
        assert "hunter2" not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
