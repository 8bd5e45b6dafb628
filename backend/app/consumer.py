"""The worker's consumer, such that it outlives its broker. Works around faults of kombu 5.7, and does nothing else."""

from typing import Any

from celery.worker.consumer import Consumer


class PatientConsumer(Consumer):
    """Reconnects also where messages were not acknowledged yet when the connection was lost."""

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Leave unacknowledged messages where they are: in Redis.

        kombu would put them back by a channel that no longer knows where to, and so it would acknowledge those whose
        runs end later: either error ends the worker. Redis gives them out again after the visibility timeout; a sync is
        found by its silence long before.
        """
        consumer = getattr(self, "task_consumer", None)
        channel: Any = None if consumer is None else consumer.channel
        if channel is not None:
            channel.do_restore = False
            channel.basic_ack = channel.basic_reject = _leave
        super().on_connection_error_after_connected(exc)


def _leave(*_: Any, **__: Any) -> None:
    """Stand in for what can't be said any more."""
