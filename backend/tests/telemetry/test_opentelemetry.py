"""With OpenTelemetry's SDK configured, its spans and our lines bear the same IDs, whoever makes the spans."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from app.telemetry.opentelemetry import span_source
from tests.services import redis_server
from tests.system import BACKEND

SCRIPT = """
import asyncio, io, json, sys
import httpx
from opentelemetry import trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.middleware import Middleware

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)

from app.correlation import current
from app.middleware.correlation import CorrelationMiddleware, Trust
from app.middleware.http_metrics import HttpMetricsMiddleware
from app.middleware.stack import ObservedFastAPI
from app.telemetry.logs import configure_logging
from app.telemetry.opentelemetry import span_source

outside = sys.argv[1] == "outside"
headers = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"} if len(sys.argv) > 2 else {}
stream = io.StringIO()
configure_logging("test", "info", stream)
# FastAPI has a tracer of its own; two outermost ones would make two traces of one request.
app = ObservedFastAPI(telemetry={"tracing": not outside}, outermost=[
    Middleware(CorrelationMiddleware, trust=Trust("all"), span_source=span_source()),
    Middleware(HttpMetricsMiddleware),
])

@app.get("/")
async def root():
    return {"ours": current().trace_id, "span": current().span_id}

if outside:
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
    served = OpenTelemetryMiddleware(app)
elif sys.argv[1] == "inside":
    FastAPIInstrumentor.instrument_app(app)
    served = app
else:
    served = app

async def main():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(served), base_url="http://test") as client:
        return (await client.get("/", headers=headers)).json()

answer = asyncio.run(main())
spans = exporter.get_finished_spans()
print(json.dumps({
    **answer,
    "theirs": sorted({f"{span.context.trace_id:032x}" for span in spans}),
    "their_spans": [f"{span.context.span_id:016x}" for span in spans],
    "line": json.loads(stream.getvalue().splitlines()[-1])["trace_id"],
}))
"""


@pytest.mark.parametrize("side", ["outside", "inside", "native"])
@pytest.mark.parametrize("caller", [True, False])
def test_both_bear_the_same_trace(side: str, caller: bool) -> None:
    """One trace in their backend and in our logs: a person can go from either to the other."""
    arguments = [side, *(["caller"] if caller else [])]
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], cwd=BACKEND, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert told["theirs"] == [told["ours"]] == [told["line"]]
    if caller:
        assert told["ours"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    if side != "inside":
        assert told["span"] in told["their_spans"]


WORKER_SCRIPT = """
import io, json, sys, time
from celery.contrib.testing.worker import start_worker
from opentelemetry import trace
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)

from app.broker import make_celery
from app.correlation import bind, current, for_request
from app.telemetry.logs import configure_logging
from app.telemetry.opentelemetry import span_source

stream = io.StringIO()
configure_logging("test", "info", stream)
if sys.argv[1] == "theirs first":
    CeleryInstrumentor().instrument()
app = make_celery(sys.argv[2])
if sys.argv[1] == "ours first":
    CeleryInstrumentor().instrument()
told = {}

def tell(name):
    ours, theirs = current(), trace.get_current_span().get_span_context()
    told[name] = {
        "ours": ours.trace_id, "our_span": ours.span_id, "id": ours.request_id,
        "theirs": f"{theirs.trace_id:032x}", "their_span": f"{theirs.span_id:016x}",
    }

@app.task(name="outer")
def outer():
    tell("outer")
    inner.apply_async()
    on_the_spot.apply()
    tell("outer again")

@app.task(name="inner")
def inner():
    tell("inner")

@app.task(name="on the spot")
def on_the_spot():
    tell("on the spot")

with start_worker(app, perform_ping_check=False, pool="solo", queues=["default"]):
    with trace.get_tracer("request").start_as_current_span("request"), bind(for_request("the-request")) as request:
        request.join(*span_source()())
        tell("request")
        outer.delay()
    deadline = time.monotonic() + 20
    while len(told) < 5 and time.monotonic() < deadline:
        time.sleep(0.02)
