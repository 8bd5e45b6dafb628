"""What the probe says of queues, on a real Redis."""

import time
from pathlib import Path

import redis
from kombu import Connection
from prometheus_client import REGISTRY

from app.telemetry.queues import PUBLISHED_AT, QueueProbe
from tests.services import redis_server


def test_tasks_of_every_priority_are_in_the_depth(tmp_path: Path) -> None:
    """They lie under other keys, which kombu chooses: by its name alone the queue is nearly empty."""
    with redis_server(tmp_path) as url, Connection(url) as connection, redis.Redis.from_url(url) as client:
        queue = connection.SimpleQueue("deep")
        for priority in (0, 3, 5, 9, 9):
            queue.put({}, priority=priority)
        queue.close()
        assert client.llen("deep") < 5
        QueueProbe(client, ["deep"]).refresh()
    assert REGISTRY.get_sample_value("celery_queue_depth", {"queue": "deep"}) == 5


def test_the_oldest_task_of_every_priority_tells_the_age(tmp_path: Path) -> None:
    """A queue that is short and does not move is a jam, too; the one that waits longest may be of any priority."""
    with redis_server(tmp_path) as url, Connection(url) as connection, redis.Redis.from_url(url) as client:
        queue = connection.SimpleQueue("old")
        now = time.time()
        for priority, age_s in ((0, 10), (3, 1000), (3, 500), (9, 100)):
            queue.put({}, priority=priority, headers={PUBLISHED_AT: now - age_s})
        queue.close()
        QueueProbe(client, ["old", "empty"]).refresh()
        took_s = time.time() - now
    oldest_s = REGISTRY.get_sample_value("celery_queue_oldest_task_age_seconds", {"queue": "old"})
    assert oldest_s is not None
    assert 1000 <= oldest_s <= 1000 + took_s
    assert REGISTRY.get_sample_value("celery_queue_oldest_task_age_seconds", {"queue": "empty"}) == 0
