"""What the probe says of queues, on a real Redis."""

from pathlib import Path

import redis
from kombu import Connection
from prometheus_client import REGISTRY

from app.telemetry.queues import QueueProbe
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