# The worker's thread has ended with the block, and so has all that it ran.
lines = [json.loads(line) for line in stream.getvalue().splitlines() if '"task.' in line]
print(json.dumps({"told": told, "lines": sorted({line["trace_id"] for line in lines if "request_id" in line}),
                  "spans": sorted({f"{span.context.trace_id:032x}" for span in exporter.get_finished_spans()})}))
"""


@pytest.mark.parametrize("order", ["ours first", "theirs first"])
def test_a_task_bears_the_trace_of_its_request(order: str, tmp_path: Path) -> None:
    """Whoever is asked first of a run, through a worker, a task within a task, and one that runs on the spot."""
    # Its own: another's worker would take the tasks.
    with redis_server(tmp_path) as url:
        ended = subprocess.run(
            [sys.executable, "-c", WORKER_SCRIPT, order, url], cwd=BACKEND, capture_output=True, text=True, check=False
        )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    told = found["told"]
    assert set(told) == {"request", "outer", "outer again", "inner", "on the spot"}
    [trace] = found["spans"]
    assert found["lines"] == [trace]
    assert {name: (each["id"], each["ours"], each["theirs"]) for name, each in told.items()} == dict.fromkeys(
        told, ("the-request", trace, trace)
    )
    assert told["request"]["our_span"] == told["request"]["their_span"]
    assert told["outer again"] == told["outer"]
    assert len({each["our_span"] for each in told.values()}) == 4
    assert told["on the spot"]["our_span"] not in {each["their_span"] for each in told.values()}
    if order == "theirs first":
        assert all(told[name]["our_span"] == told[name]["their_span"] for name in ("outer", "inner"))


OUTBOUND_SCRIPT = """
import asyncio, io, json, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import httpx
from opentelemetry import trace
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.trace import TracerProvider

trace.set_tracer_provider(TracerProvider())

from app.correlation import bind, for_request
from app.telemetry.logs import configure_logging
from app.telemetry.opentelemetry import span_source
from app.telemetry.outbound import AsyncCorrelatedTransport, CorrelatedTransport

seen = []

class Host(BaseHTTPRequestHandler):
    def do_GET(self):
        seen.append([(name.lower(), value) for name, value in self.headers.items()])
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass

host = ThreadingHTTPServer(("127.0.0.1", 0), Host)
threading.Thread(target=host.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{host.server_port}/"
stream = io.StringIO()
configure_logging("test", "info", stream)

async def call():
    async with httpx.AsyncClient(transport=AsyncCorrelatedTransport({"127.0.0.1"})) as client:
        if sys.argv[1] == "client":
            HTTPXClientInstrumentor.instrument_client(client)
        await client.get(url)

if sys.argv[1] == "everywhere":
    HTTPXClientInstrumentor().instrument()
with trace.get_tracer("request").start_as_current_span("request"), bind(for_request("the-request")) as request:
    request.join(*span_source()())
    with httpx.Client(transport=CorrelatedTransport({"127.0.0.1"})) as client:
        if sys.argv[1] == "client":
            HTTPXClientInstrumentor.instrument_client(client)
        client.get(url)
    asyncio.run(call())
host.shutdown()
print(json.dumps({"seen": seen, "trace": request.trace_id,
                  "lines": [json.loads(line) for line in stream.getvalue().splitlines()]}))
"""


@pytest.mark.parametrize("instrumented", ["everywhere", "client"])
def test_an_outgoing_call_bears_one_trace(instrumented: str) -> None:
    """Both write the header; what the host reads is one, of the trace that both tell of."""
    ended = subprocess.run(
        [sys.executable, "-c", OUTBOUND_SCRIPT, instrumented], cwd=BACKEND, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert len(found["seen"]) == 2
    for headers in found["seen"]:
        [parent] = [value for name, value in headers if name == "traceparent"]
        assert parent.split("-")[1] == found["trace"]
        assert [value for name, value in headers if name == "x-request-id"] == ["the-request"]
    told = [line["trace_id"] for line in found["lines"] if line["event"] == "outbound.finished"]
    assert told == [found["trace"]] * 2


def test_without_an_sdk_nobody_is_asked() -> None:
    """OpenTelemetry's API alone is there through some library; it must cost nothing."""
    assert span_source() is None
