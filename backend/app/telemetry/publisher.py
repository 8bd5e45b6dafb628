"""Figures that are kept in plain Python and written to the metrics once a second, and at a scrape.

For what changes twice a request and is read every 15 seconds: writing each change would cost more than the change.
"""

import os
import threading
import time
from collections.abc import Callable
from typing import Final

from app.utils.metrics import hook_failed, write_overheads

_EVERY_S: Final = 1.0

_sources: list[Callable[[], None]] = [write_overheads]
_threads: dict[int, threading.Thread] = {}


def publish() -> None:
    """Write all figures now."""
    for source in _sources:
        try:
            source()
        except Exception:  # noqa: BLE001 - the next one may work
            hook_failed("publish")


def add_source(source: Callable[[], None]) -> None:
    """Have `source` write its figures from now on."""
    _sources.append(source)


def keep_publishing() -> bool:
    """Publish once a second in this process, where several share their figures: another one answers the scrape.

    A process that answers its own scrapes publishes then.

    Returns:
        whether that is seen to; not where the machine has no thread left: ask again.
    """
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ or os.getpid() in _threads:
        return True
    try:
        thread = threading.Thread(target=_run, name="publish-metrics", daemon=True)
        thread.start()
    except Exception:  # noqa: BLE001 - a request that asks must go on
        hook_failed("keep_publishing")
        return False
    _threads[os.getpid()] = thread
    return True


def _run() -> None:
    while True:
        time.sleep(_EVERY_S)
        publish()
