"""The worker: `celery -A shop.tasks worker`."""

import logging
from functools import cache

from celery import signals
from redis import Redis
from sqlalchemy import Engine, update

from app.telemetry.celery_figures import initialise_series
from app.telemetry.exposition import serve_metrics
from app.telemetry.logs import configure_logging
from app.telemetry.queues import QueueProbe

from .broker import QUEUES, make_celery
from .database import orders, worker_engine
from .settings import read_settings

log = logging.getLogger(__name__)
settings = read_settings()
celery = make_celery(settings.redis_url)


@signals.setup_logging.connect(weak=False)
def _log(**_: object) -> None:
    configure_logging("worker", own_packages=["shop"])


@signals.worker_ready.connect(weak=False)
def _serve_metrics(**_: object) -> None:
    initialise_series(celery)
    probe = QueueProbe(Redis.from_url(settings.redis_url, socket_timeout=2, socket_connect_timeout=2), QUEUES)
    serve_metrics("127.0.0.1", settings.worker_metrics_port, token=None, refresh=probe.refresh)


@cache
def _engine() -> Engine:
    return worker_engine(settings.database_url)


class OutOfStockError(Exception):
    """The article is not there."""


@celery.task(name="shop.pack")
def pack(order_id: int) -> None:
    """Pack an order."""
    with _engine().begin() as connection:
        packed = update(orders).where(orders.c.id == order_id).values(state="packed").returning(orders.c.article)
        article = connection.execute(packed).scalar_one()
        if article == "unicorn":
            raise OutOfStockError(article)
    log.info("order.packed", extra={"article": article})
