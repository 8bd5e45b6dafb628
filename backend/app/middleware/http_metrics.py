"""Counts and times requests, and tells each in one log line.

The clock stops at the last byte of the body: background tasks that run on are not latency.
"""

import asyncio
from time import perf_counter
from typing import Any, Final

import structlog
from prometheus_client import Counter, Gauge, Histogram
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.correlation import Correlation, current
from app.telemetry.route import route_template
from app.telemetry.trail import trail_of
from app.utils.metrics import (
    HTTP_DURATION,
    HTTP_IN_PROGRESS,
    HTTP_REQUESTS,
    METHODS,
    OTHER_METHOD,
    UNMATCHED,
    hook_failed,
)

log = structlog.get_logger(__name__)

# The client went away before its answer was complete; nginx's number for it.
CLIENT_GONE: Final = 499
_SERVER_ERROR: Final = 500
# Probes and scrapes: neither traffic nor news.
_QUIET: Final = frozenset({"/api/v1/health", "/api/v1/health/ready", "/api/v1/metrics", "/health", "/metrics"})


class HttpMetricsMiddleware:
    """Pure ASGI, inside the correlation, outside the error boundary.

    Args:
        app: the next layer.
        slow_ms: a request that takes longer is logged as a warning.
    """

    def __init__(self, app: ASGIApp, *, slow_ms: float = 1000.0) -> None:
        self._app = app
        self._slow_ms = slow_ms
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._in_progress: dict[str, Gauge] = {
            method: HTTP_IN_PROGRESS.labels(method) for method in (*METHODS, OTHER_METHOD)
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Time one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(self, scope, receive, send)
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except (asyncio.CancelledError, ClientDisconnect):
            exchange.client_gone = True
            raise
        finally:
            if not exchange.finished:
                # No last byte went out. Either the client left, or the answer broke off.
                exchange.finish(CLIENT_GONE if exchange.client_gone else _SERVER_ERROR)

    def begin(self, method: str) -> None:
        """Note a request that came in."""
        self._in_progress[method].inc()

    def end(self, scope: Scope, method: str, raw_method: str, status: int, duration_s: float) -> None:
        """Note a request that was answered: count it, time it, tell it."""
        self._in_progress[method].dec()
        route = route_template(scope) or UNMATCHED
        key = (method, route, status)
        children = self._children.get(key)
        if children is None:
            children = self._children[key] = (
                HTTP_REQUESTS.labels(method, route, str(status)),
                HTTP_DURATION.labels(method, route),
            )
        children[0].inc()
        children[1].observe(duration_s)
        self._tell(scope, raw_method, route, status, duration_s * 1000)

    def _tell(self, scope: Scope, method: str, route: str, status: int, duration_ms: float) -> None:
        remarkable = status >= _SERVER_ERROR or duration_ms > self._slow_ms
        if route in _QUIET and not remarkable:
            return
        event: dict[str, Any] = {
            "method": method,
            "path": scope["path"],
            "route": route,
            "status": status,
            "duration_ms": round(duration_ms, 3),
            "client": (scope.get("client") or (None,))[0],
            "sql": _sql(current()),
        }
        if remarkable:
            log.warning("request.finished", **event)
        else:
            log.info("request.finished", **event)


class _Exchange:
    """One request and its answer, watched as they pass."""

    __slots__ = (
        "_layer",
        "_method",
        "_raw_method",
        "_receive",
        "_scope",
        "_send",
        "_started",
        "_status",
        "client_gone",
        "finished",
    )

    def __init__(self, layer: HttpMetricsMiddleware, scope: Scope, receive: Receive, send: Send) -> None:
        self._started = perf_counter()
        self._layer = layer
        self._scope = scope
        self._receive = receive
        self._send = send
        # Kept now: a HEAD is routed as the GET it asks about.
        self._raw_method: str = scope["method"]
        self._method = self._raw_method if self._raw_method in METHODS else OTHER_METHOD
        self._status = 0
        self.client_gone = False
        self.finished = False
        try:
            layer.begin(self._method)
        except Exception:  # noqa: BLE001 - never costs a request
            hook_failed("http_metrics")
        self._add_overhead(self._started)

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
        await self._send(message)
        if not self.finished and message["type"] == "http.response.body" and not message.get("more_body"):
            self.finish(self._status)

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.client_gone = True
        return message

    def finish(self, status: int) -> None:
        self.finished = True
        ended = perf_counter()
        try:
            self._layer.end(self._scope, self._method, self._raw_method, status, ended - self._started)
        except Exception:  # noqa: BLE001 - never costs a request
            hook_failed("http_metrics")
        self._add_overhead(ended)

    @staticmethod
    def _add_overhead(since: float) -> None:
        correlation = current()
        if correlation is not None:
            correlation.overhead_s += perf_counter() - since


def _sql(correlation: Correlation | None) -> dict[str, Any] | None:
    return trail_of(correlation).sql_summary() if correlation is not None else None
