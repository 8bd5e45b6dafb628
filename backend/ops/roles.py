"""Roles and the database in PostgreSQL: made where they are missing, and their passwords set.

No password goes to the server as plain text: it is sent as a SCRAM verifier. Of a superuser with the options `UNLOGGED`
not even that is written down.
"""

from typing import Any, Final

import psycopg
from psycopg import sql

EXPORTER: Final = "exporter_user"
UNLOGGED: Final = (
    "-c log_min_duration_statement=-1 -c log_statement=none -c log_min_error_statement=panic"
    " -c pg_stat_statements.track_utility=off"
)

Connection = psycopg.Connection[tuple[Any, ...]]


class NoExporterError(LookupError):
    """The migrations left no role for the exporter."""


def make_database(connection: Connection, owner: str, password: str, database: str) -> None:
    """Make a role that is no superuser, and its database, unless they are there; set the role's password.

    Args:
        connection: a superuser's, in autocommit.
        owner: the role.
        password: of the role.
        database: its name.
    """
    role, name = sql.Identifier(owner), sql.Identifier(database)
    if not _is_there(connection, "SELECT 1 FROM pg_roles WHERE rolname = %s", owner):
        connection.execute(sql.SQL("CREATE ROLE {} CREATEROLE").format(role))
        # From PostgreSQL 16 on, only the admin option allows the migration to grant it to the exporter's role.
        connection.execute(sql.SQL("GRANT pg_monitor TO {} WITH ADMIN OPTION").format(role))
    give_password(connection, owner, password)
    if not _is_there(connection, "SELECT 1 FROM pg_database WHERE datname = %s", database):
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(name, role))


def make_extensions(connection: Connection) -> None:
    """Make what only a superuser may, in the database of the connection."""
    connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")


def let_exporter_in(connection: Connection, password: str) -> None:
    """Give the exporter's role, which a migration makes without one, a password. It holds from the next login on.

    Args:
        connection: of a superuser, or of the role that ran the migrations; in autocommit.
        password: the new one.

    Raises:
        NoExporterError: there is no such role.
    """
    if not _is_there(connection, "SELECT 1 FROM pg_roles WHERE rolname = %s", EXPORTER):
        raise NoExporterError(f"The migrations left no role {EXPORTER}.")
    give_password(connection, EXPORTER, password)


def give_password(connection: Connection, role: str, password: str) -> None:
    """Let a role log in with this password."""
    verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    connection.execute(sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), verifier))


def _is_there(connection: Connection, query: str, name: str) -> bool:
    return connection.execute(query, [name]).fetchone() is not None
