"""The Celery application as both sides need it."""

from celery import Celery

from app.telemetry.celery_request import CorrelatedTask
from app.telemetry.celery_signals import CelerySignals

QUEUES = ["orders"]


def make_celery(redis_url: str) -> Celery:
    """Return the application, observed."""
    celery: Celery = Celery("shop", broker=redis_url, backend=redis_url, task_cls=CorrelatedTask)
    celery.conf.update(
        task_default_queue="orders",
        task_acks_late=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
    )
    CelerySignals(QUEUES).install(celery)
    return celery
