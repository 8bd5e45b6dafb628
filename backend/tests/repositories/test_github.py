"""GitHub's answers, in the forms its documentation publishes."""

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.repositories.github import Answer, GithubFacts, NotModified, Unavailable, fetch_facts, is_github_host
from tests.repositories.github_server import ETAG, REPOSITORY

API = "https://api.github.com"
FACTS = GithubFacts("octocat", "Hello-World", "This your first repo!", False, 80, 9, "master", ETAG)

Handler = Callable[[httpx.Request], httpx.Response]


def ask(handler: Handler, api_url: str = API, owner: str = "octocat", **kwargs: Any) -> Answer:
    with httpx.Client(transport=httpx.MockTransport(handler)) as client:
        return fetch_facts(
            owner, "Hello-World", client=client, api_url=api_url, **{"token": None, "etag": None, **kwargs}
        )


def respond(status: int, headers: dict[str, str] | None = None, **kwargs: Any) -> Handler:
    return lambda _request: httpx.Response(status, headers=headers, **kwargs)


def test_a_repository_is_described() -> None:
    assert ask(respond(200, {"ETag": ETAG}, json=REPOSITORY)) == FACTS


def test_the_request_is_as_github_asks() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(304)

    assert ask(handler, token="ghp_x", etag='W/"abc"') == NotModified()
    headers = seen[0].headers
    assert str(seen[0].url) == f"{API}/repos/octocat/Hello-World"
    assert headers["Authorization"] == "Bearer ghp_x"
    assert headers["Accept"] == "application/vnd.github+json"
    assert headers["X-GitHub-Api-Version"] == "2022-11-28"
    assert headers["If-None-Match"] == 'W/"abc"'
    assert headers["User-Agent"]


@pytest.mark.parametrize("owner", ["a/b", "..", "ä ?#", "%2f"])
def test_an_odd_name_asks_for_that_name(owner: str) -> None:
    """And for nothing else of the API."""
    paths: list[bytes] = []

    def handler(request: httpx.Request) -> httpx.Response:
        paths.append(request.url.raw_path)
        return httpx.Response(404)

    assert isinstance(ask(handler, owner=owner), Unavailable)
    assert all(path.startswith(b"/repos/") and path.count(b"/") == 3 for path in paths)


@pytest.mark.parametrize("token", ["with\nbreak", "ü"])
def test_a_token_that_is_none_is_left_out(token: str) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        assert "Authorization" not in request.headers
        return httpx.Response(304)

    assert ask(handler, token=token, etag="no\nETag") == NotModified()


def test_a_renamed_repository_is_found_under_its_number() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        assert request.headers["Authorization"] == "Bearer t"
        if request.url.path == "/repositories/1296269":
            return httpx.Response(200, json=REPOSITORY | {"name": "Renamed"})
        location = f"{API}/repositories/1296269"
        return httpx.Response(
            301, headers={"Location": location}, json={"message": "Moved Permanently", "url": location}
        )

    answer = ask(handler, token="t")
    assert isinstance(answer, GithubFacts)
    assert answer.name == "Renamed"


@pytest.mark.parametrize("location", ["https://evil.example/x", "http://api.github.com/x", "//evil.example/x"])
def test_a_redirect_to_another_host_is_not_followed(location: str) -> None:
    """It would be given the token."""

    def handler(request: httpx.Request) -> httpx.Response:
        assert request.url.host == "api.github.com"
        return httpx.Response(301, headers={"Location": location})

    assert ask(handler, token="t") == Unavailable("GitHub redirects to another host.")


@pytest.mark.parametrize("location", ["", "/repos/octocat/Hello-World"])
def test_redirects_in_circles_end(location: str) -> None:
    assert ask(respond(301, {"Location": location})) == Unavailable("GitHub redirects in circles.")


@pytest.mark.parametrize(
    ("status", "headers", "message", "pause_s"),
    [
        (
            403,
            {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "{now+600}"},
            "API rate limit exceeded for 1.2.3.4.",
            600,
        ),
        (429, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "{now+600}"}, "API rate limit exceeded", 600),
        (403, {"Retry-After": "120"}, "You have exceeded a secondary rate limit.", 120),
        (429, {"Retry-After": "120", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "{now+9}"}, "", 120),
        (403, {"X-RateLimit-Remaining": "12"}, "You have exceeded a secondary rate limit.", 60),
        (429, {}, "", 60),
        (403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "soon"}, "", 60),
        (403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "{now-50}"}, "", 1),
        (403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "{now+9999999}"}, "", 86400),
        (503, {"Retry-After": "30"}, "", 30),
    ],
)
def test_a_limit_says_until_when(status: int, headers: dict[str, str], message: str, pause_s: int) -> None:
    """Going on in spite of a limit gets an integration banned."""
    now = int(time.time())
    given_headers = {
        key: str(now + int(value[4:-1])) if value.startswith("{now") else value for key, value in headers.items()
    }
    answer = ask(respond(status, given_headers, json={"message": message}))
    assert isinstance(answer, Unavailable)
    assert answer.retry_after_s is not None
    assert abs(answer.retry_after_s - pause_s) <= 2


