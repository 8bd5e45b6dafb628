"""Connection pools that tell how full they are and how long callers wait."""

import weakref
from collections.abc import Callable
from time import perf_counter
from typing import Final

from sqlalchemy import AsyncAdaptedQueuePool, QueuePool
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import PoolProxiedConnection

from app.telemetry.lots import observe_later
from app.telemetry.publisher import add_source, keep_publishing
from app.telemetry.trail import note
from app.utils.metrics import (
    DB_POOL_CONNECTIONS,
    DB_POOL_MAX,
    DB_POOL_TIMEOUTS,
    DB_POOL_WAIT,
    hook_failed,
)

# A free connection is had in microseconds; a longer wait belongs to the story.
_WORTH_A_STEP_S: Final = 0.001


def _timed(connect: Callable[[], PoolProxiedConnection]) -> PoolProxiedConnection:
    started = perf_counter()
    try:
        return connect()
    except PoolTimeoutError:
        try:
            DB_POOL_TIMEOUTS.inc()
        except Exception:  # noqa: BLE001 - the caller waits for the real reason
            hook_failed("pool_wait")
        raise
    finally:
        try:
            waited_s = perf_counter() - started
            observe_later(DB_POOL_WAIT, waited_s)
            if waited_s > _WORTH_A_STEP_S:
                note("wait", "a database connection", waited_s)
        except Exception:  # noqa: BLE001 - the connection is there
            hook_failed("pool_wait")


class MeasuredQueuePool(QueuePool):
    """A QueuePool whose callers' wait is measured."""

    def connect(self) -> PoolProxiedConnection:
        """Return a connection, as QueuePool does."""
        return _timed(super().connect)


class MeasuredAsyncPool(AsyncAdaptedQueuePool):
    """The same for async engines."""

    def connect(self) -> PoolProxiedConnection:
        """Return a connection, as AsyncAdaptedQueuePool does."""
        return _timed(super().connect)


def watch_pool(pool: QueuePool, max_connections: int) -> None:
    """Keep the gauges of this process's pool true.

    Args:
        pool: the engine's pool.
        max_connections: size and overflow together.
    """
    checked_out, idle, overflow = (DB_POOL_CONNECTIONS.labels(state) for state in ("checked_out", "idle", "overflow"))
    DB_POOL_MAX.set(max_connections)

    def write() -> None:
        watched = known()
        if watched is not None:
            checked_out.set(watched.checkedout())
            idle.set(watched.checkedin())
            overflow.set(max(0, watched.overflow()))

    # Once a second, or at a scrape: a gauge that is set twice a request is read by nobody in between.
    known = weakref.ref(pool)
    add_source(write)
    keep_publishing()
    write()
