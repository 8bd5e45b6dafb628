"""Counts and times requests, and tells each in one log line.

The clock stops at the last byte of the body: background tasks that run on are not latency.
"""

import asyncio
import logging
from time import perf_counter
from typing import Final

from prometheus_client import Counter, Histogram
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.correlation import Correlation, current
from app.telemetry.logs import emit
from app.telemetry.publisher import add_source, keep_publishing
from app.telemetry.route import route_template
from app.telemetry.trail import Trail
from app.utils.metrics import (
    HTTP_DURATION,
    HTTP_IN_PROGRESS,
    HTTP_REQUESTS,
    METHODS,
    OTHER_METHOD,
    UNMATCHED,
    hook_failed,
)

# The client went away before its answer was complete; nginx's number for it.
CLIENT_GONE: Final = 499
_SERVER_ERROR: Final = 500
# A fault of ours, and a part that is away: what the API answers of itself. Two series a method of a route.
_FAILURES: Final = ("500", "503")
_NO_SQL: Final = Trail().sql_summary()
# Probes and scrapes: neither traffic nor news.
_QUIET: Final = frozenset(
    f"{prefix}{path}" for prefix in ("", "/api/v1") for path in ("/health", "/health/ready", "/metrics")
)


# Of the whole process. Counted by the event loop's thread alone.
_in_progress: Final = dict.fromkeys((*METHODS, OTHER_METHOD), 0)


def _publish_in_progress() -> None:
    for method, count in _in_progress.items():
        HTTP_IN_PROGRESS.labels(method).set(count)


add_source(_publish_in_progress)


class HttpMetricsMiddleware:
    """Pure ASGI, inside the correlation, outside the error boundary.

    Args:
        app: the next layer.
        slow_ms: a request that takes longer is logged as a warning.
        access_log: whether each request leaves a line; failed and slow ones do in any case.
    """

    def __init__(self, app: ASGIApp, *, slow_ms: float = 1000.0, access_log: bool = True) -> None:
        self._app = app
        self.access_log = access_log
        self.slow_s = slow_ms / 1000
        self.children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._is_publishing = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Time one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if not self._is_publishing:
            # Now, and not when it was made: a server may fork in between.
            self._is_publishing = keep_publishing()
        exchange = _Exchange(self, scope, send)
        try:
            await self._app(scope, receive, exchange.send)
        except (asyncio.CancelledError, ClientDisconnect):
            exchange.finish(CLIENT_GONE)
            raise
        except BaseException:
            exchange.finish(_SERVER_ERROR)
            raise
        # No last byte went out, and nobody complains: the answer stopped because nobody listens any more.
        exchange.finish(CLIENT_GONE)

    def make_children(self, key: tuple[str, str, int]) -> tuple[Counter, Histogram]:
        """Return the series of (method, handler, status) and keep them: `labels()` costs more than counting."""
        method, route, status = key
        # A series that is born with its first failure hides that failure from `increase()`.
        if route != UNMATCHED:
            for failure in _FAILURES:
                HTTP_REQUESTS.labels(method, route, failure)
        children = HTTP_REQUESTS.labels(method, route, str(status)), HTTP_DURATION.labels(method, route)
        self.children[key] = children
        return children

    def tell(
        self,
        scope: Scope,
        method: str,
        route: str,
        status: int,
        duration_s: float,
        correlation: Correlation | None,
        *,
        remarkable: bool,
    ) -> None:
        """Leave the access line; of a probe only where there is more to tell."""
        wanted = correlation is not None and correlation.wants_trail
        if route in _QUIET and not remarkable and not wanted:
            return
        client = scope.get("client")
        trail = correlation.trail if correlation is not None else None
        event = {
            "method": method,
            "path": scope["path"],
            "route": route,
            "status": status,
            "duration_ms": round(duration_s * 1000, 3),
            "client": client[0] if client else None,
            "sql": _NO_SQL if trail is None else trail.sql_summary(),
        }
        if (remarkable or wanted) and trail is not None:
            event["trail"] = trail.steps()
        emit(logging.WARNING if remarkable else logging.INFO, __name__, "request.finished", event)


class _Exchange:
    """One request and its answer, watched as they pass."""

    __slots__ = (
        "_finished",
        "_layer",
        "_method",
        "_raw_method",
        "_scope",
        "_send",
        "_started",
        "_status",
    )

    def __init__(self, layer: HttpMetricsMiddleware, scope: Scope, send: Send) -> None:
        self._started = perf_counter()
        self._layer = layer
        self._scope = scope
        self._send = send
        # Kept now: a HEAD is routed as the GET it asks about.
        method: str = scope["method"]
        self._raw_method = method
        self._method = method if method in METHODS else OTHER_METHOD
        _in_progress[self._method] += 1
        self._status = 0
        self._finished = False

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.body":
            await self._send(message)
            if not message.get("more_body"):
                self.finish(self._status)
            return
        if kind == "http.response.start":
            self._status = message["status"]
        await self._send(message)
        if kind == "http.response.pathsend":
            self.finish(self._status)

    def finish(self, status: int) -> None:
        """Count, time and tell the request, once."""
        if self._finished:
            return
        self._finished = True
        ended = perf_counter()
        layer, scope = self._layer, self._scope
        _in_progress[self._method] -= 1
        correlation = current()
        try:
            duration_s = ended - self._started
            route = route_template(scope) or UNMATCHED
            key = (self._method, route, status)
            requests, duration = layer.children.get(key) or layer.make_children(key)
            requests.inc()
            duration.observe(duration_s)
            remarkable = status >= _SERVER_ERROR or duration_s > layer.slow_s
            if layer.access_log or remarkable or (correlation is not None and correlation.wants_trail):
                layer.tell(scope, self._raw_method, route, status, duration_s, correlation, remarkable=remarkable)
        except Exception:  # noqa: BLE001 - never costs a request
            hook_failed("http_metrics")
        if correlation is not None:
            correlation.overhead_s += perf_counter() - ended
