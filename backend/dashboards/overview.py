"""Is it well? If not, which of the other four to open."""

from typing import Final

from grafana_foundation_sdk.builders import stat
from grafana_foundation_sdk.models.dashboard import Dashboard

from app.utils.metrics import ALERTS_RECEIVED, BUILD_INFO, CELERY_QUEUE_DEPTH, REPOSITORY_OPERATIONS
from dashboards import parts
from dashboards.frame import frame, runbook
from dashboards.names import DISKS, POINT, REAL_ALERTS, SHOWN, counter, error_ratio, gauge, requests
from dashboards.panels import NO_TRAFFIC, graph, number, rows, stacked, up, up_over_time
from dashboards.recording import LATENCY_OF_ALL, quantile
from dashboards.style import DISK, ERROR_RATIO, LATENCY_S, QUEUE_DEPTH, USE, Unit, red_below, red_from, rising

_STATUS_CLASS: Final = (
    f'sum by (class) (label_replace({requests(POINT, by="status")}, "class", "${{1}}xx", "status", "(.).*"))'
)


def build() -> Dashboard:
    """Return the dashboard."""
    return frame(
        "commandcenter-overview",
        "CommandCenter: overview",
        "Is the system well? If not, the panel that is red says which of the other dashboards to open.",
        [
            *_figures(),
            stacked(
                graph(
                    "Traffic by status class",
                    "Requests a second; probes and scrapes left out. A gap: no target was scraped.",
                    Unit.REQUESTS,
                    (_STATUS_CLASS, "{{class}}"),
                ).no_value(NO_TRAFFIC)
            ),
            graph(
                "Latency",
                "Time to the last byte of an answer, over five minutes.",
                Unit.SECONDS,
                *[(quantile(q, LATENCY_OF_ALL), f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)],
                thresholds=rising(LATENCY_S),
            ).no_value(NO_TRAFFIC),
            rows(
                "Alerts that fire",
                "By Prometheus's word. Stage shadow: recorded only, nobody is called.",
                Unit.COUNT,
                ["alertname", "severity", "service"],
                (f"sum by (alertname, severity, service) (ALERTS{{{REAL_ALERTS}}})", "instances"),
            ).no_value("no alert fires"),
            up_over_time(
                "Scrape health",
                "Which targets Prometheus reaches. One that is down tells nothing: its panels are empty, not well.",
                "min by (service, instance) (up)",
                "{{service}} {{instance}}",
            ).links([runbook("ScrapeTargetDown")]),
            parts.cpu().span(8),
            parts.memory().span(8),
            graph(
                "Disk",
                "Space taken on each filesystem that can be written and is no memory.",
                Unit.RATIO,
                (
                    f"max by (mountpoint) (1 - node_filesystem_avail_bytes{{{DISKS}}} / node_filesystem_size_bytes)",
                    "{{mountpoint}}",
                ),
                thresholds=rising(DISK),
            )
            .span(8)
            .links([runbook("DiskSpaceLow")]),
            number(
                "Restarts",
                "Processes that started in the time shown. A release starts some; all else is a crash.",
                "sum(process_start_time_seconds > bool (time() - $__range_s))",
                Unit.COUNT,
            ).height(8),
            rows(
                "Build and release",
                "Which version runs where. Two versions in one service: a release is under way, or half done.",
                Unit.COUNT,
                ["service", "version", "commit"],
                (f"count by (service, version, commit) ({gauge(BUILD_INFO)})", "targets"),
            ).span(8),
            graph(
                "Work on repositories",
                "What was done to repositories, and how it ended.",
                Unit.OPERATIONS,
                (
                    f"sum by (operation, status) (rate({counter(REPOSITORY_OPERATIONS)}[{POINT}]))",
                    "{{operation}} {{status}}",
                ),
            )
            .no_value("nothing was done")
            .span(12),
            rows(
                "Alerts the backend was told of",
                "Copies that Alertmanager sent in the time shown. None, while alerts fire: the way there is broken.",
                Unit.COUNT,
                ["alertname", "severity", "status"],
                (f"sum by (alertname, severity, status) (increase({counter(ALERTS_RECEIVED)}[{SHOWN}]))", "received"),
            )
            .no_value("none")
            .span(12),
        ],
    )


def _figures() -> list[stat.Panel]:
    """The first row: what a look from across the room must tell."""
    figures = [
        up("API", "Whether every API target answers Prometheus.", 'min(up{service="api"})').links(
            [runbook("ScrapeTargetDown")]
        ),
        number(
            "Workers",
            "Celery workers that answer Prometheus. None: syncs queue up and nothing runs them.",
            'count(up{service="worker"} == 1) or vector(0)',
            Unit.COUNT,
            red_below(1),
        ).links([runbook("CeleryWorkerDown")]),
        up("PostgreSQL", "Whether the exporter can log in to the database.", "min(pg_up)").links(
            [runbook("PostgresDown")]
        ),
        number(
            "Firing alerts",
            "Alerts that fire by Prometheus's word, also those that only are recorded. The table below names them.",
            f"count(ALERTS{{{REAL_ALERTS}}}) or vector(0)",
            Unit.COUNT,
            red_from(1),
        ),
        number(
            "Error ratio",
            "Requests answered with a 5xx, of all that are traffic. Open error-tracking when it is not green.",
            error_ratio(),
            Unit.RATIO,
            rising(ERROR_RATIO),
            empty=NO_TRAFFIC,
        ).links([runbook("HighErrorRate")]),
        number(
            "Latency p95",
            "19 of 20 requests of the last five minutes were answered faster. Open golden-signals when slow.",
            quantile(0.95, LATENCY_OF_ALL),
            Unit.SECONDS,
            rising(LATENCY_S),
            empty=NO_TRAFFIC,
        ).links([runbook("SlowAPIResponses")]),
        number(
            "Database connections",
            "Connections of the server that are taken. Open database-performance when they run out.",
            parts.SERVER_CONNECTIONS_USED,
            Unit.RATIO,
            rising(USE),
        ).links([runbook("DatabasePoolExhausted")]),
        number(
            "Queue depth",
            "Tasks that wait in all queues. Open celery-deep-dive when it grows.",
            # Each worker's host counts the same queues.
            f"sum(max by (queue) ({gauge(CELERY_QUEUE_DEPTH)}))",
            Unit.COUNT,
            rising(QUEUE_DEPTH),
        ).links([runbook("CeleryQueueBacklog")]),
    ]
    return [figure.span(24 // len(figures)) for figure in figures]
