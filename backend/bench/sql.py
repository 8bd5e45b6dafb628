"""What tying SQL to its request costs: `python -m bench.sql`.

A request of four statements in one transaction on a real PostgreSQL, by each driver: bare, ours, and with what others
do: a comment with an ID of its own on every statement, and OpenTelemetry's sqlcommenter. Rounds call each variant in
random order; figures are medians over rounds, a ratio is that of its round. Then 5,000 requests more, and how many
statements and bytes the connection keeps on the server for them.
"""

import asyncio
import random
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.correlation import Correlation, bind
from app.database import make_async_engine, make_sync_engine
from tests.services import create_database, postgres_server

ROUNDS: Final = 500
REQUESTS: Final = 1
MANY: Final = 5000
GOAL: Final = 1.05
# One connection, so that what it keeps is counted.
POOL: Final = {"pool_size": 1, "max_overflow": 0}
OURS: Final = {"application": "bench", "pool_size": 1, "overflow": 0}
STATEMENTS: Final = [
    text("SELECT name FROM things WHERE id = :id"),
    text("SELECT count(*) FROM things WHERE id < :id"),
    text("UPDATE things SET name = 'n' WHERE id = :id"),
    text("SELECT id, name FROM things WHERE id > :id ORDER BY id LIMIT 5"),
]
AnyEngine = Engine | AsyncEngine


def bare(url: str) -> AnyEngine:
    """The driver as it comes."""
    return create_async_engine(url, **POOL) if "asyncpg" in url else create_engine(url, **POOL)


def ours(url: str, mode: Any = "transaction") -> AnyEngine:
    """A bounded comment, the ID with BEGIN, time and trail."""
    make: Callable[..., AnyEngine] = make_async_engine if "asyncpg" in url else make_sync_engine
    return make(url, mode=mode, **OURS)


def on_every_statement(url: str) -> AnyEngine:
    """Ours with the ID in every comment."""
    return ours(url, "statement")


def timed_only(url: str) -> AnyEngine:
    """Ours without attribution: statements are timed and noted."""
    return ours(url, "off")


