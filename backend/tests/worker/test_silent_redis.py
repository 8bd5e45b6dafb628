"""A Redis that takes connections and says nothing, as after a failover or behind a broken firewall."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import redis

from app.broker import make_celery
from app.telemetry.queues import CANARY_KEY
from tests.api.network import Gate, gate_before
from tests.services import redis_server
from tests.system import eventually, running_system
from tests.worker.pool import MODULE, Pool, wait_until_up


@contextmanager
def gate_thread(url: str) -> Iterator[tuple[Callable[[Callable[[], None]], None], Gate, str]]:
    """Yield what calls a function where the gate lives, the gate, and the URL through it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    context = gate_before(url)
    gate, through = asyncio.run_coroutine_threadsafe(context.__aenter__(), loop).result()

    def call(function: Callable[[], None]) -> None:
        loop.call_soon_threadsafe(function)

    try:
        yield call, gate, through
    finally:
        asyncio.run_coroutine_threadsafe(context.__aexit__(None, None, None), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def sang_after(client: redis.Redis, key: str, since: float) -> bool:
    """Tell whether a canary sang after a time."""
    return float(str(client.get(key) or b"0", "ascii")) > since  # type: ignore[arg-type]


def test_worker_and_beat_come_back_from_a_redis_that_fell_silent(tmp_path: Path, worker_database: str) -> None:
    """Their connections never say a word again, nor do they break; new ones work."""
    with redis_server(tmp_path) as url, gate_thread(url) as (call, gate, through), redis.Redis.from_url(url) as direct:
        settings: dict[str, Any] = {"TEST_BEAT_S": "1", "TEST_SILENCE_S": "2", "TEST_POOL": "prefork"}
        with running_system(tmp_path, worker_database, through, services=(), module=MODULE, **settings) as system:
            app = make_celery(url)
            try:
                for service in ("worker", "beat"):
                    system.start(service)
                worker = Pool("prefork", system, app)
                wait_until_up(system)
                eventually(lambda: direct.get(CANARY_KEY.format(queue="default")), what="the first song")
                call(gate.block)
                eventually(lambda: system.log_lines("beat", level="error"), what="beat's word that it can't send")
                call(gate.open_to_new)
                since = time.time()
                worker.send("after-silence", "test.note", ignore_result=True)
                eventually(lambda: worker.lines("after-silence", "task.finished"), within_s=30, what="a task's end")
                for queue in ("default", "sync"):
                    key = CANARY_KEY.format(queue=queue)
                    eventually(partial(sang_after, direct, key, since), within_s=30, what=f"a song through {queue}")
            finally:
                app.close()
                for service in ("beat", "worker"):
                    system.stop_if_running(service)
