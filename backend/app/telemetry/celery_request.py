"""What the worker's parent process has to tell of a task: a killed child, a time limit.

No context is set there and no code of the task runs any more; the message has the ID.
"""

from typing import Any

from billiard.einfo import ExceptionWithTraceback  # type: ignore[attr-defined] # the stubs leave it out
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery import Task
from celery.worker.request import Request

from app.correlation import Correlation, bind
from app.telemetry.celery_message import correlation_of
from app.telemetry.celery_signals import hooks_of
from app.utils.metrics import hook_failed


class CorrelatedRequest(Request):
    """A message in the worker's parent process: what happens to it is told with its ID."""

    _was_told = False

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """Bind the ID while Celery reports a time limit."""
        with bind(self._correlation()):
            # Celery 5.7 reports a hard limit twice, as a failure first: counted twice, and `link_error` called twice.
            if soft or not self._was_told:
                super().on_timeout(soft, timeout)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """Bind the ID while Celery reports a failure, a lost worker among them."""
        with bind(self._correlation()):
            error = getattr(exc_info, "exception", None)
            if isinstance(error, ExceptionWithTraceback):
                # As billiard hands over what happened in no child.
                error = error.exc
            self._was_told = isinstance(error, TimeLimitExceeded)
            # Celery sends the task again and tells nobody: the run would end without a word.
            if isinstance(error, WorkerLostError):
                self._note_lost(error)
            elif isinstance(error, SystemExit | KeyboardInterrupt) and not self._was_stopped():
                self._note_lost(WorkerLostError(f"Its process ended itself: {error!r}"))
            return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    def _correlation(self) -> Correlation:
        """Return what the message says; a new one where it can't be read: Celery's own bookkeeping must go on."""
        try:
            return correlation_of(self._context, self.name)  # type: ignore[attr-defined]
        except Exception:  # noqa: BLE001 - as said
            hook_failed("celery_lost")
            return Correlation.fresh()

    def _note_lost(self, error: WorkerLostError) -> None:
        try:
            if hooks := hooks_of(self.task):
                hooks.lost(self.task, error)
        except Exception:  # noqa: BLE001 - never costs a task
            hook_failed("celery_lost")

    def _was_stopped(self) -> bool:
        """Tell whether its process was ended on purpose, which was told then."""
        return bool(self._already_revoked or self._already_cancelled)  # type: ignore[attr-defined]


class CorrelatedTask(Task):  # type: ignore[type-arg]
    """The base of all tasks; see CorrelatedRequest."""

    abstract = True
    Request = "app.telemetry.celery_request:CorrelatedRequest"
