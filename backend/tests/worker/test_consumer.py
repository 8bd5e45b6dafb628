"""A message that has left its queue is either noted as taken or put back, whichever connection breaks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kombu
import pytest
import redis
from kombu.transport.virtual import Message

from app.broker import make_celery
from app.consumer import NotingQoS, give_back
from tests.services import redis_server
from tests.worker.test_silent_redis import gate_thread

QUEUE = "default"


def nobodys(url: str) -> str:
    """Return the URL of a database that no worker listens to."""
    return urlsplit(url)._replace(path="/9").geturl()


@pytest.fixture
def waiting(worker_redis: str) -> Iterator[Any]:
    """A channel that has asked Redis for a message of a queue, as a consumer's does, and is waiting."""
    with kombu.Connection(nobodys(worker_redis)) as connection:
        channel: Any = connection.default_channel
        channel.basic_consume(QUEUE, no_ack=False, callback=print, consumer_tag="1")
        channel.client.connection = channel.client.connection_pool.get_connection()
        channel._brpop_start()
        yield channel
        channel._in_poll = None


@pytest.fixture
def direct(worker_redis: str) -> Iterator["redis.Redis"]:
    """A client of the same database."""
    with redis.Redis.from_url(nobodys(worker_redis)) as client:
        client.flushdb()
        yield client
        client.flushdb()


def test_a_message_on_its_way_to_a_consumer_that_ends_goes_back_to_where_it_was(
    direct: "redis.Redis", waiting: Any
) -> None:
    """Closing the channel would read it, and leave it to the visibility timeout: hours."""
    direct.lpush(QUEUE, b"first", b"second")
    give_back(waiting)
    assert direct.lrange(QUEUE, 0, -1) == [b"second", b"first"]
    assert waiting._in_poll is None


def test_nothing_is_given_back_where_nothing_came(direct: "redis.Redis", waiting: Any) -> None:
    """An empty answer is no message."""
    give_back(waiting)
    assert direct.keys() == []
    assert waiting._in_poll is None


def test_a_channel_that_waits_for_nothing_is_left_alone(waiting: Any) -> None:
    """Between two questions."""
    give_back(waiting)
    give_back(waiting)


def test_a_message_is_noted_though_the_connection_at_hand_fell_silent(tmp_path: Path) -> None:
    """It has left its queue: whoever forgets it now has lost it."""
    with (
        redis_server(tmp_path) as url,
        gate_thread(url) as (call, gate, through),
        redis.Redis.from_url(url) as direct,
        kombu.Connection(through, transport_options={"socket_timeout": 1}) as connection,
    ):
        channel: Any = connection.default_channel
        channel.QoS = NotingQoS
        idle = [channel.pool.get_connection() for _ in range(2)]
        for each in idle:
            channel.pool.release(each)
        call(gate.block)
        call(gate.open_to_new)
        properties = {"delivery_tag": "tag", "delivery_info": {"exchange": "", "routing_key": QUEUE}}
        message = Message({"body": "", "properties": properties}, channel)
        channel.qos.append(message, "tag")
        assert direct.hkeys("unacked") == [b"tag"]


def test_many_tasks_may_talk_to_redis_at_once(worker_redis: str) -> None:
    """Fifty greenlets end fifty tasks: one that finds no connection takes the broker for lost, and tasks with it."""
    app: Any = make_celery(nobodys(worker_redis))
    with app.connection_for_read() as connection:
        pool: Any = connection.default_channel.pool
        taken = [pool.get_connection() for _ in range(50)]
        for each in taken:
            pool.release(each)
    app.close()
