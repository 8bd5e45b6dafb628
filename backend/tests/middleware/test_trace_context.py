"""W3C trace context through a whole request: in from the caller, onto every line, out to whom we call."""

import io
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
import structlog
from fastapi import FastAPI
from starlette.middleware import Middleware

from app.correlation import parse_traceparent
from app.middleware.correlation import CorrelationMiddleware, Trust
from app.middleware.errors import ErrorBoundaryMiddleware
from app.middleware.http_metrics import HttpMetricsMiddleware
from app.middleware.stack import ObservedFastAPI
from app.telemetry.logs import configure_logging
from app.telemetry.outbound import AsyncCorrelatedTransport

Lines = Callable[[], list[dict[str, Any]]]
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
log = structlog.get_logger("app.tests")


@pytest.fixture
def log_lines() -> Lines:
    """A function that returns what was logged so far, parsed."""
    stream = io.StringIO()
    configure_logging("test", "info", stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.fixture
def called() -> list[httpx.Request]:
    """What the application asked of another host."""
    return []


@pytest.fixture
async def client(log_lines: Lines, called: list[httpx.Request]) -> AsyncIterator[httpx.AsyncClient]:
    """An application that logs, and calls a host that may learn our IDs."""
    assert not log_lines()
    app: FastAPI = ObservedFastAPI(
        outermost=[Middleware(CorrelationMiddleware, trust=Trust("all")), Middleware(HttpMetricsMiddleware)],
        middleware=[Middleware(ErrorBoundaryMiddleware)],
    )

    def answer(request: httpx.Request) -> httpx.Response:
        called.append(request)
        return httpx.Response(200)

    @app.get("/")
    async def root() -> None:
        log.info("within")
        transport = AsyncCorrelatedTransport(["next.example"], httpx.MockTransport(answer))
        async with httpx.AsyncClient(transport=transport) as outside:
            await outside.get("https://next.example/")

    inner = FastAPI()

    @inner.get("/boom")
    async def boom() -> None:
        raise RuntimeError("inside the mounted application")

    app.mount("/inner", inner)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def test_a_trace_goes_on_through_us(
    client: httpx.AsyncClient, log_lines: Lines, called: list[httpx.Request]
) -> None:
    """Caller, our lines and callee are one trace; the callee's parent is our span, and others' state is untouched."""
    states = [("tracestate", "vendor=1"), ("tracestate", "other=two")]
    response = await client.get("/", headers=[("traceparent", PARENT), *states])
    assert response.status_code == 200
    assert [line["event"] for line in log_lines()] == ["within", "outbound.finished", "request.finished"]
    assert {line["trace_id"] for line in log_lines()} == {TRACE}
    assert {line["request_id"] for line in log_lines()} == {response.headers["X-Request-ID"]}
    [request] = called
    parsed = parse_traceparent(request.headers["traceparent"])
    assert parsed is not None
    trace_id, span_id, flags = parsed
    assert (trace_id, flags) == (TRACE, "01")
    assert span_id != "00f067aa0ba902b7"
    assert request.headers["tracestate"] == "vendor=1,other=two"
    assert request.headers["X-Request-ID"] == response.headers["X-Request-ID"]


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("traceparent", "not one")],
        [("traceparent", PARENT), ("traceparent", PARENT)],
        [("traceparent", f"{PARENT}-more")],
        [("traceparent", "")],
    ],
)
async def test_what_is_no_trace_begins_one(
    client: httpx.AsyncClient, log_lines: Lines, called: list[httpx.Request], headers: list[tuple[str, str]]
) -> None:
    """A header that breaks the rules is as none, fails nothing, and takes its tracestate with it."""
    response = await client.get("/", headers=[*headers, ("tracestate", "vendor=1")])
    assert response.status_code == 200
    [made] = {line["trace_id"] for line in log_lines()}
    assert made != TRACE
    assert len(made) == 32
    assert called[0].headers["traceparent"].split("-")[1] == made
    assert "tracestate" not in called[0].headers


async def test_a_failure_inside_a_mounted_application_has_the_id(client: httpx.AsyncClient, log_lines: Lines) -> None:
    """A mounted application answers its own 500 before ours could; the ID is put on all the same."""
    response = await client.get("/inner/boom", headers={"X-Request-ID": "mine"})
    assert (response.status_code, response.headers.get_list("x-request-id")) == (500, ["mine"])
    [failed] = [line for line in log_lines() if line["event"] == "request.failed"]
    assert (failed["request_id"], failed["error_type"]) == ("mine", "RuntimeError")
