"""What fails, where, since when; and everything there is about one request."""

from typing import Final

from grafana_foundation_sdk.models.dashboard import Dashboard

from app.utils.metrics import CELERY_FAILURES, ERRORS, FAILURES, HTTP_REQUESTS
from dashboards.frame import frame, logs_source, runbook, text_box
from dashboards.names import POINT, SHOWN, TRAFFIC, counter, error_ratio, requests
from dashboards.panels import NO_ERROR, NO_FAILURE, NO_TRAFFIC, graph, log_lines, number, rows, stacked
from dashboards.recording import ERROR_RATIO_1H, ERROR_RATIO_5M
from dashboards.style import BURN_RATE, ERROR_RATIO, OBJECTIVE, Unit, red_from, rising

_SERVER_ERRORS: Final = f'{counter(ERRORS)}{{status_code=~"5.."}}'


def _most(label: str) -> tuple[str, str]:
    """The ten values of a label with most errors."""
    return f"topk(10, sum by ({label}) (increase({counter(ERRORS)}[{SHOWN}])))", "errors"


def build() -> Dashboard:
    """Return the dashboard."""
    return frame(
        "error-tracking",
        "CommandCenter: error tracking",
        "What fails, where, and since which release; with a request ID in the box above, all that is known of it.",
        [
            number(
                "5xx ratio",
                "Requests answered with a 5xx, of all that are traffic.",
                error_ratio(),
                Unit.RATIO,
                rising(ERROR_RATIO),
                empty=NO_TRAFFIC,
            )
            .span(6)
            .links([runbook("HighErrorRate")]),
            number(
                "5xx answers",
                "How many in the time shown.",
                f'sum(increase({counter(HTTP_REQUESTS)}{{{TRAFFIC},status=~"5.."}}[{SHOWN}])) or vector(0)',
                Unit.COUNT,
                red_from(1),
            ).span(6),
            number(
                "Rollbacks",
                "Transactions rolled back in the time shown. Reads end so too, having nothing to commit: mind a jump.",
                f"sum(increase(pg_stat_database_xact_rollback[{SHOWN}]))",
                Unit.COUNT,
            ).span(6),
            number(
                "Deadlocks",
                "Transactions that PostgreSQL ended because they waited for each other, in the time shown.",
                f"sum(increase(pg_stat_database_deadlocks[{SHOWN}]))",
                Unit.COUNT,
                red_from(1),
            ).span(6),
            graph(
                "Burn rate",
                f"How many times faster than allowed the budget of errors is spent ({1 - OBJECTIVE:.0%} of requests). "
                "Both lines high: it is bad and lasts. Only the fast one: it just began.",
                Unit.COUNT,
                (f"{ERROR_RATIO_5M.name} / {1 - OBJECTIVE:g}", "5 minutes"),
                (f"{ERROR_RATIO_1H.name} / {1 - OBJECTIVE:g}", "1 hour"),
                thresholds=rising(BURN_RATE),
            )
            .no_value(NO_TRAFFIC)
            .links([runbook("HighErrorRate"), runbook("HighErrorRateFast")]),
            stacked(
                graph(
                    "Errors by status",
                    "Failed requests and tasks; a failed task counts as 500. 4xx are clients' mistakes.",
                    Unit.OPERATIONS,
                    (f"sum by (status_code) (rate({counter(ERRORS)}[{POINT}]))", "{{status_code}}"),
                ).no_value(NO_ERROR)
            ),
            rows(
                "Errors by type, top 10",
                "Exception classes in the time shown.",
                Unit.COUNT,
                ["error_type"],
                _most("error_type"),
            ).no_value(NO_ERROR),
            rows(
                "Errors by endpoint, top 10",
                "Route templates and task names in the time shown.",
                Unit.COUNT,
                ["endpoint"],
                _most("endpoint"),
            ).no_value(NO_ERROR),
            rows(
                "Endpoint, type and status",
                "Every kind of error in the time shown. Look for its type among the logs below.",
                Unit.COUNT,
                ["endpoint", "error_type", "status_code"],
                (f"sum by (endpoint, error_type, status_code) (increase({counter(ERRORS)}[{SHOWN}])) > 0", "errors"),
            ).no_value(NO_ERROR),
            graph(
                "5xx ratio by handler",
                "Of each route's requests. One line up: that route. All lines up: something they share.",
                Unit.RATIO,
                (f"{requests(POINT, '5..', by='handler')} / {requests(POINT, by='handler')} > 0", "{{handler}}"),
                thresholds=rising(ERROR_RATIO),
            )
            .no_value(NO_ERROR)
            .links([runbook("HighErrorRate")]),
            graph(
                "Celery exceptions",
                "Failed runs of tasks by exception.",
                Unit.OPERATIONS,
                (f"sum by (task, exception) (rate({counter(CELERY_FAILURES)}[{POINT}]))", "{{task}} {{exception}}"),
            )
            .no_value(NO_FAILURE)
            .links([runbook("CeleryHighFailureRate")]),
            graph(
                "Server errors by endpoint",
                "Only what is our fault: 5xx and failed tasks.",
                Unit.OPERATIONS,
                (f"sum by (endpoint) (rate({_SERVER_ERRORS}[{POINT}]))", "{{endpoint}}"),
            ).no_value(NO_ERROR),
            graph(
                "Rollbacks and deadlocks",
                "By PostgreSQL's count.",
                Unit.OPERATIONS,
                (f"sum(rate(pg_stat_database_xact_rollback[{POINT}]))", "rollbacks"),
                (f"sum(rate(pg_stat_database_deadlocks[{POINT}]))", "deadlocks"),
            ),
            graph(
                "Hooks of ours that failed",
                "Observability that fails lets the request pass, and counts that here. Anything but 0 is a bug.",
                Unit.OPERATIONS,
                (f"sum by (hook) (rate({counter(FAILURES)}[{POINT}]))", "{{hook}}"),
            ).no_value("none failed"),
            log_lines(
                "Recent errors in the logs",
                "Lines of level error and above. Each has its request_id: copy it into the box above.",
                '{service=~".+",level=~"error|critical"}',
            ),
            log_lines(
                "Everything for one request",
                "All lines of all services that bear the ID in the box above. `commandcenter trace` adds the SQL.",
                '{service=~".+"} | request_id=`$request_id` | request_id!=``',
            ),
        ],
        [logs_source(), text_box("request_id", "Request ID", "From an error page, a response header or a log line.")],
    )
