"""A failure leaves one story: body, header, log line and metric agree on ID, route, type and fingerprint."""

import io
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from app.errors import AppError, fingerprint, problem
from app.telemetry.logs import configure_logging
from app.utils import metrics
from ops.stack import loopback
from tests.git import make_repository
from tests.layer_app import create_app
from tests.system import System, eventually

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def log_lines() -> Lines:
    """A function that returns what was logged so far, parsed."""
    stream = io.StringIO()
    configure_logging("test", "debug", stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """The layer's own application; whatever escapes it is an error of the test."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(create_app()), base_url="http://test") as client:
        yield client


def errors_counted(endpoint: str, status: str, error_type: str) -> float:
    """Return commandcenter_errors_total of one label set in this process."""
    labels = {"endpoint": endpoint, "status_code": status, "error_type": error_type}
    return REGISTRY.get_sample_value("commandcenter_errors_total", labels) or 0.0


async def test_an_unhandled_error_has_one_id(client: httpx.AsyncClient, log_lines: Lines) -> None:
    """The ID a user reports must be the ID in our logs."""
    before = errors_counted("/boom/{number}", "500", "UnheardOfError")
    response = await client.get("/boom/5", headers={"X-Request-ID": "boom-1"})
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body == {
        "type": "about:blank",
        "title": "Internal Server Error",
        "status": 500,
        "detail": "Internal Server Error",
        "request_id": "boom-1",
    }
    [line] = [line for line in log_lines() if line["event"] == "request.failed"]
    assert line["request_id"] == response.headers["x-request-id"] == "boom-1"
    assert (line["route"], line["status"], line["error_type"]) == ("/boom/{number}", 500, "UnheardOfError")
    assert len(line["fingerprint"]) == 16
    assert "layer_app.py" in line["exception"]
    assert errors_counted("/boom/{number}", "500", "UnheardOfError") == before + 1


async def test_an_unhandled_error_tells_no_secret(client: httpx.AsyncClient, log_lines: Lines) -> None:
    """Exceptions hold what they were about; neither the client nor the log may read a password."""
    response = await client.get("/boom/5")
    assert "secret of" not in response.text
    assert "hunter2" not in json.dumps(log_lines())


async def test_a_raised_503_counts_as_503(client: httpx.AsyncClient, log_lines: Lines) -> None:
    """A status that was chosen is no surprise, but it is a failure."""
    before = errors_counted("/unavailable", "503", "HTTPException")
    response = await client.get("/unavailable")
    assert (response.status_code, response.json()["detail"]) == (503, "Come back later.")
    assert errors_counted("/unavailable", "503", "HTTPException") == before + 1
    [line] = [line for line in log_lines() if line["event"] == "request.failed"]
    assert (line["status"], line["reason"]) == (503, "503: Come back later.")


@pytest.mark.parametrize(
    ("method", "path", "status", "endpoint", "error_type"),
    [
        ("GET", "/known", 409, "/known", "AppError"),
        ("GET", "/nowhere", 404, "unmatched", "HTTPException"),
        ("GET", "/items/x", 422, "/items/{number}", "RequestValidationError"),
    ],
)
async def test_a_clients_mistake_is_counted_but_is_no_error_line(
    client: httpx.AsyncClient, log_lines: Lines, method: str, path: str, status: int, endpoint: str, error_type: str
) -> None:
    """On call reads error lines; a stranger's typing errors must not bury them."""
    before = errors_counted(endpoint, str(status), error_type)
    response = await client.request(method, path)
    assert response.status_code == status
    assert response.json()["request_id"] == response.headers["x-request-id"]
    assert errors_counted(endpoint, str(status), error_type) == before + 1
    assert not [line for line in log_lines() if line["level"] == "error"]


def _fail(message: str) -> None:
    raise ValueError(message)


def _fail_elsewhere(message: str) -> None:
    raise ValueError(message)


def caught(function: Callable[[], object]) -> Exception:
    """Return what `function` raises."""
    try:
        function()
    except Exception as error:  # noqa: BLE001 - whatever it is
        return error
    raise AssertionError("nothing was raised")


OWN = ("tests", "test_error_tracking")


def test_a_fingerprint_does_not_depend_on_message_or_line() -> None:
    """The same fault is one row in the list of errors, on every host and after every edit above it."""
    first = caught(lambda: _fail("one"))
    second = caught(
        lambda: _fail(
            "two",
        )
    )
    # Two lambdas of one function: same names, other lines.
    assert fingerprint(first, OWN) == fingerprint(second, OWN)


def test_a_fingerprint_tells_places_and_types_apart() -> None:
    """Two faults in one row would hide the second."""
    prints = {
        fingerprint(caught(lambda: _fail("x")), OWN),
        fingerprint(caught(lambda: _fail_elsewhere("x")), OWN),
        fingerprint(caught(lambda: int("x")), OWN),
        fingerprint(caught(lambda: next(iter([]))), OWN),
    }
    assert len(prints) == 4


def _fall(depth: int) -> bool:
    if depth == 0:
        raise ValueError(depth)
    return _fall(depth - 1)


def test_a_fingerprint_does_not_depend_on_how_deep_a_recursion_was() -> None:
    """That is input: each would be a row of its own."""
    prints = {fingerprint(caught(lambda depth=depth: _fall(depth)), OWN) for depth in (1, 3, 40)}  # type: ignore[misc]
    assert len(prints) == 1


def test_a_fingerprint_does_not_depend_on_pythons_comprehensions() -> None:
    """They have frames of their own in 3.11, and none from 3.12 on."""

    def plain() -> None:
        _fall(0)

    def within() -> None:
        [_ for _ in range(1) if _fall(0)]

    plain.__qualname__ = within.__qualname__
    plain.__code__ = plain.__code__.replace(co_qualname=within.__code__.co_qualname)
    assert fingerprint(caught(plain), OWN) == fingerprint(caught(within), OWN)


def test_a_group_is_known_by_its_members() -> None:
    """As a set: which task failed first, and how many did, is chance."""
    nothing: dict[str, int] = {}
    value, lookup = caught(lambda: _fail("x")), caught(lambda: nothing["x"])

    def of(*members: Exception) -> str:
        return fingerprint(ExceptionGroup("several", members), OWN)

    assert of(value, lookup) == of(lookup, value) == of(lookup, value, caught(lambda: nothing["y"]))
    assert len({of(value), of(lookup), of(value, lookup)}) == 3


def test_a_fingerprint_ends_even_where_causes_go_in_a_circle() -> None:
    """A library has been seen to do that."""
    first, second = ValueError("a"), TypeError("b")
    first.__cause__, second.__cause__ = second, first
    assert len(fingerprint(first)) == 16


@given(st.integers(100, 999), st.text(), st.none() | st.text())
def test_a_problem_has_the_five_members(status: int, detail: str, request_id: str | None) -> None:
    """RFC 9457 and our request_id, for any status and text."""
    body = problem(status, request_id, detail=detail)
    assert list(body) == ["type", "title", "status", "detail", "request_id"]
    assert (body["status"], body["request_id"]) == (status, request_id)
    assert body["title"]
    assert body["detail"]


def test_error_types_are_bounded() -> None:
    """A class made at run time must not make a series each."""
    labels = {metrics.bounded("test_bound", f"Error{number}") for number in range(200)}
    assert len(labels) == 51
    assert "other" in labels


@pytest.mark.parametrize(
    ("hook", "target", "name"),
    [
        ("error_boundary", "app.middleware.errors", "fingerprint"),
        ("http_metrics", "app.middleware.http_metrics", "route_template"),
        ("correlation", "app.middleware.correlation", "is_valid_id"),
    ],
)
async def test_a_broken_hook_does_not_break_a_request(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, hook: str, target: str, name: str
) -> None:
    """Observability must never break what it observes; and it must say that it failed."""

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the hook is broken")

    monkeypatch.setattr(f"{target}.{name}", broken)
    before = REGISTRY.get_sample_value("commandcenter_observability_failures_total", {"hook": hook}) or 0
    client.headers["X-Request-ID"] = "the-clients"
    assert (await client.get("/items/1")).status_code == 200
    failed = await client.get("/boom/1")
    assert failed.status_code == 500
    assert failed.json()["request_id"] == failed.headers["x-request-id"]
    after = REGISTRY.get_sample_value("commandcenter_observability_failures_total", {"hook": hook}) or 0
    assert after > before


def test_a_log_that_cannot_be_written_is_counted() -> None:
    """A full disk must not stop a request."""

    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(28, "No space left on device")

    configure_logging("test", "info", Full())
    before = REGISTRY.get_sample_value("commandcenter_observability_failures_total", {"hook": "log_write"}) or 0
    structlog.get_logger("test").info("lost")
    eventually(
        lambda: (
            (REGISTRY.get_sample_value("commandcenter_observability_failures_total", {"hook": "log_write"}) or 0)
            > before
        )
    )


def test_an_app_error_is_what_it_says() -> None:
    """Its text is safe to show, so it stands in the body."""
    error = AppError(404, "Not Found", "There is no repository 7.")
    assert (str(error), error.status, error.title) == ("There is no repository 7.", 404, "Not Found")


def test_a_failed_sync_is_found_by_its_request(system: System, tmp_path: Path) -> None:
    """A task that fails minutes later is still that request's failure."""
    path = make_repository(tmp_path / "gone")
    with system.client() as client:
        url = path.as_uri()
        created = client.post("/api/v1/repositories", json={"url": url}).json()
        path.rename(tmp_path / "moved-away")
        job = system.sync_again(client, created["id"], request_id="failing-sync-1")
        assert job["status"] == "failed"
        assert job["reason"]
        assert str(tmp_path) not in job["reason"]
        line = system.wait_for_line("worker", event="task.failed", request_id="failing-sync-1")
        assert line["error_type"] == "SyncFailedError"
        assert line["task_id"] == job["id"]
        assert len(line["fingerprint"]) == 16
        metrics_text = loopback.get(f"{system.worker_metrics_url}/metrics").text
    assert 'commandcenter_errors_total{endpoint="repositories.sync",error_type="SyncFailedError"' in metrics_text
    assert 'celery_task_failures_total{exception="SyncFailedError",task="repositories.sync"}' in metrics_text
