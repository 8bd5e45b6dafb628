"""Gives every request its ID, and every response exactly one `X-Request-ID`.

The outermost middleware: whatever goes wrong inside, the answer bears the ID.
"""

import ipaddress
from collections.abc import Callable
from time import perf_counter
from typing import Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.correlation import Correlation, activate, bind, deactivate, for_request, is_valid_id, sanitize_id
from app.telemetry.opentelemetry import SpanIds
from app.telemetry.trail import asks_for_trail
from app.utils.metrics import hook_failed, note_overhead

log = structlog.get_logger(__name__)

HEADER: Final = b"x-request-id"
TRAIL_HEADER: Final = b"x-trail-token"
_STARTS: Final = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})
_WANTED: Final = frozenset({HEADER, b"traceparent", b"tracestate", TRAIL_HEADER})
_OBSERVED: Final = frozenset({"http", "websocket"})
_HEADER_LENGTH: Final = len(HEADER)


class Trust:
    """Whose `X-Request-ID` is believed.

    Args:
        policy: `all`, `none`, or networks in CIDR notation, comma-separated.

    Raises:
        ValueError: a network that is none.
    """

    def __init__(self, policy: str) -> None:
        self._all = policy.strip().lower() == "all"
        self._networks = (
            ()
            if self._all or policy.strip().lower() in {"none", ""}
            else tuple(ipaddress.ip_network(part.strip()) for part in policy.split(","))
        )

    def accepts(self, scope: Scope) -> bool:
        """Tell whether the peer of this connection may name the ID."""
        if self._all:
            return True
        client = scope.get("client")
        if not self._networks or not client:
            return False
        try:
            address = ipaddress.ip_address(client[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._networks)


class CorrelationMiddleware:
    """Pure ASGI. HTTP and websockets; anything else passes.

    Args:
        app: the next layer.
        trust: whose ID is believed.
        trail_secret: what a header that asks for the trail is signed with; empty: nobody may ask.
        span_source: tells the IDs of another tracer's span, so that ours are the same; see telemetry/opentelemetry.py.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        trust: Trust,
        trail_secret: str = "",
        span_source: Callable[[], SpanIds | None] | None = None,
    ) -> None:
        self._app = app
        self._span_source = span_source
        self._trust = trust
        self._trail_secret = trail_secret

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request with its ID as the current one."""
        kind = scope["type"]
        if kind not in _OBSERVED:
            await self._app(scope, receive, send)
            return
        started = perf_counter()
        correlation = self._correlation_of(scope)
        header = (HEADER, correlation.request_id.encode())

        async def send_with_id(message: Message) -> None:
            if message["type"] in _STARTS:
                correlation.is_answered = True
                # Any iterable may come, and some can be read once only.
                headers = list(message.get("headers") or ())
                for name, _ in headers:
                    if len(name) == _HEADER_LENGTH and bytes(name).lower() == HEADER:
                        # A handler set one of its own.
                        headers = [pair for pair in headers if bytes(pair[0]).lower() != HEADER]
                        break
                message["headers"] = [*headers, header]
            await send(message)

        token = activate(correlation)
        try:
            correlation.overhead_s += perf_counter() - started
            if kind == "websocket":
                await self._app(scope, receive, _Refusal(scope, send_with_id).send)
            else:
                await self._app(scope, receive, send_with_id)
        finally:
            deactivate(token)
            try:
                note_overhead(correlation.overhead_s)
            except Exception:  # noqa: BLE001 - never costs a request
                hook_failed("overhead")

    def _correlation_of(self, scope: Scope) -> Correlation:
        """Return the request's correlation."""
        found = None
        try:
            for name, value in scope["headers"]:
                if name in _WANTED:
                    found = [*(found or ()), (name, value)]
            correlation = Correlation.fresh() if found is None else self._continue(scope, found)
            if self._span_source is not None:
                _join(correlation, self._span_source(), scope)
        except Exception:  # noqa: BLE001 - a request without its client's ID is better than none
            hook_failed("correlation")
            correlation = Correlation.fresh()
        # The route is matched later and further in; the SQL hook looks it up here.
        correlation.scope = scope
        return correlation

    def _continue(self, scope: Scope, found: list[tuple[bytes, bytes]]) -> Correlation:
        """Return what the client's headers say, as far as they may; an ID that was refused is told in the log."""
        ids, parents, states, tokens = (
            [value for name, value in found if name == wanted]
            for wanted in (HEADER, b"traceparent", b"tracestate", TRAIL_HEADER)
        )
        client_id, refused = None, None
        # latin-1: there is no byte that it can't read.
        if len(ids) == 1 and is_valid_id(value := ids[0].decode("latin-1")) and self._trust.accepts(scope):
            client_id = value
        elif ids:
            # Two headers are no ID either: which one the client's logs hold, nobody can tell.
            refused = sanitize_id(b",".join(ids).decode("latin-1"))
        correlation = for_request(
            client_id,
            parents[0].decode("latin-1") if len(parents) == 1 else None,
            b",".join(states).decode("latin-1") or None,
        )
        if tokens and self._trail_secret:
            correlation.wants_trail = asks_for_trail(tokens[0].decode("latin-1"), self._trail_secret)
        if refused is not None:
            with bind(correlation):
                log.info("request.id_rejected", client_request_id=refused)
        return correlation


def _join(correlation: Correlation, span: SpanIds | None, scope: Scope) -> None:
    """Make our IDs those of the tracer outside of us, and have the one inside of us (FastAPI has one) continue them."""
    if span is not None:
        correlation.join(*span)
    kept = [pair for pair in scope["headers"] if pair[0] != b"traceparent"]
    scope["headers"] = [*kept, (b"traceparent", correlation.traceparent.encode())]


class _Refusal:
    """Turns a websocket's plain refusal, which has no room for a header, into an HTTP answer that has."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._send = send
        self._is_open = "websocket.http.response" not in scope.get("extensions", ())

    async def send(self, message: Message) -> None:
        if not self._is_open and message["type"] == "websocket.close":
            await self._send({"type": "websocket.http.response.start", "status": 403, "headers": []})
            message = {"type": "websocket.http.response.body", "body": b""}
        self._is_open = True
        await self._send(message)
