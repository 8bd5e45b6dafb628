"""Outgoing calls: those to allow-listed hosts bear the ID, all leave a log line."""

import time
from collections.abc import Collection

import httpx
import structlog

from app.correlation import current
from app.telemetry.trail import note
from app.utils.metrics import hook_failed

log = structlog.get_logger(__name__)


class CorrelatedTransport(httpx.BaseTransport):
    """Wraps a transport of httpx.

    Args:
        hosts: host names, lower case, that may learn our IDs. Nobody else does.
        transport: does the work; httpx's own unless given.
    """

    def __init__(self, hosts: Collection[str], transport: httpx.BaseTransport | None = None) -> None:
        self._hosts = frozenset(hosts)
        self._transport = transport or httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request`, with our headers where its host may have them."""
        try:
            correlation = current()
            if correlation is not None and request.url.host.lower() in self._hosts:
                request.headers["X-Request-ID"] = correlation.request_id
                request.headers["traceparent"] = correlation.traceparent
                if correlation.tracestate:
                    request.headers["tracestate"] = correlation.tracestate
        except Exception:  # noqa: BLE001 - the call matters more
            hook_failed("outbound")
        started = time.perf_counter()
        try:
            response = self._transport.handle_request(request)
        except httpx.HTTPError as error:
            self._tell(request, started, error_type=type(error).__name__)
            raise
        self._tell(request, started, status=response.status_code)
        return response

    def close(self) -> None:
        """Close the wrapped transport."""
        self._transport.close()

    @staticmethod
    def _tell(request: httpx.Request, started: float, **outcome: object) -> None:
        duration_s = time.perf_counter() - started
        log.info(
            "outbound.finished",
            method=request.method,
            host=request.url.host,
            path=request.url.path,
            duration_ms=round(duration_s * 1000, 3),
            **outcome,
        )
        note("outbound", f"{request.method} {request.url.host}{request.url.path}", duration_s, outcome)