@pytest.mark.parametrize(
    ("status", "message", "words"),
    [
        (401, "Bad credentials", "token"),
        (403, "Resource not accessible by personal access token", "refuses access"),
        (404, "Not Found", "no such repository without"),
        (451, "Repository access blocked", "legal"),
        (500, "", "down or busy"),
        (418, "", "status 418"),
        (204, "", "status 204"),
    ],
)
def test_a_refusal_that_is_no_limit_asks_for_no_pause(status: int, message: str, words: str) -> None:
    answer = ask(respond(status, {"X-RateLimit-Remaining": "4999"}, json={"message": message}))
    assert isinstance(answer, Unavailable)
    assert words in answer.reason
    assert answer.retry_after_s is None


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("no route"), httpx.ConnectTimeout("slow"), httpx.ReadTimeout("slow"),
        httpx.RemoteProtocolError("garbage"), httpx.ReadError("reset"), httpx.InvalidURL("odd"),
    ],
)  # fmt: skip
def test_without_a_network_there_is_an_answer(error: Exception) -> None:
    def handler(_request: httpx.Request) -> httpx.Response:
        raise error

    assert isinstance(ask(handler), Unavailable)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"<html>", b"null", b"[]", b'"x"', b"1", b"\xff\xfe", b"[" * 100_000, b"{}", b'{"owner": null}',
        b" " * 2_000_000,
    ],
)  # fmt: skip
def test_garbage_is_no_repository(body: bytes) -> None:
    assert isinstance(ask(respond(200, content=body)), Unavailable)


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""}, {"name": "a\x00b"}, {"name": "n" * 256}, {"owner": {"login": "a\nb"}},
        {"name": None}, {"owner": {"login": 1}}, {"stargazers_count": -1}, {"forks_count": 2**40},
        {"stargazers_count": "80"}, {"private": "no"}, {"description": 5}, {"default_branch": []},
    ],
)  # fmt: skip
def test_a_field_of_the_wrong_kind_is_no_repository(change: dict[str, Any]) -> None:
    """It would fail at the database, and the sync with it."""
    assert isinstance(ask(respond(200, json=REPOSITORY | change)), Unavailable)


def test_a_description_that_no_database_takes_is_cleaned() -> None:
    body = rb'{"owner": {"login": "o"}, "name": "n", "private": true, "stargazers_count": 1, "forks_count": 2,'
    answer = ask(respond(200, content=body + rb' "description": "a\u0000b\ud800c"}'))
    assert answer == GithubFacts("o", "n", "ab?c", True, 1, 2, None, None)


@pytest.mark.parametrize(
    "value",
    [
        "Mon, 01 Jan 9999999999999 00:00:00 GMT", "Mon, 01 Jan 2024 00:00:00 +9999999999999",
        "Fri, 31 Dec 9999 23:59:59 -2359", "Mon, 01 Jan 0001 00:00:00 +2359", "9" * 5000,
    ],
)  # fmt: skip
def test_a_date_that_no_calendar_has_asks_for_no_pause(value: str) -> None:
    answer = ask(respond(503, {"Retry-After": value}))
    assert isinstance(answer, Unavailable)
    assert answer.retry_after_s in {None, 1, 86400}


@given(
    st.integers(min_value=200, max_value=599), st.binary(max_size=50),
    st.dictionaries(
        st.sampled_from(["Retry-After", "X-RateLimit-Remaining", "X-RateLimit-Reset", "ETag", "Location"]),
        st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20),
    ),
)  # fmt: skip
def test_whatever_is_sent_there_is_an_answer(status: int, body: bytes, headers: dict[str, str]) -> None:
    answer = ask(respond(status, headers, content=body))
    assert isinstance(answer, GithubFacts | NotModified | Unavailable)


@pytest.mark.parametrize(
    ("host", "api_url", "expected"),
    [
        ("github.com", API, True),
        ("GitHub.com", f"{API}/", True),
        ("ssh.github.com", API, True),
        ("gitlab.com", API, False),
        ("github.com.evil.example", API, False),
        (None, API, False),
        ("git.example.com", "https://git.example.com/api/v3", True),
        ("example.com", "https://api.example.com", True),
        ("github.com", "https://git.example.com/api/v3", False),
        ("x", "", False),
        ("x", "https://[", False),
    ],
)
def test_only_repositories_on_that_host_are_asked_for(host: str | None, api_url: str, expected: bool) -> None:
    """Another host's token is not GitHub's to see."""
    assert is_github_host(host, api_url) is expected
