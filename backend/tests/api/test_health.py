"""Health: alive is one question, able to work is another, and neither hangs."""

import asyncio
import io
import json
import time

import httpx
import pytest

from app.config import app_version
from app.telemetry.logs import configure_logging
from ops.stack.ports import free_port
from tests.api.conftest import Start
from tests.api.network import gate_before
from tests.system import System

# Where nothing ends a check, it takes far longer.
PATIENCE_S = 20
HUNG = "no answer within 1 s"
NOWHERE = "postgresql://u:p@127.0.0.1:{}/db"
PREFIXES = ("", "http://test")


async def readiness(client: httpx.AsyncClient) -> tuple[int, dict[str, str]]:
    """Return status and state of each component, all of which were asked at once and none of which may hang."""
    started = time.perf_counter()
    response = await asyncio.wait_for(client.get("/health/ready"), PATIENCE_S)
    took_ms = (time.perf_counter() - started) * 1000
    body = response.json()
    hung_ms = [each["duration_ms"] for each in body["components"].values() if each["detail"] == HUNG]
    # One after another they would take as long as all together; how long one takes is the machine's business, too.
    assert len(hung_ms) < 2 or took_ms < sum(hung_ms)
    assert body.keys() == {"status", "components"}
    assert body["components"].keys() == {"database", "redis", "worker"}
    assert (response.status_code == 200) == (body["status"] == "ready")
    return response.status_code, {
        name: "hung" if each["detail"] == HUNG else each["status"] for name, each in body["components"].items()
    }


async def test_alive_needs_nothing(start: Start) -> None:
    """A slow database is no reason to restart the API."""
    client = await start(
        database_url=NOWHERE.format(free_port()), redis_url=f"redis://127.0.0.1:{free_port()}/0", api_token="x"
    )
    for prefix in PREFIXES:
        response = await client.get(f"{prefix}/health")
        assert response.status_code == 200
        assert response.json() == {"status": "ok", "version": app_version()}
    status, components = await readiness(client)
    assert (status, set(components.values())) == (503, {"down"})


async def test_each_part_that_is_away_is_told_by_itself(start: Start) -> None:
    """On-call must know which one; and no address is told to strangers."""
    client = await start(redis_url=f"redis://:hunter2@127.0.0.1:{free_port()}/0")
    status, components = await readiness(client)
    assert (status, components) == (503, {"database": "up", "redis": "down", "worker": "down"})
    client = await start(database_url=f"postgresql://u:hunter2@127.0.0.1:{free_port()}/db")
    status, components = await readiness(client)
    assert (status, components["database"], components["redis"]) == (503, "down", "up")
    told = (await client.get("/health/ready")).text
    assert "hunter2" not in told
    assert "127.0.0.1" not in told


async def test_what_the_answer_waited_for_is_in_its_trail(start: Start) -> None:
    """Which part kept a probe waiting is asked long after the probe has gone."""
    client = await start(database_url=NOWHERE.format(free_port()), redis_url=f"redis://127.0.0.1:{free_port()}/0")
    stream = io.StringIO()
    configure_logging("api", "info", stream)
    assert (await readiness(client))[0] == 503
    [line] = [json.loads(each) for each in stream.getvalue().splitlines() if "request.finished" in each]
    waits = {step["text"] for step in line["trail"] if step["kind"] == "wait"}
    assert waits >= {f"the check of {part}" for part in ("database", "redis", "worker")}


@pytest.mark.parametrize("is_warm", [False, True])
async def test_parts_that_hang_are_down_within_a_second(
    start: Start, empty_database: str, api_redis_url: str, is_warm: bool
) -> None:
    """Accepting and never answering is how machines die: new connections and those in the pool alike; all at once."""
    async with (
        gate_before(empty_database) as (database, far_database),
        gate_before(api_redis_url) as (redis, far_redis),
    ):
        client = await start(database_url=far_database, redis_url=far_redis)
        if is_warm:
            assert (await readiness(client))[1]["database"] == "up"
        database.block()
        status, components = await readiness(client)
        assert (status, components["database"], components["redis"]) == (503, "hung", "up")
        redis.block()
        for _ in range(2):
            status, components = await readiness(client)
            assert (status, set(components.values())) == (503, {"hung"})
        assert (await client.get("/health")).status_code == 200


async def test_a_component_that_comes_back_is_up_again(start: Start, empty_database: str) -> None:
    """A check that was given up must leave no broken connection behind."""
    async with gate_before(empty_database) as (gate, url):
        client = await start(database_url=url, db_pool_size=1, db_pool_overflow=0)
        gate.block()
        for _ in range(3):
            assert (await readiness(client))[1]["database"] == "hung"
        gate.open()
        for _ in range(5):
            assert (await readiness(client))[1]["database"] == "up"


def test_a_whole_system_is_ready(system: System) -> None:
    """With a worker that lives."""
    with system.client() as client:
        for path in ("/health/ready", "/api/v1/health/ready"):
            response = client.get(path)
            assert response.status_code == 200
            assert {each["status"] for each in response.json()["components"].values()} == {"up"}
