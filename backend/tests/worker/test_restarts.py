"""Redis and PostgreSQL go away and come back while a sync runs: it ends all the same, once, and so does the next."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from ops.stack.ports import free_port
from tests.git import git, make_repository
from tests.repositories.git_server import GitServer
from tests.services import redis_server
from tests.system import eventually
from tests.worker.service import Service, running_service


class Redis:
    """A Redis that can be restarted where it is; it keeps nothing."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._port, self._stack = directory, free_port(), ExitStack()

    def start(self) -> str:
        """Start it and return its URL."""
        return self._stack.enter_context(redis_server(self._directory, self._port))

    def stop(self) -> None:
        """Stop it; all it held is gone."""
        self._stack.close()


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    server = Redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str], git_host: GitServer, redis: Redis
) -> Iterator[Service]:
    """One whose Redis may be restarted."""
    url = redis.start()
    directory = tmp_path_factory.mktemp("service")
    certificate = str(git_host.certificate)
    with running_service(directory, new_database(), url, GIT_CA_FILE=certificate) as running:
        yield running


@contextmanager
def database_away(service: Service, admin_url: str) -> Iterator[None]:
    """Cut all connections to the service's database, and let nobody in."""
    name = service.system.database_url.rpartition("/")[2]
    allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute(allow.format(sql.Identifier(name), sql.SQL("false")))
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        try:
            yield
        finally:
            admin.execute(allow.format(sql.Identifier(name), sql.SQL("true")))


def begin(service: Service, host: GitServer, name: str) -> tuple[Path, int, str]:
    """Begin a sync that the host keeps waiting; return the repository's path and ID, and the job's."""
    path = make_repository(host.root / "owner" / name, 2)
    repository_id = service.register(host.url(f"owner/{name}"))
    host.held.add(f"/owner/{name}/")
    job_id = service.ask(repository_id, name)
    service.wait_for_run(job_id)
    eventually(lambda: any(f"/{name}/" in path for path, _ in host.seen), what="git at work")
    return path, repository_id, job_id


def assert_ends(service: Service, path: Path, repository_id: int, job_id: str) -> None:
    """Hold that the sync is done, and that another one comes through."""

    def done() -> bool:
        return service.job(job_id).get("status") in {"succeeded", "failed"}

    eventually(done, within_s=60, what="the job's end")
    job = service.job(job_id)
    assert (job["status"], job["reason"]) == ("succeeded", None)
    assert service.repository(repository_id)["last_commit_sha"] == git(path, "rev-parse", "HEAD")
    assert service.sync(repository_id)["status"] == "succeeded"
    assert len(service.rows("SELECT id FROM jobs WHERE repository_id = %s", repository_id)) == 2


def test_redis_restarted_in_the_middle_loses_no_job(service: Service, host: GitServer, redis: Redis) -> None:
    """Even an empty one: the table knows what was asked for."""
    path, repository_id, job_id = begin(service, host, "redis-restarted")
    redis.stop()
    eventually(
        lambda: [line for line in service.system.log_lines("worker") if "Cannot connect" in line["event"]],
        what="the worker's word that it tried to come back in vain",
    )
    redis.start()
    # Its run was ended with the connection: told by the parent process, which knows the ID from the message. As a
    # retry, or where Redis was still away when it wanted to note that, as revoked.
    told = eventually(
        lambda: (
            service.system.log_lines("worker", event="task.retry", task_id=job_id)
            or service.system.log_lines("worker", event="task.finished", task_id=job_id, state="REVOKED")
        ),
        what="the end of the run",
    )
    assert (told[0]["request_id"], told[0]["attempt"]) == ("redis-restarted", 1)
    host.held.clear()
    assert_ends(service, path, repository_id, job_id)


def test_postgresql_restarted_in_the_middle_loses_no_job(
    service: Service, host: GitServer, postgres_admin_url: str
) -> None:
    """The sync can't be written; it is run again when the database is back."""
    path, repository_id, job_id = begin(service, host, "database-restarted")
    with database_away(service, postgres_admin_url):
        host.held.clear()
        retry = service.system.wait_for_line("worker", event="task.retry", task_id=job_id)
        assert retry["request_id"] == "database-restarted"
    assert_ends(service, path, repository_id, job_id)


def test_a_database_that_is_away_for_long_loses_no_job(
    service: Service, host: GitServer, postgres_admin_url: str
) -> None:
    """Longer than all retries: nobody could even write that it failed, so `recover` sends it again."""
    path, repository_id, job_id = begin(service, host, "database-away")
    with database_away(service, postgres_admin_url):
        host.held.clear()
        eventually(
            lambda: service.system.log_lines("worker", event="task.finished", task_id=job_id, state="FAILURE"),
            within_s=60,
            what="the end of all retries",
        )
    assert_ends(service, path, repository_id, job_id)
