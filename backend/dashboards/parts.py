"""Panels and expressions that stand on more than one dashboard."""

from typing import Final

from grafana_foundation_sdk.builders import timeseries

from app.utils.metrics import DB_POOL_CONNECTIONS, DB_POOL_MAX
from dashboards.frame import runbook
from dashboards.names import POINT, gauge
from dashboards.panels import graph
from dashboards.style import USE, Unit, rising

SERVER_CONNECTIONS_USED: Final = "sum(pg_stat_activity_count) / max(pg_settings_max_connections)"
POOL_USED: Final = (
    f'sum({gauge(DB_POOL_CONNECTIONS)}{{service="api",state="checked_out"}})'
    f' / sum({gauge(DB_POOL_MAX)}{{service="api"}})'
)
_PROCESS_CPU: Final = f"sum by (service) (rate(process_cpu_seconds_total[{POINT}]))"


def cpu() -> timeseries.Panel:
    """The machine's CPU, and what each service takes of it."""
    return graph(
        "CPU",
        "The machine's cores that are busy, and those that each service keeps busy. 1 is one core.",
        Unit.COUNT,
        (f'sum(rate(node_cpu_seconds_total{{mode!~"idle|iowait"}}[{POINT}]))', "machine"),
        (_PROCESS_CPU, "{{service}}"),
    )


def memory() -> timeseries.Panel:
    """The machine's memory, and what each service takes of it."""
    return graph(
        "Memory",
        "Memory of the machine that is taken, and of each service: summed up over its processes, so what they share "
        "counts for each.",
        Unit.BYTES,
        ("sum(node_memory_MemTotal_bytes - node_memory_MemAvailable_bytes)", "machine, taken"),
        ("sum(node_memory_MemTotal_bytes)", "machine, all"),
        ("sum by (service) (process_resident_memory_bytes)", "{{service}}"),
    )


def connections_used() -> timeseries.Panel:
    """How full the server and the application's pool are."""
    return graph(
        "Connections in use",
        "Of the server's connections, and of those that the API's pool may open. At 1 callers wait, then fail.",
        Unit.RATIO,
        (SERVER_CONNECTIONS_USED, "server"),
        (POOL_USED, "API's pool"),
        thresholds=rising(USE),
    ).links([runbook("DatabasePoolExhausted")])
