"""With OpenTelemetry's SDK configured, its spans and our lines bear the same IDs, whoever makes the spans."""

import json
import subprocess
import sys

import pytest

from app.telemetry.opentelemetry import span_source
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


def test_without_an_sdk_nobody_is_asked() -> None:
    """OpenTelemetry's API alone is there through some library; it must cost nothing."""
    assert span_source() is None
