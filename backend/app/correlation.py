"""The ID: what it is, who bears it now, how to make one.

A leaf: everything imports it, it imports nothing of ours. It knows no HTTP, no SQL and no Celery.
"""

import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

from uuid_utils import uuid7

# The alphabet is the guard against header, log and SQL injection. 63 bytes is what PostgreSQL keeps of
# application_name.
ID_MAX_LENGTH: Final = 63
_ID = re.compile(r"[A-Za-z0-9._-]{1,63}")
_NOT_ID = re.compile(r"[^A-Za-z0-9._-]")
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


@dataclass(slots=True)
class Correlation:
    """Who is at work now: one request, or one run of one task.

    `request_id`: the ID that a user reports, at most 63 characters of `[A-Za-z0-9._-]`.
    `trace_id`, `span_id`: W3C trace context, 32 and 16 hex digits; `trace_flags` two.
    `name`: route template or task name, a bounded set: it goes into SQL comments. Set once it is known.
    `kind`: `http` or `task`.
    `baggage`: the telemetry modules' own per-request state, by their name.
    """

    request_id: str
    trace_id: str
    span_id: str
    kind: str = "http"
    name: str | None = None
    trace_flags: str = "01"
    tracestate: str | None = None
    task_id: str | None = None
    root_id: str | None = None
    parent_id: str | None = None
    attempt: int = 0
    # Seconds that the layer itself has spent on this request or task.
    overhead_s: float = 0.0
    baggage: dict[str, Any] = field(default_factory=dict)

    @property
    def traceparent(self) -> str:
        """The W3C header value that a callee gets: our span is its parent."""
        return f"00-{self.trace_id}-{self.span_id}-{self.trace_flags}"


_current: ContextVar[Correlation | None] = ContextVar("correlation", default=None)


def current() -> Correlation | None:
    """Return who is at work now, or None outside any request and task."""
    return _current.get()


def request_id() -> str | None:
    """Return the ID of the request or task at work now, or None."""
    correlation = _current.get()
    return correlation.request_id if correlation else None


# set/reset are for hooks with an entry and an exit of their own; everyone else uses bind().
activate = _current.set
deactivate = _current.reset


@contextmanager
def bind(correlation: Correlation) -> Iterator[Correlation]:
    """Make `correlation` the current one inside the block, and the former one again after it."""
    token = _current.set(correlation)
    try:
        yield correlation
    finally:
        _current.reset(token)


def is_valid_id(value: str) -> bool:
    """Tell whether the whole of `value` is an ID as we accept it from outside."""
    return _ID.fullmatch(value) is not None


def sanitize_id(value: str) -> str:
    """Return what of a refused ID may stand in a log: our alphabet, at most 63 characters."""
    return _NOT_ID.sub("_", value[:ID_MAX_LENGTH])


def new_id() -> str:
    """Return a new ID, a UUIDv7: sorts by time of making, 36 characters."""
    return str(uuid7())


def new_span_id() -> str:
    """Return a new span ID, 16 hex digits, not all zero."""
    return f"{random.getrandbits(64) or 1:016x}"


def new_trace_id() -> str:
    """Return a new trace ID, 32 hex digits. Its right half is random, as W3C level 2 wishes."""
    return uuid7().hex


def parse_traceparent(value: str) -> tuple[str, str, str] | None:
    """Return (trace ID, parent span ID, flags) of a `traceparent` header, or None if it breaks the rules.

    Source: W3C Trace Context, section 3.2. A higher version may bring more fields; version 00 may not.
    """
    match = _TRACEPARENT.fullmatch(value)
    if match is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest) or not trace_id.strip("0") or not span_id.strip("0"):
        return None
    return trace_id, span_id, flags


def for_request(request_id: str | None, traceparent: str | None = None, tracestate: str | None = None) -> Correlation:
    """Return the correlation of a new request.

    Args:
        request_id: an ID that was already found valid, or None to make one.
        traceparent: the header as it came; ignored where malformed.
        tracestate: passed on unchanged, only together with a valid `traceparent`.
    """
    parent = parse_traceparent(traceparent) if traceparent else None
    if request_id is None:
        made = uuid7()
        # One number in two spellings, so that each ID leads to the other by sight.
        request_id, trace_id = str(made), made.hex
    else:
        trace_id = "" if parent else new_trace_id()
    if parent is None:
        return Correlation(request_id, trace_id, new_span_id())
    return Correlation(request_id, parent[0], new_span_id(), trace_flags=parent[2], tracestate=tracestate)
