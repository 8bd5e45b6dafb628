"""`python -m tests.worker.run worker|beat`: app.serve with tasks that only tests have, and constants that tests set.

Everything else is the service's own: the same application, signals, queues, metrics and shutdown.
"""

import os
import sys

import celery

# As `celery worker` does where it is started by its own command, before anything else is imported.
celery.maybe_patch_concurrency(["celery", f"--pool={os.environ.get('TEST_POOL', 'prefork')}"])

from app import serve  # noqa: E402
from app.config import Settings  # noqa: E402


def _prepare() -> None:
    """Change what a test says in its environment; imports wait until the metrics' folder is known."""
    from app import worker  # noqa: PLC0415 - sets the metrics' folder when imported
    from tests.worker import tasks  # noqa: PLC0415 - as above

    worker.celery.conf.include = [*worker.celery.conf.include, "tests.worker.tasks"]
    tasks.leave_a_line_between_tasks(worker.celery.loader)
    if seconds := os.environ.get("TEST_BEAT_S"):
        for entry in worker.celery.conf.beat_schedule.values():
            entry["schedule"] = float(seconds)
    if seconds := os.environ.get("TEST_FINISH_WITHIN_S"):
        worker._FINISH_WITHIN_S = float(seconds)  # type: ignore[misc] # a test is not as patient
    if seconds := os.environ.get("TEST_SILENCE_S"):
        options = worker.celery.conf.broker_transport_options
        # Only those that the service has itself: what it lacks, a test must find lacking.
        shorter = {name: float(seconds) for name in ("socket_timeout", "health_check_interval") if name in options}
        worker.celery.conf.broker_transport_options = {**options, **shorter}
    if limits := os.environ.get("TEST_LIMITS_S"):
        soft, hard = (float(each) if each else None for each in limits.split(","))
        worker.celery.conf.task_soft_time_limit, worker.celery.conf.task_time_limit = soft, hard


_worker, _beat = serve._worker, serve._beat


def _start_worker(settings: Settings) -> None:
    _prepare()
    if pool := os.environ.get("TEST_POOL"):
        from app.worker import celery  # noqa: PLC0415 - as above

        # Greenlets are many or of no use: with few, kombu looks for work once a second only.
        concurrency = 50 if pool == "gevent" else 2
        options = [f"--pool={pool}", f"--concurrency={concurrency}", "--without-mingle", "--without-gossip"]
        celery.start(["--quiet", "worker", *options])
    else:
        _worker(settings)


def _start_beat(settings: Settings) -> None:
    _prepare()
    _beat(settings)


if __name__ == "__main__":
    serve._worker, serve._beat = _start_worker, _start_beat
    sys.exit(serve.main(sys.argv[1:]))
