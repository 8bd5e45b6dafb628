"""A database that can't be asked is no fault of the request: 503, and when to try again; with all that a 500 tells."""

import asyncio
import io
import json

import pytest
from prometheus_client import REGISTRY
from sqlalchemy.exc import DBAPIError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app.database import is_away
from app.telemetry.logs import configure_logging
from ops.stack.ports import free_port
from tests.api.conftest import Start
from tests.api.network import gate_before


async def test_a_database_that_is_not_there_is_503(start: Start) -> None:
    """Proxies and clients try again by this; on call reads why in the line."""
    client = await start(database_url=f"postgresql://u:hunter2@127.0.0.1:{free_port()}/db")
    stream = io.StringIO()
    configure_logging("api", "info", stream)
    for method, path in (("GET", "/repositories"), ("GET", "/jobs"), ("DELETE", "/repositories/1")):
        response = await client.request(method, path)
        assert (response.status_code, response.headers["retry-after"]) == (503, "5")
        assert response.json()["detail"] == "The database did not answer; try again."
        assert response.json()["request_id"] == response.headers["x-request-id"]
    lines = [line for line in map(json.loads, stream.getvalue().splitlines()) if line["event"] == "request.failed"]
    assert {line["status"] for line in lines} == {503}
    assert all("ConnectionRefusedError" in line["exception"] for line in lines)
    assert "hunter2" not in str(lines)


async def test_a_pool_that_stays_empty_is_503(
    start: Start, empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More at once than connections: the next ones wait, and not for ever."""
    monkeypatch.setattr("app.database._POOL_TIMEOUT_S", 0.1)
    waited_in_vain = REGISTRY.get_sample_value("commandcenter_db_pool_timeouts_total") or 0
    async with gate_before(empty_database) as (gate, url):
        client = await start(database_url=url, db_pool_size=1, db_pool_overflow=0)
        assert (await client.get("/jobs")).status_code == 200
        gate.block()
        both = [asyncio.create_task(client.get("/jobs")) for _ in range(2)]
        [waited], [served] = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        response = await waited
        assert (response.status_code, response.headers["retry-after"]) == (503, "5")
        gate.open()
        assert (await served).status_code == 200
    assert REGISTRY.get_sample_value("commandcenter_db_pool_timeouts_total") == waited_in_vain + 1


class _ToldError(Exception):
    def __init__(self, sqlstate: str) -> None:
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (DBAPIError("SELECT 1", None, _ToldError("57P03")), True),
        (DBAPIError("SELECT 1", None, _ToldError("53300")), True),
        (DBAPIError("SELECT 1", None, _ToldError("08006")), True),
        (DBAPIError("SELECT 1", None, _ToldError("57014")), False),
        (ProgrammingError("SELEC 1", None, _ToldError("42601")), False),
        (DBAPIError("SELECT 1", None, RuntimeError("closed"), connection_invalidated=True), True),
        (PoolTimeoutError("QueuePool limit"), True),
        (ConnectionRefusedError("of somebody else"), False),
        (TimeoutError("of somebody else"), False),
        (ValueError("a mistake"), False),
    ],
)
def test_only_what_says_nothing_of_the_question_counts(error: Exception, away: bool) -> None:
    """A mistake of ours must not hide as one of the network's."""
    assert is_away(error) is away
