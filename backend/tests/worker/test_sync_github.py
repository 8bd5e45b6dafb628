"""What a sync asks GitHub besides Git, and what of the answer arrives; GitHub is a local server with its answers."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from tests.git import make_repository
from tests.repositories.git_server import GitServer
from tests.repositories.github_server import ETAG, GithubServer, error, github_server
from tests.services import redis_server
from tests.worker.service import Row, Service, running_service

TOKEN = "ghp_OnlyOnceIn4Lifetime"
SPENT = {"X-RateLimit-Remaining": "0"}
LIMIT = (
    "API rate limit exceeded for 203.0.113.7. (But here's the good news: Authenticated requests get a higher limit.)"
)
SECONDARY = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."


@pytest.fixture(scope="module")
def serving() -> Iterator[tuple[GithubServer, ExitStack]]:
    state = GithubServer()
    with ExitStack() as stack:
        stack.enter_context(github_server(state))
        yield state, stack


@pytest.fixture
def github(serving: tuple[GithubServer, ExitStack], service: Service) -> GithubServer:
    """The server, as it was at the start, and no pause that an earlier test made."""
    state, _ = serving
    state.reset()
    service.rows("UPDATE repositories SET host_retry_at = NULL")
    return state


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory,
    new_database: Callable[[], str],
    git_host: GitServer,
    serving: tuple[GithubServer, ExitStack],
) -> Iterator[Service]:
    """API, worker and beat whose GitHub is that server, and the host of the repositories its own."""
    directory = tmp_path_factory.mktemp("service")
    settings = {"GIT_CA_FILE": str(git_host.certificate), "GITHUB_API_URL": serving[0].url}
    with (
        redis_server(directory) as redis_url,
        running_service(directory, new_database(), redis_url, **settings) as made,
    ):
        yield made


@pytest.fixture(scope="module")
def source(git_host: GitServer) -> Path:
    """One repository with a commit; each test's are links to it, for only their names matter here."""
    return make_repository(git_host.root / "octocat" / "source")


@pytest.fixture
def register(service: Service, git_host: GitServer, source: Path) -> Callable[..., int]:
    """A function that registers a new repository on the host."""

    def register(**fields: str) -> int:
        name = f"hello-{uuid4().hex[:8]}"
        (source.parent / name).symlink_to(source)
        return service.register(git_host.url(f"octocat/{name}"), **fields)

    return register


def synced(service: Service, repository_id: int) -> Row:
    """Sync a repository, which succeeds at the first try, and return it as the API shows it."""
    job = service.sync(repository_id)
    assert (job["status"], job["attempt"], job["reason"]) == ("succeeded", 1, None)
    return service.repository(repository_id)


def stored(service: Service, repository_id: int) -> Row:
    """Return what the API does not show of a repository."""
    [row] = service.rows("SELECT host_etag, host_retry_at FROM repositories WHERE id = %s", repository_id)
    return row


def test_what_github_says_arrives_in_the_row_and_over_the_api(
    service: Service, github: GithubServer, register: Callable[..., int]
) -> None:
    """Git knows none of it."""
    github.repository = {"private": True}
    repository_id = register(access_token=TOKEN)
    before = service.repository(repository_id)
    assert (before["stars"], before["forks"], before["description"], before["is_private"]) == (0, 0, None, False)
    found = synced(service, repository_id)
    assert (found["stars"], found["forks"], found["description"], found["is_private"]) == (
        80, 9, "This your first repo!", True,
    )  # fmt: skip
    assert found["commits"] == 1
    assert stored(service, repository_id)["host_etag"] == ETAG
    [(path, headers)] = github.seen
    assert path == f"/api/v3/repos/octocat/{before['name']}"
    assert headers["authorization"] == f"Bearer {TOKEN}"
    assert headers["x-github-api-version"]
    assert "if-none-match" not in headers
    assert TOKEN not in service.system.log_path("worker").read_text()


