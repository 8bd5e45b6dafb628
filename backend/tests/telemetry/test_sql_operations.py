"""By which operation a statement is counted."""

import pytest
from prometheus_client import REGISTRY

from app.telemetry import lots, sql


@pytest.mark.parametrize(
    ("statement", "operation"),
    [
        ("SELECT 1", "SELECT"),
        ("select 1", "SELECT"),
        ("COPY t FROM STDIN", "COPY"),
        ("copy (SELECT 1) TO STDOUT", "COPY"),
        ("/*route='x'*/ COPY t TO STDOUT", "COPY"),
        ("(SELECT 1) UNION (SELECT 2)", "SELECT"),
        ("-- by hand\n  UPDATE t SET a = 1", "UPDATE"),
        ("WITH x AS (SELECT 1) SELECT * FROM x", "OTHER"),
        ("", "OTHER"),
        ("-- nothing", "OTHER"),
    ],
)
def test_a_statement_is_counted_by_its_first_word(statement: str, operation: str) -> None:
    """A label that can never be written misleads whoever reads its panel."""

    def counted() -> float:
        lots.write()
        name = "commandcenter_db_query_duration_seconds_count"
        return REGISTRY.get_sample_value(name, {"operation": operation}) or 0.0

    before = counted()
    sql._note(statement, 0.0, None, None)
    assert counted() == before + 1
