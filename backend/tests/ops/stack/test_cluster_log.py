"""What PostgreSQL's log must not hold: the values that statements are called with."""

from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tests.system import eventually

SLOWER_THAN_AUTO_EXPLAIN_S = 0.3


END = "the end of this test"


def _since(log: Path, offset: int) -> str:
    return log.read_bytes()[offset:].decode()


@pytest.mark.parametrize(
    ("statement", "fails"),
    [
        (sql.SQL("SELECT %s::text AS plain"), False),
        (sql.SQL("SELECT 1 / (length(%s) - 11) AS failing"), True),
        (sql.SQL("SELECT %s::text, pg_sleep({}) AS slow").format(SLOWER_THAN_AUTO_EXPLAIN_S), False),
    ],
    ids=["statement", "error", "plan"],
)
def test_no_parameter_reaches_the_log(
    database_url: str, postgres_log: Path, statement: sql.SQL | sql.Composed, *, fails: bool
) -> None:
    """A log is read by more people than the database is, and goes to Loki."""
    value, before = "Zebra9Quilt", postgres_log.stat().st_size
    with psycopg.connect(database_url, autocommit=True) as connection:
        if fails:
            with pytest.raises(psycopg.errors.DivisionByZero):
                connection.execute(statement, [value])
        else:
            connection.execute(statement, [value])
        connection.execute(f"SELECT '{END}'".encode())
    eventually(lambda: END in _since(postgres_log, before), what="the log's last line")
    written = _since(postgres_log, before)
    marker = statement.as_string().partition(" AS ")[2]
    assert f"AS {marker}" in written, written
    assert value not in written
