"""What the message of a task bears of ours, and whose work it says its run is.

The ID travels in headers of its own, so that a retry, a redelivery and the worker's parent process find it there.
"""

import time
from datetime import datetime
from typing import Any, Final

from app.correlation import Correlation, current, for_request, is_valid_id, parse_traceparent
from app.telemetry.queues import PUBLISHED_AT

# Not `correlation_id`: that is Celery's own.
REQUEST_ID: Final = "request_id"
TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
# How often this task was run before, retries and redeliveries together.
ATTEMPT: Final = "attempt"
# Celery's: the schedule sent it, nobody's request.
BEAT: Final = "celery_beat_task"


def correlation_of(request: Any, task: str) -> Correlation:
    """Return the correlation that a task's message bears, or a new one of its own root.

    Args:
        request: Celery's `Context`, or anything with its attributes.
        task: the task's name.
    """
    headers = request.headers or {}
    made = headers.get(REQUEST_ID)
    if isinstance(made, str) and is_valid_id(made):
        remote = parse_traceparent(str(headers.get(TRACEPARENT, "")))
        correlation = Correlation(made, remote[0] if remote else None)
        if remote is not None:
            correlation.trace_flags = remote[2]
            correlation.tracestate = headers.get(TRACESTATE)
    elif (parent := current()) is not None:
        # Run on the spot, by .apply() or in eager mode: no message was ever sent.
        correlation = Correlation(parent.request_id, parent.trace_id)
        correlation.trace_flags, correlation.tracestate = parent.trace_flags, parent.tracestate
    else:
        correlation = for_request(None)
    correlation.kind = "task"
    correlation.name = task
    correlation.task_id = request.id
    correlation.root_id = request.root_id or request.id
    correlation.parent_id = request.parent_id
    delivery = request.delivery_info or {}
    correlation.queue = delivery.get("routing_key")
    attempt = headers.get(ATTEMPT)
    if not isinstance(attempt, int):
        attempt = (request.retries or 0) + 1
    correlation.attempt = attempt + bool(delivery.get("redelivered"))
    return correlation


def is_from_beat(request: Any) -> bool:
    """Tell whether the schedule sent this task."""
    return bool((request.headers or {}).get(BEAT))


def queue_wait_s(request: Any) -> float | None:
    """Return seconds from when the task was to run (its ETA, or else its sending) until now; None if unknown."""
    published_at = (request.headers or {}).get(PUBLISHED_AT)
    if not isinstance(published_at, int | float):
        return None
    due = float(published_at)
    eta = request.eta
    if isinstance(eta, str):
        due = max(due, datetime.fromisoformat(eta).timestamp())
    return max(0.0, time.time() - due)
