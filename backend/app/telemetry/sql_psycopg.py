"""psycopg's transactions: the ID goes out with their BEGIN; see sql.py."""

from collections.abc import Callable
from typing import Any

import psycopg
from sqlalchemy import Connection
from sqlalchemy.engine import Dialect
from sqlalchemy.pool import PoolProxiedConnection

from app.telemetry.sql import set_application_name
from app.utils.metrics import hook_failed


def naming(dialect: Dialect) -> dict[str, Callable[..., None]]:
    """Return what is to stand in for the methods of `dialect` that begin a transaction, by their names."""
    return {
        "do_begin": _followed_by(_begin_named, dialect.do_begin),
        "do_begin_twophase": _followed_by(_name_two_phase, dialect.do_begin_twophase),
    }


def _followed_by(name: Callable[..., None], begin: Callable[..., None]) -> Callable[..., None]:
    def begin_and_name(connection: Any, *rest: Any) -> None:
        begin(connection, *rest)
        try:
            name(connection)
        except Exception:  # noqa: BLE001 - a transaction without a name is better than none
            hook_failed("sql_begin")

    return begin_and_name


def _begin_named(connection: PoolProxiedConnection) -> None:
    """Open the transaction ourselves, ID included; psycopg sees that it is open and sends no BEGIN of its own."""
    raw = connection.dbapi_connection
    suffix = set_application_name()
    if not suffix or not isinstance(raw, psycopg.Connection) or raw.autocommit:
        return
    # A failure leaves the connection idle, and psycopg begins as if we had not been here.
    raw.pgconn.exec_((_begin_text(raw) + suffix).encode())


def _name_two_phase(connection: Connection) -> None:
    """Name a transaction that is open already, for one round trip: psycopg wants to send this BEGIN itself."""
    raw = connection.connection.dbapi_connection
    command = set_application_name(separator="")
    if command and isinstance(raw, psycopg.Connection):
        raw.pgconn.exec_(command.encode())


def _begin_text(raw: "psycopg.Connection[Any]") -> str:
    """Return the BEGIN that psycopg would have sent."""
    parts = ["BEGIN"]
    if raw.isolation_level is not None:
        parts.append(f"ISOLATION LEVEL {raw.isolation_level.name.replace('_', ' ')}")
    if raw.read_only is not None:
        parts.append("READ ONLY" if raw.read_only else "READ WRITE")
    if raw.deferrable is not None:
        parts.append("DEFERRABLE" if raw.deferrable else "NOT DEFERRABLE")
    return " ".join(parts)
