"""What the message of a task bears of ours, and whose work it says its run is.

The ID travels in headers of its own, so that a retry, a redelivery and the worker's parent process find it there.
"""

import time
from datetime import datetime
from typing import Any, Final

from app.correlation import (
    Correlation,
    current,
    for_request,
    is_valid_id,
    new_id,
    new_span_id,
    new_trace_id,
    parse_traceparent,
)
from app.telemetry.queues import PUBLISHED_AT

# Not `correlation_id`: that is Celery's own.
REQUEST_ID: Final = "request_id"
TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
# How often this task was run before, retries and redeliveries together.
ATTEMPT: Final = "attempt"
# That somebody who may asked for the trail: of the request, and so of all that it set going.
WANTS_TRAIL: Final = "wants_trail"
# Celery's: the schedule sent it, nobody's request.
BEAT: Final = "celery_beat_task"


def put_ids(headers: dict[str, Any], correlation: Correlation | None) -> None:
    """Put into the headers of a message what its run will need, for whoever sends it."""
    if correlation is None:
        # Nobody's request: beat, or a script. The task is the root of its own story.
        headers.setdefault(REQUEST_ID, new_id())
        headers.setdefault(TRACEPARENT, f"00-{new_trace_id()}-{new_span_id()}-01")
    else:
        headers |= ids_of(correlation)
        if headers.get("id") == correlation.task_id:
            # A retry: the same task goes on. Celery would call it its own parent.
            headers[ATTEMPT] = correlation.attempt + 1
            headers["parent_id"] = correlation.parent_id
        else:
            headers.pop(ATTEMPT, None)
    headers[PUBLISHED_AT] = time.time()


def ids_of(correlation: Correlation) -> dict[str, Any]:
    """Return the headers that say whose work a task is."""
    headers: dict[str, Any] = {REQUEST_ID: correlation.request_id, TRACEPARENT: correlation.traceparent}
    if correlation.tracestate:
        headers[TRACESTATE] = correlation.tracestate
    if correlation.wants_trail:
        headers[WANTS_TRAIL] = True
    return headers


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
        correlation.wants_trail = headers.get(WANTS_TRAIL) is True
    elif (parent := current()) is not None:
        # Run on the spot, by .apply() or in eager mode: no message was ever sent.
        correlation = Correlation(parent.request_id, parent.trace_id)
        correlation.trace_flags, correlation.tracestate = parent.trace_flags, parent.tracestate
        correlation.wants_trail = parent.wants_trail
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
