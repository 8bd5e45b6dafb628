"""The parts of a stack by name: which hold data, which are ours, and the variables of their ports."""

from typing import Final

# Parts that hold data come first and stop last.
STORES: Final = ("postgres", "redis")
OWN: Final = ("api", "worker", "beat")
PORTS: Final = {
    "postgres": "POSTGRES_PORT",
    "redis": "REDIS_PORT",
    "api": "API_PORT",
    "worker": "WORKER_METRICS_PORT",
    "postgres-exporter": "POSTGRES_EXPORTER_PORT",
    "node-exporter": "NODE_EXPORTER_PORT",
    "prometheus": "PROMETHEUS_PORT",
    "alertmanager": "ALERTMANAGER_PORT",
}
