"""Outgoing calls: our IDs reach the hosts on the list and nobody else, and each call is told, whichever way it ends."""

import asyncio
import io
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from app.correlation import Correlation, bind, for_request
from app.telemetry.logs import configure_logging
from app.telemetry.outbound import AsyncCorrelatedTransport, CorrelatedTransport

Lines = Callable[[], list[dict[str, Any]]]
Handler = Callable[[httpx.Request], httpx.Response]
Call = Callable[..., httpx.Response]
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
STATE = "vendor=1,other=two"
OURS = {"x-request-id", "traceparent", "tracestate"}


@pytest.fixture
def log_lines() -> Lines:
    """A function that returns what was logged so far, parsed."""
    stream = io.StringIO()
    configure_logging("test", "info", stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Call:
    """A function that calls `url` through the transport of either kind; what is behind it is `handler`."""

    def blocking(url: str, handler: Handler, hosts: list[str], **options: Any) -> httpx.Response:
        transport = CorrelatedTransport(hosts, httpx.MockTransport(handler))
        with httpx.Client(transport=transport, follow_redirects=True) as client:
            return client.request("POST", url, **options)

    def awaited(url: str, handler: Handler, hosts: list[str], **options: Any) -> httpx.Response:
        async def run() -> httpx.Response:
            transport = AsyncCorrelatedTransport(hosts, httpx.MockTransport(handler))
            async with httpx.AsyncClient(transport=transport, follow_redirects=True) as client:
                return await client.request("POST", url, **options)

        return asyncio.run(run())

    return blocking if request.param == "sync" else awaited


class Callee:
    """Whoever is called: keeps what it got, and answers as it is told."""

    def __init__(self, *answers: httpx.Response) -> None:
        self.got: list[httpx.Request] = []
        self._answers = iter(answers)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Keep `request` and give the next answer, 200 at the end."""
        self.got.append(request)
        return next(self._answers, httpx.Response(200))

    def ours(self) -> list[dict[str, str]]:
        """Return those headers of each request that are ours."""
        return [{name: value for name, value in one.headers.items() if name in OURS} for one in self.got]


def correlation() -> Correlation:
    return for_request("the-id", f"00-{TRACE}-00f067aa0ba902b7-01", STATE)


@pytest.mark.usefixtures("log_lines")
@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("https://api.example/x", ["api.example"]),
        ("https://API.Example:8443/x", ["api.example"]),
        ("https://api.example/x", ["API.example"]),
        ("http://[::1]:80/x", ["::1"]),
    ],
)
def test_a_host_on_the_list_gets_our_ids(call: Call, url: str, hosts: list[str]) -> None:
    """Then their log leads to ours. Case and port make no other host; tracestate is others' and passes as it came."""
    callee = Callee()
    with bind(correlation()) as mine:
        call(url, callee, hosts, content=b"a body", headers={"X-Own": "kept"})
    assert callee.ours() == [{"x-request-id": "the-id", "traceparent": mine.traceparent, "tracestate": STATE}]
    assert mine.trace_id == TRACE
    assert (callee.got[0].content, callee.got[0].headers["x-own"]) == (b"a body", "kept")


@pytest.mark.usefixtures("log_lines")
def test_a_tracestate_that_is_none_costs_no_id(call: Call) -> None:
    """Any client may send us one; it must not take our headers off the next call."""
    callee = Callee()
    with bind(for_request("the-id", f"00-{TRACE}-00f067aa0ba902b7-01", "vendor=\xff")):
        call("https://api.example/x", callee, ["api.example"])
    [ours] = callee.ours()
    assert set(ours) == {"x-request-id", "traceparent"}


def test_without_a_tracestate_none_is_sent(call: Call) -> None:
    """An empty header is malformed to some."""
    callee = Callee()
    with bind(for_request("the-id")):
        call("https://api.example/x", callee, ["api.example"])
    assert callee.ours()[0].keys() == {"x-request-id", "traceparent"}


@pytest.mark.usefixtures("log_lines")
@pytest.mark.parametrize(
    "url",
    [
        "https://elsewhere.example/",
        "https://api.example.evil.example/",
        "https://sub.api.example/",
        "https://api.exampl/",
    ],
)
def test_nobody_else_gets_them(call: Call, url: str) -> None:
    """An ID is a key to our logs; a name that only looks like one on the list is another's."""
    callee = Callee()
    with bind(correlation()):
        call(url, callee, ["api.example"])
    assert callee.ours() == [{}]


@pytest.mark.usefixtures("log_lines")
def test_a_redirect_to_another_host_does_not_take_them_along(call: Call) -> None:
    """A client copies the headers of the request that was redirected: what was put there would go anywhere."""
    callee = Callee(httpx.Response(307, headers={"Location": "https://elsewhere.example/landing"}))
    with bind(correlation()):
        response = call("https://api.example/x", callee, ["api.example"], content=b"a body")
    assert [each.url.host for each in callee.got] == ["api.example", "elsewhere.example"]
    assert callee.got[1].content == b"a body"
    assert [sorted(each) for each in callee.ours()] == [sorted(OURS), []]
    assert not OURS & {name.lower() for name in response.request.headers}


@pytest.mark.usefixtures("log_lines")
def test_outside_of_any_request_nothing_is_added(call: Call) -> None:
    """There is no ID; what the caller itself set stays."""
    callee = Callee()
    call("https://api.example/x", callee, ["api.example"], headers={"X-Request-ID": "the-callers-own"})
    assert callee.ours() == [{"x-request-id": "the-callers-own"}]


def test_a_failing_hook_costs_no_call(call: Call, log_lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call is what matters; that the ID is missing is counted."""

    def fail(_: Correlation) -> str:
        raise RuntimeError("broken")

    def failures() -> float:
        name = "commandcenter_observability_failures_total"
        return REGISTRY.get_sample_value(name, {"hook": "outbound"}) or 0.0

    before = failures()
    monkeypatch.setattr(Correlation, "traceparent", property(fail))
    callee = Callee()
    with bind(for_request("the-id")):
        assert call("https://api.example/x", callee, ["api.example"]).status_code == 200
    assert callee.ours() == [{}]
    assert failures() == before + 1
    monkeypatch.setattr("app.telemetry.outbound.note", fail)
    with bind(for_request("the-id")):
        assert call("https://elsewhere.example/x", callee, []).status_code == 200
    assert failures() == before + 2
    assert [line["event"] for line in log_lines()] == ["outbound.finished"] * 2


def test_each_call_leaves_a_line_and_a_step(call: Call, log_lines: Lines) -> None:
    """Without what follows the question mark: it may hold a token."""
    with bind(correlation()) as mine:
        call("https://elsewhere.example/path?token=hunter2", Callee(httpx.Response(404)), [])
    [line] = log_lines()
    assert line == line | {
        "event": "outbound.finished",
        "request_id": "the-id",
        "trace_id": TRACE,
        "method": "POST",
        "host": "elsewhere.example",
        "path": "/path",
        "status": 404,
    }
    assert "error_type" not in line
    [step] = mine.trail.steps()
    assert (step["kind"], step["text"], step["detail"]) == (
        "outbound",
        "POST elsewhere.example/path",
        {"status": 404},
    )
    assert line["duration_ms"] == pytest.approx(step["duration_ms"], abs=0.001)
    assert "hunter2" not in json.dumps([line, step])


@pytest.mark.parametrize("error", [httpx.ConnectTimeout("no answer"), RuntimeError("a bug"), asyncio.CancelledError()])
def test_a_call_that_fails_is_told_and_fails(call: Call, log_lines: Lines, error: BaseException) -> None:
    """The caller gets its error, and the log says which. A call that was cancelled took its time too."""

    def fail(_: httpx.Request) -> httpx.Response:
        raise error

    with bind(correlation()) as mine, pytest.raises(type(error)):
        call("https://api.example/x", fail, [])
    [line] = log_lines()
    assert (line["error_type"], "status" in line) == (type(error).__name__, False)
    assert mine.trail.steps()[0]["detail"] == {"error_type": type(error).__name__}


@pytest.fixture
def server() -> Iterator[tuple[int, list[tuple[str, set[str]]]]]:
    """A server that redirects 127.0.0.1 to localhost; yields its port and the paths and headers that it got."""
    got: list[tuple[str, set[str]]] = []

    class Redirecting(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            got.append((self.headers["Host"].partition(":")[0], {name.lower() for name in self.headers} & OURS))
            self.send_response(302 if self.path == "/first" else 204)
            self.send_header("Location", f"http://localhost:{self.server.server_port}/second")  # type: ignore[attr-defined]
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Redirecting) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield listening.server_port, got
        finally:
            listening.shutdown()
            thread.join()


@pytest.mark.usefixtures("log_lines")
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_over_a_real_connection_too(server: tuple[int, list[tuple[str, set[str]]]], kind: str) -> None:
    """The transport that does the work unless another is given, redirect and all."""
    port, got = server
    url = f"http://127.0.0.1:{port}/first"

    async def ask() -> int:
        transport = AsyncCorrelatedTransport(["127.0.0.1"])
        async with httpx.AsyncClient(transport=transport, follow_redirects=True) as client:
            return (await client.get(url)).status_code

    with bind(correlation()):
        if kind == "sync":
            with httpx.Client(transport=CorrelatedTransport(["127.0.0.1"]), follow_redirects=True) as client:
                assert client.get(url).status_code == 204
        else:
            assert asyncio.run(ask()) == 204
    assert got == [("127.0.0.1", OURS), ("localhost", set())]
