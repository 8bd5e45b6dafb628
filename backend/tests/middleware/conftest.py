"""The layer's own application, in this process and behind a real server."""

import io
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from app.telemetry.logs import configure_logging
from tests.layer_app import create_app
from tests.system import eventually


@pytest.fixture
def log_lines() -> Callable[[], list[dict[str, Any]]]:
    """A function that returns what was logged so far, parsed."""
    stream = io.StringIO()
    configure_logging("test", "debug", stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    (tmp_path / "page.txt").write_text("static\n")
    return create_app(static=tmp_path)


@pytest.fixture
async def client(app: FastAPI, log_lines: Callable[[], list[dict[str, Any]]]) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a socket; whatever escapes the application is an error of the test."""
    assert not log_lines()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client


@pytest.fixture
def served(app: FastAPI, log_lines: Callable[[], list[dict[str, Any]]]) -> Iterator[str]:
    """The application behind uvicorn; yields host:port."""
    assert not log_lines()
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, log_config=None, ws="websockets-sansio", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        eventually(lambda: server.started, what="uvicorn's start")
        host, port = server.servers[0].sockets[0].getsockname()[:2]
        yield f"{host}:{port}"
    finally:
        server.should_exit = True
        thread.join(10)
