"""Keeps dead connections from requests, without a question to PostgreSQL each time one is taken from the pool.

A server that ends a connection says so: its word waits on the socket before the next request begins, and reading that
takes a microsecond. Only a connection that was idle for a while is asked for a sign of life, because a network that
drops connections in silence takes its time to forget them.
"""

import select
from time import monotonic
from typing import Any, Final

import asyncpg
import psycopg
from sqlalchemy import Engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry

IDLE_S: Final = 5.0
_SINCE: Final = "commandcenter_idle_since"


def keep_alive(engine: Engine, idle_s: float = IDLE_S) -> None:
    """Have `engine` (of an async engine: its `sync_engine`) replace dead connections before anybody gets one.

    One that turns out dead takes along all that are as old: whatever ended it ended them too.

    Args:
        engine: where connections come from.
        idle_s: seconds after which an idle connection is asked for a sign of life.
    """
    dialect = engine.dialect

    def on_checkin(_connection: DBAPIConnection | None, entry: ConnectionPoolEntry) -> None:
        entry.info[_SINCE] = monotonic()

    def on_checkout(connection: DBAPIConnection, entry: ConnectionPoolEntry, _proxy: Any) -> None:
        since = entry.info.pop(_SINCE, None)
        # A fresh one was never idle.
        if since is None or (monotonic() - since < idle_s and not _has_word(entry.driver_connection)):
            return
        try:
            dialect.do_ping(connection)
        except dialect.loaded_dbapi.Error as error:
            raise InvalidatePoolError from error

    event.listen(engine, "checkin", on_checkin)
    event.listen(engine, "checkout", on_checkout)


def _has_word(connection: Any) -> bool:
    """Whether the server has said something since: of an idle connection, that is most often its end."""
    if isinstance(connection, asyncpg.Connection):
        # The event loop has read it already.
        return connection.is_closed()
    if isinstance(connection, psycopg.Connection):
        if connection.closed:
            return True
        poll = select.poll()
        poll.register(connection.pgconn.socket, select.POLLIN)
        return bool(poll.poll(0))
    return True
