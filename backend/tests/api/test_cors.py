"""Pages of other origins: off unless allowed, and then what a browser shows of an answer holds its ID."""

from typing import Any

import httpx
import pytest

from app.config import Settings
from tests.api.conftest import Start

PAGE = "https://console.example"
ASKS = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}


def the_id(response: httpx.Response) -> str:
    """Return the one ID of a response."""
    [value] = response.headers.get_list("x-request-id")
    return value


async def test_a_preflight_bears_the_id_and_asks_for_no_token(start: Start) -> None:
    """A browser sends it by itself, without the page's headers; a refused one is the hardest to explain."""
    client = await start(cors_origins=f"http://localhost:3000, {PAGE}", api_token="only-for-tests")
    wanted = "authorization, content-type, x-request-id, traceparent, tracestate, x-trail-token"
    allowed = await client.options("/repositories", headers=ASKS | {"Access-Control-Request-Headers": wanted})
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, PAGE)
    assert the_id(allowed)
    refused = await client.options("/repositories", headers=ASKS | {"Origin": "https://elsewhere.example"})
    assert (refused.status_code, "access-control-allow-origin" in refused.headers) == (400, False)
    assert the_id(refused)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/health", 200), ("GET", "/nowhere", 401), ("GET", "/repositories", 401), ("DELETE", "/health", 405)],
)
async def test_a_page_may_read_the_id_of_every_answer(start: Start, method: str, path: str, status: int) -> None:
    """A browser hides response headers that were not exposed, and whole answers that were not allowed."""
    client = await start(cors_origins=PAGE, api_token="only-for-tests")
    response = await client.request(method, path, headers={"Origin": PAGE, "X-Request-ID": "of-the-page"})
    assert response.status_code == status
    assert the_id(response) == "of-the-page"
    assert response.headers["access-control-allow-origin"] == PAGE
    assert response.headers["access-control-expose-headers"] == "X-Request-ID"


async def test_a_page_may_read_the_id_of_a_failure(start: Start) -> None:
    """The one answer that a user reports; the framework's own 500 and 413 stand outside of where CORS mostly sits."""
    client = await start(cors_origins=PAGE)
    app = client._transport.app  # type: ignore[attr-defined]
    app.state.services = None  # Whoever asks for the database fails.
    for response in (
        await client.get("/repositories", headers={"Origin": PAGE}),
        await client.post("/repositories", headers={"Origin": PAGE}, content=b"x" * 2_000_000),
    ):
        assert response.status_code in {500, 413}
        assert response.headers["access-control-allow-origin"] == PAGE
        assert response.json()["request_id"] == the_id(response)


@pytest.mark.parametrize("correlation", [True, False])
async def test_it_is_off_by_default(start: Start, *, correlation: bool) -> None:
    """Whoever wants no foreign page gets none."""
    client = await start(correlation_enabled=correlation)
    response = await client.get("/health", headers={"Origin": PAGE})
    assert not [name for name in response.headers if name.startswith("access-control")]
    assert (await client.options("/repositories", headers=ASKS)).status_code == 405


async def test_it_works_without_the_layer(start: Start) -> None:
    """Switching the layer off must not switch pages off."""
    client = await start(cors_origins=PAGE, correlation_enabled=False)
    assert (await client.options("/repositories", headers=ASKS)).status_code == 200


@pytest.mark.parametrize(
    "value",
    [
        "*",
        "console.example",
        f"{PAGE}/",
        f"{PAGE}/path",
        "https://user:p@console.example",
        "ftp://a.example",
        f"{PAGE},x",
    ],
)
def test_what_is_no_origin_stops_the_start(value: str) -> None:
    """A browser compares whole texts: a slash too much allows nobody, and a star everybody."""
    given: dict[str, Any] = {
        "database_url": "postgresql://u:p@h/db",
        "redis_url": "redis://h",
        "secret_key": "k",
    }
    with pytest.raises(ValueError, match="comma-separated"):
        Settings(**given, cors_origins=value)
