"""Registering, reading, changing and forgetting repositories."""

import asyncio
from collections import Counter
from pathlib import Path

import httpx
import psycopg
import pytest
from prometheus_client import REGISTRY

from tests.git import make_repository
from tests.system import System

URL = "https://git.example.org/pallets/click"
KEYS = {
    *("id", "owner", "name", "full_name", "url", "default_branch", "description", "is_private", "language"),
    *("stars", "forks", "last_commit_sha", "last_commit_message", "last_commit_author", "last_commit_at"),
    *("last_synced_at", "created_at", "updated_at", "activity", "languages", "commits", "contributors"),
}


def counted(operation: str, status: str) -> float:
    """Return how often this was done in this process."""
    labels = {"operation": operation, "status": status}
    return REGISTRY.get_sample_value("commandcenter_repository_operations_total", labels) or 0.0


async def test_a_new_repository_has_every_field_and_no_state(client: httpx.AsyncClient) -> None:
    """Clients read these keys; what only a sync can know is null, zero or empty."""
    before = counted("create", "success")
    response = await client.post("/repositories", json={"url": f"{URL}.git", "description": "é 🎉", "is_private": True})
    assert response.status_code == 201
    body = response.json()
    assert body.keys() == KEYS
    assert (body["owner"], body["name"], body["full_name"]) == ("pallets", "click", "pallets/click")
    assert (body["description"], body["is_private"]) == ("é 🎉", True)
    assert (body["language"], body["last_commit_sha"], body["last_synced_at"]) == (None, None, None)
    assert (body["stars"], body["forks"], body["commits"], body["contributors"]) == (0, 0, 0, 0)
    assert (body["activity"], body["languages"]) == ([], {})
    assert counted("create", "success") == before + 1


async def test_reading_answers_what_registering_did(client: httpx.AsyncClient) -> None:
    """One repository has one look, alone and in the list."""
    created = (await client.post("/repositories", json={"url": URL})).json()
    assert (await client.get(f"/repositories/{created['id']}")).json() == created
    assert (await client.get("/repositories")).json() == {"items": [created], "total": 1, "limit": 20, "offset": 0}


@pytest.mark.parametrize("again", [URL, f"{URL}.git", f"{URL}/", "HTTPS://GIT.example.org:443/pallets/click"])
async def test_a_known_repository_is_a_conflict_however_it_is_spelt(client: httpx.AsyncClient, again: str) -> None:
    """Two entries for one repository would be synced twice and found half the time."""
    first = (await client.post("/repositories", json={"url": URL})).json()
    response = await client.post("/repositories", json={"url": again})
    if again == f"{URL}.git":
        # Git hosts may tell the two apart, so we do too.
        assert response.status_code in {201, 409}
        return
    assert response.status_code == 409
    assert str(first["id"]) in response.json()["detail"]


async def test_of_registrations_at_once_one_wins(client: httpx.AsyncClient) -> None:
    """The database decides; nobody gets a 500 for having been quick."""
    responses = await asyncio.gather(*(client.post("/repositories", json={"url": URL}) for _ in range(8)))
    assert Counter(response.status_code for response in responses) == {201: 1, 409: 7}


@pytest.mark.parametrize(
    "url",
    [
        "http://git.example.org/a/b",
        "git.example.org/a/b",
        "https://user:hunter2@git.example.org/a/b",
        "ext::sh -c true",
    ],
)
async def test_a_url_we_do_not_follow_is_refused_with_the_reason(client: httpx.AsyncClient, url: str) -> None:
    """A person must know what to change; and what they sent may hold a password."""
    response = await client.post("/repositories", json={"url": url})
    assert response.status_code == 422
    problem = response.json()
    assert len(problem["detail"]) > 20
    assert problem["title"] == "Unprocessable Content"
    [error] = problem["errors"]
    assert (error["loc"], error["msg"], error["type"]) == (["body", "url"], problem["detail"], "url_not_allowed")
    assert "hunter2" not in response.text


async def test_the_longest_url_that_is_allowed_can_be_stored(client: httpx.AsyncClient) -> None:
    """A URL grows when it is encoded; the table must hold what the parser lets through."""
    url = "https://git.example.org/" + "é" * 168 + "/" + "é" * 168
    assert (await client.post("/repositories", json={"url": url})).status_code == 201
    assert (await client.post("/repositories", json={"url": url + "é" * 20})).status_code == 422


