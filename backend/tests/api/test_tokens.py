"""Access tokens and the API's own: in, and nowhere out."""

import hmac
import subprocess
from pathlib import Path

import httpx
import psycopg
import pytest

from app.vault import TokenVault
from tests.api.conftest import Start
from tests.git import make_repository
from tests.system import SECRET_KEY, System

TOKEN = "ghx-Zr9Kq3Lw7Tn1Vb5X"
OTHER = "ghx-Pm2Hd8Fs4Jc6Ya0E"
URL = "https://git.example.org/a/b"


def stored(url: str) -> bytes | None:
    """Return the ciphertext of the newest repository."""
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT access_token FROM repositories ORDER BY id DESC LIMIT 1").fetchone()
    assert row is not None
    return row[0]  # type: ignore[no-any-return]


def test_a_token_comes_out_nowhere(system: System, postgres_log: Path, tmp_path: Path) -> None:
    """Not in an answer, not in a line of any service, not in a dump, whether the sync works or fails."""
    url = f"file://{make_repository(tmp_path / 'team' / 'private')}"
    gone = f"file://{tmp_path}/team/gone"
    answers = []
    with system.client() as client:
        for path, description in ((url, "there"), (gone, "not there")):
            created = client.post(
                "/api/v1/repositories", json={"url": path, "access_token": TOKEN, "description": description}
            )
            assert created.status_code == 201
            where = f"/api/v1/repositories/{created.json()['id']}"
            answers += [created, client.patch(where, json={"access_token": OTHER}), client.get(where)]
            accepted = client.post(f"{where}/sync")
            job = system.finished_job(client, accepted.json()["job_id"])
            assert job["status"] == ("succeeded" if path == url else "failed")
            answers += [accepted, client.get(f"/api/v1/jobs/{job['id']}"), client.get("/api/v1/jobs")]
            answers.append(client.post("/api/v1/repositories", json={"url": path, "access_token": TOKEN}))
            answers.append(client.post("/api/v1/repositories", json={"url": 5, "access_token": TOKEN}))
        answers += [client.get("/api/v1/repositories"), client.get("/metrics")]
    dump = subprocess.run(
        ["psql", "--no-psqlrc", "-At", "-c", "SELECT r FROM repositories r; SELECT j FROM jobs j", system.database_url],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "not there" in dump
    told = [response.text + str(response.headers) for response in answers]
    told += [dump, postgres_log.read_text(errors="replace")]
    told += [path.read_text() for path in (system.directory / "log").glob("*.log")]
    assert len(told) > 15
    for text in told:
        assert TOKEN not in text
        assert OTHER not in text


async def test_a_token_is_stored_encrypted_and_can_be_taken_away(
    client: httpx.AsyncClient, empty_database: str
) -> None:
    """The database's reader needs the key too; and `null` means none."""
    created = (await client.post("/repositories", json={"url": URL, "access_token": TOKEN})).json()
    ciphertext = stored(empty_database)
    assert ciphertext is not None
    assert TOKEN.encode() not in ciphertext
    assert TokenVault([SECRET_KEY]).decrypt(ciphertext) == TOKEN
    path = f"/repositories/{created['id']}"
    await client.patch(path, json={"description": "x"})
    assert stored(empty_database) == ciphertext
    await client.patch(path, json={"access_token": OTHER})
    assert TokenVault([SECRET_KEY]).decrypt(stored(empty_database) or b"") == OTHER
    await client.patch(path, json={"access_token": None})
    assert stored(empty_database) is None


async def test_the_newest_key_encrypts(start: Start, empty_database: str) -> None:
    """After a rotation the former key is of no use for what is written since."""
    client = await start(secret_key="the new key, long enough to be one", secret_key_fallbacks=SECRET_KEY)
    await client.post("/repositories", json={"url": URL, "access_token": TOKEN})
    ciphertext = stored(empty_database) or b""
    assert TokenVault(["the new key, long enough to be one"]).decrypt(ciphertext) == TOKEN


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Basic api-token",
        "api-token",
        "Bearer api-token2",
        b"Bearer \xff",
    ],
)
@pytest.mark.parametrize("path", ["/repositories", "/jobs", "/repositories/1", "/alerts/webhook", "/nothing"])
async def test_without_the_token_there_is_one_answer(
    start: Start, path: str, authorization: str | bytes | None
) -> None:
    """Not even which paths there are is told; the answer has an ID like any other."""
    client = await start(api_token="api-token")
    value = authorization.encode() if isinstance(authorization, str) else authorization
    headers = {} if value is None else {b"authorization": value}
    for method in ("GET", "POST", "HEAD"):
        response = await client.request(method, path, headers=headers, content=b"{" * 2_000_000)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
        assert response.headers["content-type"] == "application/problem+json"
        assert len(response.headers.get_list("x-request-id")) == 1
        if method != "HEAD":
            assert response.json()["request_id"] == response.headers["x-request-id"]


async def test_the_token_opens(start: Start) -> None:
    """And what probes ask for is open to all; /metrics has a token of its own."""
    client = await start(api_token="api-token", metrics_token="metrics-token")
    bearer = {"authorization": "Bearer api-token"}
    for spelled in ("Bearer api-token", "bearer api-token", "BEARER  api-token"):
        assert (await client.get("/repositories", headers={"authorization": spelled})).status_code == 200
    for path in ("/health", "http://test/health"):
        assert (await client.get(path)).status_code == 200
    assert (await client.get("/health/ready")).status_code in {200, 503}
    for path in ("/metrics", "http://test/metrics"):
        for headers in ({}, bearer, {"authorization": "Bearer metrics-token2"}):
            response = await client.get(path, headers=headers)
            assert response.status_code == 401
            assert response.headers["www-authenticate"] == "Bearer"
            assert "x-request-id" in response.headers
        assert (await client.get(path, headers={"authorization": "Bearer metrics-token"})).status_code == 200


async def test_tokens_are_compared_in_constant_time(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time must not tell how many characters were right."""
    compared = []
    compare = hmac.compare_digest

    def watched(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return compare(a, b)

    monkeypatch.setattr(hmac, "compare_digest", watched)
    client = await start(api_token="api-token", metrics_token="metrics-token")
    await client.get("/repositories", headers={"authorization": "Bearer x"})
    await client.get("/metrics", headers={"authorization": "Bearer y"})
    assert compared == [(b"x", b"api-token"), (b"y", b"metrics-token")]
