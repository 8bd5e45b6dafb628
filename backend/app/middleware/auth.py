"""Asks for a bearer token before anything of the request is read."""

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import AppError
from app.middleware.errors import answer
from app.telemetry.exposition import token_accepted


class TokenMiddleware:
    """Pure ASGI, inside the error boundary.

    Args:
        app: the application.
        token: what to ask for; empty lets everyone in.
        prefix: paths below it are guarded.
        open_paths: paths below it that aren't, whole or with what follows a slash.
    """

    def __init__(self, app: ASGIApp, *, token: str, prefix: str, open_paths: Collection[str] = ()) -> None:
        self._app = app
        self._token = token
        self._prefix = prefix
        self._open = frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request in, or answer 401."""
        if scope["type"] == "lifespan" or not self._token or not self._is_guarded(scope["path"]):
            await self._app(scope, receive, send)
            return
        if token_accepted(Headers(scope=scope).get("authorization"), self._token):
            await self._app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        detail = "A valid bearer token is wanted in the Authorization header."
        await answer(scope, send, AppError(401, "Unauthorized", detail, {"WWW-Authenticate": "Bearer"}))

    def _is_guarded(self, path: str) -> bool:
        if path != self._prefix and not path.startswith(f"{self._prefix}/"):
            return False
        return not any(path == opened or path.startswith(f"{opened}/") for opened in self._open)
