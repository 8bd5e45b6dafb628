"""Ties SQL to its request or task, and times it.

Two tiers. A bounded comment (route or task name) leads every statement. The ID itself goes out once a transaction, as
`SET LOCAL application_name` in the same message as BEGIN, so it costs no round trip and no plan cache; from there
PostgreSQL shows it in pg_stat_activity, in its log (%a) and in auto_explain's plans.
"""

from collections.abc import Mapping
from time import perf_counter
from typing import Any, Final, Literal
from urllib.parse import quote

import asyncpg
import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext, ExecutionContext

from app.correlation import Correlation, current, is_valid_id
from app.telemetry.route import route_template
from app.telemetry.trail import trail_of
from app.utils.metrics import DB_QUERY_DURATION, hook_failed

Mode = Literal["transaction", "statement", "off"]

_STARTED: Final = "commandcenter_started"
_UNNAMED: Final = "commandcenter_unnamed"
_OPERATIONS: Final = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "COPY"})
_DURATION: Final = {name: DB_QUERY_DURATION.labels(name) for name in (*_OPERATIONS, "OTHER")}
# Route templates and task names; a bug that makes them unbounded must not fill the memory.
_CACHE_LIMIT: Final = 1000


def sql_comment(tags: Mapping[str, str]) -> str:
    """Return a sqlcommenter comment: keys sorted, values URL-encoded, in single quotes.

    Encoding leaves no quote, star or slash, so no value can end the comment.

    Source: google.github.io/sqlcommenter/spec.
    """
    pairs = (f"{quote(key, safe='')}='{quote(value, safe='')}'" for key, value in sorted(tags.items()) if value)
    return f"/*{','.join(pairs)}*/"


class AttributedConnection(asyncpg.Connection):
    """An asyncpg connection whose transactions bear the ID. Hand it in as `connection_class`."""

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:  # noqa: ASYNC109 - asyncpg's
        """Run `query`; a BEGIN takes the ID along in the same message."""
        if not args and query.startswith("BEGIN"):
            query += set_application_name(separator="")
        return str(await super().execute(query, *args, timeout=timeout))


def set_application_name(separator: str = ";") -> str:
    """Return what follows a BEGIN, or an empty string outside any request and task.

    The ID's alphabet has no quote; it was checked where it came in, and is checked here again, where it counts.
    """
    correlation = current()
    if correlation is None or not is_valid_id(correlation.request_id):
        return ""
    return f"{separator} SET LOCAL application_name = '{correlation.request_id}'"


