"""Where the database's time and space go, and what waits for what."""

from typing import Final

from grafana_foundation_sdk.models.dashboard import Dashboard

from app.utils.metrics import DB_POOL_CONNECTIONS, DB_POOL_TIMEOUTS
from dashboards import parts
from dashboards.frame import frame, runbook
from dashboards.names import POINT, SHOWN, counter, gauge
from dashboards.panels import graph, number, rows, stacked, up
from dashboards.recording import POOL_WAIT, QUERIES, quantile
from dashboards.style import CACHE_HIT_MIN, DEAD_TUPLES, LATENCY_S, TRANSACTION_S, USE, Unit, amber_below, rising

_SECONDS: Final = f"sum by (queryid) (increase(pg_stat_statements_seconds_total[{SHOWN}]))"
_CALLS: Final = f"sum by (queryid) (increase(pg_stat_statements_calls_total[{SHOWN}]))"
# One text each: where it changed, both would match and the whole query would fail.
_TEXT: Final = "* on (queryid) group_left (query) topk by (queryid) (1, pg_stat_statements_query_id)"
_CACHE_HIT: Final = (
    f"sum(rate(pg_stat_database_blks_hit[{POINT}]))"
    f" / (sum(rate(pg_stat_database_blks_hit[{POINT}])) + sum(rate(pg_stat_database_blks_read[{POINT}])))"
)
_DEAD: Final = "sum by (relname) (pg_stat_user_tables_n_dead_tup)"
_LIVE: Final = "sum by (relname) (pg_stat_user_tables_n_live_tup)"


def build() -> Dashboard:
    """Return the dashboard."""
    return frame(
        "database-performance",
        "CommandCenter: database performance",
        "Which statements take the time, who waits for a connection, what grows.",
        [
            up("PostgreSQL", "Whether the exporter can log in to the database.", "min(pg_up)").links(
                [runbook("PostgresDown")]
            ),
            number(
                "Server connections",
                "Taken, of those that the server allows.",
                parts.SERVER_CONNECTIONS_USED,
                Unit.RATIO,
                rising(USE),
            ).links([runbook("DatabasePoolExhausted")]),
            number(
                "API's pool",
                "Checked out, of those that the API's processes may open.",
                parts.POOL_USED,
                Unit.RATIO,
                rising(USE),
            ).links([runbook("DatabasePoolExhausted")]),
            number(
                "Wait for the pool, p95",
                "Time that callers waited for a connection, over five minutes.",
                quantile(0.95, POOL_WAIT),
                Unit.SECONDS,
                rising(LATENCY_S),
                empty="nobody asked",
            ),
            number(
                "Cache hit",
                "Blocks found in PostgreSQL's own cache. Under 95 %: more memory, or a query that reads too much.",
                _CACHE_HIT,
                Unit.RATIO,
                amber_below(CACHE_HIT_MIN),
                empty="nothing read",
            ),
            number(
                "Longest transaction",
                "One that stays open keeps its locks and keeps vacuum from cleaning up.",
                "max(pg_stat_activity_max_tx_duration)",
                Unit.SECONDS,
                rising(TRANSACTION_S),
            ),
            stacked(
                graph(
                    "Connections by state",
                    "Of all databases. Idle in transaction: somebody holds locks and does nothing.",
                    Unit.COUNT,
                    ("sum by (state) (pg_stat_activity_count)", "{{state}}"),
                )
            ),
            graph(
                "Pool by state",
                "Connections of the application's processes; waiting callers that gave up, a second.",
                Unit.COUNT,
                (f"sum by (service, state) ({gauge(DB_POOL_CONNECTIONS)})", "{{service}} {{state}}"),
                (f"sum(rate({counter(DB_POOL_TIMEOUTS)}[{POINT}]))", "gave up"),
            ),
            graph(
                "Query duration by operation",
                "From sending a statement to its result, as the application sees it, over five minutes.",
                Unit.SECONDS,
                *[(quantile(q, QUERIES, by="operation"), f"{{{{operation}}}} p{q * 100:g}") for q in (0.5, 0.95, 0.99)],
                thresholds=rising(LATENCY_S),
            ).links([runbook("SlowDatabaseQueries")]),
            graph(
                "Commits and rollbacks",
                "Transactions a second, of all databases.",
                Unit.OPERATIONS,
                (f"sum(rate(pg_stat_database_xact_commit[{POINT}]))", "commits"),
                (f"sum(rate(pg_stat_database_xact_rollback[{POINT}]))", "rollbacks"),
            ),
            rows(
                "Statements by mean time, top 10",
                "Slow each time they run, in the time shown.",
                Unit.SECONDS,
                ["query", "queryid"],
                (f"topk(10, {_SECONDS} / ({_CALLS} > 0)) {_TEXT}", "mean"),
            ).links([runbook("SlowDatabaseQueries")]),
            rows(
                "Statements by total time, top 10",
                "What the server is busy with, in the time shown; often quick, but many.",
                Unit.SECONDS,
                ["query", "queryid"],
                (f"topk(10, {_SECONDS}) {_TEXT}", "total"),
            ),
            graph(
                "Locks",
                "Held or waited for, by mode. Exclusive ones that stay block others.",
                Unit.COUNT,
                ("sum by (mode) (pg_locks_count) > 0", "{{mode}}"),
            ),
            graph(
                "Deadlocks and temporary files",
                "A temporary file: a sort or join that did not fit into work_mem.",
                Unit.OPERATIONS,
                (f"sum(rate(pg_stat_database_deadlocks[{POINT}]))", "deadlocks"),
                (f"sum(rate(pg_stat_database_temp_files[{POINT}]))", "temporary files"),
            ),
            rows(
                "Sizes",
                "Of tables and of their indexes.",
                Unit.BYTES,
                ["relname"],
                ("sum by (relname) (pg_stat_user_tables_table_size_bytes)", "table"),
                ("sum by (relname) (pg_stat_user_tables_index_size_bytes)", "indexes"),
            ),
            graph(
                "Dead tuples",
                "Rows that vacuum has yet to remove, of each table with more than a thousand rows.",
                Unit.RATIO,
                (f"{_DEAD} / ({_DEAD} + {_LIVE} > 1000)", "{{relname}}"),
                thresholds=rising(DEAD_TUPLES),
            ).no_value("no table of more than a thousand rows"),
            graph(
                "Sequential and index scans",
                "A large table that is read in sequence lacks an index.",
                Unit.OPERATIONS,
                (f"sum by (relname) (rate(pg_stat_user_tables_seq_scan[{POINT}]))", "{{relname}} sequential"),
                (f"sum by (relname) (rate(pg_stat_user_tables_idx_scan[{POINT}]))", "{{relname}} by index"),
            ),
            graph(
                "Size of databases",
                "What they take on disk.",
                Unit.BYTES,
                ("max by (datname) (pg_database_size_bytes)", "{{datname}}"),
            ),
        ],
    )
