"""Carries the ID into tasks and out of them, counts and times them.

The message bears the ID in headers of its own; a run binds it, whatever the pool. What the parent process has to
report (a killed child, a hard time limit) finds it in the message, for no context is set there.
"""

import logging
import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any, Final

import structlog
from billiard.einfo import ExceptionWithTraceback  # type: ignore[attr-defined] # the stubs leave it out
from billiard.exceptions import WorkerLostError
from celery import Celery, Task, signals
from celery.exceptions import Retry
from celery.worker.request import Request
from prometheus_client import Counter, Histogram

from app.correlation import (
    Correlation,
    activate,
    bind,
    current,
    deactivate,
    for_request,
    is_valid_id,
    new_id,
    new_span_id,
    new_trace_id,
    parse_traceparent,
)
from app.errors import error_type, fingerprint
from app.telemetry.logs import emit, format_exception
from app.telemetry.queues import PUBLISHED_AT
from app.telemetry.trail import Trail, trail_of
from app.utils.metrics import (
    CELERY_FAILURES,
    CELERY_QUEUE_WAIT,
    CELERY_TASK_DURATION,
    CELERY_TASKS,
    ERRORS,
    bounded,
    hook_failed,
)

log = structlog.get_logger(__name__)

# Not `correlation_id`: that is Celery's own.
REQUEST_ID: Final = "request_id"
TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
# How often this task was run before, retries and redeliveries together.
ATTEMPT: Final = "attempt"
# A run whose process is gone. Its message goes back to the queue.
LOST: Final = "LOST"
STATES: Final = ("SUCCESS", "FAILURE", "RETRY", "REVOKED", "REJECTED", "IGNORED")
_RUN: Final = "commandcenter_run"
_NO_SQL: Final = Trail().sql_summary()


class CorrelatedRequest(Request):
    """A message in the worker's parent process: what happens to it is told with its ID."""

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """Bind the ID while Celery reports a time limit."""
        # Celery's own name for what the message holds; its stubs leave it out.
        with bind(correlation_of(self._context, self.name)):  # type: ignore[attr-defined]
            super().on_timeout(soft, timeout)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """Bind the ID while Celery reports a failure, a lost worker among them."""
        with bind(correlation_of(self._context, self.name)) as correlation:  # type: ignore[attr-defined]
            error = getattr(exc_info, "exception", None)
            if isinstance(error, ExceptionWithTraceback):
                # As billiard hands over what happened in no child.
                error = error.exc
            if isinstance(error, WorkerLostError):
                # Celery puts the message back and tells nobody: the run would end without a word.
                _note_lost(self.name, correlation.queue, error)
            return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)


class CorrelatedTask(Task):  # type: ignore[type-arg]
    """The base of all tasks; see CorrelatedRequest."""

    abstract = True
    Request = "app.telemetry.celery_signals:CorrelatedRequest"


def correlation_of(request: Any, task: str) -> Correlation:
    """Return the correlation that a task's message bears, or a new one of its own root.

    Args:
        request: Celery's `Context`, or anything with its attributes.
        task: the task's name.
    """
    headers = request.headers or {}
    made = headers.get(REQUEST_ID)
    if isinstance(made, str) and is_valid_id(made):
        remote = parse_traceparent(str(headers.get(TRACEPARENT, "")))
        correlation = Correlation(made, remote[0] if remote else None)
        if remote is not None:
            correlation.trace_flags = remote[2]
            correlation.tracestate = headers.get(TRACESTATE)
    elif (parent := current()) is not None:
        # Run on the spot, by .apply() or in eager mode: no message was ever sent.
        correlation = Correlation(parent.request_id, parent.trace_id)
        correlation.trace_flags, correlation.tracestate = parent.trace_flags, parent.tracestate
    else:
        correlation = for_request(None)
    correlation.kind = "task"
    correlation.name = task
    correlation.task_id = request.id
    correlation.root_id = request.root_id or request.id
    correlation.parent_id = request.parent_id
    delivery = request.delivery_info or {}
    correlation.queue = delivery.get("routing_key")
    attempt = headers.get(ATTEMPT)
    if not isinstance(attempt, int):
        attempt = (request.retries or 0) + 1
    correlation.attempt = attempt + bool(delivery.get("redelivered"))
    return correlation


