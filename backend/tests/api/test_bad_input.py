"""Whatever is sent, the answer is one of the contract's, as problem+json, and repeats nothing."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.system import System

JSON = {"content-type": "application/json"}
URL = "https://git.example.org/a/b"
TOKEN = "ghp_thisMustNeverComeBack0123456789"
LIMIT = 1024 * 1024


def assert_problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """Check an error's form and return its body."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    keys = {"type", "title", "status", "detail", "request_id"}
    assert body.keys() - {"errors"} == keys
    assert (body["type"], body["status"]) == ("about:blank", status)
    assert body["request_id"] == response.headers["x-request-id"]
    assert response.headers.get_list("x-request-id") == [body["request_id"]]
    return body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b'{"url": "\xff"}',
        b"[" * 100_000,
        b'{"url": 1' + b"0" * 5000 + b"}",
        b'{"url": 1e999}',
        b'{"url": NaN}',
        b'{"url": "\\ud800"}',
        b'{"\\ud800": 1}',
        b'{"url": ["https://git.example.org/a/b"]}',
        b'{"url": "https://git.example.org/a/b", "unknown": 1}',
        b'{"url": "https://git.example.org/a/b\\u0000"}',
        b'{"url": "https://git.example.org/a/b", "description": "a\\u0000b"}',
        b'{"url": "https://git.example.org/a/b", "description": 5}',
        b'{"url": "https://git.example.org/a/b", "is_private": "perhaps"}',
        b'{"url": ""}',
    ],
)
async def test_a_body_that_does_not_fit_is_422(client: httpx.AsyncClient, body: bytes) -> None:
    """Not 400 here and 500 there: a client handles one case."""
    problem = assert_problem(await client.post("/repositories", content=body, headers=JSON), 422)
    assert all(error.keys() == {"loc", "msg", "type"} for error in problem.get("errors", []))
    assert (await client.get("/repositories")).json()["total"] == 0


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded", "garbage;;=", "é"])
async def test_a_body_of_another_type_is_422(client: httpx.AsyncClient, content_type: str | None) -> None:
    """A form from another site must not register a repository."""
    headers = {} if content_type is None else {b"content-type": content_type.encode("latin-1")}
    content = json.dumps({"url": URL}).encode()
    assert_problem(await client.post("/repositories", content=content, headers=headers), 422)


@pytest.mark.parametrize(
    "token", ["a b", "a\nX-Evil: 1", "a\r\n", "é", "a\0b", "\t", "", "🎉", "x" * 501, ["a"], 5, {}]
)
@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_a_token_that_fits_no_header_is_422(client: httpx.AsyncClient, token: object, method: str) -> None:
    """It would be sent to a Git host in a header: a line break in it is a header of the sender's choice."""
    created = await client.post("/repositories", json={"url": URL})
    path = "/repositories" if method == "POST" else f"/repositories/{created.json()['id']}"
    body = {"access_token": token} | ({"url": f"{URL}2"} if method == "POST" else {})
    assert_problem(await client.request(method, path, json=body), 422)


@pytest.mark.parametrize(
    "body",
    [
        {"url": URL, "access_token": TOKEN, "is_private": "perhaps"},
        {"url": URL, "access_token": [TOKEN]},
        {"url": URL, "access_token": {TOKEN: TOKEN}},
        {"url": URL, "access_token": f"{TOKEN}\n"},
        {"url": [TOKEN], "access_token": TOKEN},
        {"url": f"https://{TOKEN}@git.example.org/a/b"},
        {"url": f"https://git.example.org/a/b?token={TOKEN}"},
        {"url": URL, "token": TOKEN},
        [TOKEN],
        TOKEN,
    ],
)
async def test_no_error_repeats_what_was_sent(client: httpx.AsyncClient, body: object) -> None:
    """Answers are logged by clients and proxies; a token in one is a token lost."""
    response = await client.post("/repositories", json=body)
    assert_problem(response, 422)
    assert TOKEN not in response.text
    broken = await client.post("/repositories", content=json.dumps(body)[:-1].encode(), headers=JSON)
    assert_problem(broken, 422)
    assert TOKEN not in broken.text


