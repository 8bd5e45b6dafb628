"""A websocket that fails has an ID, an error line and a count, like any other request."""

from collections.abc import Callable
from typing import Any

import pytest
import structlog
from fastapi import FastAPI, WebSocket
from prometheus_client import REGISTRY
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

from tests.layer_app import UnheardOfError, create_app
from tests.system import eventually

log = structlog.get_logger("app.tests")
Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def app() -> FastAPI:
    """The layer's application, with sockets that fail."""
    app = create_app()

    @app.websocket("/fails-at-once/{number}")
    async def fails_at_once(number: int) -> None:
        raise UnheardOfError(f"password=hunter2 {number}")

    @app.websocket("/fails-later")
    async def fails_later(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("hello")
        raise UnheardOfError

    @app.websocket("/listens")
    async def listens(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            await websocket.receive_text()
        finally:
            log.info("left")

    return app


def counted(endpoint: str) -> float:
    labels = {"endpoint": endpoint, "status_code": "500", "error_type": "UnheardOfError"}
    return REGISTRY.get_sample_value("commandcenter_errors_total", labels) or 0.0


def test_one_that_fails_before_it_is_accepted_is_refused_with_the_id(served: str, log_lines: Lines) -> None:
    """The server's own last answer would have none, and nobody would know of it."""
    before = counted("/fails-at-once/{number}")
    with pytest.raises(InvalidStatus) as refusal:
        connect(f"ws://{served}/fails-at-once/1", additional_headers={"X-Request-ID": "my-socket"})
    response = refusal.value.response
    assert (response.status_code, response.headers.get_all("X-Request-ID")) == (500, ["my-socket"])
    assert response.headers["Content-Type"] == "application/problem+json"
    assert b"hunter2" not in (response.body or b"")
    [failed] = [line for line in log_lines() if line["event"] == "request.failed"]
    assert (failed["request_id"], failed["route"], failed["status"]) == ("my-socket", "/fails-at-once/{number}", 500)
    assert (failed["method"], failed["error_type"]) == ("GET", "UnheardOfError")
    assert counted("/fails-at-once/{number}") == before + 1


def test_one_that_fails_later_is_told_and_closed(served: str, log_lines: Lines) -> None:
    """There is no answer left to give; the log tells."""
    with connect(f"ws://{served}/fails-later", additional_headers={"X-Request-ID": "my-socket"}) as socket:
        assert socket.recv() == "hello"
        with pytest.raises(ConnectionClosedError):
            socket.recv()
    [failed] = eventually(lambda: [line for line in log_lines() if line["event"] == "request.failed"])
    assert (failed["request_id"], failed["route"]) == ("my-socket", "/fails-later")


def test_a_client_that_leaves_is_no_failure(served: str, log_lines: Lines) -> None:
    """Every socket ends that way."""
    with connect(f"ws://{served}/listens", additional_headers={"X-Request-ID": "leaving"}):
        pass
    [left] = eventually(lambda: [line for line in log_lines() if line["event"] == "left"])
    assert left["request_id"] == "leaving"
    # A second socket's failure is told after whatever the first one had to tell.
    with pytest.raises(InvalidStatus):
        connect(f"ws://{served}/fails-at-once/1", additional_headers={"X-Request-ID": "next"})
    failed = [line["request_id"] for line in log_lines() if line["event"] == "request.failed"]
    assert failed == ["next"]