class CelerySignals:
    """Hooks for one Celery application.

    Args:
        queues: names that may stand in a label.
        quiet: tasks whose ordinary runs are told at level debug.
    """

    def __init__(self, queues: Sequence[str], quiet: Collection[str] = ()) -> None:
        self._queues = frozenset(queues)
        self._quiet = frozenset(quiet)
        self._runs: dict[str, tuple[Histogram, Histogram]] = {}
        self._ended: dict[tuple[str, str, str], Counter] = {}

    def install(self) -> None:
        """Connect the signals. Those of Celery are global, so once a process."""
        signals.before_task_publish.connect(_open("celery_publish", self._on_publish), weak=False)
        signals.task_prerun.connect(_open("celery_prerun", self._on_prerun), weak=False)
        signals.task_postrun.connect(_open("celery_postrun", self._on_postrun), weak=False)
        signals.task_retry.connect(_open("celery_retry", self._on_retry), weak=False)
        signals.task_failure.connect(_open("celery_failure", self._on_failure), weak=False)
        signals.task_revoked.connect(_open("celery_revoked", self._on_revoked), weak=False)

    # --- sending

    def _on_publish(
        self, sender: str | None = None, headers: dict[str, Any] | None = None, routing_key: str = "", **_: Any
    ) -> None:
        if headers is None:
            return
        correlation = current()
        if correlation is None:
            # Nobody's request: beat, or a script. The task is the root of its own story.
            headers.setdefault(REQUEST_ID, new_id())
            headers.setdefault(TRACEPARENT, f"00-{new_trace_id()}-{new_span_id()}-01")
        else:
            headers[REQUEST_ID] = correlation.request_id
            headers[TRACEPARENT] = correlation.traceparent
            if correlation.tracestate:
                headers[TRACESTATE] = correlation.tracestate
            if headers.get("id") == correlation.task_id:
                # A retry: the same task goes on. Celery would call it its own parent.
                headers[ATTEMPT] = correlation.attempt + 1
                headers["parent_id"] = correlation.parent_id
            else:
                headers.pop(ATTEMPT, None)
            emit(
                logging.INFO,
                __name__,
                "task.sent",
                {"sent_task": sender, "sent_task_id": headers.get("id"), "queue": routing_key},
            )
            trail_of(correlation).add("task", f"{sender} {headers.get('id')}", detail=routing_key)
        headers[PUBLISHED_AT] = time.time()

    # --- running, in the process (or thread) that does the work

    def _on_prerun(self, task: Task, **_: Any) -> None:  # type: ignore[type-arg]
        request = task.request
        correlation = correlation_of(request, task.name)
        token = activate(correlation)
        # From here on postrun takes the ID away again, whatever else fails.
        setattr(request, _RUN, (token, correlation, time.perf_counter()))
        wait_s = _queue_wait(request)
        if wait_s is not None:
            self._histograms(task.name)[0].observe(wait_s)
        self._tell(
            correlation,
            "task.started",
            {"queue": self._queue(), "queue_wait_ms": None if wait_s is None else round(wait_s * 1000, 3)},
        )

    def _on_postrun(self, task: Task, state: str | None = None, **_: Any) -> None:  # type: ignore[type-arg]
        run = getattr(task.request, _RUN, None)
        if run is None:
            return
        token, correlation, started = run
        try:
            duration_s = time.perf_counter() - started
            queue = self._queue()
            self._histograms(task.name)[1].observe(duration_s)
            self._count(task.name, state if state in STATES else "FAILURE", queue)
            trail = correlation.trail
            self._tell(
                correlation,
                "task.finished",
                {
                    "state": state,
                    "queue": queue,
                    "duration_ms": round(duration_s * 1000, 3),
                    "sql": _NO_SQL if trail is None else trail.sql_summary(),
                },
            )
        finally:
            deactivate(token)

    def _on_retry(self, reason: BaseException | str | None = None, **_: Any) -> None:
        error = reason.exc if isinstance(reason, Retry) and reason.exc is not None else reason
        log.warning(
            "task.retry",
            error_type=error_type(error) if isinstance(error, BaseException) else None,
            reason=str(error)[:500],
        )

    def _on_failure(
        self,
        sender: Task | None = None,  # type: ignore[type-arg]
        task_id: str | None = None,
        exception: BaseException | None = None,
        **_: Any,
    ) -> None:
        name = sender.name if sender is not None else "unknown"
        error = exception or RuntimeError("unknown")
        kind = bounded("error_type", error_type(error))
        CELERY_FAILURES.labels(name, kind).inc()
        ERRORS.labels(name, "500", kind).inc()
        run = getattr(sender.request, _RUN, None) if sender is not None else None
        if run is None:
            # The parent reports for a child that is no more: nobody's postrun will count this run.
            self._count(name, "FAILURE", self._queue())
        correlation = current()
        log.error(
            "task.failed",
            state="FAILURE",
            failed_task_id=task_id,
            error_type=error_type(error),
            fingerprint=fingerprint(error),
            exception=format_exception(error),
            trail=correlation.trail.steps() if correlation is not None and correlation.trail is not None else None,
        )

    def _on_revoked(self, sender: Task | None = None, request: Any = None, expired: bool = False, **_: Any) -> None:  # type: ignore[type-arg]
        name = sender.name if sender is not None else "unknown"
        with bind(correlation_of(request, name)):
            self._count(name, "REVOKED", self._queue())
            log.warning("task.finished", state="REVOKED", queue=self._queue(), expired=expired)

    def _tell(self, correlation: Correlation, event: str, fields: dict[str, Any]) -> None:
        is_quiet = correlation.name in self._quiet and fields.get("state") in {None, "SUCCESS"}
        emit(logging.DEBUG if is_quiet else logging.INFO, __name__, event, fields)

    # `labels()` costs more than counting, so each series is looked up once.

    def _histograms(self, task: str) -> tuple[Histogram, Histogram]:
        found = self._runs.get(task)
        if found is None:
            found = self._runs[task] = CELERY_QUEUE_WAIT.labels(task), CELERY_TASK_DURATION.labels(task)
        return found

    def _count(self, task: str, state: str, queue: str) -> None:
        key = (task, state, queue)
        counter = self._ended.get(key)
        if counter is None:
            counter = self._ended[key] = CELERY_TASKS.labels(*key)
        counter.inc()

    def _queue(self) -> str:
        """Return the queue that the current run came by, as a bounded label."""
        correlation = current()
        queue = correlation.queue or "" if correlation is not None else ""
        return queue if queue in self._queues else "other"


