"""Figures of tasks' runs: how many ended how, how long they took, how long their messages waited."""

from collections.abc import Sequence
from typing import Final

from celery import Celery
from prometheus_client import Counter, Histogram

from app.errors import error_type
from app.utils.metrics import (
    CELERY_FAILURES,
    CELERY_QUEUE_WAIT,
    CELERY_TASK_DURATION,
    CELERY_TASKS,
    ERRORS,
    bounded,
)

# Not Celery's: a run whose process is gone. The task is sent again.
LOST: Final = "LOST"
_STATES: Final = frozenset({"SUCCESS", "FAILURE", "RETRY", "REVOKED", "REJECTED", "IGNORED", LOST})


class RunFigures:
    """Counts and times runs. `labels()` costs more than counting, so each series is looked up once.

    Args:
        queues: names that may stand in a label.
    """

    def __init__(self, queues: Sequence[str]) -> None:
        self._queues = frozenset(queues)
        self._times: dict[str, tuple[Histogram, Histogram]] = {}
        self._ended: dict[tuple[str, str, str], Counter] = {}

    def queue(self, name: str | None) -> str:
        """Return a queue's name as a bounded label."""
        return name if name in self._queues and name is not None else "other"

    def waited(self, task: str, seconds: float) -> None:
        """Note from when a task was to run until it ran."""
        self._of(task)[0].observe(seconds)

    def ran(self, task: str, seconds: float) -> None:
        """Note how long a run took."""
        self._of(task)[1].observe(seconds)

    def ended(self, task: str, state: str, queue: str) -> None:
        """Count a run that ended; a state that is none of these is a failure."""
        key = (task, state if state in _STATES else "FAILURE", queue)
        counter = self._ended.get(key)
        if counter is None:
            counter = self._ended[key] = CELERY_TASKS.labels(*key)
        counter.inc()

    def failed(self, task: str, error: BaseException) -> None:
        """Count a failed run by its error; that it ended is for `ended`."""
        kind = bounded("error_type", error_type(error))
        CELERY_FAILURES.labels(task, kind).inc()
        ERRORS.labels(task, "500", kind).inc()

    def _of(self, task: str) -> tuple[Histogram, Histogram]:
        found = self._times.get(task)
        if found is None:
            found = self._times[task] = CELERY_QUEUE_WAIT.labels(task), CELERY_TASK_DURATION.labels(task)
        return found


def initialise_series(app: Celery) -> None:
    """Make the series of each task and of the states it may well end in at 0.

    A counter that is born with its first failure hides it from increase().
    """
    for name in app.tasks:
        if name.startswith("celery."):
            continue
        CELERY_TASK_DURATION.labels(name)
        CELERY_QUEUE_WAIT.labels(name)
        for queue in app.amqp.queues:
            for state in ("SUCCESS", "FAILURE", "RETRY", "REVOKED", LOST):
                CELERY_TASKS.labels(name, state, queue)