async def test_an_error_is_not_many_times_the_request(client: httpx.AsyncClient) -> None:
    """A megabyte of unknown fields must not make ten of errors."""
    body = {"x" * 5000 + str(number): 1 for number in range(100)}
    response = await client.post("/repositories", json=body)
    assert len(assert_problem(response, 422)["errors"]) == 20
    assert len(response.content) < 10_000


@pytest.mark.parametrize(
    "path",
    [
        *("/repositories/%00", "/repositories/1%00", "/repositories/0", "/repositories/-1", "/repositories/x"),
        *("/repositories/9223372036854775808", f"/repositories/{'9' * 5000}", "/repositories/1.5", "/repositories/%FF"),
        *("/jobs/x", "/jobs/%00", "/jobs/1", "/jobs?status=x", "/jobs?status=%00", "/jobs?request_id=a%00b"),
        *("/jobs?repository_id=0", "/jobs?repository_id=9223372036854775808", f"/jobs?request_id={'x' * 64}"),
        *("/repositories?q=%00", "/repositories?owner=a%00", "/repositories?language=%00", "/repositories?q="),
        f"/repositories?q={'x' * 256}",
    ],
)
async def test_a_path_or_query_that_does_not_fit_is_422(client: httpx.AsyncClient, path: str) -> None:
    """PostgreSQL can't hold NUL nor a number past its bigint: its error would be our 500."""
    assert_problem(await client.get(path), 422)


@pytest.mark.parametrize("path", ["/repositories?q=%FF%FE", "/repositories?q=%ED%A0%80", "/repositories?unknown=1"])
async def test_odd_but_harmless_queries_are_answered(client: httpx.AsyncClient, path: str) -> None:
    """Bytes that are no text stand for no text; unknown parameters are a newer client's."""
    assert (await client.get(path)).status_code == 200


async def test_the_largest_body_is_a_mebibyte(client: httpx.AsyncClient) -> None:
    """Counted by what it says and by what arrives: neither may fill the memory."""

    async def pieces(size: int) -> AsyncIterator[bytes]:
        for _ in range(size // 65536):
            yield b" " * 65536
        yield b" " * (size % 65536)

    for path in ("/repositories", "/alerts/webhook"):
        assert_problem(await client.post(path, content=b" " * LIMIT, headers=JSON), 422)
        assert_problem(await client.post(path, content=b" " * (LIMIT + 1), headers=JSON), 413)
        assert_problem(await client.post(path, content=pieces(LIMIT), headers=JSON), 422)
        assert_problem(await client.post(path, content=pieces(LIMIT + 1), headers=JSON), 413)
    for length in ("9" * 5000, "0" * 5000 + "9" * 20):
        assert_problem(await client.post(path, content=b"", headers=JSON | {"content-length": length}), 413)


def test_a_body_that_is_too_large_is_answered_over_a_socket(system: System) -> None:
    """The answer must arrive, not a reset connection."""
    with system.client() as client:
        assert_problem(client.post("/api/v1/repositories", content=b" " * (8 * LIMIT), headers=JSON), 413)
        assert_problem(client.post("/api/v1/repositories", content=(b" " * LIMIT for _ in range(8)), headers=JSON), 413)
        assert client.get("/api/v1/repositories").status_code == 200


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
FIELDS = st.sampled_from(["url", "access_token", "description", "is_private"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(body=ANY_JSON | st.dictionaries(FIELDS, ANY_JSON | st.just(URL), max_size=4))
async def test_no_json_is_a_server_error(client: httpx.AsyncClient, body: object) -> None:
    """Property: a client's mistake is told as one."""
    response = await client.post("/repositories", content=json.dumps(body).encode(), headers=JSON)
    assert response.status_code in {201, 409, 422}, response.text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(st.sampled_from(["q", "owner", "language", "request_id", "status"]), st.text(min_size=1, max_size=60))
async def test_no_query_is_a_server_error(client: httpx.AsyncClient, name: str, value: str) -> None:
    """Property: the same for what stands in a URL."""
    path = "/jobs" if name in {"request_id", "status"} else "/repositories"
    value = value.encode("utf-8", "replace").decode()
    assert (await client.get(path, params={name: value})).status_code in {200, 422}
