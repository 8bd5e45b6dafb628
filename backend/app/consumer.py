"""The worker's consumer, such that it outlives its broker. Works around faults of kombu 5.7, and does nothing else."""

from contextlib import suppress
from typing import Any

from celery.worker.consumer import Consumer
from kombu.transport.redis import QoS


class PatientConsumer(Consumer):
    """Reconnects also where messages were not acknowledged yet when the connection was lost, and loses none."""

    def connection_for_read(self, heartbeat: float | None = None) -> Any:
        """Connect such that a message is noted as unacknowledged even where a connection fell silent."""
        connection = super().connection_for_read(heartbeat)
        channel: Any = connection.default_channel
        if issubclass(channel.QoS, QoS):
            channel.QoS = NotingQoS
        return connection

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Leave unacknowledged messages where they are: in Redis.

        kombu would put them back by a channel that no longer knows where to, and so it would acknowledge those whose
        runs end later: either error ends the worker. Redis gives them out again after the visibility timeout; a sync is
        found by its silence long before.
        """
        consumer = getattr(self, "task_consumer", None)
        channel: Any = None if consumer is None else consumer.channel
        if channel is not None:
            with suppress(Exception):  # What can't be given back now could not be before either.
                give_back(channel)
            channel.do_restore = False
            channel.basic_ack = channel.basic_reject = _leave
        super().on_connection_error_after_connected(exc)


class NotingQoS(QoS):
    """Notes each message that came as unacknowledged, by a new connection where the one at hand fails."""

    def append(self, message: Any, delivery_tag: str) -> None:
        """Note a message that has left its queue already: nobody else has it, and kombu would forget it."""
        channel: Any = self.channel
        try:
            super().append(message, delivery_tag)
        except channel.connection_errors:
            # The others of the pool are as old, and would each have to be waited for.
            channel.pool.disconnect()
            super().append(message, delivery_tag)


def give_back(channel: Any) -> None:
    """Put back into its queue what Redis may have taken out of it for us, and let nobody wait for it any more.

    The connection that broke need not be the one that waits for a message. Closing the channel reads from that one too,
    and delivers the message to a consumer that is about to end.
    """
    connection, channel._in_poll = channel._in_poll, None  # noqa: SLF001 - kombu has no other name for it
    # A Redis that lives answers when the time that it was given is over; one that doesn't has taken nothing.
    if connection is None or not connection.can_read(timeout=channel.brpop_timeout + 1):
        return
    taken = channel.client.parse_response(connection, "BRPOP")
    if taken:
        connection.send_command("RPUSH", *taken)
        connection.read_response()


def _leave(*_: Any, **__: Any) -> None:
    """Stand in for what can't be said any more."""
