"""Two hosts' workers and API replicas, as docs/growing.md has them: nothing shared but database and broker."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from ops.stack import loopback
from ops.stack.ports import free_port
from tests.git import add_commit, make_repository
from tests.services import redis_server
from tests.system import System, eventually, running_system


@pytest.fixture
def first(tmp_path: Path, new_database: Callable[[], str]) -> Iterator[System]:
    """API and worker of the first host."""
    (tmp_path / "redis").mkdir()
    with (
        redis_server(tmp_path / "redis") as redis_url,
        running_system(tmp_path / "first", new_database(), redis_url, services=("api", "worker")) as system,
    ):
        yield system


@pytest.fixture
def second(first: System, tmp_path: Path) -> Iterator[System]:
    """The same on another host: ports, clones, logs and metrics of its own; not started yet."""
    directory = tmp_path / "second"
    (directory / "log").mkdir(parents=True)
    api, worker = free_port(), free_port()
    own = {"API_PORT": str(api), "WORKER_METRICS_PORT": str(worker), "REPOSITORY_DIR": str(directory / "repositories")}
    system = replace(
        first,
        url=f"http://127.0.0.1:{api}",
        worker_metrics_url=f"http://127.0.0.1:{worker}",
        directory=directory,
        environment=first.environment | own,
        processes={},
    )
    yield system
    for service in list(system.processes):
        system.stop(service)


def test_a_host_goes_on_with_what_another_began(first: System, second: System, tmp_path: Path) -> None:
    """A repository that the first host synced is the second's after the first is gone, clone and answers alike."""
    source = make_repository(tmp_path / "team" / "tool", commits=3)
    with first.client() as client:
        number, job = first.sync(client, source.as_uri())
        assert job["status"] == "succeeded"
        first.stop("worker")

        newest = add_commit(source, "more.py", "print()\n", "One more")
        for service in ("api", "worker"):
            second.start(service)
        second.wait_until_ready()
        with second.client() as other:
            # By the first replica asked for, by the second one followed.
            accepted = client.post(f"/api/v1/repositories/{number}/sync", headers={"X-Request-ID": "over-two-hosts"})
            assert second.finished_job(other, accepted.json()["job_id"])["status"] == "succeeded"
            answers = [each.get(f"/api/v1/repositories/{number}").json() for each in (client, other)]
    assert answers[0] == answers[1]
    assert (answers[0]["last_commit_sha"], answers[0]["contributors"]) == (newest, 1)
    assert (second.directory / "repositories" / f"{number}.git").is_dir()
    assert first.wait_for_line("api", event="request.finished", request_id="over-two-hosts")
    assert second.wait_for_line("worker", event="task.finished", request_id="over-two-hosts", state="SUCCESS")


def test_two_workers_share_what_waits(first: System, second: System, tmp_path: Path) -> None:
    """Each job is run by one of the two, once; each tells of the same queues."""
    second.start("worker")
    eventually(lambda: _answers(second.worker_metrics_url), within_s=60, what="the second worker's metrics")
    with first.client() as client:
        numbers = []
        for index in range(8):
            url = make_repository(tmp_path / "team" / f"tool-{index}").as_uri()
            numbers.append(client.post("/api/v1/repositories", json={"url": url}).json()["id"])
        jobs = [client.post(f"/api/v1/repositories/{number}/sync").json()["job_id"] for number in numbers]
        ended = [first.finished_job(client, job) for job in jobs]
    assert {job["status"] for job in ended} == {"succeeded"}
    eventually(lambda: sorted(_runs(first) + _runs(second)) == sorted(jobs), what="one run of each job")
    # A canary may come by.
    empty = {'celery_queue_depth{queue="sync"} 0.0'}
    eventually(lambda: {_depth(host.worker_metrics_url) for host in (first, second)} == empty, what="the same depth")


def _runs(host: System) -> list[str]:
    lines = host.log_lines("worker", event="task.finished", task="repositories.sync")
    return [line["task_id"] for line in lines]


def _answers(url: str) -> bool:
    try:
        return loopback.get(f"{url}/metrics").is_success
    except httpx.TransportError:
        return False


def _depth(url: str) -> str:
    lines = loopback.get(f"{url}/metrics").text.splitlines()
    return next(line for line in lines if line.startswith('celery_queue_depth{queue="sync"}'))
