"""The services under all other tests: what those tests take for granted."""

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.services import postgres_server


def test_a_database_belongs_to_a_role_that_is_no_superuser(database_url: str) -> None:
    """Migrations must not pass here and fail where the owner has only its own rights."""
    with psycopg.connect(database_url) as connection:
        row = connection.execute(
            "SELECT rolsuper, rolcreaterole, pg_get_userbyid(datdba) = current_user"
            " FROM pg_roles, pg_database WHERE rolname = current_user AND datname = current_database()"
        ).fetchone()
    assert row == (False, True, True)


def test_the_owner_can_make_a_monitoring_role(database_url: str) -> None:
    """From PostgreSQL 16 on, granting pg_monitor needs the admin option."""
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE ROLE watcher_of_a_test")
        connection.execute("GRANT pg_monitor TO watcher_of_a_test")
        connection.rollback()


def test_statements_are_logged_with_the_application_name(database_url: str, postgres_log: Path) -> None:
    """The prefix is the contract of docs/log-schema.md; the trail is read from it."""
    with psycopg.connect(database_url, application_name="id-of-a-request") as connection:
        connection.execute("SELECT 4711")
    line = next(line for line in postgres_log.read_text().splitlines() if "SELECT 4711" in line)
    assert "app=id-of-a-request user=commandcenter db=test_" in line
    assert "duration:" in line


def test_pg_stat_statements_counts(database_url: str) -> None:
    """Preloaded, and made in each database."""
    with psycopg.connect(database_url) as connection:
        connection.execute("SELECT 42 AS counted_here")
        row = connection.execute("SELECT sum(calls) FROM pg_stat_statements WHERE query LIKE %s", ["%counted_here%"])
        assert row.fetchone() is not None
        explain = connection.execute("SHOW auto_explain.log_min_duration").fetchone()
    assert explain == ("250ms",)


def test_databases_differ(new_database: Callable[[], str]) -> None:
    """Two in one test serve a migration beside a second database."""
    assert new_database() != new_database()


def test_a_server_leaves_nothing_behind(tmp_path: Path) -> None:
    """No process, no data."""
    with postgres_server(tmp_path) as server, psycopg.connect(server.url) as connection:
        row = connection.execute("SHOW data_directory").fetchone()
        assert row
        data = Path(row[0])
        assert data.exists()
    assert not data.exists()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(server.url, connect_timeout=2)
