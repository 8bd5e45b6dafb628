"""The worker and the beat: the Celery application with its tasks, by name, and its schedule."""

import functools
import logging
import os
import signal
import threading
from typing import Any, Final

import billiard
from celery import signals

from app import heartbeat
from app.broker import CANARY_TASK, QUEUES, make_celery
from app.config import app_version, get_settings
from app.telemetry.celery_figures import initialise_series
from app.telemetry.exposition import serve_metrics
from app.telemetry.logs import configure_logging
from app.telemetry.queues import QueueProbe
from app.telemetry.scrub import add_patterns
from app.utils.metrics import BUILD_INFO, hook_failed

_CANARY_EVERY_S: Final = 30
_DUE_EVERY_S: Final = 30
_RECOVER_EVERY_S: Final = 30
_SWEEP_EVERY_S: Final = 600
# Past its soft limit a task may clean up for this long.
_HARD_LIMIT_MARGIN_S: Final = 30
# Asked to stop, tasks may finish for this long; then they are given back. Supervisors kill after 30 s.
_FINISH_WITHIN_S: Final = 20.0

settings = get_settings()
celery = make_celery(
    settings.redis_url.get_secret_value(),
    correlation=settings.correlation_enabled,
    slow_task_ms=settings.slow_task_ms,
)
celery.conf.worker_consumer = "app.consumer:PatientConsumer"
celery.conf.include = ["app.heartbeat", "app.repositories.tasks"]
celery.conf.task_soft_time_limit = settings.git_timeout_s + 60
celery.conf.task_time_limit = celery.conf.task_soft_time_limit + _HARD_LIMIT_MARGIN_S


def _every(seconds: int, task: str, *arguments: str, expires: int, **options: str) -> dict[str, Any]:
    """Return an entry of the schedule; what waited for `expires` seconds would only pile up.

    Beat sends by name and loads no task, so it is the message that says that nobody asks for a result.
    """
    sent = {"expires": expires, "ignore_result": True, **options}
    return {"task": task, "schedule": seconds, "args": arguments, "options": sent}


celery.conf.beat_schedule = {
    **{
        # What waited longer is no sign of life any more.
        f"canary-{queue}": _every(_CANARY_EVERY_S, CANARY_TASK, queue, queue=queue, expires=2 * _CANARY_EVERY_S)
        for queue in QUEUES
    },
    "queue-due-syncs": _every(_DUE_EVERY_S, "repositories.queue_due", expires=2 * _DUE_EVERY_S),
    "recover-lost-jobs": _every(_RECOVER_EVERY_S, "repositories.recover", expires=2 * _RECOVER_EVERY_S),
    "forget-old-jobs": _every(_SWEEP_EVERY_S, "repositories.forget", expires=2 * _SWEEP_EVERY_S),
    "sweep-clones": _every(_SWEEP_EVERY_S, "repositories.sweep", expires=2 * _SWEEP_EVERY_S),
}
celery.conf.beat_schedule_filename = str(settings.beat_schedule_file)


add_patterns(settings.scrub_patterns.split())


@signals.setup_logging.connect(weak=False)
def _log(**_: Any) -> None:
    configure_logging(os.environ.get("COMMANDCENTER_SERVICE", "worker"), settings.log_level)
    # billiard's, which tells of children that ended: it would write past the log, and not in JSON.
    children = billiard.get_logger()
    children.propagate = True
    children.setLevel(logging.WARNING)


@signals.worker_ready.connect(weak=False)
def _serve_metrics(**_: Any) -> None:
    """Serve /metrics from the parent: it answers while children hang, and tells of those that were killed."""
    BUILD_INFO.labels(app_version(), settings.build_commit).set(1)
    initialise_series(celery)
    probe = QueueProbe(heartbeat.short_lived_client(settings.redis_url.get_secret_value()), QUEUES)
    token = settings.metrics_token.get_secret_value()
    serve_metrics(settings.api_host, settings.worker_metrics_port, token=token, refresh=probe.refresh)


@signals.heartbeat_sent.connect(weak=False)
def _beat(sender: Any = None, **_: Any) -> None:
    if _stopping.is_set():
        return
    try:
        heartbeat.beat(_client(), _worker_name(sender))
    except Exception:  # noqa: BLE001 - a worker that can't tell of its life still works
        hook_failed("heartbeat")


_stopping = threading.Event()


@signals.worker_shutting_down.connect(weak=False)
def _stop(sender: Any = None, how: str = "", **_: Any) -> None:
    """Take no part any more, and bound the time that running tasks may take to finish."""
    if not _stopping.is_set():
        _stopping.set()
        try:
            heartbeat.leave(_client(), str(sender))
        except Exception:  # noqa: BLE001 - as above
            hook_failed("heartbeat")
    if how == "Warm":
        timer = threading.Timer(_FINISH_WITHIN_S, os.kill, (os.getpid(), signal.SIGQUIT))
        timer.daemon = True
        timer.start()


@functools.cache
def _client() -> Any:
    """Return a connection of the parent process: children neither beat nor stop by themselves."""
    return heartbeat.short_lived_client(settings.redis_url.get_secret_value())


def _worker_name(sender: Any) -> str:
    return str(getattr(getattr(sender, "eventer", None), "hostname", None) or "worker")
