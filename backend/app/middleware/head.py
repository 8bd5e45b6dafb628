"""HEAD on every GET: the same headers, no body. And a 405 names every method there is, HEAD included."""

from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_METHOD_NOT_ALLOWED: Final = 405
_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")


class HeadMiddleware:
    """Pure ASGI, innermost. Routes a HEAD as the GET it asks about.

    The scope is changed in place while the route is sought, and put back before the answer goes out: the server looks
    at it to know that no body follows.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_head = scope["method"] == "HEAD"

        async def watched_send(message: Message) -> None:
            if is_head:
                scope["method"] = "HEAD"
                if message["type"] == "http.response.body":
                    message = {**message, "body": b""}
            if message.get("status") == _METHOD_NOT_ALLOWED:
                MutableHeaders(raw=message["headers"])["Allow"] = ", ".join(_allowed(scope))
            await send(message)

        if is_head:
            scope["method"] = "GET"
        try:
            await self._app(scope, receive, watched_send)
        finally:
            if is_head:
                scope["method"] = "HEAD"


def _allowed(scope: Scope) -> list[str]:
    """Return the methods of a path. The framework knows only those of the first route that has this path."""
    asked = {"type": "http", "path": scope["path"], "root_path": scope.get("root_path", ""), "headers": []}
    found = [
        method
        for method in _METHODS
        if any(route.matches({**asked, "method": method})[0] is Match.FULL for route in scope["app"].routes)
    ]
    return [*found, "HEAD"] if "GET" in found else found
