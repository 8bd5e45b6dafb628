"""Where OpenTelemetry's SDK is installed and configured, its spans and ours bear the same IDs. No more is asked of it.

Its instrumentation may sit outside of ours (then we take its span's IDs) or inside (then it continues the trace that we
put into the request's headers). So it is with a task: asked before us of a run, it has made the span; asked after us,
it goes on with the trace in the message.
"""

import sys
from collections.abc import Callable
from typing import Any

SpanIds = tuple[str, str, str]


def span_source() -> Callable[[], SpanIds | None] | None:
    """Return a function that tells (trace ID, span ID, flags) of the span at work, or None where there is no SDK.

    Asked once, at start: without an SDK no request pays for it.
    """
    # Whoever has configured an SDK has loaded this; where nobody has, it need not be there.
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None or isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider | trace.NoOpTracerProvider):
        return None

    def current_ids() -> SpanIds | None:
        context: Any = trace.get_current_span().get_span_context()
        if not context.is_valid:
            return None
        return f"{context.trace_id:032x}", f"{context.span_id:016x}", f"{int(context.trace_flags):02x}"

    return current_ids
