"""Reads from Redis what the queues hold and when each canary last sang.

For the worker's parent process: it answers a scrape even while its children hang.
"""

import math
import time
from collections.abc import Sequence
from typing import Final

import orjson
import redis

from app.utils.metrics import CELERY_CANARY_AGE, CELERY_QUEUE_DEPTH, CELERY_QUEUE_OLDEST, hook_failed

# kombu keeps each priority of a queue in a list of its own: `queue`, then `queue\x06\x163` and so on.
_PRIORITY_SEPARATOR: Final = "\x06\x16"
_PRIORITY_STEPS: Final = (0, 3, 6, 9)
CANARY_KEY: Final = "commandcenter:canary:{queue}"
PUBLISHED_AT: Final = "published_at"


def priority_keys(queue: str) -> list[str]:
    """Return the Redis keys under which the tasks of `queue` may lie."""
    return [queue if step == 0 else f"{queue}{_PRIORITY_SEPARATOR}{step}" for step in _PRIORITY_STEPS]


class QueueProbe:
    """Sets the queue gauges when asked.

    Args:
        client: a Redis client with short time-outs.
        queues: names of the queues.
    """

    def __init__(self, client: "redis.Redis", queues: Sequence[str]) -> None:
        self._client = client
        self._queues = tuple(queues)
        self._first_seen = time.time()

    def refresh(self) -> None:
        """Read all queues in one round trip. Unreachable Redis: NaN, for an old figure would be a lie."""
        try:
            pipeline = self._client.pipeline(transaction=False)
            for queue in self._queues:
                for key in priority_keys(queue):
                    pipeline.llen(key)
                    # Producers push on the left: the rightmost has waited longest.
                    pipeline.lindex(key, -1)
                pipeline.get(CANARY_KEY.format(queue=queue))
            answers = iter(pipeline.execute())
        except redis.RedisError:
            hook_failed("queue_probe")
            for gauge in (CELERY_QUEUE_DEPTH, CELERY_QUEUE_OLDEST, CELERY_CANARY_AGE):
                for queue in self._queues:
                    gauge.labels(queue).set(math.nan)
            return
        now = time.time()
        for queue in self._queues:
            depth, oldest = 0, 0.0
            for _ in _PRIORITY_STEPS:
                depth += next(answers)
                oldest = max(oldest, _age(next(answers), now))
            sang = next(answers)
            CELERY_QUEUE_DEPTH.labels(queue).set(depth)
            CELERY_QUEUE_OLDEST.labels(queue).set(oldest)
            # A canary that never sang is as old as we are.
            CELERY_CANARY_AGE.labels(queue).set(max(0.0, now - float(sang or self._first_seen)))


def _age(message: bytes | None, now: float) -> float:
    """Return seconds since a message was published; 0 for none, or for one that doesn't tell."""
    if not message:
        return 0.0
    try:
        return max(0.0, now - float(orjson.loads(message)["headers"][PUBLISHED_AT]))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return 0.0
