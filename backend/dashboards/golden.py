"""The four golden signals of the API: latency, traffic, errors, saturation."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from app.utils.metrics import HTTP_DURATION, HTTP_IN_PROGRESS, LOG_LINES_DROPPED
from dashboards import parts
from dashboards.frame import frame, runbook
from dashboards.names import POINT, TRAFFIC, buckets, counter, error_ratio, gauge, requests, slow_ratio
from dashboards.panels import NO_TRAFFIC, graph, heat_map, rows, stacked
from dashboards.recording import LATENCY, LATENCY_OF_ALL, OVERHEADS, quantile
from dashboards.style import ERROR_RATIO, LATENCY_S, SLOW_SHARE, USE, Unit, rising


def build() -> Dashboard:
    """Return the dashboard."""
    return frame(
        "golden-signals",
        "CommandCenter: golden signals",
        "Latency, traffic, errors and saturation of the API.",
        [
            graph(
                "Latency",
                "Time to the last byte of an answer, over five minutes.",
                Unit.SECONDS,
                *[(quantile(q, LATENCY_OF_ALL), f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)],
                thresholds=rising(LATENCY_S),
            )
            .no_value(NO_TRAFFIC)
            .links([runbook("SlowAPIResponses")]),
            heat_map(
                "Latency, spread",
                "Two bands are two kinds of requests; a p95 between them is neither.",
                f"sum by (le) (increase({buckets(HTTP_DURATION)}{{{TRAFFIC}}}[{POINT}]))",
            ).no_value(NO_TRAFFIC),
            graph(
                "Share over 1 s",
                "Requests slower than a second. Over 5 %: p95 is over a second.",
                Unit.RATIO,
                (slow_ratio(), "over 1 s"),
                thresholds=rising(SLOW_SHARE),
            )
            .no_value(NO_TRAFFIC)
            .links([runbook("SlowAPIResponses")]),
            rows(
                "Slowest handlers",
                "p95 of each route over the last five minutes.",
                Unit.SECONDS,
                ["handler"],
                (f"topk(10, {quantile(0.95, LATENCY, by='handler')})", "p95"),
                thresholds=rising(LATENCY_S),
            ).no_value(NO_TRAFFIC),
            stacked(
                graph(
                    "Traffic by handler",
                    "Requests a second; what matches no route is `unmatched`.",
                    Unit.REQUESTS,
                    (requests(by="handler"), "{{handler}}"),
                ).no_value(NO_TRAFFIC)
            ),
            graph(
                "Error ratios",
                "5xx are our faults, 4xx mostly clients': a jump of those may still be ours.",
                Unit.RATIO,
                (error_ratio(), "5xx"),
                (f"({requests(POINT, '4..')} or vector(0)) / ({requests(POINT)} > 0)", "4xx"),
                thresholds=rising(ERROR_RATIO),
            )
            .no_value(NO_TRAFFIC)
            .links([runbook("HighErrorRate")]),
            graph(
                "In flight",
                "Requests that are being answered. It grows when answers take longer than requests take to come.",
                Unit.COUNT,
                (f"sum by (method) ({gauge(HTTP_IN_PROGRESS)})", "{{method}}"),
            ),
            parts.connections_used(),
            parts.cpu(),
            parts.memory(),
            graph(
                "File descriptors",
                "Open, of those that a process may open: of the fullest process of each service.",
                Unit.RATIO,
                ("max by (service) (process_open_fds / process_max_fds)", "{{service}}"),
                thresholds=rising(USE),
            ),
            graph(
                "What observing costs",
                "Time that the layer itself took of a request, over five minutes. Its bound is 1 ms at p99.9.",
                Unit.SECONDS,
                *[(quantile(q, OVERHEADS), f"p{q * 100:g}") for q in (0.5, 0.99, 0.999)],
            ),
            graph(
                "Log lines lost",
                "Lines that could not be written: a full disk, a pipe that nobody reads. Each may be the one you need.",
                Unit.OPERATIONS,
                (f"sum by (service) (rate({counter(LOG_LINES_DROPPED)}[{POINT}]))", "{{service}}"),
            ),
        ],
    )
