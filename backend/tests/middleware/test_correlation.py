"""Every response bears exactly one ID, the one our logs hold, whatever came in and however it ended."""

import asyncio
import re
import socket
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from app.correlation import current, for_request, is_valid_id, new_id, parse_traceparent, sanitize_id
from tests.fuzzing import fuzzed
from tests.layer_app import create_app

Lines = Callable[[], list[dict[str, Any]]]
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def the_id(response: httpx.Response) -> str:
    """Return the one ID of a response; fail where there is none, or two."""
    values = [value for name, value in response.headers.raw if name.lower() == b"x-request-id"]
    assert len(values) == 1, values
    return values[0].decode()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/items/1", 200),
        ("HEAD", "/items/1", 200),
        ("GET", "/redirect", 307),
        ("GET", "/nowhere", 404),
        ("DELETE", "/items/1", 405),
        ("GET", "/items/not-a-number", 422),
        ("POST", "/items", 413),
        ("GET", "/known", 409),
        ("GET", "/unavailable", 503),
        ("GET", "/boom/1", 500),
        ("HEAD", "/boom/1", 500),
        ("GET", "/stream", 200),
        ("GET", "/events", 200),
        ("GET", "/background", 200),
        ("GET", "/own-header", 200),
        ("GET", "/inner/things/a", 200),
        ("GET", "/inner/nowhere", 404),
        ("GET", "/static/page.txt", 200),
        ("GET", "/static/nothing.txt", 404),
        ("GET", "/openapi.json", 200),
    ],
)
async def test_every_response_bears_the_clients_id(
    client: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    """A user reports the ID on their screen; a path without it is a case nobody can look into."""
    content = b"x" * 2000 if method == "POST" else None
    response = await client.request(method, path, headers={"X-Request-ID": "from-the-client"}, content=content)
    assert response.status_code == status
    assert the_id(response) == "from-the-client"


async def test_a_cors_preflight_bears_it_and_browsers_may_read_it(client: httpx.AsyncClient) -> None:
    """A browser hides response headers that were not exposed."""
    origin = {"Origin": "https://console.example"}
    preflight = await client.options("/items/1", headers={**origin, "Access-Control-Request-Method": "GET"})
    assert preflight.status_code == 200
    the_id(preflight)
    response = await client.get("/items/1", headers=origin)
    assert "x-request-id" in response.headers["access-control-expose-headers"].lower()


async def test_a_new_id_sorts_by_time(client: httpx.AsyncClient) -> None:
    """IDs in a list are in the order of their requests."""
    ids = []
    for _ in range(5):
        ids.append(the_id(await client.get("/items/1")))
        await asyncio.sleep(0.002)
    assert all(uuid.UUID(each).version == 7 for each in ids)
    assert ids == sorted(ids)


async def test_the_id_is_the_same_in_header_body_and_every_log_line(
    client: httpx.AsyncClient, log_lines: Lines
) -> None:
    """Two owners of the ID make header, body and log disagree."""
    response = await client.get("/items/7")
    request_id = the_id(response)
    assert response.json()["request_id"] == request_id
    lines = [line for line in log_lines() if line["event"] in {"a library's line", "request.finished"}]
    assert len(lines) == 2
    assert {line["request_id"] for line in lines} == {request_id}
    assert lines[1]["route"] == "/items/{number}"
    assert lines[1]["status"] == 200


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "a b",
        "a" * 64,
        "x\ty",
        "*/ COPY t TO PROGRAM 'id' --",
        "'; DROP TABLE repositories; --",
        "urn:uuid:12345678-1234-5678-1234-567812345678",
        "{12345678-1234-5678-1234-567812345678}",
        "käse",
        "a,b",
        "%00",
        "id\u00a0",
    ],
)
async def test_what_is_no_id_is_replaced_and_told(client: httpx.AsyncClient, log_lines: Lines, value: str) -> None:
    """The alphabet is what stands between a header and our SQL and logs."""
    response = await client.get("/items/1", headers=[(b"X-Request-ID", value.encode("latin-1"))])
    made = the_id(response)
    assert made != value
    assert uuid.UUID(made).version == 7
    [line] = [line for line in log_lines() if line["event"] == "request.id_rejected"]
    assert line["request_id"] == made
    assert re.fullmatch(r"[A-Za-z0-9._-]{0,63}", line["client_request_id"])


