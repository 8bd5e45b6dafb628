"""Keeps dead connections from requests, without a question to PostgreSQL each time one is taken from the pool.

A server that ends a connection says so: its word waits on the socket before the next request begins, and reading that
takes a microsecond. Only a connection that was idle for a while is asked for a sign of life, because a network that
drops connections in silence takes its time to forget them.
"""

import select
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

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

    Raises:
        KeyError: a driver other than asyncpg and psycopg.
    """
    dialect = engine.dialect
    has_word = _HAS_WORD[dialect.driver]

    def on_checkin(_connection: DBAPIConnection | None, entry: ConnectionPoolEntry) -> None:
        entry.info[_SINCE] = monotonic()

    def on_checkout(connection: DBAPIConnection, entry: ConnectionPoolEntry, _proxy: Any) -> None:
        since = entry.info.pop(_SINCE, None)
        # A fresh one was never idle.
        if since is None or (monotonic() - since < idle_s and not has_word(entry.driver_connection)):
            return
        try:
            dialect.do_ping(connection)
        except dialect.loaded_dbapi.Error as error:
            raise InvalidatePoolError from error

    event.listen(engine, "checkin", on_checkin)
    event.listen(engine, "checkout", on_checkout)


def _asyncpg_has_word(connection: Any) -> bool:
    # The event loop has read it already.
    return bool(connection.is_closed())


def _psycopg_has_word(connection: Any) -> bool:
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    return bool(poll.poll(0))


# Whether the server has said something since: of an idle connection, that is most often its end. By name: each process
# has one driver and needs to load no other.
_HAS_WORD: Final[dict[str, Callable[[Any], bool]]] = {"asyncpg": _asyncpg_has_word, "psycopg": _psycopg_has_word}
