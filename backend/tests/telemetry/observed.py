"""What is observed, and how to break what observes it: for tests of hooks."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text
from starlette.types import Receive, Scope, Send

from app.correlation import bind, for_request
from app.middleware.correlation import CorrelationMiddleware, Trust
from app.middleware.errors import ErrorBoundaryMiddleware
from app.middleware.http_metrics import HttpMetricsMiddleware
from app.telemetry.outbound import CorrelatedTransport
from tests.attribution import Driver, make_pool


def failures(hook: str) -> float:
    return REGISTRY.get_sample_value("commandcenter_observability_failures_total", {"hook": hook}) or 0.0


def broken(*_: object, **__: object) -> None:
    raise RuntimeError("a test broke it")


class Bench:
    """What a case works with: how to break a name, and where things are."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, database_url: str, folder: Path) -> None:
        self.monkeypatch = monkeypatch
        self.database_url = database_url
        self.folder = folder
        self.at_end: list[Callable[[], object]] = []

    def break_(self, name: str) -> None:
        """Have what a module calls by this name fail."""
        self.monkeypatch.setattr(name, broken)


def ask(status: int, **headers: str) -> None:
    """Ask an application with our layers around it, and hold that it answers this, with one ID."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        if status >= 500:
            raise LookupError("it is not there")
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    layers = CorrelationMiddleware(
        HttpMetricsMiddleware(ErrorBoundaryMiddleware(app)), trust=Trust("all"), trail_secret="a secret of this test"
    )

    async def run() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(layers), base_url="http://here") as client:
            return await client.get("/", headers={"X-Request-ID": "asked"} | headers)

    answer = asyncio.run(run())
    assert (answer.status_code, len(answer.headers.get_list("x-request-id"))) == (status, 1)


def call_outside() -> None:
    transport = CorrelatedTransport(["api.example"], httpx.MockTransport(lambda _: httpx.Response(204)))
    with bind(for_request("a")), httpx.Client(transport=transport) as client:
        assert client.get("https://api.example/").status_code == 204


def query(bench: Bench, driver: Driver) -> None:
    """Run a statement in a transaction for a request."""

    async def run() -> Any:
        pool = make_pool(bench.database_url, driver, "transaction")
        try:
            return await pool.run(lambda connection: connection.scalar(text("SELECT 1")), "the-request")
        finally:
            await pool.dispose()

    assert asyncio.run(run()) == 1