def test_the_second_question_is_conditional(
    service: Service, github: GithubServer, register: Callable[..., int]
) -> None:
    """What did not change costs nothing of the rate limit, and stays; what did arrives, with the ETag to show next."""
    repository_id = register(access_token=TOKEN)
    first = synced(service, repository_id)
    again = synced(service, repository_id)
    assert github.seen[1][1]["if-none-match"] == ETAG
    facts = ("stars", "forks", "description", "is_private", "full_name")
    assert [again[name] for name in facts] == [first[name] for name in facts]
    assert stored(service, repository_id)["host_etag"] == ETAG
    github.repository, github.etag = {"stargazers_count": 81, "forks_count": 10}, 'W/"another"'
    changed = synced(service, repository_id)
    assert github.seen[2][1]["if-none-match"] == ETAG
    assert (changed["stars"], changed["forks"]) == (81, 10)
    assert stored(service, repository_id)["host_etag"] == 'W/"another"'


def test_a_renamed_repository_bears_its_new_name(
    service: Service, github: GithubServer, register: Callable[..., int]
) -> None:
    """And is asked for by it the next time."""
    repository_id = register()
    github.repository = {"owner": {"login": "monalisa"}, "name": "Renamed"}
    assert synced(service, repository_id)["full_name"] == "monalisa/Renamed"
    synced(service, repository_id)
    assert github.seen[1][0] == "/api/v3/repos/monalisa/Renamed"


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (404, error("Not Found", 404), "GitHub shows no such repository without an access token."),
        (403, error("Resource not accessible by personal access token", 403), "GitHub refuses access"),
        (500, b"<html>Unicorn!</html>", "GitHub is down or busy (status 500)."),
        (200, b"<html>Unicorn!</html>", "what it sent cannot be read"),
        (200, b'{"name": "Hello-World"}', "describes no repository"),
    ],
    ids=["not found", "forbidden", "down", "no JSON", "no repository"],
)
def test_a_sync_succeeds_without_github(
    service: Service, github: GithubServer, register: Callable[..., int], status: int, body: bytes, reason: str
) -> None:
    """What Git says is worth having alone; what GitHub said before stays, and the log tells why it is not newer."""
    repository_id = register()
    synced(service, repository_id)
    github.refusal = (status, {}, body)
    job = service.sync(repository_id, request_id := f"without-{uuid4().hex}")
    assert (job["status"], job["attempt"], job["reason"]) == ("succeeded", 1, None)
    found = service.repository(repository_id)
    assert (found["stars"], found["forks"], found["description"]) == (80, 9, "This your first repo!")
    assert stored(service, repository_id) == {"host_etag": ETAG, "host_retry_at": None}
    [line] = service.system.log_lines("worker", event="github.unavailable", request_id=request_id)
    assert reason in line["reason"]


def test_a_sync_succeeds_where_nobody_answers(
    service: Service, github: GithubServer, register: Callable[..., int], serving: tuple[GithubServer, ExitStack]
) -> None:
    """A refused connection is the network's affair."""
    repository_id = register()
    stack = serving[1]
    stack.close()
    try:
        assert synced(service, repository_id)["stars"] == 0
    finally:
        stack.enter_context(github_server(github))
    assert github.seen == []
    assert synced(service, repository_id)["stars"] == 80


@pytest.mark.parametrize(
    ("status", "headers", "message"),
    [
        (403, {**SPENT, "X-RateLimit-Reset": "{reset}"}, LIMIT),
        (429, {**SPENT, "X-RateLimit-Reset": "{reset}"}, LIMIT),
        (403, {"Retry-After": "600"}, SECONDARY),
        (429, {"Retry-After": "600"}, SECONDARY),
    ],
    ids=["403 with a reset", "429 with a reset", "403 with Retry-After", "429 with Retry-After"],
)
@pytest.mark.parametrize("token", [None, TOKEN], ids=["by address", "by token"])
def test_a_limit_holds_for_all_who_have_the_same_token_or_none(
    service: Service,
    github: GithubServer,
    register: Callable[..., int],
    token: str | None,
    status: int,
    headers: dict[str, str],
    message: str,
) -> None:
    """GitHub counts by token, or else by address. Going on in its pause gets us banned; others are not in it."""
    same: dict[str, str] = {"access_token": token} if token else {}
    met, neighbour, other = register(**same), register(**same), register(access_token="ghp_another")
    reset = int(time.time()) + 600
    given = {name: value.format(reset=reset) for name, value in headers.items()}
    github.refusal = (status, given, error(message, status))
    assert synced(service, met)["stars"] == 0
    pause_ends = stored(service, met)["host_retry_at"].timestamp()
    assert reset - 2 <= pause_ends <= reset + 60
    github.refusal = None
    github.seen.clear()
    assert synced(service, met)["stars"] == synced(service, neighbour)["stars"] == 0
    assert github.seen == []
    assert synced(service, other)["stars"] == 80
    service.rows("UPDATE repositories SET host_retry_at = now() - interval '1 second' WHERE id = %s", met)
    assert synced(service, neighbour)["stars"] == 80


