"""What a middleware adds to one plain request, ours beside the peers.

The application is called in this process, without a socket. Every round calls each variant in random order; what a
variant costs is the median over rounds of its time less the bare application's in the same round.
"""

import asyncio
import os
import random
import statistics
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from time import perf_counter
from typing import Any, Final

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware

from app.middleware.correlation import CorrelationMiddleware, Trust
from app.middleware.errors import ErrorBoundaryMiddleware
from app.middleware.http_metrics import HttpMetricsMiddleware
from app.middleware.stack import ObservedFastAPI
from app.telemetry.log_sink import DescriptorSink
from app.telemetry.logs import configure_logging

App = Callable[..., Awaitable[None]]
ROUNDS = 300
CALLS = 60

SCOPE: dict[str, Any] = {
    "type": "http",
    "asgi": {"version": "3.0", "spec_version": "2.4"},
    "http_version": "1.1",
    "method": "GET",
    "scheme": "http",
    "path": "/items/1",
    "raw_path": b"/items/1",
    "query_string": b"",
    "root_path": "",
    "headers": [(b"host", b"bench"), (b"accept", b"*/*"), (b"user-agent", b"bench/1")],
    "client": ("127.0.0.1", 50000),
    "server": ("127.0.0.1", 8000),
}


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(_message: MutableMapping[str, Any]) -> None:
    return None


def _with_route(app: FastAPI) -> FastAPI:
    @app.get("/items/{number}")
    async def item(number: str) -> dict[str, str]:
        return {"number": number}

    return app


def bare() -> FastAPI:
    """No middleware of anybody's."""
    return _with_route(FastAPI())


def ours(*, access_log: bool) -> FastAPI:
    """Correlation, HTTP metrics and the error boundary."""
    return _with_route(
        ObservedFastAPI(
            outermost=[
                Middleware(CorrelationMiddleware, trust=Trust("all")),
                Middleware(HttpMetricsMiddleware, access_log=access_log),
            ],
            middleware=[Middleware(ErrorBoundaryMiddleware)],
        )
    )


def pair() -> FastAPI:
    """The two libraries people use for a part of it."""
    from asgi_correlation_id import CorrelationIdMiddleware  # noqa: PLC0415
    from prometheus_fastapi_instrumentator import Instrumentator  # noqa: PLC0415

    app = bare()
    app.add_middleware(CorrelationIdMiddleware)
    Instrumentator().instrument(app)
    return app


def exporter() -> FastAPI:
    """starlette_exporter."""
    from starlette_exporter import PrometheusMiddleware  # noqa: PLC0415

    app = bare()
    app.add_middleware(PrometheusMiddleware)
    return app


def opentelemetry() -> FastAPI:
    """OpenTelemetry's instrumentation, with an SDK that samples and drops."""
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415

    app = bare()
    FastAPIInstrumentor.instrument_app(app, tracer_provider=TracerProvider())
    return app


def base_http() -> FastAPI:
    """One empty middleware of Starlette's usual kind."""

    class Empty(BaseHTTPMiddleware):
        async def dispatch(self, request: Any, call_next: Any) -> Any:
            return await call_next(request)

    app = bare()
    app.add_middleware(Empty)
    return app


CORE: Final = "ours: correlation + metrics + boundary"
WHOLE: Final = "ours: the same + JSON access line + trail"
PAIR: Final = "asgi-correlation-id + instrumentator"
GOAL_CORE_S: Final = 25e-6
GOAL_CORE_RATIO: Final = 0.5
GOAL_WHOLE_RATIO: Final = 1.0
VARIANTS: dict[str, Callable[[], FastAPI]] = {
    CORE: lambda: ours(access_log=False),
    WHOLE: lambda: ours(access_log=True),
    PAIR: pair,
    "starlette_exporter": exporter,
    "opentelemetry-instrumentation-fastapi": opentelemetry,
    "BaseHTTPMiddleware, empty": base_http,
}


async def _time(app: App) -> float:
    """Return seconds a call of `app`, over CALLS calls."""
    started = perf_counter()
    for _ in range(CALLS):
        await app(dict(SCOPE), _receive, _send)
    return (perf_counter() - started) / CALLS


async def measure(rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Return for each variant the seconds a request it adds, one figure a round."""
    with open(os.devnull, "wb") as nowhere:  # noqa: ASYNC230, PTH123 - opened once
        apps: dict[str, App] = {name: make() for name, make in VARIANTS.items()}
        configure_logging("bench", "info", DescriptorSink(nowhere.fileno()))
        base: App = bare()
        for app in (base, *apps.values()):
            await _time(app)
        added: dict[str, list[float]] = {name: [] for name in apps}
        for _ in range(rounds):
            times = {}
            order = ["", *apps]
            random.shuffle(order)
            for name in order:
                times[name] = await _time(apps[name] if name else base)
            for name in apps:
                added[name].append(times[name] - times[""])
    return added


def main() -> int:
    """Print the table and return 1 where a goal was missed: of the whole core, in µs, and of both, beside the pair."""
    added = asyncio.run(measure())
    reference = added[PAIR]
    print(f"{'adds to a plain request':45} {'µs':>8} {'x pair':>8}")
    ratios = {}
    for name, figures in added.items():
        # Round by round, for both then met the same noise.
        ratios[name] = statistics.median(ours / theirs for ours, theirs in zip(figures, reference, strict=True))
        print(f"{name:45} {statistics.median(figures) * 1e6:8.1f} {ratios[name]:8.2f}")
    missed = [
        statistics.median(added[CORE]) > GOAL_CORE_S,
        ratios[CORE] > GOAL_CORE_RATIO,
        ratios[WHOLE] > GOAL_WHOLE_RATIO,
    ]
    return int(any(missed))


if __name__ == "__main__":
    sys.exit(main())
