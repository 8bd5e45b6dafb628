"""Real workers with tasks of ours: one of each pool for all tests that don't harm it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from tests.repositories.git_server import GitServer, git_server, make_certificate
from tests.services import redis_server
from tests.system import ensure_schema
from tests.worker.pool import POOLS, Pool, running_pool, wait_until_up
from tests.worker.service import Service, running_service


@pytest.fixture(scope="session")
def worker_database(new_database: Callable[[], str]) -> str:
    """URL of a migrated database that nobody writes to."""
    url = new_database()
    ensure_schema(url)
    return url


@pytest.fixture(scope="session")
def worker_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a Redis for the pools, each of which has a number of its own there."""
    with redis_server(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(scope="module")
def pools(
    tmp_path_factory: pytest.TempPathFactory, worker_database: str, worker_redis: str
) -> Iterator[dict[str, Pool]]:
    """A worker of each pool. They start together: each takes seconds."""
    with ExitStack() as stack:
        running = {}
        for number, name in enumerate(POOLS):
            url = urlsplit(worker_redis)._replace(path=f"/{number}").geturl()
            directory = tmp_path_factory.mktemp(name)
            running[name] = stack.enter_context(running_pool(directory, name, worker_database, url))
        for each in running.values():
            wait_until_up(each.system)
        yield running


@pytest.fixture(scope="module", params=POOLS)
def pool(request: pytest.FixtureRequest, pools: dict[str, Pool]) -> Pool:
    """A worker of each pool in turn."""
    return pools[request.param]


@pytest.fixture(scope="session")
def prefork(tmp_path_factory: pytest.TempPathFactory, worker_database: str) -> Iterator[Pool]:
    """A worker as in production: what only it can do to its children, and they to themselves."""
    with (
        redis_server(tmp_path_factory.mktemp("redis")) as redis_url,
        running_pool(tmp_path_factory.mktemp("prefork"), "prefork", worker_database, redis_url) as running,
    ):
        wait_until_up(running.system)
        yield running


@pytest.fixture(scope="session")
def git_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitServer]:
    """An HTTPS server with repositories."""
    certificate = make_certificate(tmp_path_factory.mktemp("tls"))
    with git_server(tmp_path_factory.mktemp("host"), certificate) as server:
        yield server


@pytest.fixture
def host(git_host: GitServer) -> Iterator[GitServer]:
    """The same, as it was at the start."""
    yield git_host
    git_host.token, git_host.status, git_host.pause_s = None, None, 0
    git_host.redirects.clear()
    git_host.held.clear()


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str], git_host: GitServer
) -> Iterator[Service]:
    """API, worker and beat with short pauses, for one module, which may harm them."""
    directory = tmp_path_factory.mktemp("service")
    certificate = str(git_host.certificate)
    with (
        redis_server(directory) as redis_url,
        running_service(directory, new_database(), redis_url, GIT_CA_FILE=certificate) as running,
    ):
        yield running
