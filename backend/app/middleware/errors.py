"""The error boundary: whatever fails inside leaves one log line, one count and one problem+json body."""

import asyncio
from typing import Any, Final

import orjson
import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.correlation import Correlation, current, request_id
from app.errors import PROBLEM_MEDIA_TYPE, AppError, error_type, fingerprint, problem
from app.telemetry.logs import format_exception
from app.telemetry.route import route_template
from app.telemetry.scrub import scrub
from app.telemetry.trail import trail_of
from app.utils.metrics import ERRORS, UNMATCHED, bounded, hook_failed

log = structlog.get_logger(__name__)

_SERVER_ERROR: Final = 500
_MAX_REASON: Final = 500
_ANSWERS: Final = frozenset({"http.response.start", "websocket.accept"})
_GONE: Final = frozenset({"ClientDisconnect", "ClientDisconnected", "WebSocketDisconnect"})
_AT_ONCE_S: Final = 0.01
# Of a body that nobody read, before one looks for the client no more.
_MOST_MESSAGES: Final = 100
# RFC 6455, section 7.4.1.
_INTERNAL_ERROR: Final = 1011


class ErrorBoundaryMiddleware:
    """Pure ASGI, innermost of ours: the server's own last resort never gets to see an exception.

    Args:
        app: the application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request; answer 500 in its stead where it fails."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        correlation = current()
        if correlation is None:
            # The layer is switched off: nobody else keeps an eye on how far the answer is.
            correlation = Correlation("")
            send = _watched(send, correlation)
        try:
            await self._app(scope, receive, send)
            if not correlation.is_answered and scope["type"] == "http":
                await _want_answer(receive)
        except BaseException as error:
            if is_client_gone(error):
                # Nobody listens. Raised further, the framework's last resort would answer 500, and that would count.
                return
            if _is_meant_for_the_process(error):
                raise
            record_error(scope, 500, error)
            if correlation.is_answered:
                # Half an answer is out. Breaking off is the only honest end: the server closes the connection.
                raise
            if scope["type"] == "websocket":
                await _refuse(scope, send)
                return
            await _send(scope, send, 500, *problem_response(500))


class UnansweredError(RuntimeError):
    """An application that returned without a word; the server would answer 500, and without an ID."""


def _is_meant_for_the_process(error: BaseException) -> bool:
    """Tell whether an error ends more than the request that it came out of.

    A handler that waits for a cancelled task, or parses arguments, only failed; the server stops by other means.
    """
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is None or task.cancelling() > 0
    return isinstance(error, KeyboardInterrupt | GeneratorExit)


async def _want_answer(receive: Receive) -> None:
    """Fail unless the client has left: nobody waits for it to.

    Raises:
        UnansweredError: somebody still listens.
    """
    for _ in range(_MOST_MESSAGES):
        try:
            message = await asyncio.wait_for(receive(), _AT_ONCE_S)
        except TimeoutError:
            break
        if message["type"] == "http.disconnect":
            return
    raise UnansweredError("The application ended without an answer.")


async def _refuse(scope: Scope, send: Send) -> None:
    """Answer a handshake with 500, or close it where the server has no way to answer it."""
    if "websocket.http.response" not in scope.get("extensions", ()):
        await send({"type": "websocket.close", "code": _INTERNAL_ERROR})
        return
    body, headers = problem_response(500)
    await send({"type": "websocket.http.response.start", "status": 500, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})


def _watched(send: Send, correlation: Correlation) -> Send:
    async def watched_send(message: Message) -> None:
        correlation.is_answered = correlation.is_answered or message["type"] in _ANSWERS
        await send(message)

    return watched_send


def is_client_gone(error: BaseException) -> bool:
    """Tell whether `error` only says that the client closed the connection."""
    kind = type(error)
    # By their home, too: an application may have one of that name, and means something else.
    return kind.__name__ in _GONE and kind.__module__.partition(".")[0] in {"starlette", "uvicorn"}


def _trail() -> list[dict[str, Any]] | None:
    correlation = current()
    return None if correlation is None or correlation.trail is None else trail_of(correlation).steps()


def problem_response(
    status: int,
    *,
    title: str | None = None,
    detail: str | None = None,
    errors: list[dict[str, Any]] | None = None,
) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Return body and headers of an error response about the request at work."""
    body = orjson.dumps(problem(status, request_id(), title=title, detail=detail, errors=errors), default=str)
    return body, [
        (b"content-type", PROBLEM_MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
    ]


async def answer(scope: Scope, send: Send, error: AppError) -> None:
    """Answer a request in the application's stead, and count that as the error it is."""
    record_error(scope, error.status, error)
    body, headers = problem_response(error.status, title=error.title, detail=error.detail)
    headers += [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
    await _send(scope, send, error.status, body, headers)


async def _send(scope: Scope, send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def record_error(scope: Scope, status: int, error: BaseException) -> None:
    """Count a request that was answered with an error, and tell the log of it from 500 on. Never raises.

    Body, line and metric agree: the same request ID, route template, type and fingerprint.
    """
    try:
        endpoint = route_template(scope) or UNMATCHED
        ERRORS.labels(endpoint, str(status), bounded("error_type", error_type(error))).inc()
        if status < _SERVER_ERROR:
            # The client's mistake; the access line tells of it.
            return
        # An error that was raised with a status is known and words its own reason.
        is_known = isinstance(error, AppError) or hasattr(error, "status_code")
        log.error(
            "request.failed",
            # A websocket's handshake is a GET.
            method=scope.get("method", "GET"),
            route=endpoint,
            status=status,
            error_type=error_type(error),
            fingerprint=fingerprint(error),
            reason=scrub(str(error))[:_MAX_REASON] if is_known else None,
            exception=format_exception(error),
            trail=_trail(),
        )
    except Exception:  # noqa: BLE001 - the answer matters more
        hook_failed("error_boundary")
