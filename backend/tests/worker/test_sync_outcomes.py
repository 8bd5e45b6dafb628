"""What a sync comes to, told by its job: state, plain reason, and how often it was tried."""

import shutil
from pathlib import Path

import pytest

from tests.git import add_commit, git, make_repository
from tests.repositories.git_server import GitServer
from tests.repositories.source import Source
from tests.system import eventually
from tests.worker.service import Service

TOKEN = "ghp_OnlyOnceIn4Lifetime"


def hosted(host: GitServer, name: str, commits: int = 1) -> tuple[Path, str]:
    """Make a repository on the host; return its path and URL."""
    path = make_repository(host.root / "owner" / name, commits)
    return path, host.url(f"owner/{name}")


def counted(service: Service, state: str) -> float:
    """Return how many syncs ended in a state."""
    return service.metric("celery_tasks_total", task="repositories.sync", state=state, queue="sync")


def test_a_renamed_repository_is_followed(service: Service, host: GitServer) -> None:
    """As GitHub does with the old name of a repository."""
    path, url = hosted(host, "new-name")
    for rest in ("info/refs", "git-upload-pack"):
        host.redirects[f"/owner/old-name/{rest}"] = f"{url}/{rest}?service=git-upload-pack"
    repository_id = service.register(host.url("owner/old-name"))
    job = service.sync(repository_id)
    assert (job["status"], job["attempt"], job["reason"]) == ("succeeded", 1, None)
    assert service.repository(repository_id)["last_commit_sha"] == git(path, "rev-parse", "HEAD")


def test_a_force_pushed_repository_is_read_anew(service: Service, host: GitServer) -> None:
    """What was there before is no part of it any more."""
    path, url = hosted(host, "forced", commits=3)
    repository_id = service.register(url)
    assert service.sync(repository_id)["status"] == "succeeded"
    git(path, "reset", "--quiet", "--hard", "HEAD~2")
    sha = add_commit(path, "other.rs", "fn main() {}\n", "Another history")
    assert service.sync(repository_id)["status"] == "succeeded"
    found = service.repository(repository_id)
    assert (found["last_commit_sha"], found["last_commit_message"]) == (sha, "Another history")


def test_an_emptied_repository_succeeds_with_nothing(service: Service, host: GitServer) -> None:
    """It has no commit; that is a state, not a failure."""
    path, url = hosted(host, "emptied")
    repository_id = service.register(url)
    assert service.sync(repository_id)["status"] == "succeeded"
    git(path, "checkout", "--quiet", "--detach")
    git(path, "update-ref", "-d", "refs/heads/main")
    git(path, "symbolic-ref", "HEAD", "refs/heads/main")
    job = service.sync(repository_id)
    assert (job["status"], job["reason"]) == ("succeeded", None)
    found = service.repository(repository_id)
    assert (found["last_commit_sha"], found["languages"]) == (None, {})


def test_authors_in_any_encoding_are_read(service: Service, host: GitServer) -> None:
    """Old histories hold Latin-1; JSON and PostgreSQL hold UTF-8."""
    source = Source.create(host.root / "owner" / "latin")
    source.commit(b"caf\xe9", author=b"Ren\xe9 <rene@example.org>")
    repository_id = service.register(host.url("owner/latin"))
    assert service.sync(repository_id)["status"] == "succeeded"
    found = service.repository(repository_id)
    mark = "\N{REPLACEMENT CHARACTER}"
    assert (found["last_commit_author"], found["last_commit_message"]) == (f"Ren{mark}", f"caf{mark}")


def test_a_deleted_repository_fails_at_once_with_a_reason(service: Service, host: GitServer) -> None:
    """Trying again won't bring it back; what was read last stays."""
    path, url = hosted(host, "deleted")
    repository_id = service.register(url)
    assert service.sync(repository_id)["status"] == "succeeded"
    shutil.rmtree(path)
    failures, retries = counted(service, "FAILURE"), counted(service, "RETRY")
    job = service.sync(repository_id)
    assert (job["status"], job["attempt"]) == ("failed", 1)
    assert "not found" in job["reason"]
    assert service.repository(repository_id)["last_commit_sha"] is not None
    eventually(lambda: counted(service, "FAILURE") == failures + 1, what="the count of the failure")
    assert counted(service, "RETRY") == retries


