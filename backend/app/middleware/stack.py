"""Where the layer sits: outside of everything, the framework's own middleware included."""

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.types import ASGIApp


class ObservedFastAPI(FastAPI):
    """A FastAPI application with middleware outside the framework's own.

    What FastAPI and Starlette put outermost (a last resort for errors, a limit on bodies) answers requests by itself;
    middleware that is added the usual way never sees those answers, so they would lack the ID and not be counted.

    Args:
        outermost: middleware by order, the outermost first.
        options: FastAPI's own arguments; its `middleware` sits inside.
    """

    def __init__(self, *, outermost: Sequence[Middleware] = (), **options: Any) -> None:
        super().__init__(**options)
        self._outermost = tuple(outermost)

    def build_middleware_stack(self) -> ASGIApp:
        """Return the framework's stack inside ours."""
        app = super().build_middleware_stack()
        for middleware in reversed(self._outermost):
            app = middleware.cls(app, *middleware.args, **middleware.kwargs)
        return app
