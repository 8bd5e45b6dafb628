"""The backup before a release: taken of one moment, and restored once, for a backup that was never restored is a hope.

The rows of every table are counted in the very snapshot that is dumped, and again in what was restored.
"""

import hashlib
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql

from ops.release.target import Target
from ops.stack.errors import StackError

_SCRATCH: Final = "commandcenter_restore_test"


class LockedOutError(StackError):
    """A lock that is needed wasn't free in time. It may be, the next time."""


def row_counts(connection: psycopg.Connection[tuple[Any, ...]]) -> dict[str, int]:
    """Return how many rows each table of the application has."""
    tables = connection.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename"
    ).fetchall()
    counts: dict[str, int] = {}
    for (table,) in tables:
        query = sql.SQL("SELECT count(*) FROM public.{}").format(sql.Identifier(table))
        [[counts[str(table)]]] = connection.execute(query).fetchall()
    return counts


def with_former_kept(file: Path) -> Path:
    """Return where to write a backup; one that lies there is kept by the time it was made."""
    if file.exists():
        made = datetime.fromtimestamp(file.stat().st_mtime, UTC)
        file.rename(file.with_name(f"{file.stem}.of-{made:%Y%m%dT%H%M%SZ}{file.suffix}"))
    return file


def take(target: Target, file: Path) -> dict[str, Any]:
    """Dump the database into `file`, for our eyes alone; return its size, digest and row counts.

    Raises:
        StackError: no whole backup could be made; none is left behind.
    """
    unfinished = file.with_name(file.name + ".new")
    with target.connect() as connection, connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        [[snapshot]] = connection.execute("SELECT pg_export_snapshot()").fetchall()
        rows = row_counts(connection)
        try:
            with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
                target.postgres_tool(
                    "pg_dump", "--format=custom", f"--snapshot={snapshot}", "--dbname=commandcenter", target=out
                )
                out.flush()
                os.fsync(out.fileno())
        except (StackError, OSError) as error:
            unfinished.unlink(missing_ok=True)
            if isinstance(error, StackError):
                raise
            raise StackError(f"The backup can't be written: {error}", f"Make room in {file.parent}.") from error
    unfinished.replace(file)
    return {"file": str(file), "size_bytes": file.stat().st_size, "sha256": digest(file), "rows": rows}


def restore_test(target: Target, file: Path, rows: Mapping[str, int]) -> dict[str, Any]:
    """Restore `file` into a database of its own, count its rows, and drop it again.

    Raises:
        StackError: it can't be restored, or not all of it came back.
    """
    with target.connect("postgres") as connection:
        _drop(connection)
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER commandcenter").format(sql.Identifier(_SCRATCH)))
        try:
            with file.open("rb") as source:
                target.postgres_tool("pg_restore", "--exit-on-error", f"--dbname={_SCRATCH}", source=source)
            with target.connect(_SCRATCH) as restored:
                found = row_counts(restored)
        except StackError as error:
            raise StackError(
                f"The backup {file} can't be restored: {error.problem}", "Nothing was changed. Don't go on without one."
            ) from error
        finally:
            _drop(connection)
    if found != dict(rows):
        different = sorted(name for name in {*found, *rows} if found.get(name) != rows.get(name))
        raise StackError(
            f"The backup {file} lacks rows in {', '.join(different)}.", "Nothing was changed. Don't go on without one."
        )
    return {"restored_rows": sum(found.values()), "tables": len(found)}


def is_whole(file: Path, sha256: str) -> bool:
    """Whether the backup is still what was written."""
    return file.is_file() and digest(file) == sha256


def digest(file: Path) -> str:
    """Return a file's SHA-256."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _drop(connection: psycopg.Connection[tuple[Any, ...]]) -> None:
    connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(_SCRATCH)))
