"""PostgreSQL's text log. The samples were logged by PostgreSQL 18 for asyncpg and psycopg."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.trace.postgres_log import PgEntry, by_request_id, entry_time, parse_entry, split_comment, statements
from ops.trace.records import MalformedLineError


def entry(rest: str, *, app: str = "req-1", pid: int = 7, ms: int = 0) -> PgEntry:
    return parse_entry(f"2026-11-24 08:00:00.{ms:03d} UTC [{pid}] app={app} user=u db=d {rest}".encode())


def test_parse_bind_and_execute_are_one_statement():
    """Else a statement with parameters counts three times, and its time is only a third of the truth."""
    (one,) = statements(
        [
            entry("LOG:  duration: 0.100 ms  parse __asyncpg_stmt_1__: SELECT $1"),
            entry("LOG:  duration: 0.050 ms  bind __asyncpg_stmt_1__: SELECT $1"),
            entry("DETAIL:  Parameters: $1 = 'secret'"),
            entry("LOG:  duration: 0.250 ms  execute __asyncpg_stmt_1__: SELECT $1"),
        ]
    )
    assert (one.text, one.duration_ms) == ("SELECT $1", 0.4)


def test_steps_of_two_connections_are_not_mixed():
    found = statements(
        [
            entry("LOG:  duration: 1.000 ms  parse a: SELECT 1", pid=1),
            entry("LOG:  duration: 0.010 ms  execute b: SELECT 2", pid=2),
            entry("LOG:  duration: 0.500 ms  execute a: SELECT 1", pid=1),
        ]
    )
    assert {one.pid: one.duration_ms for one in found} == {1: 1.5, 2: 0.01}


PLAN = (
    "LOG:  duration: {ms} ms  plan:\n\tQuery Text: SELECT *\n\t FROM t\n\tQuery Parameters: $1 = 'secret'\n"
    "\tSeq Scan on t  (cost=0.00..1.00 rows=1 width=4)\n\t  Filter: (name = 'secret'::text)"
)


@pytest.mark.parametrize("order", ["before", "behind"])
def test_a_plan_belongs_to_its_statement(order):
    """auto_explain writes when the portal closes: before the duration's line, or after it."""
    plan = entry(PLAN.format(ms="4.900"))
    executed = entry("LOG:  duration: 5.000 ms  execute <unnamed>: SELECT *\n\t FROM t")
    (one,) = statements([plan, executed] if order == "before" else [executed, plan])
    assert one.plan == ["Seq Scan on t  (cost=0.00..1.00 rows=1 width=4)"]
    assert one.text == "SELECT *\n FROM t"


def test_a_slow_plan_is_not_given_to_a_quick_run_before_it():
    found = statements(
        [
            entry("LOG:  duration: 0.100 ms  execute a: SELECT *\n\t FROM t", ms=1),
            entry(PLAN.format(ms="300.000"), ms=400),
            entry("LOG:  duration: 300.100 ms  execute a: SELECT *\n\t FROM t", ms=401),
        ]
    )
    assert [bool(one.plan) for one in found] == [False, True]


def test_a_plan_alone_is_a_statement():
    """Where log_min_duration_statement is off, auto_explain may be the only one to tell."""
    (one,) = statements([entry(PLAN.format(ms="300.000"))])
    assert (one.duration_ms, one.text) == (300.0, "SELECT *\n FROM t")


def test_log_statement_and_log_duration_are_put_together():
    (one,) = statements([entry("LOG:  statement: SELECT 1"), entry("LOG:  duration: 0.300 ms")])
    assert (one.text, one.duration_ms) == ("SELECT 1", 0.3)


def test_an_error_has_its_statement_and_not_its_values():
    (one,) = statements(
        [
            entry('ERROR:  duplicate key value violates unique constraint "t_pkey"'),
            entry("DETAIL:  Key (id)=(secret) already exists."),
            entry("STATEMENT:  /*route='%2Fx'*/ INSERT INTO t\n\tVALUES ($1)"),
        ]
    )
    assert one.text == "INSERT INTO t\nVALUES ($1)"
    assert one.error == 'ERROR: duplicate key value violates unique constraint "t_pkey"'
    assert one.tags == {"route": "/x"}
    assert "secret" not in repr(one)


def test_begin_and_set_are_no_statements_of_the_request():
    found = statements(
        [
            entry("LOG:  duration: 0.030 ms  statement: BEGIN; SET LOCAL application_name = 'req-1'"),
            entry("LOG:  duration: 0.100 ms  statement: SELECT settings FROM t"),
        ]
    )
    assert [(one.kind, one.opens_transaction) for one in found] == [("transaction", True), ("statement", False)]


def test_an_id_in_the_comment_counts_too():
    """A statement outside a transaction has it there, as have all where SQL_COMMENTS=statement."""
    entries = [
        entry("ERROR:  division by zero", app="[unknown]"),
        entry("STATEMENT:  /*request_id='req-1'*/ SELECT 1/0", app="[unknown]"),
        entry("LOG:  duration: 1.000 ms  statement: /*request_id='req-1',route='%2Fx'*/ SELECT 1", app="[unknown]"),
        entry("LOG:  duration: 1.000 ms  statement: /*request_id='req-10'*/ SELECT 1", app="[unknown]"),
        entry("LOG:  duration: 1.000 ms  statement: SELECT 'req-1', '/*request_id=''req-1''*/'", app="[unknown]"),
    ]
    found = statements(by_request_id(entries, ["req-1"])["req-1"])
    assert [(one.text, bool(one.error)) for one in found] == [("SELECT 1/0", True), ("SELECT 1", False)]


@pytest.mark.parametrize(
    ("written", "hour"),
    [
        (b"2026-11-24 08:00:00.123 UTC [1]", 8),
        (b"2026-11-24 08:00:00.123 GMT [1]", 8),
        (b"2026-11-24 10:00:00.123 +02 [1]", 8),
        (b"2026-11-24 02:30:00.123 -05:30 [1]", 8),
    ],
)
def test_times_are_told_in_utc(written, hour):
    assert entry_time(written) == datetime(2026, 11, 24, hour, 0, 0, 123000, tzinfo=UTC)


def test_a_comment_that_never_ends_is_text():
    assert split_comment("/* SELECT 1") == ({}, "/* SELECT 1")


@given(st.binary())
def test_any_bytes_are_an_entry_or_malformed(raw):
    try:
        found = parse_entry(raw)
    except MalformedLineError:
        return
    statements([found])


@given(
    st.lists(st.tuples(st.sampled_from(["LOG", "ERROR", "STATEMENT", "DETAIL", "FATAL"]), st.text(), st.integers(1, 2)))
)
def test_any_message_is_taken(parts):
    """What a client sends as SQL is in this log, so anything may be."""
    lead = ["", "duration: 1.000 ms  plan:", "duration: 1.000 ms  execute x: ", "duration: 1.000 ms", "statement: "]
    for start in lead:
        statements([entry(f"{severity}:  {start}{text}", pid=pid) for severity, text, pid in parts])
