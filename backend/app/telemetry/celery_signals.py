"""Carries the ID into tasks and out of them, and tells of their runs.

A run binds what its message bears (telemetry/celery_message.py), whatever the pool, and is counted and timed
(telemetry/celery_figures.py). What only the worker's parent process knows of is told by telemetry/celery_request.py.
"""

import logging
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any, Final

import structlog
from celery import Celery, Task, signals
from celery.exceptions import Reject, Retry

from app.correlation import Correlation, activate, bind, current, deactivate
from app.errors import error_type, fingerprint
from app.telemetry.celery_figures import LOST, RunFigures
from app.telemetry.celery_message import (
    REQUEST_ID,
    correlation_of,
    ids_of,
    is_from_beat,
    put_ids,
    queue_wait_s,
)
from app.telemetry.logs import emit, format_exception
from app.telemetry.opentelemetry import SpanIds, span_source
from app.telemetry.scrub import scrub
from app.telemetry.trail import Trail, trail_of
from app.utils.metrics import hook_failed

log = structlog.get_logger(__name__)

_RUN: Final = "commandcenter_run"
_HOOKS: Final = "commandcenter_hooks"
_NO_SQL: Final = Trail().sql_summary()


class CelerySignals:
    """Hooks for one Celery application.

    Args:
        queues: names that may stand in a label.
        quiet: tasks whose ordinary runs are told at level debug.
        slow_ms: a run that takes longer is told as a warning, with its trail.
    """

    def __init__(self, queues: Sequence[str], quiet: Collection[str] = (), slow_ms: float = 60_000.0) -> None:
        self._figures = RunFigures(queues)
        self._quiet = frozenset(quiet)
        self._slow_s = slow_ms / 1000

    def install(self, app: Celery) -> None:
        """Watch the tasks of `app`.

        Celery's signals are those of the whole process. Each is connected once, however many applications there are,
        and looks up whose task it is: two receivers of one run would leave its ID bound when it ends.
        """
        setattr(app, _HOOKS, self)
        for signal, receiver in _RECEIVERS:
            signal.connect(receiver, weak=False)

    # --- running, in the process (or thread) that does the work

    def prerun(self, task: Task) -> None:  # type: ignore[type-arg]
        """Bind the ID of the run that begins."""
        request = task.request
        correlation = correlation_of(request, task.name)
        self._join(correlation)
        token = activate(correlation)
        # From here on postrun takes the ID away again, whatever else fails.
        setattr(request, _RUN, (token, correlation, time.perf_counter()))
        if not (request.headers or {}).get(REQUEST_ID):
            # Run on the spot: no message was sent. Tried again it is called with the headers that it has.
            request.headers = {**(request.headers or {}), **ids_of(correlation)}
        wait_s = queue_wait_s(request)
        if wait_s is not None:
            self._figures.waited(task.name, wait_s)
        self._tell(
            correlation,
            "task.started",
            {
                "queue": self._queue(),
                "queue_wait_ms": None if wait_s is None else round(wait_s * 1000, 3),
                "sent_by": "beat" if is_from_beat(request) else None,
            },
        )

    @cached_property
    def _span_source(self) -> Callable[[], SpanIds | None] | None:
        # Asked when a process runs its first task: an SDK is configured in each of them as it starts.
        return span_source()

    def _join(self, correlation: Correlation) -> None:
        """Take the IDs of the span that another tracer has made for this run, if it was asked before us.

        Else it continues the trace that stands in the message, as we do. Of a run on the spot nobody can tell whether
        the span is its own or its caller's; the trace is one.
        """
        if self._span_source is not None and current() is None and (span := self._span_source()) is not None:
            correlation.join(*span)

    def postrun(self, task: Task, state: str | None) -> None:  # type: ignore[type-arg]
        """Count and time the run, and take its ID away."""
        run = getattr(task.request, _RUN, None)
        if run is None:
            return
        token, correlation, started = run
        try:
            if state is None:
                # Its process is being ended. The parent tells why, and counts it.
                return
            duration_s = time.perf_counter() - started
            queue = self._queue()
            self._figures.ran(task.name, duration_s)
            self._figures.ended(task.name, state, queue)
            is_slow = duration_s > self._slow_s
            trail = correlation.trail
            event = {
                "state": state,
                "queue": queue,
                "duration_ms": round(duration_s * 1000, 3),
                "sql": _NO_SQL if trail is None else trail.sql_summary(),
            }
            # Of a failure it was told already.
            if (is_slow or correlation.wants_trail) and trail is not None and state != "FAILURE":
                event["trail"] = trail.steps()
            self._tell(correlation, "task.finished", event, logging.WARNING if is_slow else logging.INFO)
        finally:
            deactivate(token)

    def failure(self, task: Task, task_id: str | None, error: BaseException) -> None:  # type: ignore[type-arg]
        """Count a run that failed, and tell why it did."""
        self._figures.failed(task.name, error)
        if getattr(task.request, _RUN, None) is None and not isinstance(error, Reject):
            # The parent reports for a child that is no more: nobody's postrun will count this run.
            self._figures.ended(task.name, "FAILURE", self._queue())
        correlation = current()
        trail = None if correlation is None or correlation.trail is None else correlation.trail.steps()
        log.error(
            "task.failed",
            state="FAILURE",
            failed_task_id=task_id,
            error_type=error_type(error),
            fingerprint=fingerprint(error),
            exception=format_exception(error),
            trail=trail,
        )

    def lost(self, task: Task, error: BaseException) -> None:  # type: ignore[type-arg]
        """Count a run whose process is gone, and tell of it; for the parent process, with the message's ID bound."""
        self._figures.failed(task.name, error)
        self._figures.ended(task.name, LOST, self._queue())
        log.error(
            "task.failed", state=LOST, error_type=error_type(error), fingerprint=fingerprint(error), reason=str(error)
        )

    def revoked(self, task: Task, request: Any, expired: bool) -> None:  # type: ignore[type-arg]
        """Tell that a task was stopped, or never begun."""
        with bind(correlation_of(request, task.name)):
            self._figures.ended(task.name, "REVOKED", self._queue())
            log.warning("task.finished", state="REVOKED", queue=self._queue(), expired=expired)

    def _tell(self, correlation: Correlation, event: str, fields: dict[str, Any], level: int = logging.INFO) -> None:
        is_quiet = correlation.name in self._quiet and fields.get("state") in {None, "SUCCESS"}
        is_wanted = level > logging.INFO or correlation.wants_trail
        emit(logging.DEBUG if is_quiet and not is_wanted else level, __name__, event, fields)

    def _queue(self) -> str:
        """Return the queue that the current run came by, as a bounded label."""
        correlation = current()
        return self._figures.queue(correlation.queue if correlation is not None else None)


