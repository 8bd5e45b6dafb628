"""Outgoing calls: those to allow-listed hosts bear the ID, all leave a log line."""

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import httpx
import structlog

from app.correlation import current
from app.telemetry.trail import note
from app.utils.metrics import hook_failed

log = structlog.get_logger(__name__)


class CorrelatedTransport(httpx.BaseTransport):
    """Wraps a transport of httpx.

    Args:
        hosts: host names that may learn our IDs, at any port. Nobody else does.
        transport: does the work; httpx's own unless given.
    """

    def __init__(self, hosts: Collection[str], transport: httpx.BaseTransport | None = None) -> None:
        self._hosts = _lowered(hosts)
        self._transport = transport or httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request`, with our headers where its host may have them."""
        with _told(request) as outcome:
            response = self._transport.handle_request(_with_ids(request, self._hosts))
            outcome["status"] = response.status_code
        return response

    def close(self) -> None:
        """Close the wrapped transport."""
        self._transport.close()


class AsyncCorrelatedTransport(httpx.AsyncBaseTransport):
    """The same for `httpx.AsyncClient`."""

    def __init__(self, hosts: Collection[str], transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._hosts = _lowered(hosts)
        self._transport = transport or httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request`, with our headers where its host may have them."""
        with _told(request) as outcome:
            response = await self._transport.handle_async_request(_with_ids(request, self._hosts))
            outcome["status"] = response.status_code
        return response

    async def aclose(self) -> None:
        """Close the wrapped transport."""
        await self._transport.aclose()


def _lowered(hosts: Collection[str]) -> frozenset[str]:
    return frozenset(host.lower() for host in hosts)


def _with_ids(request: httpx.Request, hosts: frozenset[str]) -> httpx.Request:
    """Return `request`, or a copy of it with our headers where its host may have them.

    A copy, for a client that is redirected takes along what stands in the first request's headers, to whatever host.
    """
    try:
        correlation = current()
        if correlation is None or request.url.host.lower() not in hosts:
            return request
        headers = request.headers.copy()
        headers["X-Request-ID"] = correlation.request_id
        headers["traceparent"] = correlation.traceparent
        # What isn't ASCII is no tracestate, and must not cost the others.
        if correlation.tracestate and correlation.tracestate.isascii():
            headers["tracestate"] = correlation.tracestate
        return httpx.Request(
            request.method, request.url, headers=headers, stream=request.stream, extensions=request.extensions
        )
    except Exception:  # noqa: BLE001 - the call matters more
        hook_failed("outbound")
        return request


@contextmanager
def _told(request: httpx.Request) -> Iterator[dict[str, object]]:
    """Tell log and trail how the call inside the block ended, with what the block puts into the mapping."""
    outcome: dict[str, object] = {}
    started = time.perf_counter()
    try:
        yield outcome
    except BaseException as error:
        outcome["error_type"] = type(error).__name__
        raise
    finally:
        try:
            _tell(request, time.perf_counter() - started, outcome)
        except Exception:  # noqa: BLE001 - as above
            hook_failed("outbound")


def _tell(request: httpx.Request, duration_s: float, outcome: dict[str, object]) -> None:
    log.info(
        "outbound.finished",
        method=request.method,
        host=request.url.host,
        path=request.url.path,
        duration_ms=round(duration_s * 1000, 3),
        **outcome,
    )
    note("outbound", f"{request.method} {request.url.host}{request.url.path}", duration_s, outcome)
