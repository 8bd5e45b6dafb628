"""Gives every request its ID, and every response exactly one `X-Request-ID`.

The outermost middleware: whatever goes wrong inside, the answer bears the ID.
"""

import ipaddress
from collections.abc import Iterable
from time import perf_counter
from typing import Any, Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.correlation import Correlation, activate, deactivate, for_request, is_valid_id, sanitize_id
from app.utils.metrics import OVERHEAD, hook_failed

log = structlog.get_logger(__name__)

HEADER: Final = b"x-request-id"
_STARTS: Final = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})
_DENIAL_BODY: Final = "websocket.http.response"


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
    """

    def __init__(self, app: ASGIApp, *, trust: Trust) -> None:
        self._app = app
        self._trust = trust

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request with its ID as the current one."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        started = perf_counter()
        correlation, refused = self._correlation_of(scope)
        header = (HEADER, correlation.request_id.encode("latin-1"))
        denial_offered = "websocket.http.response" in scope.get("extensions", ())
        is_websocket = scope["type"] == "websocket"
        accepted = False

        async def send_with_id(message: Message) -> None:
            nonlocal accepted
            kind = message["type"]
            if kind in _STARTS:
                accepted = True
                message = _with_header(message, header)
            elif is_websocket and not accepted and kind == "websocket.close" and denial_offered:
                # A plain refusal has no room for a header; the server's own 403 would go out without one.
                await send({"type": f"{_DENIAL_BODY}.start", "status": 403, "headers": [header]})
                message = {"type": f"{_DENIAL_BODY}.body", "body": b""}
            await send(message)

        token = activate(correlation)
        try:
            if refused is not None:
                log.info("request.id_rejected", client_request_id=refused)
            correlation.overhead_s += perf_counter() - started
            await self._app(scope, receive, send_with_id)
        finally:
            deactivate(token)
            try:
                OVERHEAD.observe(correlation.overhead_s)
            except Exception:  # noqa: BLE001 - never costs a request
                hook_failed("overhead")

    def _correlation_of(self, scope: Scope) -> tuple[Correlation, str | None]:
        """Return the request's correlation, and the client's ID (sanitized) where it was refused."""
        refused = None
        try:
            values, parents, state = _relevant(scope["headers"])
            client_id = None
            if len(values) == 1 and is_valid_id(values[0]) and self._trust.accepts(scope):
                client_id = values[0]
            elif values:
                # Two headers are no ID either: which one the client's logs hold, nobody can tell.
                refused = sanitize_id(",".join(values))
            correlation = for_request(client_id, parents[0] if len(parents) == 1 else None, state or None)
        except Exception:  # noqa: BLE001 - a request without its client's ID is better than none
            hook_failed("correlation")
            correlation = for_request(None)
        # The route is matched later and further in; the SQL hook looks it up here.
        correlation.baggage["scope"] = scope
        return correlation, refused


def _relevant(headers: Iterable[tuple[bytes, bytes]]) -> tuple[list[str], list[str], str]:
    """Pick request IDs, traceparents and the joined tracestate; latin-1, so that no byte fails."""
    ids: list[str] = []
    parents: list[str] = []
    states: list[str] = []
    for name, value in headers:
        if name == HEADER:
            ids.append(value.decode("latin-1"))
        elif name == b"traceparent":
            parents.append(value.decode("latin-1"))
        elif name == b"tracestate":
            states.append(value.decode("latin-1"))
    return ids, parents, ",".join(states)


def _with_header(message: Message, header: tuple[bytes, bytes]) -> dict[str, Any]:
    """Return `message` with ours as its only request ID, whatever a handler set."""
    headers = [pair for pair in message.get("headers") or () if bytes(pair[0]).lower() != HEADER]
    headers.append(header)
    return {**message, "headers": headers}