async def test_only_what_is_named_is_changed(client: httpx.AsyncClient) -> None:
    """PATCH is not PUT."""
    created = (await client.post("/repositories", json={"url": URL, "description": "old", "is_private": True})).json()
    path = f"/repositories/{created['id']}"
    changed = (await client.patch(path, json={"description": "new"})).json()
    assert (changed["description"], changed["is_private"]) == ("new", True)
    assert changed["updated_at"] > created["updated_at"]
    assert (await client.patch(path, json={"is_private": False})).json()["description"] == "new"
    assert (await client.patch(path, json={"description": None})).json()["description"] is None
    before = (await client.get(path)).json()
    assert (await client.patch(path, json={})).json() == before


@pytest.mark.parametrize("body", [{"url": "https://x.org/a/b"}, {"id": 2}, {"stars": 5}, {"is_private": None}])
async def test_what_may_not_be_changed_is_refused(client: httpx.AsyncClient, body: dict[str, object]) -> None:
    """Ignoring it would look like success."""
    created = (await client.post("/repositories", json={"url": URL})).json()
    assert (await client.patch(f"/repositories/{created['id']}", json=body)).status_code == 422
    assert (await client.get(f"/repositories/{created['id']}")).json() == created


async def test_a_forgotten_repository_is_gone_and_its_jobs_stay(client: httpx.AsyncClient, empty_database: str) -> None:
    """What ran, ran; and the same URL may be registered anew."""
    created = (await client.post("/repositories", json={"url": URL})).json()
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO jobs (id, kind, repository_id, request_id) VALUES (gen_random_uuid(), 'x', %s, 'r')",
            [created["id"]],
        )
    response = await client.delete(f"/repositories/{created['id']}")
    assert (response.status_code, response.content) == (204, b"")
    assert (await client.get(f"/repositories/{created['id']}")).status_code == 404
    [job] = (await client.get("/jobs")).json()["items"]
    assert job["repository_id"] is None
    assert (await client.post("/repositories", json={"url": URL})).status_code == 201


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/sync")])
async def test_what_is_not_there_is_404(client: httpx.AsyncClient, method: str, path: str) -> None:
    """And says so in plain words."""
    response = await client.request(method, f"/repositories/4711{path}", json={"description": "x"})
    assert response.status_code == 404
    assert response.json()["detail"] == "There is no repository 4711."


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/repositories", "GET, POST, HEAD"),
        ("/repositories/1", "GET, PATCH, DELETE, HEAD"),
        ("/repositories/1/sync", "POST"),
        ("/health", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_told_which_are_right(client: httpx.AsyncClient, path: str, allowed: str) -> None:
    """RFC 9110: a 405 names all of them."""
    for method in ("PUT", "OPTIONS", "TRACE", "BREW"):
        response = await client.request(method, path)
        assert (response.status_code, response.headers["allow"]) == (405, allowed)
        assert response.headers["content-type"] == "application/problem+json"


async def test_a_slash_too_many_is_another_path(client: httpx.AsyncClient) -> None:
    """A redirect would turn a POST behind a proxy into something else."""
    assert (await client.get("/repositories/")).status_code == 404


def test_a_synced_repository_tells_its_state(system: System, tmp_path: Path) -> None:
    """The contract's fields hold what Git holds."""
    repository = make_repository(tmp_path / "team" / "tool", commits=3)
    with system.client() as client:
        repository_id, job = system.sync(client, f"file://{repository}")
        body = client.get(f"/api/v1/repositories/{repository_id}").json()
    assert job["status"] == "succeeded", job
    assert body.keys() == KEYS
    assert (body["owner"], body["name"], body["default_branch"]) == ("team", "tool", "main")
    assert (body["last_commit_message"], body["last_commit_author"]) == ("Commit 2", "Ada")
    assert (len(body["last_commit_sha"]), body["contributors"]) == (40, 1)
    assert (len(body["activity"]), sum(body["activity"])) == (52, 3)
    assert (body["language"], list(body["languages"])) == ("Python", ["Python"])
    assert body["last_synced_at"] > body["last_commit_at"][:10]
