"""Roles and the database in PostgreSQL: made where they are missing, and their passwords set.

No password goes to the server as plain text: it is sent as a SCRAM verifier. Of a superuser with the options `UNLOGGED`
not even that is written down.
"""

from typing import Any, Final

import psycopg
from psycopg import sql

from ops.stack import exporter

# The exporter scrapes by one connection, two while it starts anew.
_EXPORTER_CONNECTIONS: Final = 5
# By these anybody who may log in could fill the disk with large objects.
_WRITERS: Final = (
    "lo_creat", "lo_create", "lo_from_bytea", "lo_open", "lo_put", "lo_truncate", "lo_truncate64", "lo_unlink",
    "lowrite",
)  # fmt: skip
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


def close_to_public(connection: Connection) -> None:
    """Keep everybody but owner and superuser from writing into the database of the connection, a superuser's.

    NOTIFY stays: PostgreSQL asks no right for it.
    """
    writers = connection.execute(
        "SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace"
        " AND proname = ANY(%s) AND has_function_privilege('public', oid, 'EXECUTE')",
        [list(_WRITERS)],
    ).fetchall()
    for (signature,) in writers:
        # As PostgreSQL itself wrote it, with the types of its arguments.
        connection.execute(sql.SQL("REVOKE EXECUTE ON FUNCTION {} FROM PUBLIC").format(sql.SQL(signature)))
    name = connection.info.dbname
    if _is_there(connection, "SELECT 1 WHERE has_database_privilege('public', %s, 'TEMP')", name):
        connection.execute(sql.SQL("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name)))


def let_exporter_in(connection: Connection, password: str) -> None:
    """Give the exporter's role, which a migration makes without one, a password. It holds from the next login on.

    Args:
        connection: of a superuser, or of the role that ran the migrations; in autocommit.
        password: the new one.

    Raises:
        NoExporterError: there is no such role.
    """
    if not _is_there(connection, "SELECT 1 FROM pg_roles WHERE rolname = %s", exporter.ROLE):
        raise NoExporterError(f"The migrations left no role {exporter.ROLE}.")
    give_password(connection, exporter.ROLE, password)
    limit = sql.SQL("ALTER ROLE {} CONNECTION LIMIT {}")
    connection.execute(limit.format(sql.Identifier(exporter.ROLE), sql.Literal(_EXPORTER_CONNECTIONS)))


def give_password(connection: Connection, role: str, password: str) -> None:
    """Let a role log in with this password."""
    verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    connection.execute(sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), verifier))


def _is_there(connection: Connection, query: str, name: str) -> bool:
    return connection.execute(query, [name]).fetchone() is not None
