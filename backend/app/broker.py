"""The Celery application as both sides need it: the API to send, the worker to run."""

import os
from typing import Any, Final

from celery import Celery, Task
from kombu import Queue

from app.telemetry.celery_request import CorrelatedTask
from app.telemetry.celery_signals import CelerySignals

SYNC_QUEUE: Final = "sync"
DEFAULT_QUEUE: Final = "default"
CANARY_TASK: Final = "canary.sing"
QUEUES: Final = (SYNC_QUEUE, DEFAULT_QUEUE)

_REDIRECTING: Final = (
    "CELERY_BROKER_URL",
    "CELERY_BROKER_READ_URL",
    "CELERY_BROKER_WRITE_URL",
    "CELERY_RESULT_BACKEND",
)
_RESULT_EXPIRES_S: Final = 24 * 3600
_CONNECT_TIMEOUT_S: Final = 3
# A Redis that takes connections and says nothing must not keep anybody for ever. Longer than the consumer's BRPOP,
# which Redis answers within 1 s, and than any answer we ask for.
_ANSWER_TIMEOUT_S: Final = 5
# The consumer waits for bytes, not in a call that could time out: what it asked for and got no answer to for so long
# (and 1 s) it asks again, on a new connection. Looked at as often, so noticed within 21 s.
_CONSUMER_PATIENCE_S: Final = 10
# Each task that ends takes one for a moment. Kombu's ten are too few for a pool of greenlets: what finds none is taken
# for a broker that is lost, and tasks run again, or not at all.
_MAX_CONNECTIONS: Final = 1024
# A task whose process was killed is sent again after this pause, three times at most.
_LOST_RETRY_S: Final = 1


def make_celery(
    redis_url: str, *, correlation: bool = True, slow_task_ms: float = 60_000.0
) -> "Celery[Task[Any, Any]]":
    """Return the application, with its queues and its promises.

    Acks come late and the task of a killed process is sent again, so every task must bear being run twice. It is sent
    like a retry, with the count of its attempts: putting the same message back (what Celery does otherwise, and does
    where sending fails) would let a task that kills its process do so for ever.

    Args:
        redis_url: broker and result store.
        correlation: whether tasks bear IDs and are measured.
        slow_task_ms: a run that takes longer leaves its trail.
    """
    for name in _REDIRECTING:
        # Celery believes these before its own configuration: what is left in a shell would send tasks elsewhere.
        os.environ.pop(name, None)
    app: Celery[Task[Any, Any]] = Celery(
        "commandcenter", broker=redis_url, backend=redis_url, task_cls=CorrelatedTask if correlation else Task
    )
    app.conf.update(
        task_queues=[Queue(name) for name in QUEUES],
        task_default_queue=DEFAULT_QUEUE,
        task_create_missing_queues=False,
        task_acks_late=True,
        task_retry_on_worker_lost=True,
        task_reject_on_worker_lost=True,
        task_annotations={"*": {"default_retry_delay": _LOST_RETRY_S}},
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
        # Longer than any task may run: an unacked message that comes again is a dead worker's.
        broker_transport_options={
            "visibility_timeout": 3 * 3600,
            "socket_connect_timeout": _CONNECT_TIMEOUT_S,
            "socket_timeout": _ANSWER_TIMEOUT_S,
            "health_check_interval": _CONSUMER_PATIENCE_S,
            "max_connections": _MAX_CONNECTIONS,
        },
        redis_socket_connect_timeout=_CONNECT_TIMEOUT_S,
        redis_socket_timeout=_ANSWER_TIMEOUT_S,
        result_expires=_RESULT_EXPIRES_S,
        # A request waits for its task to be queued: better a quick 503 than a hanging one.
        task_publish_retry_policy={"max_retries": 2, "interval_start": 0.1, "interval_step": 0.2},
        task_serializer="json",
        accept_content=["json"],
        timezone="UTC",
    )
    if correlation:
        CelerySignals(QUEUES, quiet={CANARY_TASK}, slow_ms=slow_task_ms).install(app)
    return app
