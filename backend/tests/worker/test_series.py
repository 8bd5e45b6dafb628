"""What a worker tells Prometheus before anything has happened."""

import itertools

from app.broker import QUEUES
from tests.worker.pool import Pool, metric_series

NEVER_RUN_HERE = "repositories.sync"


def test_a_tasks_series_are_there_at_0_before_its_first_run(prefork: Pool) -> None:
    """`increase()` does not see the failure that a counter is born with: one that is absent is not one at 0."""
    ended = {
        (labels["state"], labels["queue"]): value
        for labels, value in metric_series(prefork.system, "celery_tasks_total")
        if labels["task"] == NEVER_RUN_HERE
    }
    states = ("SUCCESS", "FAILURE", "RETRY", "REVOKED", "LOST")
    assert ended == dict.fromkeys(itertools.product(states, QUEUES), 0.0)
    for name in ("celery_task_duration_seconds_count", "celery_task_queue_wait_seconds_count"):
        assert ({"task": NEVER_RUN_HERE}, 0.0) in metric_series(prefork.system, name)
