"""Workers' signs of life, in Redis: a heartbeat of each process, and a canary through each queue."""

import time
from typing import Final

import redis
from celery import shared_task

from app.broker import CANARY_TASK
from app.config import get_settings
from app.telemetry.queues import CANARY_KEY
from app.telemetry.trail import waiting_for

# A sorted set: worker's name by the time of its last heartbeat.
WORKERS_KEY: Final = "commandcenter:workers"
ALIVE_WITHIN_S: Final = 15.0
_FORGET_AFTER_S: Final = 3600.0
_TIMEOUT_S: Final = 1.0


def short_lived_client(redis_url: str) -> "redis.Redis":
    """Return a client that gives up after a second: observing must not hang."""
    return redis.Redis.from_url(redis_url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S)


def beat(client: "redis.Redis", worker: str) -> None:
    """Note that `worker` is alive."""
    now = time.time()
    pipeline = client.pipeline(transaction=False)
    pipeline.zadd(WORKERS_KEY, {worker: now})
    pipeline.zremrangebyscore(WORKERS_KEY, "-inf", now - _FORGET_AFTER_S)
    pipeline.execute()


def leave(client: "redis.Redis", worker: str) -> None:
    """Note that `worker` stopped in good order."""
    client.zrem(WORKERS_KEY, worker)


@shared_task(name=CANARY_TASK, ignore_result=True)
def sing(queue: str) -> None:
    """Come through `queue` and be done: a worker that is up but hung never gets here."""
    client = short_lived_client(get_settings().redis_url.get_secret_value())
    try:
        with waiting_for("Redis"):
            client.set(CANARY_KEY.format(queue=queue), time.time())
    finally:
        client.close()
