"""What the layer may cost, in figures that don't depend on the machine: calls, round trips, series, plans.

Times are the bench's business (`make bench`); a timed test fails on a busy machine and proves nothing on an idle one.
"""

import io
import sys
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY
from starlette.middleware import Middleware

from app.middleware.correlation import CorrelationMiddleware, Trust
from app.middleware.errors import ErrorBoundaryMiddleware
from app.middleware.http_metrics import HttpMetricsMiddleware
from app.middleware.stack import ObservedFastAPI
from app.telemetry.exposition import render
from app.telemetry.logs import configure_logging

# Python calls that the layer adds to one plain request, its access line included. A regression that does something
# twice shows here at once.
MOST_CALLS = 100

SCOPE = {
    "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
    "path": "/items/1", "raw_path": b"/items/1", "query_string": b"", "root_path": "", "headers": [],
    "client": ("127.0.0.1", 1), "server": ("test", 80),
}  # fmt: skip


def plain_app(*, layer: bool) -> FastAPI:
    """Return an application of one route, with or without the layer."""
    app = ObservedFastAPI(
        outermost=[Middleware(CorrelationMiddleware, trust=Trust("all")), Middleware(HttpMetricsMiddleware)]
        if layer
        else [],
        middleware=[Middleware(ErrorBoundaryMiddleware)] if layer else [],
    )

    @app.get("/items/{number}")
    async def item(number: str) -> dict[str, str]:
        return {"number": number}

    return app


async def ask(app: FastAPI, path: str = "/items/1", method: str = "GET") -> int:
    """Send one request straight to the application and return its status."""
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await app({**SCOPE, "path": path, "raw_path": path.encode(), "method": method}, receive, send)
    return statuses[0]


async def calls_of(work: Callable[[], Awaitable[object]]) -> int:
    """Return how many Python functions `work` calls."""
    count = 0

    def profile(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(profile)
    try:
        await work()
    finally:
        sys.setprofile(None)
    return count


@pytest.fixture(autouse=True)
def _quiet() -> None:
    configure_logging("test", "info", io.StringIO())


async def test_the_layer_adds_a_bounded_number_of_calls() -> None:
    """130 µs a request is what one middleware of the usual kind costs elsewhere."""
    bare, observed = plain_app(layer=False), plain_app(layer=True)
    for app in (bare, observed):
        await ask(app)
        await ask(app)
    without = await calls_of(lambda: ask(bare))
    with_layer = await calls_of(lambda: ask(observed))
    assert 0 < with_layer - without <= MOST_CALLS


async def test_the_layer_times_itself() -> None:
    """The figure that production is judged by is written for every request, and is a part of its time."""
    app = plain_app(layer=True)
    name = "commandcenter_observability_overhead_seconds"
    render("")
    count, total = REGISTRY.get_sample_value(f"{name}_count") or 0, REGISTRY.get_sample_value(f"{name}_sum") or 0
    for _ in range(20):
        await ask(app)
    # As a scrape does.
    render("")
    spent = (REGISTRY.get_sample_value(f"{name}_sum") or 0) - total
    assert (REGISTRY.get_sample_value(f"{name}_count") or 0) == count + 20
    assert spent > 0


async def test_strangers_urls_and_methods_make_no_series() -> None:
    """300 URLs made 300 series elsewhere, and 30 methods 630."""
    app = plain_app(layer=True)

    def series() -> int:
        return sum(
            len(family.samples)
            for family in REGISTRY.collect()
            if family.name.startswith("http_request") or family.name == "commandcenter_errors"
        )

    await ask(app, "/nowhere")
    await ask(app, "/nowhere", method="BREW")
    for number in range(3):
        await ask(app, f"/items/{number}")
    before = series()
    for number in range(300):
        assert await ask(app, f"/nowhere/{number}") == 404
        assert await ask(app, f"/items/other-{number}") == 200
    for number in range(30):
        assert await ask(app, "/nowhere", method=f"BREW{number}") == 404
    assert series() == before