def test_a_busy_host_is_tried_again_until_it_answers(service: Service, host: GitServer) -> None:
    """The job says meanwhile that it waits, and why."""
    _, url = hosted(host, "busy")
    repository_id = service.register(url)
    host.status = 503
    job_id = service.ask(repository_id, "a-busy-host")
    eventually(lambda: (service.job(job_id)["reason"] or "").endswith(" s."), what="a reason with a pause")
    waiting = service.job(job_id)
    assert "The host is busy or down" in waiting["reason"]
    assert "It will be tried again in" in waiting["reason"]
    host.status = None
    job = service.system.finished_job(service.client, job_id)
    assert (job["status"], job["reason"], job["request_id"]) == ("succeeded", None, "a-busy-host")
    assert job["attempt"] == len(service.runs(job_id)) > 1


def test_a_host_that_stays_down_is_given_up_after_four_tries(service: Service, host: GitServer) -> None:
    """With a reason of its own, each try counted, in the job and in the metrics."""
    _, url = hosted(host, "down")
    repository_id = service.register(url)
    host.status = 503
    failures, retries = counted(service, "FAILURE"), counted(service, "RETRY")
    job = service.sync(repository_id)
    assert (job["status"], job["attempt"]) == ("failed", 4)
    assert job["reason"].startswith("The host is busy or down")
    assert [line["attempt"] for line in service.runs(job["id"])] == [1, 2, 3, 4]
    eventually(lambda: counted(service, "FAILURE") == failures + 1, what="the count of the failure")
    assert counted(service, "RETRY") == retries + 3


def test_one_sync_of_a_repository_at_a_time(service: Service, host: GitServer) -> None:
    """A second one is refused while it runs; another repository's is not."""
    _, url = hosted(host, "slow")
    _, other = hosted(host, "other")
    host.held.add("/owner/slow/")
    repository_id, other_id = service.register(url), service.register(other)
    job_id = service.ask(repository_id)
    service.wait_for_run(job_id)
    assert service.client.post(f"/api/v1/repositories/{repository_id}/sync").status_code == 409
    assert service.sync(other_id)["status"] == "succeeded"
    assert service.job(job_id)["status"] == "running"
    host.held.clear()
    assert service.system.finished_job(service.client, job_id)["status"] == "succeeded"


def test_the_same_message_twice_has_one_effect(service: Service, host: GitServer) -> None:
    """A broker may deliver twice; the second run finds the job done."""
    _, url = hosted(host, "twice")
    repository_id = service.register(url)
    job = service.sync(repository_id)
    synced_at = service.repository(repository_id)["last_synced_at"]
    service.send_again(job["id"])
    service.system.wait_for_line("worker", event="sync.skipped", task_id=job["id"])
    assert service.repository(repository_id)["last_synced_at"] == synced_at
    assert service.job(job["id"]) == job


@pytest.mark.parametrize("key", ["current", "former"])
def test_a_private_repository_is_read_with_its_token(service: Service, host: GitServer, key: str) -> None:
    """Also with one that a former key encrypted; the sync leaves it encrypted by the current one."""
    _, url = hosted(host, f"private-{key}")
    repository_id = service.register(url, access_token=TOKEN)
    host.token = TOKEN
    if key == "former":
        service.encrypt_with_former_key(repository_id, TOKEN)
    assert service.sync(repository_id)["status"] == "succeeded"
    assert service.is_current(repository_id)
    host.token = "another"
    job = service.sync(repository_id)
    assert (job["status"], job["attempt"]) == ("failed", 1)
    assert "refuses the access token" in job["reason"]
    assert TOKEN not in service.system.log_path("worker").read_text()


def test_a_token_that_no_key_opens_is_told(service: Service, host: GitServer) -> None:
    """The sentence says what to do."""
    _, url = hosted(host, "lost-key")
    repository_id = service.register(url, access_token=TOKEN)
    service.rows("UPDATE repositories SET access_token = '\\x00'::bytea WHERE id = %s", repository_id)
    job = service.sync(repository_id)
    assert (job["status"], job["attempt"]) == ("failed", 1)
    assert "SECRET_KEY" in job["reason"]