def initialise_series(app: Celery) -> None:
    """Make the series of each task and state at 0: a counter born with its first failure hides it from increase()."""
    for name in app.tasks:
        if name.startswith("celery."):
            continue
        CELERY_TASK_DURATION.labels(name)
        CELERY_QUEUE_WAIT.labels(name)
        for queue in app.amqp.queues:
            for state in ("SUCCESS", "FAILURE", "RETRY", "REVOKED", LOST):
                CELERY_TASKS.labels(name, state, queue)


def _note_lost(task: str, queue: str | None, error: WorkerLostError) -> None:
    try:
        kind = bounded("error_type", error_type(error))
        CELERY_FAILURES.labels(task, kind).inc()
        ERRORS.labels(task, "500", kind).inc()
        CELERY_TASKS.labels(task, LOST, queue or "other").inc()
        log.error(
            "task.failed", state=LOST, error_type=error_type(error), fingerprint=fingerprint(error), reason=str(error)
        )
    except Exception:  # noqa: BLE001 - never costs a task
        hook_failed("celery_lost")


def _queue_wait(request: Any) -> float | None:
    """Return seconds from when the task was to run (its ETA, or else its sending) until now; None if unknown."""
    published_at = (request.headers or {}).get(PUBLISHED_AT)
    if not isinstance(published_at, int | float):
        return None
    due = float(published_at)
    eta = request.eta
    if isinstance(eta, str):
        due = max(due, datetime.fromisoformat(eta).timestamp())
    return max(0.0, time.time() - due)


def _open(hook: str, receiver: Callable[..., None]) -> Callable[..., None]:
    """Return `receiver` such that it fails open."""

    def guarded(*args: Any, **kwargs: Any) -> None:
        # Celery hands the signal itself along.
        kwargs.pop("signal", None)
        try:
            receiver(*args, **kwargs)
        except Exception:  # noqa: BLE001 - never costs a task
            hook_failed(hook)

    return guarded
