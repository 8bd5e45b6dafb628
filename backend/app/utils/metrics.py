"""Every metric there is, once: who writes it, who reads it, what bounds its labels.

Import this module only after PROMETHEUS_MULTIPROC_DIR is set: the client library looks at it while it is imported.
"""

from contextlib import suppress
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

# Where a request matched no route, and what a method outside the list is called.
UNMATCHED: Final = "unmatched"
OTHER_METHOD: Final = "OTHER"
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_REQUEST_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_QUERY_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_TASK_BUCKETS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0)
_OVERHEAD_BUCKETS: Final = (0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005)

# --- HTTP. Written by middleware/http_metrics.py, read by golden-signals, overview and the request alerts.
# handler: route templates, or `unmatched`; method: METHODS or OTHER; status: what was sent.
HTTP_REQUESTS = Counter("http_requests_total", "HTTP requests answered.", ["method", "handler", "status"])
HTTP_DURATION = Histogram(
    "http_request_duration_seconds",
    "Time from a request's arrival to the last byte of its answer.",
    ["method", "handler"],
    buckets=_REQUEST_BUCKETS,
)
HTTP_IN_PROGRESS = Gauge(
    "http_requests_in_progress", "HTTP requests being answered now.", ["method"], multiprocess_mode="livesum"
)

# --- Errors. Written by middleware/errors.py and telemetry/celery_figures.py, read by error-tracking.
# endpoint: route templates and task names; error_type: exception classes, at most 50, then `other`.
ERRORS = Counter("commandcenter_errors_total", "Failed requests and tasks.", ["endpoint", "status_code", "error_type"])

# --- The layer about itself. Read by the release gate and golden-signals.
# Written by note_overhead() below when a request ends, from what all hooks added up.
OVERHEAD = Histogram(
    "commandcenter_observability_overhead_seconds",
    "Time the observability layer itself took of one request.",
    buckets=_OVERHEAD_BUCKETS,
)
# Written by hook_failed() below. hook: names in code, a dozen.
FAILURES = Counter(
    "commandcenter_observability_failures_total", "Hooks that failed and let the request pass.", ["hook"]
)

# Written by telemetry/log_sink.py; read by golden-signals.
LOG_LINES_DROPPED = Counter(
    "commandcenter_log_lines_dropped_total", "Log lines that could not be written: a full disk, a pipe nobody reads."
)

# --- Database. Written by telemetry/sql.py, read by database-performance and its alerts.
# operation: SELECT INSERT UPDATE DELETE COPY, or OTHER.
DB_QUERY_DURATION = Histogram(
    "commandcenter_db_query_duration_seconds",
    "Time from sending a statement to its result.",
    ["operation"],
    buckets=_QUERY_BUCKETS,
)
# The pool's are written by telemetry/pool.py. state: checked_out, idle, overflow.
DB_POOL_CONNECTIONS = Gauge(
    "commandcenter_db_pool_connections", "Connections of the pool by state.", ["state"], multiprocess_mode="livesum"
)
DB_POOL_MAX = Gauge(
    "commandcenter_db_pool_max_connections", "Connections the pool may open at most.", multiprocess_mode="livesum"
)
DB_POOL_WAIT = Histogram(
    "commandcenter_db_pool_wait_seconds", "Time a caller waited for a connection.", buckets=_QUERY_BUCKETS
)
DB_POOL_TIMEOUTS = Counter("commandcenter_db_pool_timeouts_total", "Callers that waited for a connection in vain.")

# --- The application. Written by repositories/service.py and tasks.py. operation: create update delete sync_request
# sync; status: success failure conflict not_found retry.
REPOSITORY_OPERATIONS = Counter(
    "commandcenter_repository_operations_total", "What was done to repositories.", ["operation", "status"]
)
# Written by alerts/service.py. alertname: names that our rules file may hold, at most 100, then `other`.
ALERTS_RECEIVED = Counter(
    "commandcenter_alerts_received_total", "Alerts that Alertmanager told us of.", ["alertname", "severity", "status"]
)
# Written by main.py and worker.py at start.
BUILD_INFO = Gauge(
    "commandcenter_build_info", "1, with the running version.", ["version", "commit"], multiprocess_mode="livemax"
)

# --- Celery. Written by telemetry/celery_figures.py, read by celery-deep-dive and its alerts.
# task: registered names; state: SUCCESS FAILURE RETRY REVOKED REJECTED IGNORED LOST;
# queue: configured queues or `other`.
CELERY_TASKS = Counter("celery_tasks_total", "Runs of tasks that ended.", ["task", "state", "queue"])
CELERY_TASK_DURATION = Histogram(
    "celery_task_duration_seconds", "Time one run of a task took.", ["task"], buckets=_TASK_BUCKETS
)
CELERY_QUEUE_WAIT = Histogram(
    "celery_task_queue_wait_seconds",
    "Time from when a task was to run until it ran.",
    ["task"],
    buckets=_TASK_BUCKETS,
)
# exception: classes, at most 50, then `other`.
CELERY_FAILURES = Counter("celery_task_failures_total", "Failed runs by exception.", ["task", "exception"])

# Written by telemetry/queues.py, by the worker's parent process alone.
CELERY_QUEUE_DEPTH = Gauge(
    "celery_queue_depth", "Tasks waiting, all priorities.", ["queue"], multiprocess_mode="mostrecent"
)
CELERY_QUEUE_OLDEST = Gauge(
    "celery_queue_oldest_task_age_seconds",
    "Age of the task that has waited longest; 0 for an empty queue.",
    ["queue"],
    multiprocess_mode="mostrecent",
)
CELERY_CANARY_AGE = Gauge(
    "celery_canary_age_seconds",
    "Time since the queue's canary last ran: a worker that is up but hung lets it grow.",
    ["queue"],
    multiprocess_mode="mostrecent",
)

_LIMIT: Final = 50
_known: dict[str, set[str]] = {}


def bounded(kind: str, value: str, limit: int = _LIMIT) -> str:
    """Return `value` as a label, or `other` once this process has seen `limit` different ones of this kind."""
    known = _known.setdefault(kind, set())
    if value in known:
        return value
    if len(known) >= limit:
        return "other"
    known.add(value)
    return value


_LOT: Final = 8
_overheads: list[float] = []


def note_overhead(seconds: float) -> None:
    """Note what the layer took of one request.

    Written in lots: one after another in one go costs a third of one at a time, and this figure alone may be a few
    requests late. A scrape writes what is left.
    """
    _overheads.append(seconds)
    if len(_overheads) >= _LOT:
        write_overheads()


def write_overheads() -> None:
    """Write what note_overhead() was told."""
    # Threads may empty the list side by side.
    with suppress(IndexError):
        while True:
            OVERHEAD.observe(_overheads.pop())


def hook_failed(hook: str) -> None:
    """Count a hook that failed. Never raises: it is called where nothing may."""
    with suppress(Exception):
        FAILURES.labels(hook).inc()