# --- the receivers: one of each in a process


def _on_publish(
    sender: str | None = None, headers: dict[str, Any] | None = None, routing_key: str = "", **_: Any
) -> None:
    if headers is None:
        return
    correlation = current()
    put_ids(headers, correlation)
    if correlation is not None:
        sent = {"sent_task": sender, "sent_task_id": headers.get("id"), "queue": routing_key}
        emit(logging.INFO, __name__, "task.sent", sent)
        trail_of(correlation).add("task", f"{sender} {headers.get('id')}", detail=routing_key)


def _on_prerun(task: Task, **_: Any) -> None:  # type: ignore[type-arg]
    if hooks := hooks_of(task):
        hooks.prerun(task)


def _on_postrun(task: Task, state: str | None = None, **_: Any) -> None:  # type: ignore[type-arg]
    if hooks := hooks_of(task):
        hooks.postrun(task, state)


def _on_retry(
    sender: Task | None = None,  # type: ignore[type-arg]
    request: Any = None,
    reason: BaseException | str | None = None,
    **_: Any,
) -> None:
    if sender is None or hooks_of(sender) is None:
        return
    error = reason.exc if isinstance(reason, Retry) and reason.exc is not None else reason
    # The parent process cancels what runs when it loses its broker; no context is set there.
    bound: AbstractContextManager[Any] = nullcontext() if current() else bind(correlation_of(request, sender.name))
    with bound:
        log.warning(
            "task.retry",
            error_type=error_type(error) if isinstance(error, BaseException) else None,
            reason=None if error is None else scrub(str(error)[:2000])[:500],
        )


def _on_failure(
    sender: Task | None = None,  # type: ignore[type-arg]
    task_id: str | None = None,
    exception: BaseException | None = None,
    **_: Any,
) -> None:
    if sender is not None and (hooks := hooks_of(sender)):
        hooks.failure(sender, task_id, exception or RuntimeError("unknown"))


def _on_revoked(sender: Task | None = None, request: Any = None, expired: bool = False, **_: Any) -> None:  # type: ignore[type-arg]
    if sender is not None and (hooks := hooks_of(sender)):
        hooks.revoked(sender, request, expired)


def hooks_of(task: Task) -> CelerySignals | None:  # type: ignore[type-arg]
    """Return what watches the application of a task, if anything does."""
    return getattr(task.app, _HOOKS, None)


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


_RECEIVERS: Final = (
    (signals.before_task_publish, _open("celery_publish", _on_publish)),
    (signals.task_prerun, _open("celery_prerun", _on_prerun)),
    (signals.task_postrun, _open("celery_postrun", _on_postrun)),
    (signals.task_retry, _open("celery_retry", _on_retry)),
    (signals.task_failure, _open("celery_failure", _on_failure)),
    (signals.task_revoked, _open("celery_revoked", _on_revoked)),
)
