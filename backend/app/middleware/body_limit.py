"""Refuses a body that says of itself that it is too large, before a byte of it is read."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import AppError
from app.middleware.errors import answer


class BodyLimitMiddleware:
    """Pure ASGI, inside the error boundary. FastAPI's `max_body_size` counts what arrives without a length.

    That one answers a length that is too great by itself, in plain text; hence this one in front of it.

    Args:
        app: the application.
        max_bytes: the largest body.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request in, or answer 413."""
        length = Headers(scope=scope).get("content-length", "") if scope["type"] == "http" else ""
        # Compared by digits: int() refuses to read a number of thousands of them.
        if not length.isdecimal() or not self._is_greater(length.lstrip("0")):
            await self._app(scope, receive, send)
            return
        detail = f"The body may have at most {self._max_bytes} bytes."
        # The body is not read, so nothing else can come on this connection.
        await answer(scope, send, AppError(413, "Content Too Large", detail, {"Connection": "close"}))

    def _is_greater(self, digits: str) -> bool:
        limit = str(self._max_bytes)
        return (len(digits), digits) > (len(limit), limit)
