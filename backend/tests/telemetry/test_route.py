"""Which route a request counts for, as metrics and lines have it: whole, and bounded."""

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from starlette.types import Receive, Scope, Send

from app.telemetry import route
from app.telemetry.route import route_template


def make_inner() -> FastAPI:
    inner = FastAPI()

    @inner.get("/things/{number}")
    def thing(number: int) -> int:
        return number

    @inner.get("/health")
    def health() -> None:
        """A route that is quiet only at the top."""

    return inner


@pytest.fixture
def asked() -> Any:
    """A function that asks a path of an application with everything in it, and returns the template afterwards."""
    app, router = FastAPI(), APIRouter()
    router.add_api_route("/plain/{name}", lambda name: name)
    app.include_router(router, prefix="/api/v1")
    app.mount("/one", make_inner())
    app.mount("/teams/{team}", make_inner())
    app.mount("/numbered/{place:int}", make_inner())

    def ask(path: str) -> str | None:
        scopes: list[Scope] = []

        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            scopes.append(scope)
            await app(scope, receive, send)

        async def run() -> None:
            transport = httpx.ASGITransport(watched, root_path="/behind")
            async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
                await client.get(f"/behind{path}")

        asyncio.run(run())
        return route_template(scopes[0])

    return ask


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/api/v1/plain/x", "/api/v1/plain/{name}"),
        ("/one/things/1", "/one/things/{number}"),
        ("/one/health", "/one/health"),
        ("/teams/blue/things/1", "/teams/{team}/things/{number}"),
        ("/teams/teams/things/1", "/teams/{team}/things/{number}"),
        ("/teams/1/things/1", "/teams/{team}/things/{number}"),
    ],
)
def test_the_whole_template_is_told(asked: Any, path: str, template: str) -> None:
    """Two applications' routes of one name are two; what a client wrote into a mount's parameter is no label."""
    assert asked(path) == template


def test_what_matched_nothing_has_none(asked: Any) -> None:
    assert asked("/nowhere") is None


def test_a_mount_with_endless_names_does_not_make_endless_labels(asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would be a series for ever."""
    monkeypatch.setattr(route, "_places", {"/one"})
    told = {asked(f"/numbered/{'0' * number}1/health") for number in range(1, 100)}
    assert len(told) == route._MAX_PLACES
    assert "/health" in told
    assert asked("/one/health") == "/one/health"
