"""What the database needs before and after the migrations: role, database, and the exporter's password.

No password goes to the server as plain text: it is sent as a SCRAM verifier, and not even that is logged.
"""

import os
import subprocess
from typing import Any, Final

import psycopg
from psycopg import sql

from ops.stack.cluster import SUPERUSER
from ops.stack.errors import StackError
from ops.stack.secret_store import write_private
from ops.stack.settings import Settings

_NAME: Final = "commandcenter"
_EXPORTER: Final = "exporter_user"
_UNLOGGED: Final = "-c log_min_duration_statement=-1 -c log_statement=none -c log_min_error_statement=panic"
_MIGRATION_TIMEOUT_S: Final = 600


def connect(settings: Settings, database: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
    """Connect as the superuser; its statements stay out of the log.

    Raises:
        psycopg.OperationalError: there is no server.
    """
    return psycopg.connect(
        host="127.0.0.1",
        port=settings.port("POSTGRES_PORT"),
        user=SUPERUSER,
        password=settings["POSTGRES_PASSWORD"],
        dbname=database,
        connect_timeout=2,
        autocommit=True,
        application_name="commandcenter-stack",
        options=_UNLOGGED,
    )


def _set_password(connection: psycopg.Connection[tuple[Any, ...]], role: str, password: str) -> None:
    verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    connection.execute(sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), verifier))


def _is_there(connection: psycopg.Connection[tuple[Any, ...]], query: str, name: str) -> bool:
    return connection.execute(query, [name]).fetchone() is not None


def prepare(settings: Settings) -> None:
    """Make the role and the database `commandcenter`, unless they are there."""
    with connect(settings) as connection:
        role = sql.Identifier(_NAME)
        if not _is_there(connection, "SELECT 1 FROM pg_roles WHERE rolname = %s", _NAME):
            connection.execute(sql.SQL("CREATE ROLE {} CREATEROLE").format(role))
            # From PostgreSQL 16 on, only the admin option allows the migration to grant it to the exporter's role.
            connection.execute(sql.SQL("GRANT pg_monitor TO {} WITH ADMIN OPTION").format(role))
        _set_password(connection, _NAME, settings["DB_PASSWORD"])
        if not _is_there(connection, "SELECT 1 FROM pg_database WHERE datname = %s", _NAME):
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(role, role))
    with connect(settings, _NAME) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")


def migrate(settings: Settings) -> None:
    """Bring the schema up to date.

    Raises:
        StackError: alembic failed; with the end of what it said.
    """
    command = [str(settings.deployment.python), "-m", "alembic", "upgrade", "head"]
    environment = os.environ | settings.for_app() | {"EXPORTER_PASSWORD": settings["EXPORTER_PASSWORD"]}
    try:
        done = subprocess.run(
            command,
            cwd=settings.deployment.backend,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_MIGRATION_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise StackError(
            f"The migrations did not end within {_MIGRATION_TIMEOUT_S} s.", "See log/postgres.log."
        ) from error
    log = settings.layout.logs / "migrate.log"
    write_private(log, done.stdout)
    if done.returncode:
        end = "\n".join(f"    {line}" for line in done.stdout.strip().splitlines()[-15:])
        raise StackError(f"The migrations failed:\n{end}", f"The whole of it: {log}")


def let_exporter_in(settings: Settings) -> None:
    """Give the exporter's role, which a migration made without a password, the one of this stack."""
    with connect(settings) as connection:
        if not _is_there(connection, "SELECT 1 FROM pg_roles WHERE rolname = %s", _EXPORTER):
            raise StackError(
                f"The migrations left no role {_EXPORTER}.", "Look at backend/alembic/versions and log/migrate.log."
            )
        _set_password(connection, _EXPORTER, settings["EXPORTER_PASSWORD"])
