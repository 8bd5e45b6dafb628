"""Applications that end in other ways than with an answer or an exception: the client learns the ID all the same."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.middleware.correlation import CorrelationMiddleware, Trust
from app.middleware.errors import ErrorBoundaryMiddleware
from app.middleware.http_metrics import HttpMetricsMiddleware
from app.utils.metrics import ERRORS


def observed(app: ASGIApp) -> ASGIApp:
    """Return an application with our three layers around it."""
    return CorrelationMiddleware(HttpMetricsMiddleware(ErrorBoundaryMiddleware(app)), trust=Trust("all"))


async def ask(app: ASGIApp) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(observed(app)), base_url="http://here") as client:
        return await client.post("/", content=b"a body", headers={"X-Request-ID": "asked"})


async def waits_for_a_cancelled_task(_scope: Scope, _receive: Receive, _send: Send) -> None:
    task = asyncio.ensure_future(asyncio.sleep(60))
    task.cancel()
    await task


async def ends_the_process(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise SystemExit(2)


async def says_nothing(_scope: Scope, _receive: Receive, _send: Send) -> None:
    return


class WebSocketDisconnect(Exception):  # noqa: N818 - the name of another's
    """Of an application that watches sockets of its own."""


async def has_an_exception_of_that_name(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise WebSocketDisconnect


@pytest.mark.parametrize(
    ("app", "error_type"),
    [
        (waits_for_a_cancelled_task, "CancelledError"),
        (ends_the_process, "SystemExit"),
        (says_nothing, "UnansweredError"),
        (has_an_exception_of_that_name, "WebSocketDisconnect"),
    ],
)
async def test_an_application_that_ends_otherwise_is_answered_with_the_id(app: ASGIApp, error_type: str) -> None:
    """The server's own last resort has none; and as 499 the failure would count as the client's."""
    counted = ERRORS.labels("unmatched", "500", error_type)
    before = counted._value.get()
    answer = await ask(app)
    assert (answer.status_code, answer.headers.get_list("x-request-id")) == (500, ["asked"])
    assert answer.json()["request_id"] == "asked"
    assert counted._value.get() == before + 1


async def test_a_request_that_is_cancelled_from_outside_is_not_answered() -> None:
    """The server stops it; that must go through."""
    begun = asyncio.Event()

    async def waits(_scope: Scope, _receive: Receive, _send: Send) -> None:
        begun.set()
        await asyncio.sleep(60)

    asking = asyncio.create_task(ask(waits))
    await begun.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_a_client_that_left_before_the_answer_is_no_error() -> None:
    """Then nobody is told, and nothing failed."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    counted = ERRORS.labels("unmatched", "500", "UnansweredError")
    before = counted._value.get()
    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/", "headers": [], "client": None}
    await observed(says_nothing)(scope, receive, send)
    assert (sent, counted._value.get()) == ([], before)


async def test_headers_that_can_be_read_once_arrive() -> None:
    """ASGI wants an iterable, no more."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        def headers() -> Iterator[tuple[bytes, bytes]]:
            yield b"x-own", b"kept"

        await send({"type": "http.response.start", "status": 200, "headers": headers()})
        await send({"type": "http.response.body", "body": b""})

    answer = await ask(app)
    assert (answer.headers["x-own"], answer.headers["x-request-id"]) == ("kept", "asked")
