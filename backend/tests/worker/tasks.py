"""Tasks that only tests have: every way that a run can begin, go on and end."""

import contextlib
import os
import signal
import sys
import time
from typing import Any

import structlog
from celery import Task, chain, chord, group, shared_task, signals
from celery.exceptions import Reject, SoftTimeLimitExceeded

log = structlog.get_logger("tests.worker")

BoundTask = Task[Any, Any]


@signals.task_received.connect(weak=False)
def _on_received(**_: Any) -> None:
    """Leave a line in the process that hands tasks out; no task is at work there."""
    log.info("test.received")


def leave_a_line_between_tasks(loader: Any) -> None:
    """Leave a line after each run, in the process and thread that ran it: it must bear nobody's ID."""
    loader.on_process_cleanup = lambda: log.info("test.between")


@shared_task(name="test.note")
def note(*_: Any) -> str:
    """Do nothing, and tell so."""
    log.info("test.noted")
    return "noted"


@shared_task(name="test.nested")
def nested(depth: int) -> None:
    """Send itself, `depth` times."""
    if depth:
        nested.delay(depth - 1)


@shared_task(name="test.retry", bind=True, max_retries=5)
def retry(self: BoundTask, times: int) -> None:
    """Succeed at the attempt after `times` failed ones; send another task from the last."""
    if self.request.retries < times:
        raise self.retry(exc=ConnectionError("not yet"), countdown=0.05)
    note.delay()


@shared_task(name="test.fail")
def fail(*_: Any) -> None:
    """Fail, at once."""
    raise LookupError("it is not there")


@shared_task(name="test.canvas")
def canvas(kind: str) -> None:
    """Send a canvas from within a task."""
    one = note.si()
    whole: dict[str, Any] = {"chain": chain(one, one), "group": group(one, one), "chord": chord([one, one], one)}
    whole[kind].delay()


@shared_task(name="test.on_error")
def on_error(*_: Any) -> None:
    """Be what `link_error` names: one that takes all that there is to know is called on the spot."""
    log.info("test.error_seen")


@shared_task(name="test.on_error_later")
def on_error_later(task_id: str) -> None:
    """Be the same: one that takes an ID alone is sent as a task."""
    log.info("test.error_seen", failed=task_id)


@shared_task(name="test.on_the_spot")
def on_the_spot() -> None:
    """Run two tasks on the spot, of which one fails."""
    note.apply()
    fail.apply()
    log.info("test.back")


@shared_task(name="test.sleep")
def sleep(seconds: float) -> None:
    """Take a while, in small steps: a signal is seen soon."""
    deadline = time.monotonic() + seconds
    log.info("test.sleeping")
    while time.monotonic() < deadline:
        time.sleep(0.02)


@shared_task(name="test.soft", soft_time_limit=1)
def soft() -> None:
    """Outlast a soft limit."""
    sleep(30)


@shared_task(name="test.hard", soft_time_limit=1, time_limit=2)
def hard() -> None:
    """Outlast a hard limit, deaf to the soft one."""
    with contextlib.suppress(SoftTimeLimitExceeded):
        sleep(30)
    sleep(30)


@shared_task(name="test.reject")
def reject() -> None:
    """Refuse the message for good."""
    raise Reject("nobody can do this")


@shared_task(name="test.end_process", bind=True, ignore_result=True)
def end_process(self: BoundTask, how: str) -> None:
    """End the process that runs it, the first time."""
    if self.request.retries or (self.request.delivery_info or {}).get("redelivered"):
        return
    if how == "exit":
        sys.exit(3)
    if how == "_exit":
        os._exit(3)
    os.kill(os.getpid(), signal.SIGKILL)


@shared_task(name="test.always_end_process", ignore_result=True)
def always_end_process() -> None:
    """End the process that runs it, each time."""
    os._exit(3)
