"""Asking for a sync, and what ran: jobs."""

import asyncio
import io
import json
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import redis

from app.repositories import service
from app.telemetry.logs import configure_logging
from ops.stack.ports import free_port
from tests.api.conftest import Start
from tests.api.network import gate_before
from tests.git import make_repository
from tests.system import System

URL = "https://git.example.org/a/b"
JOB = {
    *("id", "kind", "repository_id", "status", "request_id", "attempt", "stage", "progress", "reason"),
    *("created_at", "started_at", "updated_at", "finished_at"),
}


async def register(client: httpx.AsyncClient, url: str = URL) -> int:
    """Register a repository and return its ID."""
    number = (await client.post("/repositories", json={"url": url})).json()["id"]
    assert isinstance(number, int)
    return number


async def jobs(client: httpx.AsyncClient, **query: object) -> list[dict[str, Any]]:
    """Return a page of jobs."""
    response = await client.get("/jobs", params={key: str(value) for key, value in query.items()})
    assert response.status_code == 200, response.text
    items: list[dict[str, Any]] = response.json()["items"]
    return items


async def test_a_sync_is_accepted_with_its_job_and_its_id(client: httpx.AsyncClient, api_redis_url: str) -> None:
    """What the client is told leads to the job, and the job to the request; the message waits in its queue."""
    repository_id = await register(client)
    response = await client.post(f"/repositories/{repository_id}/sync", headers={"X-Request-ID": "sync-1"})
    assert response.status_code == 202
    body = response.json()
    assert body == {"job_id": body["job_id"], "status": "queued", "request_id": "sync-1"}
    job = (await client.get(f"/jobs/{body['job_id']}")).json()
    assert job.keys() == JOB
    assert (job["kind"], job["repository_id"], job["status"]) == ("repository.sync", repository_id, "queued")
    assert (job["request_id"], job["attempt"], job["progress"], job["reason"]) == ("sync-1", 0, 0, None)
    with redis.Redis.from_url(api_redis_url) as queue:
        assert any(body["job_id"].encode() in message for message in queue.lrange("sync", 0, -1))
        # Nobody listens for its result: one more subscription for each sync would never end.
        assert not [name for name in queue.pubsub_channels() if body["job_id"].encode() in name]


async def test_of_syncs_at_once_one_wins(client: httpx.AsyncClient) -> None:
    """The others learn which one, and whose."""
    path = f"/repositories/{await register(client)}/sync"
    responses = await asyncio.gather(*(client.post(path) for _ in range(8)))
    assert Counter(response.status_code for response in responses) == {202: 1, 409: 7}
    [won] = [response.json() for response in responses if response.status_code == 202]
    for response in responses:
        if response.status_code == 409:
            assert won["job_id"] in response.json()["detail"]
            assert won["request_id"] in response.json()["detail"]
    assert len(await jobs(client)) == 1


@pytest.mark.parametrize("status", ["running", "succeeded", "failed"])
async def test_only_an_active_sync_is_in_the_way(client: httpx.AsyncClient, empty_database: str, status: str) -> None:
    """What is done is done."""
    repository_id = await register(client)
    await client.post(f"/repositories/{repository_id}/sync")
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("UPDATE jobs SET status = %s", [status])
    response = await client.post(f"/repositories/{repository_id}/sync")
    assert response.status_code == (409 if status == "running" else 202)


async def test_without_a_queue_the_answer_is_503_and_the_job_says_why(start: Start) -> None:
    """A job that says `queued` and never was would block every later one."""
    client = await start(redis_url=f"redis://:hunter2@127.0.0.1:{free_port()}/0")
    repository_id = await register(client)
    stream = io.StringIO()
    configure_logging("api", "info", stream)
    for number in (1, 2):
        response = await client.post(f"/repositories/{repository_id}/sync", headers={"X-Request-ID": f"sync-{number}"})
        assert response.status_code == 503
        problem = response.json()
        assert (problem["detail"], problem["request_id"]) == (
            "The queue did not answer; try again in a moment.",
            f"sync-{number}",
        )
        [job, *_] = await jobs(client, repository_id=repository_id)
        assert (job["status"], job["reason"]) == ("failed", "The queue did not answer.")
        assert (job["request_id"], job["finished_at"] is None) == (f"sync-{number}", False)
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    trails = [line["trail"] for line in told if line["event"] == "request.finished" and line["status"] == 503]
    waits = [[step["text"] for step in trail if step["kind"] == "wait" and "queue" in step["text"]] for trail in trails]
    assert waits == [["the queue"]] * 2, "what a slow answer waited for is in its trail"


