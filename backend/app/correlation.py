"""The ID: what it is, who bears it now, how to make one.

A leaf: everything imports it, it imports nothing of ours. It knows no HTTP, no SQL and no Celery.
"""

import random
import re
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from time import perf_counter
from typing import Any, Final, Self

from uuid_utils import uuid7

# The alphabet is the guard against header, log and SQL injection. 63 bytes is what PostgreSQL keeps of
# application_name.
ID_MAX_LENGTH: Final = 63
_ID = re.compile(r"[A-Za-z0-9._-]{1,63}")
_NOT_ID = re.compile(r"[^A-Za-z0-9._-]")
# Sampled, and random trace ID.
_KNOWN_FLAGS: Final = 0x03
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


class Correlation:
    """Who is at work now: one request, or one run of one task.

    Made for every request, so it is made cheaply: what most requests never ask for is made when it is asked for.

    `request_id`: the ID that a user reports, at most 63 characters of `[A-Za-z0-9._-]`.
    `trace_id`, `span_id`: W3C trace context, 32 and 16 hex digits; `trace_flags` two.
    `name`: route template or task name, a bounded set: it goes into SQL comments. None until it is known.
    `kind`: `http` or `task`.
    `began`: when it began, on the clock of `time.perf_counter`.
    `overhead_s`: seconds that the layer itself has spent on this request or task.
    `scope`: the ASGI scope of a request; its route is matched later than the request begins.
    `trail`: telemetry/trail.py's, once there is something to note.
    `queue`: where a task's message came from.
    `is_answered`: whether the first line of the response went out.
    `wants_trail`: whether somebody who may asked for the trail, however the request ends; of its tasks, too.
    """

    kind = "http"
    name: str | None = None
    trace_flags = "01"
    tracestate: str | None = None
    task_id: str | None = None
    root_id: str | None = None
    parent_id: str | None = None
    attempt = 0
    overhead_s = 0.0
    scope: MutableMapping[str, Any] | None = None
    trail: Any = None
    queue: str | None = None
    is_answered = False
    wants_trail = False

    # Whether the ID was made here, and so is a UUIDv7.
    _is_fresh = False

    def __init__(self, request_id: str, trace_id: str | None = None, span_id: str | None = None) -> None:
        self.began = perf_counter()
        self.request_id = request_id
        self._trace_id = trace_id
        self._span_id = span_id

    @classmethod
    def fresh(cls) -> Self:
        """Return one with a new ID."""
        correlation = cls(new_id())
        correlation._is_fresh = True
        return correlation

    def join(self, trace_id: str, span_id: str, trace_flags: str) -> None:
        """Take the IDs of a span that somebody else made for this request or run."""
        self._trace_id, self._span_id, self.trace_flags = trace_id, span_id, trace_flags

    @property
    def trace_id(self) -> str:
        """The W3C trace ID. A new UUIDv7 and its trace are one number in two spellings: each leads to the other."""
        if self._trace_id is None:
            self._trace_id = self.request_id.replace("-", "") if self._is_fresh else new_trace_id()
        return self._trace_id

    @property
    def span_id(self) -> str:
        """The W3C span ID of this request or run."""
        if self._span_id is None:
            self._span_id = new_span_id()
        return self._span_id

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
    # Flags that this version doesn't know are not handed on: W3C Trace Context, level 2, section 3.2.2.5.
    return trace_id, span_id, f"{int(flags, 16) & _KNOWN_FLAGS:02x}"


def for_request(request_id: str | None, traceparent: str | None = None, tracestate: str | None = None) -> Correlation:
    """Return the correlation of a new request.

    Args:
        request_id: an ID that was already found valid, or None to make one.
        traceparent: the header as it came; ignored where malformed.
        tracestate: passed on unchanged, only together with a valid `traceparent`.
    """
    correlation = Correlation.fresh() if request_id is None else Correlation(request_id)
    parent = parse_traceparent(traceparent) if traceparent else None
    if parent is not None:
        correlation._trace_id, _, correlation.trace_flags = parent  # noqa: SLF001 - this module's own
        correlation.tracestate = tracestate
    return correlation
