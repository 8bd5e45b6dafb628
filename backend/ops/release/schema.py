"""The schema of a running system: which revision it has, and the way to another one past other people's locks."""

import time
from collections.abc import Callable
from typing import Any, Final

import psycopg

from ops.release.backup import LockedOutError
from ops.release.target import Target
from ops.stack import exporter
from ops.stack.errors import StackError

_TRIES: Final = 10
_PAUSE_S: Final = 3.0


def revision(target: Target) -> str | None:
    """Return the revision the database is at; None where no migration ever ran.

    Raises:
        StackError: the database can't be asked, or has more than one revision.
    """
    try:
        with target.connect() as connection:
            rows = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    except psycopg.errors.UndefinedTable:
        return None
    if len(rows) > 1:
        raise StackError("The database is at several revisions at once.", "Look at the table alembic_version.")
    return str(rows[0][0]) if rows else None


def at(target: Target, wanted: str) -> dict[str, str]:
    """Return the revision the database is at, as evidence.

    Raises:
        StackError: it is not the one that is wanted.
    """
    found = revision(target)
    if found != wanted:
        raise StackError(f"The schema is at {found} instead of {wanted}.", "See postgres.log.")
    return {"revision": wanted}


def migrate(
    target: Target,
    commit: str,
    command: str,
    wanted: str,
    *,
    tries: int = _TRIES,
    pause_s: float = _PAUSE_S,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Bring the schema to `wanted` with the code of a version.

    Locks are waited for one second a try: while a migration waits, everybody who comes after it waits behind it.

    Args:
        target: the system.
        commit: of the version whose migrations are run.
        command: `upgrade` or `downgrade`.
        wanted: revision.
        tries: how often it is tried.
        pause_s: seconds between two tries.
        sleep: waits.

    Raises:
        StackError: it failed, or the lock was never free: by whom it is held.
    """
    for attempt in range(1, tries + 1):
        try:
            target.migrate(commit, command, wanted)
        except LockedOutError:
            if attempt < tries:
                sleep(pause_s)
                continue
            raise StackError(
                f"The migration found its tables locked {tries} times in {tries * (1 + pause_s):.0f} s, by: "
                f"{'; '.join(_holders(target)) or 'somebody who has left since'}.",
                "Nothing was changed. End that session, or wait for it; then run this again.",
            ) from None
        return {"revision": wanted, "tries": attempt}
    raise AssertionError("unreachable")


def has_exporter_role(target: Target) -> bool:
    """Whether the exporter's role is there and may log in."""
    with target.connect() as connection:
        query = "SELECT 1 FROM pg_roles WHERE rolname = %s AND rolcanlogin"
        return connection.execute(query, [exporter.ROLE]).fetchone() is not None


def _holders(target: Target) -> list[str]:
    """Return who holds locks on the application's tables, those that wait the longest first."""
    with target.connect() as connection:
        rows = connection.execute(
            """
            SELECT DISTINCT a.pid, a.application_name, a.state, extract(epoch FROM now() - a.xact_start)::int AS age_s
            FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) JOIN pg_class AS c ON c.oid = l.relation
            WHERE l.granted AND a.pid <> pg_backend_pid() AND c.relnamespace = 'public'::regnamespace
            ORDER BY age_s DESC LIMIT 5
            """
        ).fetchall()
    return [f"process {pid} ({name or 'without a name'}, {state}, {age_s} s)" for pid, name, state, age_s in rows]