async def test_two_headers_are_no_id(client: httpx.AsyncClient) -> None:
    """Which of the two the client's own logs hold, nobody can tell."""
    response = await client.get("/items/1", headers=[("X-Request-ID", "one"), ("X-Request-ID", "two")])
    assert the_id(response) not in {"one", "two"}


@pytest.mark.parametrize(
    ("trust", "accepted"),
    [
        ("all", True),
        ("none", False),
        ("127.0.0.0/8", True),
        ("10.0.0.0/8,::1/128", False),
        ("10.0.0.0/8, 127.0.0.1", True),
    ],
)
async def test_only_trusted_peers_name_the_id(trust: str, accepted: bool) -> None:
    """On the open internet, anyone's ID would let anyone write into a colleague's trace."""
    transport = httpx.ASGITransport(create_app(trust=trust), client=("127.0.0.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        response = await client.get("/items/1", headers={"X-Request-ID": "mine"})
    assert (the_id(response) == "mine") is accepted


def test_a_network_that_is_none_stops_the_start() -> None:
    """A typing error in the list must not trust nobody, or everybody, in silence."""
    with pytest.raises(ValueError, match=r"10\.0\.0\.0/99"):
        create_app(trust="10.0.0.0/99").build_middleware_stack()


async def test_concurrent_requests_do_not_cross(client: httpx.AsyncClient) -> None:
    """A context that leaks sends on-call after the wrong user."""

    async def ask(number: int) -> None:
        mine = f"request-{number}"
        response = await client.get(f"/slow?wait_s={number % 7 / 200}", headers={"X-Request-ID": mine})
        assert the_id(response) == mine
        assert response.json()["request_id"] == mine

    await asyncio.gather(*(ask(number) for number in range(100)))
    assert current() is None


async def test_a_background_task_keeps_the_id(client: httpx.AsyncClient, app: FastAPI) -> None:
    """It runs after the answer went out, and may fail then."""
    response = await client.get("/background")
    assert app.state.background == [the_id(response)]


def test_an_answer_that_breaks_off_has_the_id_and_counts_as_failed(served: str, log_lines: Lines) -> None:
    """The status line said 200 already; only the log can tell the truth."""
    with httpx.Client(base_url=f"http://{served}") as client, client.stream("GET", "/half") as response:
        request_id = the_id(response)
        with pytest.raises(httpx.RemoteProtocolError):
            response.read()
    failed = [line for line in log_lines() if line["event"] == "request.failed"]
    assert [line["request_id"] for line in failed] == [request_id]
    finished = [line for line in log_lines() if line["event"] == "request.finished"]
    assert [line["status"] for line in finished] == [500]


def test_a_client_that_leaves_counts_as_499(served: str, log_lines: Lines) -> None:
    """Neither lost nor our failure."""
    from tests.system import eventually  # noqa: PLC0415

    with httpx.Client(base_url=f"http://{served}") as client, client.stream("GET", "/endless") as response:
        request_id = the_id(response)
        next(response.iter_raw())
    [line] = eventually(lambda: [line for line in log_lines() if line["event"] == "request.finished"])
    assert (line["request_id"], line["status"]) == (request_id, 499)
    assert not [line for line in log_lines() if line["event"] == "request.failed"]


def test_a_client_that_leaves_while_a_handler_reads_counts_as_499(served: str, log_lines: Lines) -> None:
    """Nothing was answered yet: the framework's own last resort must not make a 500 of it."""
    from tests.system import eventually  # noqa: PLC0415

    host, _, port = served.rpartition(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"POST /items HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
    [line] = eventually(lambda: [line for line in log_lines() if line["event"] == "request.finished"])
    assert (line["route"], line["status"]) == ("/items", 499)
    # What the server has to say of it is said before it serves another.
    httpx.get(f"http://{served}/items/1")
    assert not [line for line in log_lines() if line["level"] == "error"]


def test_a_websocket_bears_it_when_accepted_and_when_refused(served: str) -> None:
    """A refused websocket is the hardest to explain without an ID."""
    with connect(f"ws://{served}/socket", additional_headers={"X-Request-ID": "my-socket"}) as opened:
        assert opened.response is not None
        assert opened.response.headers.get_all("X-Request-ID") == ["my-socket"]
        assert opened.recv() == "my-socket"
    for path in ("/denied", "/no-such-socket"):
        with pytest.raises(InvalidStatus) as refusal:
            connect(f"ws://{served}{path}", additional_headers={"X-Request-ID": "my-socket"})
        assert refusal.value.response.status_code == 403
        assert refusal.value.response.headers.get_all("X-Request-ID") == ["my-socket"]


def test_ids_do_not_leak_over_one_connection(served: str) -> None:
    """Keep-alive: the second request of a connection must not inherit the first one's ID."""
    with httpx.Client(base_url=f"http://{served}") as client:
        first = client.get("/items/1", headers={"X-Request-ID": "first"})
        second = client.get("/items/2")
    assert the_id(first) == "first"
    assert uuid.UUID(the_id(second)).version == 7


@fuzzed(300)
@given(st.binary(max_size=200))
def test_any_header_bytes_give_one_valid_id(value: bytes) -> None:
    """Input is hostile, and a header byte over 0x7F has felled others."""

    async def ask() -> list[tuple[bytes, bytes]]:
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
            "path": "/items/1", "raw_path": b"/items/1", "query_string": b"", "root_path": "",
            "headers": [(b"x-request-id", value), (b"traceparent", value), (b"tracestate", value)],
            "client": ("127.0.0.1", 1), "server": ("test", 80),
        }  # fmt: skip
        await _APP(scope, receive, send)
        assert sent[0]["status"] == 200
        return [pair for pair in sent[0]["headers"] if pair[0].lower() == b"x-request-id"]

    [(_, sent_id)] = asyncio.run(ask())
    assert is_valid_id(sent_id.decode("ascii"))


_APP = create_app()


@fuzzed(500)
@given(
    st.text(max_size=100) | st.builds("{}{}".format, st.text("aZ09._-", max_size=70), st.sampled_from(["", "\n", "é"]))
)
def test_an_id_is_valid_only_as_a_whole(value: str) -> None:
    """`re.match` and `$` have both let a newline through elsewhere."""
    allowed = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
    assert is_valid_id(value) == (1 <= len(value) <= 63 and set(value) <= allowed)
    assert set(sanitize_id(value)) <= allowed
    assert len(sanitize_id(value)) <= 63


def test_new_ids_are_valid_and_unique() -> None:
    """36 characters, so they fit PostgreSQL's application_name."""
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(is_valid_id(each) and len(each) == 36 for each in ids)


def test_a_valid_traceparent_is_continued() -> None:
    """Our request is a part of the caller's trace."""
    correlation = for_request(None, f"00-{TRACE}-00f067aa0ba902b7-00", "vendor=1")
    assert correlation.trace_id == TRACE
    assert correlation.traceparent == f"00-{TRACE}-{correlation.span_id}-00"
    assert correlation.span_id != "00f067aa0ba902b7"
    assert correlation.tracestate == "vendor=1"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "00",
        f"00-{TRACE.upper()}-00f067aa0ba902b7-01",
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-00f067aa0ba902b7-01",
        f"00-{TRACE}-00f067aa0ba902b7-01-more",
        f" 00-{TRACE}-00f067aa0ba902b7-01",
        f"00-{TRACE}-00f067aa0ba902b7-01\n",
    ],
)
def test_a_malformed_traceparent_is_ignored(value: str) -> None:
    """W3C: a header that breaks the rules is as none; the trace begins here."""
    assert parse_traceparent(value) is None
    correlation = for_request("mine", value, "vendor=1")
    assert correlation.trace_id != TRACE
    assert correlation.tracestate is None


def test_a_later_version_of_traceparent_may_bring_more() -> None:
    """W3C: read what version 00 defines, ignore the rest."""
    assert parse_traceparent(f"01-{TRACE}-00f067aa0ba902b7-01-more") == (TRACE, "00f067aa0ba902b7", "01")
    # Flags that nobody has defined yet are not handed on.
    assert parse_traceparent(f"00-{TRACE}-00f067aa0ba902b7-ff") == (TRACE, "00f067aa0ba902b7", "03")