async def test_a_message_that_came_through_after_all_is_a_sync(
    client: httpx.AsyncClient, empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer got lost on its way, the message didn't: the worker has the job, and its outcome stands."""
    repository_id = await register(client)

    def sent_and_done(*_: object) -> None:
        with psycopg.connect(empty_database, autocommit=True) as connection:
            connection.execute("UPDATE jobs SET status = 'succeeded'")
        raise TimeoutError

    monkeypatch.setattr(service, "send_sync", sent_and_done)
    assert (await client.post(f"/repositories/{repository_id}/sync")).status_code == 202
    [job] = await jobs(client)
    assert (job["status"], job["reason"]) == ("succeeded", None)


async def test_a_queue_that_hangs_is_given_up(start: Start, api_redis_url: str) -> None:
    """A request must end, also where a broker takes connections and never says a word; and so must those beside it."""
    async with gate_before(api_redis_url) as (gate, url):
        client = await start(redis_url=url)
        numbers = [await register(client, f"{URL}{number}") for number in range(5)]
        assert (await client.post(f"/repositories/{numbers[0]}/sync")).status_code == 202
        gate.block()
        started = time.perf_counter()
        responses = await asyncio.gather(*(client.post(f"/repositories/{number}/sync") for number in numbers[1:]))
        assert {response.status_code for response in responses} == {503}
        assert time.perf_counter() - started < 15
        assert {job["status"] for job in (await jobs(client))[:4]} == {"failed"}
        assert (await client.get("/metrics")).status_code == 200


async def test_jobs_are_listed_newest_first_and_filtered(client: httpx.AsyncClient, empty_database: str) -> None:
    """On-call comes with an ID, a repository or the word `failed`."""
    first, second = await register(client), await register(client, f"{URL}2")
    for number, repository_id in enumerate((first, second, first)):
        if number == 2:
            with psycopg.connect(empty_database, autocommit=True) as connection:
                connection.execute("UPDATE jobs SET status = 'failed', reason = 'x' WHERE repository_id = %s", [first])
        headers = {"X-Request-ID": f"request-{number}"}
        assert (await client.post(f"/repositories/{repository_id}/sync", headers=headers)).status_code == 202
    assert [job["request_id"] for job in await jobs(client)] == ["request-2", "request-1", "request-0"]
    assert [job["request_id"] for job in await jobs(client, repository_id=first)] == ["request-2", "request-0"]
    assert [job["request_id"] for job in await jobs(client, status="failed")] == ["request-0"]
    assert [job["repository_id"] for job in await jobs(client, request_id="request-1")] == [second]
    assert await jobs(client, request_id="request-1", status="failed") == []
    page = (await client.get("/jobs", params={"limit": 1, "offset": 1})).json()
    assert (page["total"], page["limit"], page["offset"]) == (3, 1, 1)
    assert [job["request_id"] for job in page["items"]] == ["request-1"]


async def test_a_job_that_is_not_there_is_404(client: httpx.AsyncClient) -> None:
    """Also where its ID is spelt in another of UUID's ways."""
    number = uuid.uuid4()
    for spelling in (str(number), number.hex, str(number).upper()):
        response = await client.get(f"/jobs/{spelling}")
        assert (response.status_code, response.json()["detail"]) == (404, f"There is no job {number}.")


def test_a_sync_runs_to_its_end_for_its_request(system: System, tmp_path: Path) -> None:
    """With the real worker: from the request's ID to the outcome."""
    with system.client() as client:
        _, job = system.sync(client, f"file://{make_repository(tmp_path / 'a' / 'b')}", request_id="the-whole-way")
        assert (job["status"], job["request_id"], job["progress"]) == ("succeeded", "the-whole-way", 100)
        assert job["created_at"] <= job["started_at"] <= job["finished_at"]
        found = client.get("/api/v1/jobs", params={"request_id": "the-whole-way"}).json()
        assert found["items"] == [job]
        _, failed = system.sync(client, f"file://{tmp_path}/a/gone")
        assert failed["status"] == "failed"
        assert failed["reason"]
