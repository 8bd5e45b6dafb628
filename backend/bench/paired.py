"""What one request takes longer with the layer on than off, in pairs: `python -m bench.paired`.

The whole application twice in one process, with the layer and without, on one database; each pair asks both in random
order. For a plain route and one that reads the database: the medians, and the upper 95 % bound of the difference of the
95th percentiles, by a bootstrap of the pairs.
"""

import asyncio
import os
import random
import statistics
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from fastapi import FastAPI

from app.config import Settings
from app.main import create_app
from app.telemetry.log_sink import DescriptorSink
from app.telemetry.logs import configure_logging
from bench.bootstrap import p95_difference_bound, quantile
from bench.http import SCOPE
from tests.services import create_database, postgres_server, redis_server
from tests.system import migrate

PAIRS: Final = 6000
WARM_UP: Final = 300
ROUTES: Final = {"plain": "/api/v1/health", "database": "/api/v1/repositories"}
GOAL_MS: Final = 0.2


async def _ask(app: FastAPI, path: str) -> float:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start" and message["status"] != 200:  # noqa: PLR2004
            raise RuntimeError(f"{path} answered {message['status']}")

    started = perf_counter()
    await app({**SCOPE, "path": path, "raw_path": path.encode()}, receive, send)
    return perf_counter() - started


async def measure(database_url: str, redis_url: str) -> dict[str, tuple[list[float], list[float]]]:
    """Return for each route the seconds with the layer on and off, pair by pair."""
    settings = Settings.model_validate(
        {"database_url": database_url, "redis_url": redis_url, "secret_key": "bench" * 8}
    )
    on = create_app(settings)
    off = create_app(settings.model_copy(update={"correlation_enabled": False, "sql_comments": "off"}))
    results: dict[str, tuple[list[float], list[float]]] = {}
    async with AsyncExitStack() as stack:
        for app in (on, off):
            await stack.enter_async_context(app.router.lifespan_context(app))
        configure_logging("bench", "info", DescriptorSink(os.open(os.devnull, os.O_WRONLY)))
        for route, path in ROUTES.items():
            taken: tuple[list[float], list[float]] = ([], [])
            for number in range(PAIRS + WARM_UP):
                order = [(on, 0), (off, 1)]
                random.shuffle(order)
                times = [0.0, 0.0]
                for app, index in order:
                    times[index] = await _ask(app, path)
                if number >= WARM_UP:
                    taken[0].append(times[0])
                    taken[1].append(times[1])
            results[route] = taken
    return results


def main() -> int:
    """Print the table; 1 where the goal is missed."""
    with tempfile.TemporaryDirectory(prefix="cc-bench-") as name:
        scratch = Path(name)
        with postgres_server(scratch) as server, redis_server(scratch) as redis_url:
            database_url = create_database(server)
            migrated = migrate(database_url)
            if migrated.returncode:
                sys.exit(migrated.stderr)
            results = asyncio.run(measure(database_url, redis_url))
    print(f"{PAIRS} pairs; milliseconds")
    columns = "".join(f"{name:>10}" for name in ("off p50", "on p50", "off p95", "on p95"))
    print(f"{'route':10}{columns} {'difference of p95, upper 95 % bound':>36}")
    missed = False
    for route, (on, off) in results.items():
        bound = p95_difference_bound(on, off) * 1000
        missed = missed or bound >= GOAL_MS
        figures = (statistics.median(off), statistics.median(on), quantile(off, 0.95), quantile(on, 0.95))
        print(f"{route:10} " + " ".join(f"{figure * 1000:9.3f}" for figure in figures) + f" {bound:36.3f}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
