"""Ties SQL to its request or task, and times it.

Two tiers. A bounded comment (route or task name) leads every statement. The ID itself goes out once a transaction, as
`SET LOCAL application_name` in the same message as BEGIN, so it costs no round trip and no plan cache; from there
PostgreSQL shows it in pg_stat_activity, in its log (%a) and in auto_explain's plans. How it gets there is each driver's
own matter: sql_asyncpg.py, sql_psycopg.py.
"""

import re
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any, Final, Literal
from urllib.parse import quote

from sqlalchemy import Engine
from sqlalchemy.engine import ExecutionContext

from app.correlation import Correlation, current, is_valid_id
from app.telemetry.lots import observe_later
from app.telemetry.route import route_template
from app.telemetry.trail import trail_of
from app.utils.metrics import DB_QUERY_DURATION, hook_failed

Mode = Literal["transaction", "statement", "off"]

_OPERATIONS: Final = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "COPY"})
_DURATION: Final = {name: DB_QUERY_DURATION.labels(name) for name in (*_OPERATIONS, "OTHER")}
# Past brackets, and comments to the end of the line.
_FIRST_WORD: Final = re.compile(r"(?:[\s(]|--[^\n]*\n)*([A-Za-z]+)")
# Route templates and task names; a bug that makes them unbounded must not fill the memory.
_CACHE_LIMIT: Final = 1000


def sql_comment(tags: Mapping[str, str]) -> str:
    """Return a sqlcommenter comment: keys sorted, values URL-encoded, in single quotes.

    Encoding leaves no quote, star or slash, so no value can end the comment.

    Source: google.github.io/sqlcommenter/spec.
    """
    pairs = (f"{quote(key, safe='')}='{quote(value, safe='')}'" for key, value in sorted(tags.items()) if value)
    return f"/*{','.join(pairs)}*/"


def set_application_name(separator: str = ";") -> str:
    """Return what follows a BEGIN, or an empty string outside any request and task.

    The ID's alphabet has no quote; it was checked where it came in, and is checked here again, where it counts.
    """
    correlation = current()
    if correlation is None or not is_valid_id(correlation.request_id):
        return ""
    return f"{separator} SET LOCAL application_name = '{correlation.request_id}'"


class SqlAttribution:
    """Attribution and timing of one engine.

    It stands in for methods of the engine's dialect: an event before and one after each statement would cost more than
    all that is done there.

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
        self._comments: dict[tuple[str, str | None, bool], str] = {}

    def install(self, engine: Engine) -> None:
        """Watch `engine` (of an async engine: its `sync_engine`)."""
        dialect = engine.dialect
        # %-style drivers read %2F as a placeholder, and take its doubling away, where there may be placeholders.
        doubled = self._driver == "psycopg"
        instead: dict[str, Callable[..., None]] = {
            "do_execute": self._watched(dialect.do_execute, doubled=doubled),
            "do_executemany": self._watched(dialect.do_executemany, doubled=doubled),
            "do_execute_no_params": self._watched(dialect.do_execute_no_params, doubled=False),
        }
        if self._driver == "psycopg" and self._mode != "off":
            # Each process has one driver. The other need not be loaded, nor installed.
            from app.telemetry.sql_psycopg import naming  # noqa: PLC0415

            instead |= naming(dialect)
        for name, method in instead.items():
            setattr(dialect, name, method)

    def _watched(self, execute: Callable[..., None], *, doubled: bool) -> Callable[..., None]:
        def watched(cursor: Any, statement: str, *rest: Any) -> None:
            correlation = current()
            text = statement
            if correlation is not None and self._mode != "off":
                entered = perf_counter()
                text = self.attributed(statement, correlation, rest[-1], doubled=doubled)
                started = perf_counter()
                correlation.overhead_s += started - entered
            else:
                started = perf_counter()
            rows = None
            try:
                execute(cursor, text, *rest)
                rows = cursor.rowcount
            finally:
                _note(statement, started, rows, correlation)

        return watched

    def attributed(
        self, statement: str, correlation: Correlation, context: ExecutionContext | None, *, doubled: bool
    ) -> str:
        """Return `statement` behind the comment of whoever is at work; as it was where it has a comment already."""
        try:
            if "/*" in statement:
                return statement
            name = correlation.name
            if name is None:
                # The route is known only once it was matched, inside the application; from then on it stays.
                name = correlation.name = route_template(correlation.scope or {})
            if self._mode == "statement" or _is_autocommit(context):
                return self._render(correlation, name, correlation.request_id, doubled=doubled) + statement
            key = (correlation.kind, name, doubled)
            comment = self._comments.get(key)
            if comment is None:
                comment = self._render(correlation, name, None, doubled=doubled)
                if len(self._comments) < _CACHE_LIMIT:
                    self._comments[key] = comment
        except Exception:  # noqa: BLE001 - an unattributed statement is better than none
            hook_failed("sql_comment")
            return statement
        return comment + statement

    def _render(self, correlation: Correlation, name: str | None, request_id: str | None, *, doubled: bool) -> str:
        tags = dict(self._tags)
        if correlation.kind == "http":
            tags |= {"framework": "fastapi", "route": name or ""}
        else:
            tags |= {"framework": "celery", "task": name or ""}
        if request_id:
            tags["request_id"] = request_id
        comment = sql_comment(tags)
        return (comment.replace("%", "%%") if doubled else comment) + " "


# --- time


def _note(statement: str, started: float, rows: int | None, correlation: Correlation | None) -> None:
    """Time a statement that has ended, well or not."""
    ended = perf_counter()
    try:
        duration = _DURATION.get(statement[:6])
        if duration is None:
            statement = without_comment(statement)
            word = _FIRST_WORD.match(statement)
            duration = _DURATION.get(word[1].upper() if word else "OTHER", _DURATION["OTHER"])
        observe_later(duration, ended - started)
        if correlation is not None:
            trail_of(correlation).add_statement(statement, ended - started, rows)
            correlation.overhead_s += perf_counter() - ended
    except Exception:  # noqa: BLE001 - the result is there already
        hook_failed("sql_timing")


def without_comment(statement: str) -> str:
    """Return `statement` without the comment that leads it."""
    if statement.startswith("/*"):
        return statement.partition("*/")[2].lstrip()
    return statement.lstrip()


def _is_autocommit(context: ExecutionContext | None) -> bool:
    return context is not None and context.execution_options.get("isolation_level") == "AUTOCOMMIT"