class SqlAttribution:
    """Hooks for one engine.

    Args:
        mode: `transaction`: comment and application_name. `statement`: the ID in every comment too, for a platform
            whose log prefix can't be set. `off`: neither; statements are timed all the same.
        application: who we are, in the comment.
        driver: `asyncpg` or `psycopg`.
    """

    def __init__(self, *, mode: Mode, application: str, driver: Literal["asyncpg", "psycopg"]) -> None:
        self._mode = mode
        self._driver = driver
        self._tags = {"application": application, "db_driver": driver}
        self._comments: dict[tuple[str, str | None], str] = {}

    def install(self, engine: Engine) -> None:
        """Listen to `engine` (of an async engine: its `sync_engine`)."""
        event.listen(engine, "before_cursor_execute", self._before_execute, retval=True)
        event.listen(engine, "after_cursor_execute", self._after_execute)
        event.listen(engine, "handle_error", self._on_error)
        if self._driver == "psycopg" and self._mode != "off":
            event.listen(engine, "begin", self._begin_psycopg)
            event.listen(engine, "begin_twophase", self._begin_two_phase)

    # --- attribution

    def _before_execute(
        self,
        connection: Connection,
        _cursor: Any,
        statement: str,
        parameters: Any,
        context: ExecutionContext | None,
        _executemany: bool,
    ) -> tuple[str, Any]:
        entered = perf_counter()
        correlation = current()
        try:
            if correlation is not None and self._mode != "off":
                if self._driver == "psycopg" and connection.info.pop(_UNNAMED, False):
                    _name_transaction(connection)
                if "/*" not in statement:
                    comment = self._comment(correlation, connection)
                    if self._driver == "psycopg" and not parameters and context is not None and context.no_parameters:
                        # Nobody looks for placeholders then, and nobody takes the doubling away.
                        comment = comment.replace("%%", "%")
                    statement = comment + statement
        except Exception:  # noqa: BLE001 - an unattributed statement is better than none
            hook_failed("sql_comment")
        started = perf_counter()
        connection.info[_STARTED] = started
        if correlation is not None:
            correlation.overhead_s += started - entered
        return statement, parameters

    def _comment(self, correlation: Correlation, connection: Connection) -> str:
        name = correlation.name
        if name is None:
            # The route is known only once it was matched, inside the application; from then on it stays.
            name = correlation.name = route_template(correlation.scope or {})
        if self._mode == "statement" or _is_autocommit(connection):
            return self._render(correlation, name, correlation.request_id)
        key = (correlation.kind, name)
        comment = self._comments.get(key)
        if comment is None:
            comment = self._render(correlation, name, None)
            if len(self._comments) < _CACHE_LIMIT:
                self._comments[key] = comment
        return comment

    def _render(self, correlation: Correlation, name: str | None, request_id: str | None) -> str:
        tags = dict(self._tags)
        if correlation.kind == "http":
            tags |= {"framework": "fastapi", "route": name or ""}
        else:
            tags |= {"framework": "celery", "task": name or ""}
        if request_id:
            tags["request_id"] = request_id
        comment = sql_comment(tags)
        # %-style drivers read %2F as a placeholder.
        return (comment.replace("%", "%%") if self._driver == "psycopg" else comment) + " "

    @staticmethod
    def _begin_psycopg(connection: Connection) -> None:
        """Open the transaction ourselves, ID included; psycopg sees that it is open and sends no BEGIN of its own."""
        try:
            raw = connection.connection.dbapi_connection
            suffix = set_application_name()
            if not suffix or not isinstance(raw, psycopg.Connection) or raw.autocommit:
                return
            # A failure leaves the connection idle, and psycopg begins as if we had not been here.
            raw.pgconn.exec_((_begin_text(raw) + suffix).encode())
        except Exception:  # noqa: BLE001 - as above
            hook_failed("sql_begin")

    @staticmethod
    def _begin_two_phase(connection: Connection, _xid: Any) -> None:
        """Have the first statement name the transaction: psycopg wants to send this BEGIN itself, and bare."""
        connection.info[_UNNAMED] = True

    # --- time

    def _after_execute(
        self, connection: Connection, cursor: Any, statement: str, _parameters: Any, _context: Any, _many: bool
    ) -> None:
        try:
            self._observe(connection, statement, cursor.rowcount)
        except Exception:  # noqa: BLE001 - the result is there already
            hook_failed("sql_timing")

    def _on_error(self, context: ExceptionContext) -> None:
        try:
            if context.connection is not None and context.statement:
                self._observe(context.connection, context.statement)
        except Exception:  # noqa: BLE001 - the error itself matters more
            hook_failed("sql_timing")

    @staticmethod
    def _observe(connection: Connection, statement: str, rows: int | None = None) -> None:
        started = connection.info.pop(_STARTED, None)
        if started is None:
            return
        ended = perf_counter()
        bare = without_comment(statement)
        operation = bare[:6].rstrip().upper()
        _DURATION[operation if operation in _OPERATIONS else "OTHER"].observe(ended - started)
        correlation = current()
        if correlation is not None:
            trail_of(correlation).add_statement(bare, ended - started, rows)
            correlation.overhead_s += perf_counter() - ended


def without_comment(statement: str) -> str:
    """Return `statement` without the comment that leads it."""
    if statement.startswith("/*"):
        return statement.partition("*/")[2].lstrip()
    return statement.lstrip()


def _is_autocommit(connection: Connection) -> bool:
    return connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT"


def _name_transaction(connection: Connection) -> None:
    """Name a psycopg transaction that is open already, for one round trip."""
    raw = connection.connection.dbapi_connection
    command = set_application_name(separator="")
    if command and isinstance(raw, psycopg.Connection) and raw.pgconn.transaction_status == TransactionStatus.INTRANS:
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
