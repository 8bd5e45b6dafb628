"""The trail tells what a failed or slow request did, and nothing of the others; it stays small and holds no secret."""

import io
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import orjson
import pytest
import structlog
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.middleware import Middleware

from app.correlation import bind, for_request
from app.middleware.correlation import CorrelationMiddleware, Trust
from app.middleware.errors import ErrorBoundaryMiddleware
from app.middleware.http_metrics import HttpMetricsMiddleware
from app.middleware.stack import ObservedFastAPI
from app.telemetry.logs import configure_logging
from app.telemetry.outbound import CorrelatedTransport
from app.telemetry.trail import (
    MAX_BYTES,
    MAX_STEPS,
    Trail,
    asks_for_trail,
    note,
    note_line,
    trail_of,
    trail_token,
    waiting_for,
)

Lines = Callable[[], list[dict[str, Any]]]
SECRET = "a secret of this test"
log = structlog.get_logger("app.tests")


@pytest.fixture
def log_lines() -> Lines:
    """A function that returns what was logged so far, parsed."""
    stream = io.StringIO()
    configure_logging("test", "info", stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.fixture
async def client(request: pytest.FixtureRequest) -> AsyncIterator[httpx.AsyncClient]:
    """An application whose handler leaves one step of each kind; the parameter is what it calls slow, in ms."""
    app: FastAPI = ObservedFastAPI(
        outermost=[
            Middleware(CorrelationMiddleware, trust=Trust("all"), trail_secret=SECRET),
            Middleware(HttpMetricsMiddleware, slow_ms=getattr(request, "param", 60_000)),
        ],
        middleware=[Middleware(ErrorBoundaryMiddleware)],
    )

    @app.get("/work")
    def work(end: str = "well", wait_s: float = 0) -> dict[str, str]:
        time.sleep(wait_s)
        log.debug("looked something up", key="value", access_token="hunter2")
        with waiting_for("a lock"):
            pass
        transport = CorrelatedTransport([], httpx.MockTransport(lambda _: httpx.Response(204)))
        with httpx.Client(transport=transport) as outside:
            outside.get("http://elsewhere.example/path?query=hidden")
        note("sql", "SELECT 1", 0.001, 1)
        if end == "badly":
            raise RuntimeError("it ended badly")
        if end == "late":
            time.sleep(0.25)
        return {"end": end}

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


def the(lines: list[dict[str, Any]], event: str) -> dict[str, Any]:
    """Return the one line of this event."""
    [line] = [line for line in lines if line["event"] == event]
    return line


async def test_a_good_request_leaves_no_trail(client: httpx.AsyncClient, log_lines: Lines) -> None:
    """Thousands a minute: nobody reads them, and they cost disk."""
    assert (await client.get("/work")).status_code == 200
    assert "trail" not in the(log_lines(), "request.finished")
    assert not [line for line in log_lines() if line["event"] == "looked something up"]


@pytest.mark.parametrize("event", ["request.failed", "request.finished"])
async def test_a_failed_request_tells_its_steps(client: httpx.AsyncClient, log_lines: Lines, event: str) -> None:
    """What it did before it failed is the first thing that on call asks."""
    assert (await client.get("/work?end=badly")).status_code == 500
    steps = the(log_lines(), event)["trail"]
    assert [step["kind"] for step in steps] == ["log", "wait", "outbound", "sql"]
    assert steps[0]["text"].startswith("looked something up key=value")
    assert steps[0]["detail"] == "debug"
    assert steps[1]["text"] == "a lock"
    assert steps[2]["text"] == "GET elsewhere.example/path"
    assert steps[2]["detail"] == {"status": 204}
    assert steps[3] == {**steps[3], "text": "SELECT 1", "duration_ms": 1.0, "detail": 1}
    assert [step["at_ms"] for step in steps] == sorted(step["at_ms"] for step in steps)
    assert "hunter2" not in json.dumps(log_lines())


async def test_steps_are_timed_from_when_the_request_began(client: httpx.AsyncClient, log_lines: Lines) -> None:
    """So that they fall into place beside the request's other lines: the first step is not its beginning."""
    assert (await client.get("/work?wait_s=0.05&end=badly")).status_code == 500
    finished = the(log_lines(), "request.finished")
    assert 50 <= finished["trail"][0]["at_ms"] <= finished["trail"][-1]["at_ms"]
    # The correlation begins just before the clock of the access line starts; on a busy machine, somewhat before.
    assert finished["trail"][-1]["at_ms"] <= finished["duration_ms"] + 5000


@pytest.mark.parametrize("client", [200], indirect=True)
async def test_a_slow_request_tells_its_steps(client: httpx.AsyncClient, log_lines: Lines) -> None:
    """Nothing failed, and yet somebody waited."""
    assert (await client.get("/work?end=late")).status_code == 200
    line = the(log_lines(), "request.finished")
    assert line["level"] == "warning"
    assert line["trail"]


@pytest.mark.parametrize(
    ("token", "told"),
    [
        (lambda: trail_token(SECRET, int(time.time()) + 60), True),
        (lambda: trail_token("another secret", int(time.time()) + 60), False),
        (lambda: trail_token(SECRET, int(time.time()) - 1), False),
        (lambda: trail_token(SECRET, int(time.time()) + 7 * 24 * 3600), False),
        (lambda: "", False),
        (lambda: "1", False),
        (lambda: "٣.ab", False),
        (lambda: "9" * 400 + ".ab", False),
    ],
)
async def test_a_signed_header_asks_for_the_trail(
    client: httpx.AsyncClient, log_lines: Lines, token: Callable[[], str], told: bool
) -> None:
    """Whoever looks into a case may ask; a stranger may not fill our disk."""
    await client.get("/work", headers=[(b"X-Trail-Token", token().encode())])
    assert ("trail" in the(log_lines(), "request.finished")) is told


@given(st.text(max_size=200))
def test_no_other_text_is_a_token(token: str) -> None:
    """Input is hostile."""
    assert not asks_for_trail(token, SECRET)


@given(st.lists(st.text(max_size=2000), max_size=400))
def test_a_trail_stays_small(texts: list[str]) -> None:
    """A request that runs a million statements must not fill the memory."""
    trail = Trail()
    for text in texts:
        trail.add("sql", text)
    steps = trail.steps()
    told = [step for step in steps if step["kind"] == "sql"]
    assert len(told) <= MAX_STEPS
    assert sum(len(step["text"]) for step in told) <= MAX_BYTES
    left_out = sum(step["steps"] for step in steps if step["kind"] == "left_out")
    assert len(told) + left_out == len(texts)
    if texts:
        # How it began and how it ended are both there.
        assert told[0]["text"] == texts[0][:500]
        assert told[-1]["text"] == texts[-1][:500]


@pytest.mark.parametrize("text", ["a" * 2000, "\x00" * 2000, "\N{GRINNING FACE}" * 2000])
@pytest.mark.parametrize("detail", [None, "d" * 100_000])
def test_a_trail_is_told_in_16_kib(text: str, detail: str | None) -> None:
    """As JSON, where a character may take six bytes: the collector cuts what is longer, and then it is no JSON."""
    trail = Trail()
    for _ in range(300):
        trail.add("log", text, detail=detail)
    steps = trail.steps()
    assert len(orjson.dumps(steps)) <= MAX_BYTES
    [left_out] = [step for step in steps if step["kind"] == "left_out"]
    assert left_out["steps"] + len(steps) - 1 == 300
    assert steps[0]["kind"] == steps[-1]["kind"] == "log"


def test_half_a_secret_at_the_cut_is_one() -> None:
    """Without its end a rule does not know it any more."""
    trail = Trail()
    for space in range(440, 500):
        trail.add("log", "x" * space + " postgresql://commandcenter:hunter2hunter2@database/commandcenter")
        trail.add_statement("y" * space + " postgresql://commandcenter:hunter2hunter2@database/commandcenter", 1.0)
        assert "hunter2" not in str(trail.sql_summary())
    assert "hunter" not in str(trail.steps())


def test_a_field_that_is_a_secret_by_its_name_is_none_in_the_trail() -> None:
    """As in a line that is written."""
    with bind(for_request("a")) as correlation:
        note_line("debug", "connecting", {"pwd": "hunter2", "host": "db"})
        assert trail_of(correlation).steps()[0]["text"] == "connecting pwd=[scrubbed] host=db"


def test_the_sum_of_sql_counts_what_the_steps_left_out() -> None:
    """The access line says how many statements there were, not how many were kept."""
    trail = Trail()
    for number in range(500):
        trail.add_statement(f"SELECT {number}", number / 1000)
    assert trail.sql_summary() == {
        "count": 500,
        "time_ms": pytest.approx(sum(range(500))),
        "slowest_ms": 499.0,
        "slowest": "SELECT 499",
    }


def test_notes_outside_any_request_go_nowhere() -> None:
    """A script has no trail, and must not fail for it."""
    note("sql", "SELECT 1")
    correlation = for_request(None)
    with bind(correlation):
        note("sql", "SELECT 2")
    assert [step["text"] for step in trail_of(correlation).steps()] == ["SELECT 2"]
