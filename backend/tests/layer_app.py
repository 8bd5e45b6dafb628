"""A second, small application that uses the layer as it stands: every way a request can end."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import BackgroundTasks, FastAPI, HTTPException, Request, Response, WebSocket
from fastapi.responses import RedirectResponse, StreamingResponse
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.staticfiles import StaticFiles

from app.correlation import request_id
from app.errors import AppError
from app.middleware.correlation import CorrelationMiddleware, Trust
from app.middleware.errors import ErrorBoundaryMiddleware
from app.middleware.handlers import install_error_handlers
from app.middleware.head import HeadMiddleware
from app.middleware.http_metrics import HttpMetricsMiddleware
from app.middleware.stack import ObservedFastAPI

log = logging.getLogger("tests.layer_app")


class UnheardOfError(Exception):
    """Nothing handles it."""


def create_app(*, trust: str = "all", static: Path | None = None) -> FastAPI:  # noqa: C901, PLR0915 - a list of routes
    """Return the application; all its state is its own."""
    app = ObservedFastAPI(
        outermost=[
            Middleware(CorrelationMiddleware, trust=Trust(trust)),
            Middleware(HttpMetricsMiddleware),
        ],
        middleware=[
            Middleware(ErrorBoundaryMiddleware),
            Middleware(
                CORSMiddleware,
                allow_origins=["https://console.example"],
                allow_methods=["*"],
                expose_headers=["X-Request-ID"],
            ),
            Middleware(HeadMiddleware),
        ],
        max_body_size=1024,
    )
    install_error_handlers(app)
    background: list[str | None] = []
    app.state.background = background

    @app.get("/items/{number}")
    async def item(number: int) -> dict[str, object]:
        log.info("a library's line", extra={"number": number})
        return {"number": number, "request_id": request_id()}

    @app.post("/items")
    async def add(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    @app.get("/own-header")
    async def own_header() -> Response:
        return Response("x", headers={"X-Request-ID": "the-handlers-own", "x-REQUEST-id": "another"})

    @app.get("/redirect")
    async def redirect() -> RedirectResponse:
        return RedirectResponse("/items/1")

    @app.get("/known")
    async def known() -> None:
        raise AppError(409, "Conflict", "Known to us.")

    @app.get("/unavailable")
    async def unavailable() -> None:
        raise HTTPException(503, "Come back later.")

    @app.get("/boom/{number}")
    async def boom(number: int) -> None:
        raise UnheardOfError(f"a secret of {number}: password=hunter2")

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            for _ in range(3):
                await asyncio.sleep(0)
                yield f"{request_id()}\n"

        return StreamingResponse(parts())

    @app.get("/events")
    async def events() -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            for _ in range(3):
                yield f"data: {request_id()}\n\n"

        return StreamingResponse(parts(), media_type="text/event-stream")

    @app.get("/endless")
    async def endless() -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            while True:
                yield "more\n"
                await asyncio.sleep(0.01)

        return StreamingResponse(parts())

    @app.get("/half")
    async def half() -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            yield "half of it"
            await asyncio.sleep(0)
            raise UnheardOfError("in the middle")

        return StreamingResponse(parts())

    @app.get("/background")
    async def with_background(tasks: BackgroundTasks) -> dict[str, str | None]:
        def note() -> None:
            background.append(request_id())

        tasks.add_task(note)
        return {"request_id": request_id()}

    @app.get("/slow")
    async def slow(wait_s: float = 0.05) -> dict[str, str | None]:
        before = request_id()
        await asyncio.sleep(wait_s)
        assert request_id() == before
        return {"request_id": request_id()}

    @app.websocket("/socket")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(str(request_id()))
        await websocket.close()

    @app.websocket("/denied")
    async def denied(websocket: WebSocket) -> None:
        await websocket.close(1008)

    inner = FastAPI()

    @inner.get("/things/{name}")
    async def thing(name: str) -> dict[str, str | None]:
        return {"name": name, "request_id": request_id()}

    app.mount("/inner", inner)
    if static is not None:
        app.mount("/static", StaticFiles(directory=static))
    return app