def test_a_new_token_is_in_nobodys_pause(service: Service, github: GithubServer, register: Callable[..., int]) -> None:
    """It is what people set because the limit without one is used up. A user name before it makes it no other."""
    without, with_token = register(), register()
    github.refusal = (429, {"Retry-After": "600"}, error(SECONDARY, 429))
    synced(service, without)
    github.refusal = None
    patched = service.client.patch(f"/api/v1/repositories/{with_token}", json={"access_token": TOKEN})
    assert patched.status_code == 200
    assert synced(service, with_token)["stars"] == 80
    service.client.patch(f"/api/v1/repositories/{without}", json={"access_token": TOKEN})
    assert synced(service, without)["stars"] == 80
    github.refusal = (429, {"Retry-After": "600"}, error(SECONDARY, 429))
    synced(service, without)
    github.seen.clear()
    synced(service, register(access_token=f"octocat:{TOKEN}"))
    assert github.seen == []


def test_githubs_description_is_followed(service: Service, github: GithubServer, register: Callable[..., int]) -> None:
    """The one of the first sync is not the last word."""
    repository_id = register()
    assert synced(service, repository_id)["description"] == "This your first repo!"
    github.repository, github.etag = {"description": "Second thoughts"}, '"2"'
    assert synced(service, repository_id)["description"] == "Second thoughts"
    github.repository, github.etag = {"description": None}, '"3"'
    assert synced(service, repository_id)["description"] is None


def test_a_users_own_description_stays_until_it_is_taken_away(
    service: Service, github: GithubServer, register: Callable[..., int]
) -> None:
    """Given at the beginning or later. The other facts arrive all the same."""
    given, written = register(description="Ours"), register()
    synced(service, written)
    service.client.patch(f"/api/v1/repositories/{written}", json={"description": "Ours"})
    for stars in (81, 82):
        github.repository, github.etag = {"stargazers_count": stars, "description": f"Number {stars}"}, f'"{stars}"'
        for repository_id in (given, written):
            found = synced(service, repository_id)
            assert (found["stars"], found["description"]) == (stars, "Ours")
    for repository_id in (given, written):
        service.client.patch(f"/api/v1/repositories/{repository_id}", json={"description": None})
        assert synced(service, repository_id)["description"] == "Number 82"


def test_what_a_user_sets_while_github_is_asked_stays(
    service: Service, github: GithubServer, register: Callable[..., int]
) -> None:
    """The answer is one to the question of before: no pause for the new token, no end of the new description."""
    repository_id = register()
    path = f"/api/v1/repositories/{repository_id}"
    github.meanwhile = lambda: service.client.patch(path, json={"access_token": TOKEN, "description": "Ours"})
    github.refusal = (429, {"Retry-After": "600"}, error(SECONDARY, 429))
    synced(service, repository_id)
    assert stored(service, repository_id)["host_retry_at"] is None
    github.meanwhile, github.refusal = None, None
    service.client.patch(path, json={"description": None})
    github.meanwhile = lambda: service.client.patch(path, json={"description": "Ours again"})
    found = synced(service, repository_id)
    assert (found["stars"], found["description"]) == (80, "Ours again")