def unique_comment(url: str) -> AnyEngine:
    """The few lines that people write themselves."""
    engine = bare(url)

    @event.listens_for(_sync(engine), "before_cursor_execute", retval=True)
    def comment(_conn: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> tuple[str, Any]:
        return f"/* request_id={random.getrandbits(128):032x} */ {statement}", parameters

    return engine


def opentelemetry(url: str) -> AnyEngine:
    """opentelemetry-instrumentation-sqlalchemy with enable_commenter, with an SDK that samples and drops."""
    from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415

    engine = bare(url)
    SQLAlchemyInstrumentor().instrument(
        engine=_sync(engine),
        enable_commenter=True,
        commenter_options={},
        tracer_provider=TracerProvider(),
        # It names SQLAlchemy below 2.1 as what it is for; it works with it.
        skip_dep_check=True,
    )
    # An instrumentor is one a process, and does nothing the second time; this engine's hooks stay.
    SQLAlchemyInstrumentor()._is_instrumented_by_opentelemetry = False  # noqa: SLF001
    return engine


def _sync(engine: AnyEngine) -> Engine:
    return engine.sync_engine if isinstance(engine, AsyncEngine) else engine


VARIANTS: Final[dict[str, Callable[[str], AnyEngine]]] = {
    "bare": bare,
    "ours": ours,
    "ours, attribution off (time and trail)": timed_only,
    "ours, the ID on every statement": on_every_statement,
    "a unique comment on every statement": unique_comment,
    "opentelemetry, sqlcommenter": opentelemetry,
}
KEPT: Final = ("bare", "ours", "a unique comment on every statement")


def _ask(connection: Connection, number: int) -> None:
    for statement in STATEMENTS:
        result = connection.execute(statement, {"id": number % 100})
        if result.returns_rows:
            result.all()


def _correlation() -> Correlation:
    correlation = Correlation.fresh()
    correlation.name = "/api/v1/repositories/{id}"
    return correlation


async def _request(engine: AnyEngine, number: int) -> None:
    """Serve one request."""
    with bind(_correlation()):
        if isinstance(engine, Engine):
            with engine.begin() as connection:
                _ask(connection, number)
        else:
            async with engine.begin() as asynchronous:
                for statement in STATEMENTS:
                    result = await asynchronous.execute(statement, {"id": number % 100})
                    if result.returns_rows:
                        result.all()


async def _time(engine: AnyEngine) -> float:
    """Return seconds a request, over REQUESTS requests."""
    started = perf_counter()
    for number in range(REQUESTS):
        await _request(engine, number)
    return (perf_counter() - started) / REQUESTS


async def measure(engines: dict[str, AnyEngine]) -> dict[str, list[float]]:
    """Return the seconds a request of each variant, one figure a round."""
    times: dict[str, list[float]] = {name: [] for name in engines}
    for engine in engines.values():
        for _ in range(4):
            await _time(engine)
    for _ in range(ROUNDS):
        order = list(engines)
        random.shuffle(order)
        for name in order:
            times[name].append(await _time(engines[name]))
    return times


async def kept(engine: AnyEngine) -> tuple[int, int]:
    """Serve many requests, and return how many statements and how many kB of plans the connection keeps for them."""
    for number in range(MANY):
        await _request(engine, number)

    def look(connection: Connection) -> tuple[int, int]:
        count = connection.scalar(text("SELECT count(*) FROM pg_prepared_statements"))
        plans = "SELECT sum(total_bytes) / 1024 FROM pg_backend_memory_contexts WHERE name LIKE 'CachedPlan%'"
        return int(count or 0), int(connection.scalar(text(plans)) or 0)

    if isinstance(engine, Engine):
        with engine.connect() as connection:
            return look(connection)
    async with engine.connect() as asynchronous:
        return await asynchronous.run_sync(look)


async def _close(engine: AnyEngine) -> None:
    if isinstance(engine, Engine):
        engine.dispose()
    else:
        await engine.dispose()


async def bench(driver: str, url: str) -> float:
    """Print one driver's table and return what ours takes over bare."""
    url = url.replace("postgresql://", f"postgresql+{driver}://")
    engines = {name: make(url) for name, make in VARIANTS.items()}
    times = await measure(engines)
    held: dict[str, tuple[int, int]] = {name: await kept(engines[name]) for name in KEPT}
    for engine in engines.values():
        await _close(engine)
    print(f"\n{driver:45} {'ms':>7} {'x bare':>7} {f'kept after {MANY} requests':>28}")
    ratios = {}
    for name, figures in times.items():
        ratios[name] = statistics.median(one / base for one, base in zip(figures, times["bare"], strict=True))
        keeps = f"{held[name][0]} statements, {held[name][1]} kB" if name in held else ""
        print(f"{name:45} {statistics.median(figures) * 1000:7.3f} {ratios[name]:7.3f} {keeps:>28}")
    alone = [on / off for on, off in zip(times["ours"], times["ours, attribution off (time and trail)"], strict=True)]
    print(f"attribution alone, on / off: {statistics.median(alone):.3f}")
    return ratios["ours"]


def _fill(url: str, run: Callable[[Awaitable[float]], float]) -> float:
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE things (id int PRIMARY KEY, name text)"))
        connection.execute(text("INSERT INTO things SELECT n, 'n' FROM generate_series(0, 99) n"))
    engine.dispose()
    return max(run(bench(driver, url)) for driver in ("asyncpg", "psycopg"))


def main() -> int:
    """Print the tables; 1 where ours takes more than the goal."""
    with tempfile.TemporaryDirectory(prefix="cc-bench-") as name, postgres_server(Path(name)) as server:
        print(f"{ROUNDS} rounds of {REQUESTS} requests; goal: ours at most {GOAL} x bare")
        worst = _fill(create_database(server), asyncio.run)  # type: ignore[arg-type]
    return int(worst > GOAL)


if __name__ == "__main__":
    sys.exit(main())
